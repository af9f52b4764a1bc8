"""What ``scaling`` says of sizes is what it measured, and what cannot be measured is said at once."""

import csv
import json

import pytest
from atomic import SMALL

from recbole_ssm.cli.main import main
from recbole_ssm.studies import scaling

KEYS = ["--use_gpu=False", *(f"--{key}={value}" for key, value in SMALL.items())]


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """The folder of a test in which batches take no time."""
    original = scaling.measure

    def small_batch(model, length, items, histories, keys, **how):
        return original(model, length, items, min(histories, 2), keys, repeats=1)

    monkeypatch.setattr(scaling, "measure", small_batch)
    return tmp_path


def test_exponent_is_that_of_a_power():
    assert scaling.exponent([1, 2, 8], [3, 12, 192]) == pytest.approx(2)
    assert scaling.exponent([10, 1000], [5, 5]) == pytest.approx(0)


@pytest.mark.slow
def test_all_sizes_of_all_models_are_measured_and_drawn(folder, capsys, painted):
    sizes = ["--lengths=4,8,16", "--catalogues=20,40"]
    assert main(["scaling", "--models=2Mamba4Rec,Hydra4Rec,SASRec", *sizes, "--out=found", *KEYS]) == 0
    found = json.loads((folder / "found" / "scaling.json").read_text())
    assert [(p["model"], p["size"]) for p in found["lengths"]] == [
        (model, size) for model in ("2Mamba4Rec", "Hydra4Rec", "SASRec") for size in (4, 8, 16)
    ]
    assert [p["size"] for p in found["catalogues"]] == 3 * [20, 40]
    assert all(p["train_ms"] > 0 and p["rank_ms"] > 0 for kind in ("lengths", "catalogues") for p in found[kind])
    assert set(found["exponents"]["lengths"]) == {"2Mamba4Rec", "Hydra4Rec", "SASRec"}
    assert not found["exponents"]["catalogues"]  # of two sizes
    own = [p for p in found["lengths"] if p["model"] == "SASRec"]
    expected = scaling.exponent([p["size"] for p in own], [p["train_ms"] for p in own])
    assert found["exponents"]["lengths"]["SASRec"]["training"] == pytest.approx(expected)
    page = (folder / "found" / "report.html").read_text()
    assert page.count("<svg") == 6
    assert f"SASRec {expected:.2f}" in page
    assert f"SASRec {expected:.2f}" in " ".join(capsys.readouterr().out.split())


@pytest.mark.slow
def test_a_model_that_does_not_fit_is_left_out_at_larger_sizes(folder, monkeypatch, capsys):
    original = scaling.measure

    def small_memory(model, length, *rest, **how):
        return None if model == "SASRec" and length in (5, 6) else original(model, length, *rest, **how)

    monkeypatch.setattr(scaling, "measure", small_memory)
    assert main(["scaling", "--models=SASRec,GRU4Rec", "--lengths=4,5,6", "--catalogues=none", "--out=x"]) == 0
    found = json.loads((folder / "x" / "scaling.json").read_text())
    assert [(p["model"], p["size"]) for p in found["lengths"]] == [("SASRec", 4), *(("GRU4Rec", n) for n in (4, 5, 6))]
    assert "SASRec, 5: does not fit into memory" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.parametrize("measured", [1, 2, 4])
def test_what_is_measured_is_kept_whatever_comes_after_it(folder, monkeypatch, measured):
    original, calls = scaling.measure, []

    def interrupted(model, length, *rest, **how):
        if not how:  # else it is tried only
            calls.append(length)
            if len(calls) > measured:
                raise KeyboardInterrupt
        return original(model, length, *rest, **how)

    monkeypatch.setattr(scaling, "measure", interrupted)
    sizes = ["--lengths=4,5,6", "--catalogues=20,40"]
    assert main(["scaling", "--models=2Mamba4Rec", *sizes, "--out=x", *KEYS]) == 130
    found = json.loads((folder / "x" / "scaling.json").read_text())
    assert [p["size"] for p in found["lengths"] + found["catalogues"]] == [4, 5, 6, 20][:measured]
    with (folder / "x" / "scaling.csv").open() as lines:
        assert [float(row["train_ms"]) for row in csv.DictReader(lines)] == [
            p["train_ms"] for p in found["lengths"] + found["catalogues"]
        ]


@pytest.mark.sampled(2)
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--models=2Mamba4Rec,BPR"], "scaling is for sequential models, and BPR is not one"),
        (["--models=2Mamba4Rek"], "did you mean 2Mamba4Rec"),
        (["--lengths=0"], "--lengths=0 must be whole numbers"),
        (["--lengths=ten"], "--lengths=ten must be whole numbers"),
        (["--catalogues=10"], "--catalogues=10 must be whole numbers above 10"),
        (["--models=SASRec,SASRec"], "must name different ones"),
        (["--models=2Mamba4Rec", "--headdim=7"], "headdim"),
        (["--models=2Mamba4Rec,Caser"], "Caser cannot be measured"),
        (["--models=SASRec", "--MAX_ITEM_LIST_LENGTH=9"], "scaling sets MAX_ITEM_LIST_LENGTH itself"),
        (["--models=SASRec", "--loss_type=BPR"], "scaling sets loss_type itself"),
        (["--threads=none"], "--threads=none must be a whole number"),
        (["--threads=2,3"], "--threads=2,3 must be a whole number"),
    ],
    ids=str,
)
def test_what_cannot_be_measured_is_said_at_once(monkeypatch, capsys, arguments, said):
    original = scaling.measure

    def only_tried(*arguments, **how):
        return original(*arguments, **how) if how else pytest.fail("something was measured")

    monkeypatch.setattr(scaling, "measure", only_tried)
    assert main(["scaling", *arguments]) == 2
    assert said.lower() in capsys.readouterr().err.lower()


@pytest.mark.parametrize(
    "error",
    [MemoryError(), RuntimeError("std::bad_alloc"), RuntimeError("CUDA out of memory"), RuntimeError("can't allocate")],
    ids=["Python", "C", "GPU", "something else"],
)
def test_memory_that_ends_is_told_from_other_errors(monkeypatch, error):
    def full(*args):
        raise error

    monkeypatch.setattr("recbole_ssm.model.base.PackedSequentialRecommender.calculate_loss", full)
    if "can't" in str(error):
        with pytest.raises(RuntimeError, match="can't allocate"):
            scaling.measure("2Mamba4Rec", 4, 20, 2, KEYS)
    else:
        assert scaling.measure("2Mamba4Rec", 4, 20, 2, KEYS) is None
