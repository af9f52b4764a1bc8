"""Exported models give the package's scores without it."""

import json
from dataclasses import asdict
from itertools import islice

import numpy as np
import pytest
import torch
from made import made_checkpoint
from model_cases import build

from recbole_ssm import InputError, Recommender
from recbole_ssm.cli.main import main
from recbole_ssm.ops.backends import choose, use_backend
from recbole_ssm.ops.backends.exportable import EXPORTABLE
from recbole_ssm.serving.export.graphs import check_graphs, exportable, graphs
from recbole_ssm.serving.export.write import export
from recbole_ssm.serving.index import ItemIndex
from recbole_ssm.testing.backends import relative_error
from recbole_ssm.testing.op_cases import CASES

ADDITIONS = {"item_bias": True, "repeat_bias": True, "transition_memory": True, "memory_items": 3}
TIMES = {"time_gaps": True}
HISTORY = ["i3", "i7", "i3", "i11"]
NEW_TORCH = tuple(int(part) for part in torch.__version__.split(".")[:2]) >= (2, 9)
needs_torch = pytest.mark.skipif(not NEW_TORCH, reason="graphs need torch 2.9 or later")


def exported(folder, model, format, k=None, filter_seen=False, **keys):
    file = made_checkpoint(folder / "made.pth", model, **{"num_layers": 1, **keys})
    recommender = Recommender(file, filter_seen=filter_seen)
    return recommender, export(recommender, folder / "out", format, k)


def times(recommender, length):
    return {"timestamp": [[60.0 * place**2 for place in range(length)]]} if recommender.columns else None


@pytest.mark.slow
@pytest.mark.parametrize("op", ["ssd", "attention"])
def test_kernels_for_graphs_compute_the_formula(op):
    taken = []
    for case in islice(CASES[op](), 3):
        expected = case.reference(case.tensors)
        with torch.no_grad(), use_backend(EXPORTABLE):
            taken.append(choose(op, *case.tensors.values()))
            for name, output in case.run(case.tensors).items():
                assert relative_error(output, expected[name]) < 1e-9, case.name
    assert "exportable" in taken


@pytest.mark.slow
@needs_torch
@pytest.mark.parametrize(
    ("model", "keys", "filter_seen"),
    [
        ("2Mamba4Rec", ADDITIONS, True),
        ("Mamba4Rec", {}, False),
        ("LRURec", TIMES, False),
        ("SSD4Rec", {}, True),
        ("Hydra4Rec", ADDITIONS, False),
        ("PackedSASRec", {}, False),
    ],
)
def test_what_goes_into_a_graph_gives_the_scores_of_the_model(tmp_path, model, keys, filter_seen):
    """Before it is recorded: the graph itself is compared whenever it is made."""
    recommender = Recommender(made_checkpoint(tmp_path / "made.pth", model, **keys), filter_seen=filter_seen)
    found, no_step = graphs(recommender, 5)
    assert (len(found) == 1) == bool(no_step) == (model in ("SSD4Rec", "Hydra4Rec", "PackedSASRec"))
    columns = times(recommender, len(HISTORY))
    expected = recommender.recommend([HISTORY], 5, columns=columns)[0]
    numbers = torch.tensor(recommender.names.numbers(HISTORY))
    given = [numbers] if columns is None else [numbers, torch.tensor(columns["timestamp"][0], dtype=torch.float64)]
    outputs = [found[0].module(*given)]
    with exportable():
        outputs.append(found[0].module(*given))
    if not no_step:
        state = found[1].module.start(1)
        for place in range(len(HISTORY)):
            after = found[1].module(*(each[place : place + 1] for each in given), *state.values())
            state = dict(zip(state, after[3:], strict=True))
        outputs.append(after[:3])
    for _, scores, items in outputs:
        assert [recommender.items[item] for item in items[0].tolist()] == [name for name, _ in expected]
        torch.testing.assert_close(scores[0].tolist(), [score for _, score in expected], rtol=1e-5, atol=1e-5)


@pytest.mark.slow
@needs_torch
def test_onnx_gives_the_scores_of_the_model(tmp_path):
    """LRURec's are run by the test of the page on export."""
    runtime = pytest.importorskip("onnxruntime", reason="pip install 'recbole-ssm[export]'")
    pytest.importorskip("onnxscript", reason="pip install 'recbole-ssm[export]'")
    recommender, about = exported(tmp_path, "2Mamba4Rec", "onnx", **ADDITIONS | {"d_conv": 2, "memory_items": 2})
    assert about == json.loads((tmp_path / "out" / "model.json").read_text())
    assert about["graphs"].keys() == {"history", "step"}
    session = runtime.InferenceSession(tmp_path / "out" / "history.onnx")
    (expected,) = recommender.recommend([HISTORY], 40)
    items = np.array(recommender.names.numbers(HISTORY))
    _, scores = session.run(None, {"items": items})
    best = np.argsort(-scores[0], kind="stable")[:40]
    assert [recommender.items[item] for item in best] == [name for name, _ in expected]
    np.testing.assert_allclose(scores[0][best], [score for _, score in expected], rtol=1e-5, atol=1e-5)
    step, inputs = runtime.InferenceSession(tmp_path / "out" / "step.onnx"), about["graphs"]["step"]["inputs"]
    state = {name: np.zeros([1, *each["shape"][1:]], each["type"]) for name, each in inputs.items() if name != "item"}
    for item in items:
        _, scores, *after = step.run(None, {"item": items[:1] * 0 + item} | state)
        state = dict(zip(state, after, strict=True))
    np.testing.assert_allclose(scores[0][best], [score for _, score in expected], rtol=1e-5, atol=1e-5)


