"""No code of a file is run that is not trusted: a trap at each place where RecBole or this package looks for files."""

from __future__ import annotations

import contextlib
import os
import pickle
import re
from pathlib import Path

import numpy as np
import pytest
import recbole
import torch
from atomic import ROOT, interactions, small, write_dataset
from recbole.data import create_dataset as create_recbole_dataset

import recbole_ssm
from recbole_ssm.checkpoints import format as checkpoint
from recbole_ssm.cli.main import main
from recbole_ssm.config.config import Config
from recbole_ssm.errors import InputError

CALLS = re.compile(
    r"pickle\.loads?\(|Unpickler|torch\.load\(|hub\.load|jit\.load|np\.load\(|numpy\.load\(|allow_pickle=True|joblib|marshal|"
    r"shelve|read_pickle|(?<![\w.])(?:eval|exec|compile)\(|__import__\(|yaml\.load\(|yaml\.(?:Full|Unsafe)?Loader|"
    r"os\.system|os\.popen|load_pickle"
)
"""What can run code that stands in a file, or in a word."""

IN_RECBOLE = {
    "config/configurator.py": 4,  # yaml's loader and words as Python: Config has ways of its own for both
    "data/dataset/dataset.py": 1,  # RecBole's own list of addresses
    "data/utils.py": 2,  # saved datasets and loaders: trust_dataset
    "model/context_aware_recommender/kd_dagfm.py": 2,  # teacher: a name from a list; warm_up: as data
    "model/general_recommender/convncf.py": 1,  # as data, and so are the next ones
    "model/general_recommender/nais.py": 1,
    "model/general_recommender/neumf.py": 2,
    "model/general_recommender/ract.py": 2,
    "model/sequential_recommender/s3rec.py": 1,
    "model/general_recommender/ldiffrec.py": 2,  # one call; looked at before it is made
    "quick_start/quick_start.py": 1,  # never called here
    "trainer/hyper_tuning.py": 1,  # of params files, which it is not given
    "trainer/trainer.py": 4,  # checkpoints: the hooks read them; names of two packages
}
IN_THIS_PACKAGE = {
    "system/state_file.py": 1,  # as data, or with trust_checkpoint
    "studies/compare/study.py": 1,  # without objects
    "config/given.py": 1,  # with a safe loader
    "training/make_model.py": 1,  # without objects
    "data/item_content.py": 1,  # without objects
    "config/shipped_files.py": 1,  # words only
}


@pytest.mark.parametrize(
    ("folder", "known"), [(Path(recbole.__file__).parent, IN_RECBOLE), (ROOT / "recbole_ssm", IN_THIS_PACKAGE)]
)
def test_every_call_that_can_run_code_of_a_file_is_known(folder, known):
    """One that is new here is closed first, gets its trap below, and then its line above."""
    found = {}
    for file in folder.rglob("*.py"):
        if number := len(CALLS.findall(file.read_text(encoding="utf-8"))):
            found[file.relative_to(folder).as_posix()] = number
    assert found == known


class Trap:
    """An object that leaves a file where it is unpickled."""

    def __reduce__(self):
        return open, (str(Path("sprung").absolute()), "w")


def trap(file: str) -> str:
    """A pickle, as ``pickle`` and numpy read it."""
    Path(file).parent.mkdir(parents=True, exist_ok=True)
    Path(file).write_bytes(pickle.dumps(Trap()))
    return file


def torch_trap(file: str) -> str:
    """A file of torch's."""
    torch.save({"state_dict": Trap(), "config": Trap(), "format": checkpoint.FORMAT}, file)
    return file


WORDS = "open('sprung', 'w')"
"""Code, where words are taken for Python."""


@pytest.fixture(autouse=True)
def dataset(tmp_path):
    frame = interactions(n_users=12, n_items=10)
    write_dataset(tmp_path / "data", frame.assign(label=1.0))


def keys(model: str, **given) -> dict:
    """A short training."""
    fixed = {"data_path": "data", "use_gpu": False, "show_progress": False, "epochs": 1, "embedding_size": 8}
    fixed |= {"load_col": {"inter": ["user_id", "item_id", "timestamp", "label"]}}
    return fixed | small(model) | given


def arguments(model: str, **given) -> list[str]:
    return [f"--model={model}", "--dataset=tiny", *(f"--{key}={value}" for key, value in keys(model, **given).items())]


MODELS = ("2Mamba4Rec", "SASRec", "BPR")
PLACES = (
    *("saved/tiny-SequentialDataset.pth", "saved/tiny-Dataset.pth", "saved/tiny-PackedDataset.pth"),
    *(f"saved/tiny-for-{model}-dataloader.pth" for model in MODELS),
    *("saved/tiny-KnowledgeBasedDataset.pth", "data/tiny/item_emb.npy"),
)
"""Where RecBole looks without being told."""


