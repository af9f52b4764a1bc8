"""What models count takes in new interactions without training: in a service, and before a test."""

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest
import torch
from atomic import interactions, small, write_dataset
from near import near

from recbole_ssm import InputError, Recommender, run
from recbole_ssm.cli.main import main
from recbole_ssm.testing.checkpoints import made_checkpoint

KEYS = {"2Mamba4Rec": {"transition_memory": True, "repeat_bias": True}, "PCTM": {}}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("update")
    write_dataset(folder, interactions())
    return folder


@pytest.fixture(scope="module", params=KEYS)
def file(request, folder, tmp_path_factory):
    settings = {"data_path": str(folder), "checkpoint_dir": str(tmp_path_factory.mktemp("saved")), "use_gpu": False}
    settings |= {"show_progress": False, **KEYS[request.param]}
    if request.param != "PCTM":
        settings |= {"epochs": 1, **small(request.param)}
    return run(request.param, "tiny", config_dict=settings)["checkpoint"]


def score(recommender, history, item):
    return dict(recommender.recommend([history], k=100)[0])[item]


@pytest.mark.sampled(2)
def test_what_has_just_happened_counts(file):
    recommender = Recommender(file, filter_seen=False)
    session = recommender.session(["i1", "i2"])
    before, of_session = score(recommender, ["i1", "i2"], "i9"), dict(session.recommend(100))["i9"]
    recommender.update([["i1", "i2", "i9"], ["i2", "i9"], ["i5"]], [1, 2, 0])
    after = score(recommender, ["i1", "i2"], "i9")
    assert after > before
    assert dict(session.recommend(100))["i9"] == pytest.approx(after, abs=1e-5)
    assert of_session == pytest.approx(before, abs=1e-5)
    recommender.update([["i2", "nobody", "i9"]], skip_unknown=True)
    assert score(recommender, ["i1", "i2"], "i9") > after
    assert score(Recommender(file, filter_seen=False), ["i1", "i2"], "i9") == pytest.approx(before, abs=1e-5)


@pytest.mark.sampled(2)
def test_a_pair_counts_only_where_its_later_item_is_new(file):
    old, new = (Recommender(file, filter_seen=False) for _ in range(2))
    old.update([["i1", "i2", "i9"]], [0])
    assert score(old, ["i1"], "i2") == pytest.approx(score(Recommender(file, filter_seen=False), ["i1"], "i2"))
    new.update([["i1", "i2", "i9"]], [1])
    assert score(new, ["i1"], "i9") > score(old, ["i1"], "i9")
    others = [score(each, ["i7"], "i8") - score(each, ["i7"], "i6") for each in (old, new)]
    assert others[0] == pytest.approx(others[1], abs=1e-5)


@pytest.mark.sampled(2)
@pytest.mark.parametrize(
    ("histories", "new", "words"),
    [
        ([["i1", "i2"]], [3], "new must be a number for each history"),
        *(([["i1", "i2"]], n, "new must be a number for each history") for n in ([1, 1], 1, [1.0], ["1"], [None])),
        ([["i1", "nobody"]], None, "knows no item 'nobody'"),
        ("i1", None, "histories are a list of lists of names of items, and not 'i1'"),
        (pd.DataFrame({"user": ["a"], "item": ["i1"]}), None, "histories are a list of lists .* and not a DataFrame"),
        ([3], None, "a history is a list of names of items, and not 3"),
        (["i1", "i2"], None, "a history is a list of names of items, and not 'i1'"),
        ([{"i1", "i2"}], None, "a history is a list of names of items, and not"),
    ],
)
def test_what_does_not_fit_is_refused(file, histories, new, words):
    with pytest.raises(InputError, match=words):
        Recommender(file).update(histories, new)


@pytest.mark.sampled(2)
def test_a_test_can_know_the_validation_items(file, folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    data = [f"--checkpoint={file}", f"--data_path={folder}", "--json=found.json", "--metric_decimal_place=8"]
    results = []
    for more in ([], ["--update=True"]):
        assert main(["evaluate", *data, *more]) == 0
        results.append(json.loads(Path("found.json").read_text(encoding="utf-8")))
    assert [each["updated"] for each in results] == [False, True]
    assert results[0]["valid_result"] == results[1]["valid_result"]
    assert results[0]["test_result"] != results[1]["test_result"]


@pytest.mark.sampled(1)
def test_an_evaluation_is_of_the_model_as_it_is_now(file):
    """And a file that is saved, too, whatever stands by now where the model was read from."""
    place, saved = (Path(file).with_name(name) for name in ("place.pth", "saved.pth"))
    recommender = Recommender(shutil.copy(file, place))
    before, scores = recommender.evaluate(), recommender.recommend([["i1"]])
    made_checkpoint(place, 9)
    recommender.save(saved)
    assert Recommender(saved).recommend([["i1"]]) == near(scores)
    assert recommender.evaluate() == before
    recommender.update([["i1", "i2"], ["i3", "i1"]] * 50)
    assert recommender.evaluate() != before


@pytest.mark.slow
def test_a_model_that_counts_nothing_says_so(folder, tmp_path):
    settings = {"data_path": str(folder), "checkpoint_dir": str(tmp_path), "use_gpu": False, "show_progress": False}
    file = run("LRURec", "tiny", config_dict={**settings, "epochs": 1, **small("LRURec")})["checkpoint"]
    with pytest.raises(InputError, match="train it with transition_memory"):
        Recommender(file).update([["i1", "i2"]])
    assert main(["evaluate", f"--checkpoint={file}", f"--data_path={folder}", "--update=True"]) != 0


def test_counts_on_their_device_stay_there(file):
    recommender = Recommender(file)
    recommender.update([["i1", "i2"]])
    assert all(each.device == torch.device("cpu") for each in recommender.model.buffers())