@pytest.mark.slow
@needs_torch
def test_torch_runs_the_graph_from_its_file(tmp_path):
    recommender, about = exported(tmp_path, "Mamba4Rec", "torch", k=3, d_conv=2, **TIMES)
    assert about["files"] == ["history.pt2", "items.json", "model.json", "step.pt2"]
    program = torch.export.load(tmp_path / "out" / "history.pt2").module()
    columns = times(recommender, len(HISTORY))
    (expected,) = recommender.recommend([HISTORY], 3, columns=columns)
    numbers = torch.tensor(recommender.names.numbers(HISTORY))
    _, _, items = program(numbers, torch.tensor(columns["timestamp"][0], dtype=torch.float64))
    assert [recommender.items[item] for item in items[0].tolist()] == [name for name, _ in expected]


def test_weights_and_vectors(tmp_path, capsys):
    safetensors = pytest.importorskip("safetensors.torch", reason="pip install 'recbole-ssm[export]'")
    file = made_checkpoint(tmp_path / "made.pth", "2Mamba4Rec", **ADDITIONS)
    out = tmp_path / "out"
    assert main(["export", f"--checkpoint={file}", f"--out={out}", "--format=safetensors"]) == 0
    assert "items.json, model.json, weights.safetensors are in" in capsys.readouterr().out
    model, about = Recommender(file).model, json.loads((out / "model.json").read_text())
    weights = safetensors.load_file(out / "weights.safetensors")
    assert weights.keys() == model.state_dict().keys()
    assert all(torch.equal(weights[name], each) for name, each in model.state_dict().items())
    assert (about["model"], about["config"]["hidden_size"], about["n_items"]) == ("2Mamba4Rec", 16, 41)
    assert json.loads((out / "items.json").read_text())[3] == "i3"
    assert main(["export", f"--checkpoint={file}", f"--out={out}", "--format=vectors"]) == 0
    vectors, about = np.load(out / "vectors.npy"), json.loads((out / "model.json").read_text())
    hidden = np.append(np.linspace(-1, 1, 16), 1).astype(np.float32)
    expected = model.item_embedding.weight[1:] @ torch.from_numpy(hidden[:16]) + model.item_bias[1:]
    np.testing.assert_allclose(vectors @ hidden, expected.detach().numpy(), rtol=1e-5, atol=1e-5)
    assert about["not_in_the_vectors"] == ["repeat_bias", "transition_memory"]
    assert "vectors.npy: inner products are scores without repeat_bias and transition_memory" in capsys.readouterr().out
    assert len(json.loads((out / "names.json").read_text())) == len(vectors) == 40


@pytest.mark.sampled(2)
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--format=pickle"], "--format=pickle must be one of safetensors, torch, onnx, vectors"),
        (["--format=vectors", "--k=3"], "--k is for the formats torch and onnx; vectors holds no scores"),
        (["--format=torch", "--k=41"], "--k=41 must be at most the number of items, 40"),
        (
            ["--format=vectors", "--dataset=tiny"],
            "--dataset and keys about the data are for --index, whose recall is then measured on them",
        ),
        (
            ["--format=vectors", "--index=exact", "--dataset=tiny", "--epochs=3"],
            "export has no use for '--epochs=3'; it takes --key=value, where keys are its own (export --help) or about "
            "the data, such as data_path",
        ),
        (
            ["--format=torch", "--index=hnsw"],
            "--index=hnsw must be one of auto, exact, pq, ivf, ivf_pq, hnsw, and is for --format=vectors",
        ),
    ],
)
def test_what_cannot_be_exported_is_refused(tmp_path, capsys, arguments, message):
    file = made_checkpoint(tmp_path / "made.pth", "LRURec")
    assert main(["export", f"--checkpoint={file}", f"--out={tmp_path / 'out'}", *arguments]) == 2
    assert capsys.readouterr().err == f"error: {message}\n"
    assert not (tmp_path / "out").exists()


def test_a_folder_of_something_else_stays(tmp_path, capsys):
    file = made_checkpoint(tmp_path / "made.pth", "LRURec")
    given = ["export", f"--checkpoint={file}", "--format=vectors"]
    assert main([*given, f"--out={tmp_path}"]) == 2
    assert f"--out={tmp_path} is there and is no export" in capsys.readouterr().err
    assert main([*given, f"--out={file}/out"]) == 2
    assert "cannot be written" in capsys.readouterr().err
    assert main([*given, f"--out={tmp_path / 'out'}"]) == main([*given, f"--out={tmp_path / 'out'}"]) == 0


def test_an_index_is_measured_on_a_dataset(tiny, tmp_path, capsys):
    pytest.importorskip("faiss", reason="pip install 'recbole-ssm[ann]'")
    pytest.importorskip("safetensors", reason="pip install 'recbole-ssm[ann]'")
    file = made_checkpoint(tmp_path / "made.pth", "LRURec")
    given = [f"--checkpoint={file}", f"--out={tmp_path / 'out'}", "--format=vectors", "--index=auto"]
    assert main(["export", *given, "--dataset=tiny", f"--data_path={tiny}"]) == 0
    assert "items.index: exact, recall@10 1.000 on 30 histories that were given" in capsys.readouterr().out
    index = ItemIndex.load(tmp_path / "out" / "items.index", Recommender(file))
    assert json.loads((tmp_path / "out" / "model.json").read_text())["index"] == asdict(index.about)


def test_a_model_that_counts_has_no_graph(tmp_path):
    recommender = Recommender(made_checkpoint(tmp_path / "made.pth", "LRURec"))
    recommender.model = build("PCTM", 30)
    with pytest.raises(InputError, match="PCTM counts and has no layers"):
        check_graphs(recommender)