@pytest.mark.sampled(3)
@pytest.mark.parametrize("model", MODELS)
def test_what_lies_where_recbole_looks_is_not_unpickled_by_any_verb(model, capfd):
    result = recbole_ssm.run(model, "tiny", config_dict=keys(model, save_dataset=True))
    for place in PLACES:
        trap(place)
    file = f"--checkpoint={result['checkpoint']}"
    for save in (True, False):
        assert main(arguments(model, save_dataset=save)) == 0
    assert main(["evaluate", file]) == main(["inspect", file]) == 0
    main(["recommend", file, "--users=u1"])
    assert not Path("sprung").exists()


@pytest.mark.sampled(6)
@pytest.mark.parametrize("model", ["2Mamba4Rec", "SASRec", "BPR"])
@pytest.mark.parametrize("key", ["dataset_save_path", "dataloaders_save_path"])
def test_datasets_and_loaders_that_are_named_are_unpickled_only_if_trusted(model, key, capfd):
    if (model, key) == ("2Mamba4Rec", "dataloaders_save_path"):
        pytest.skip("refused in any case")
    given = keys(model, **{key: trap("theirs.pth")})
    with pytest.raises(InputError, match=f"{key} theirs.pth holds Python objects.*--trust_dataset"):
        recbole_ssm.run(model, "tiny", config_dict=given)
    file = recbole_ssm.run(model, "tiny", config_dict=keys(model))["checkpoint"]
    assert main(["evaluate", f"--checkpoint={file}", f"--{key}=theirs.pth"]) == 2
    assert "--trust_dataset" in capfd.readouterr().err
    assert not Path("sprung").exists()
    with pytest.raises(Exception):  # noqa: B017  (what the trap gives is no dataset)
        recbole_ssm.run(model, "tiny", config_dict=given | {"trust_dataset": True})
    assert Path("sprung").exists()


@pytest.mark.slow
def test_what_recbole_kept_is_read_if_it_is_trusted(caplog):
    """Its dataset, older than the files or not, and its loaders."""
    given = keys("SASRec", save_dataloaders=True)
    recbole_ssm.run("SASRec", "tiny", config_dict=given)
    create_recbole_dataset(Config("SASRec", "tiny", config_dict=given | {"save_dataset": True}))
    saved = {"dataset_save_path": "saved/tiny-SequentialDataset.pth"}
    saved["dataloaders_save_path"] = "saved/tiny-for-SASRec-dataloader.pth"
    trusted = keys("SASRec", trust_dataset=True, **saved)
    assert recbole_ssm.run("SASRec", "tiny", config_dict=trusted)["test_result"]
    assert "Load filtered dataset from" in caplog.text and "Load split dataloaders from" in caplog.text
    assert "is older than the files" not in caplog.text
    Path("data/tiny/tiny.inter").touch()
    recbole_ssm.run("SASRec", "tiny", config_dict=trusted)
    assert "is older than the files" in caplog.text


@pytest.mark.sampled(4)
@pytest.mark.parametrize(
    ("model", "given"),
    [
        ("NeuMF", {"use_pretrain": True, "mf_pretrain_path": "t.pth", "mlp_pretrain_path": "t.pth"}),
        ("NAIS", {"pretrain_path": "t.pth"}),
        ("ConvNCF", {"train_method": "after_pretrain", "pre_model_path": "t.pth"}),
        ("RaCT", {"train_stage": "critic_pretrain", "pre_model_path": "t.pth"}),
        ("RaCT", {"train_stage": "finetune", "pre_model_path": "t.pth"}),
        ("S3Rec", {"train_stage": "finetune", "pre_model_path": "t.pth"}),
        ("KD_DAGFM", {"phase": "finetuning", "warm_up": "t.pth"}),
    ],
)
def test_weights_that_a_model_of_recbole_begins_with_are_data_unless_trusted(model, given, monkeypatch):
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")  # as users of old checkpoints have it
    torch_trap("t.pth")
    given = keys(model, **given, train_batch_size=64)
    if model == "S3Rec":
        given |= {"hidden_size": 8, "inner_size": 8, "item_attribute": "item_id", "load_col": None}
    with pytest.raises(InputError, match=r"begins with cannot be read.*--trust_checkpoint"):
        recbole_ssm.run(model, "tiny", config_dict=given)
    assert not Path("sprung").exists()
    with pytest.raises(Exception):  # noqa: B017  (what the trap gives are no weights)
        recbole_ssm.run(model, "tiny", config_dict=given | {"trust_checkpoint": True})
    assert Path("sprung").exists()
    assert os.environ["TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"] == "1"


@pytest.mark.slow
def test_embeddings_of_ldiffrec_are_numbers(tmp_path, monkeypatch):
    """In training, and with a checkpoint that says where they lie; those that are numbers are read."""
    clusters = "import torch\n\ndef kmeans(X, **_):\n    return torch.arange(len(X)) % 2, None\n"
    (tmp_path / "kmeans_pytorch.py").write_text(clusters)  # which may not be installed
    monkeypatch.syspath_prepend(tmp_path)
    numbers = np.zeros((10, 4), np.float32)
    np.save("data/tiny/item_emb.npy", numbers)
    given = keys("LDiffRec", n_cate=2, in_dims=[8], out_dims=[8], dims_dnn=[8], load_col=None)
    file = recbole_ssm.run("LDiffRec", "tiny", config_dict=given)["checkpoint"]
    objects = np.array([Trap()], object)
    for make in (lambda: trap("data/tiny/item_emb.npy"), lambda: np.save("data/tiny/item_emb.npy", objects)):
        make()
        with pytest.raises(InputError, match=r"item_emb.npy must be an array of numbers"):
            recbole_ssm.run("LDiffRec", "tiny", config_dict=given | {"trust_checkpoint": True})
        assert main(["evaluate", f"--checkpoint={file}"]) == 2
    assert not Path("sprung").exists()


def test_the_teacher_of_kd_dagfm_is_a_network():
    for word in (WORDS, "CINComp", "DAGFM.__class__", "nn.Module", "KD_DAGFM", None, ["CIN"]):
        for given in ({"config_dict": {"teacher": word}}, {"config_file_list": [{"teacher": word}]}):
            with pytest.raises(InputError, match=r"teacher must be one of CIN, .*CrossNet, .*for KD_DAGFM"):
                Config("KD_DAGFM", "tiny", **given)
    Config("KD_DAGFM", "tiny", config_dict={"teacher": "CIN"})
    assert not Path("sprung").exists()


@pytest.mark.sampled(3)
@pytest.mark.parametrize("key", ["wandb_project", "learning_rate", "topk", "eval_args", "no_such_key", "hidden_size"])
@pytest.mark.parametrize("word", [WORDS, f"[{WORDS}]", f"{{'a': {WORDS}}}", f"__import__('builtins').{WORDS}"])
def test_no_word_of_a_configuration_is_run(key, word):
    """Neither of the command line, of ``config_dict`` or of a file."""
    for model in ("2Mamba4Rec", "SASRec"):
        for given in ({"command_line": [f"--{key}={word}"]}, {"config_dict": {key: word}}):
            with contextlib.suppress(InputError):
                Config(model, "tiny", **given)
    for tag in ("!!python/object/apply:os.mkdir [sprung]", "!!python/name:os.system ''", "!!python/module:os ''"):
        Path("file.yaml").write_text(f"{key}: {tag}")
        with pytest.raises(InputError, match="cannot be read as yaml"):
            Config("SASRec", "tiny", ["file.yaml"])
    assert not Path("sprung").exists()


def test_no_word_of_a_params_file_is_run():
    """Form feeds divide lines to one reader and not to another."""
    pytest.importorskip("hyperopt")
    words = ["2Mamba4Rec", "tiny", "--trials=2", "--tool=hyperopt", "--use_gpu=False", "--data_path=data", "--epochs=1"]
    words = ["tune", f"--model={words[0]}", f"--dataset={words[1]}", *words[2:], "--params_file=space.hyper"]
    for lines in (f"mask_ratio choice [{WORDS}]", f"mask_ratio choice [0.1]\x0c[{WORDS.replace(' ', '')}]# choice [1]"):
        Path("space.hyper").write_text(lines)
        main([*words, *(f"--{key}={value}" for key, value in small("2Mamba4Rec").items())])
        assert not Path("sprung").exists()


@pytest.mark.sampled(2)
@pytest.mark.parametrize("model", ["2Mamba4Rec", "BPR"])
def test_a_checkpoint_cannot_say_that_something_is_trusted(model):
    file = recbole_ssm.run(model, "tiny", config_dict=keys(model))["checkpoint"]
    state = checkpoint.read(file)
    state["given"] |= {"trust_dataset": True, "trust_checkpoint": True, "dataset_save_path": trap("theirs.pth")}
    state["given"] |= {"dataloaders_save_path": "theirs.pth", "wandb_project": WORDS, "teacher": torch_trap("t.pth")}
    state["config"] |= state["given"]
    checkpoint.write(file, {key: state[key] for key in state if not key.startswith("format")})
    assert main(["evaluate", f"--checkpoint={file}"]) == 0
    assert main(["evaluate", f"--checkpoint={file},{torch_trap('other.pth')}"]) == 2
    assert (
        main(["inspect", "--checkpoint=other.pth"])
        == main(["recommend", "--checkpoint=other.pth", "--history=i1"])
        == 2
    )
    main(["recommend", f"--checkpoint={file}", "--users=u1"])
    assert not Path("sprung").exists()
