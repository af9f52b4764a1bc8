"""Checkpoints that somebody has made up: each is refused in one sentence, at once, whatever stands in it."""

from __future__ import annotations

import copy
import random
import zipfile
from pathlib import Path

import pytest
import torch
from atomic import interactions, small, write_dataset

import recbole_ssm
from recbole_ssm.checkpoints import format as checkpoint
from recbole_ssm.cli.main import main
from recbole_ssm.errors import InputError
from recbole_ssm.system import state_file
from recbole_ssm.system.bounded import Unusable, check_bounded
from recbole_ssm.training.hooks.divergence import TrainingDiverged
from recbole_ssm.training.hooks.stopping import Interrupted

pytestmark = pytest.mark.slow

MODELS = ("2Mamba4Rec", "SSD4Rec", "GRU4Rec")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """What honest checkpoints hold, by model, and the folder of their data."""
    folder = tmp_path_factory.mktemp("trained")
    write_dataset(folder, interactions(n_users=12, n_items=10))
    keys = {"data_path": str(folder), "use_gpu": False, "show_progress": False, "epochs": 1}
    keys["checkpoint_dir"] = str(folder / "saved")
    found = {}
    for model in MODELS:
        result = recbole_ssm.run(model, "tiny", config_dict=keys | small(model))
        found[model] = checkpoint.read(result["checkpoint"])
    return found


def forge(state: dict, file: str = "forged.pth") -> str:
    """Written as an honest one is, with a checksum that agrees where one can be had."""
    state = {key: value for key, value in state.items() if not key.startswith("format")}
    try:
        check_bounded(state, 10**4, 10**7)
        agrees = state_file.checksum(state)
    except Unusable:
        agrees = "0"
    torch.save({"format": checkpoint.FORMAT, "format_version": 1, "checksum": agrees, **state}, file)
    return file


def ask(verb: str, file: str, capfd, allowed: tuple = (2,)) -> str:
    """What a verb says of a file: one line."""
    capfd.readouterr()
    words = {"recommend": ["--history=i1"], "evaluate": [], "inspect": []}[verb]
    status = main([verb, f"--checkpoint={file}", *words])
    said = capfd.readouterr().err.splitlines()
    assert status in allowed
    assert status == 0 or (said[-1].startswith("error: ") and len([line for line in said if "error" in line]) == 1), (
        said
    )
    return said[-1] if said else ""


def holding_itself() -> list:
    items: list = []
    items.append(items)
    return items


def doubled(times: int) -> list:
    """So many times a list of twice the one before: 2**times words in a few bytes."""
    items: list = ["a"]
    for _ in range(times):
        items = [items, items]
    return items


def nested(depth: int) -> list:
    items: list = []
    for _ in range(depth):
        items = [items]
    return items


ODD = {
    "a tensor of 4 TB in 4 bytes": lambda: torch.zeros(1).expand(10**12),
    "a tensor often": lambda: [torch.zeros(10**5)] * 10**4,
    "a sparse tensor": lambda: torch.sparse_coo_tensor([[0]], [1.0], (10**12,)),
    "rows": lambda: torch.zeros(3, 3).to_sparse_csr(),
    "a tensor without data": lambda: torch.zeros(10**12, device="meta"),
    "a parameter": lambda: torch.nn.Parameter(torch.zeros(2)),
    "a tensor of fewer bits": lambda: torch.quantize_per_tensor(torch.zeros(2), 0.1, 0, torch.qint8),
    "a list that holds itself": holding_itself,
    "a list in lists": lambda: nested(200),
    "a list of lists of lists": lambda: doubled(60),
    "a long word often": lambda: ["a" * 10**5] * 10**5,
    "a number of 10,000 digits": lambda: 10**10_000,
    "bytes": lambda: bytearray(10),
    "a set": lambda: {1, 2},
    "a complex number": lambda: 1j,
    "a key that is none": lambda: {(1, 2): 3},
}


PLACES = ("given", "item_vocabulary", "state_dict", "new")


@pytest.mark.parametrize(
    ("place", "odd"), [*zip(PLACES * 4, ODD, strict=True), *((place, "a sparse tensor") for place in PLACES)]
)
def test_what_no_checkpoint_holds(trained, place, odd, capfd):
    state = copy.copy(trained["2Mamba4Rec"])
    value = ODD[odd]()
    state[place] = {**state[place], "key": value} if isinstance(state.get(place), dict) else value
    said = ask("inspect", forge(state), capfd)
    words = ("altered or damaged since it was written: ", "cannot be read", "is no checkpoint of this package: ")
    assert any(each in said for each in words)


def test_an_archive_that_is_packed(trained, capfd):
    """1.4 MB that become 1.4 GB."""
    file = Path(forge(trained["2Mamba4Rec"]))
    with zipfile.ZipFile(file) as archive, zipfile.ZipFile("packed.pth", "w", zipfile.ZIP_DEFLATED) as packed:
        for part in archive.namelist():
            packed.writestr(part, archive.read(part))
    assert "cut off, damaged, or no checkpoint" in ask("inspect", "packed.pth", capfd)


def test_a_weight_whose_data_are_too_short(trained, capfd):
    file = Path(forge(trained["2Mamba4Rec"]))
    with zipfile.ZipFile(file) as archive, zipfile.ZipFile("short.pth", "w") as short:
        for part in archive.namelist():
            short.writestr(part, archive.read(part)[: 4 if "/data/" in part else None])
    ask("inspect", "short.pth", capfd)


def test_every_key_is_needed_and_of_its_kind(trained, capfd):
    honest = trained["2Mamba4Rec"]
    optional = {"popularity", "reading"}  # earlier versions wrote none
    for key in honest.keys() - {"format", "format_version"}:
        if key not in optional:
            state = {name: value for name, value in honest.items() if name != key}
            assert f"{key} is missing" in ask("inspect", forge(state), capfd)
        for other in (7.5, [], {1: 2}) if key in optional else (None, 7.5, [], {1: 2}):
            if not isinstance(honest[key], type(other)):
                assert key in ask("inspect", forge(honest | {key: other}), capfd)


SETTINGS = [
    *(("num_layers", value) for value in (10**7, 0, -1, "a", None, 2.5)),
    *(("hidden_size", value) for value in (10**7, 10**18, 2**70, 7, 0, [8])),
    *(("embedding_size", 10**9), ("expand", 10**9), ("d_state", 10**12), ("d_conv", 10**12), ("headdim", 3)),
    *(("dropout_prob", "a"), ("loss_type", "none"), ("MAX_ITEM_LIST_LENGTH", "a"), ("MAX_ITEM_LIST_LENGTH", 0)),
    *(("eval_args", 7), ("eval_args", {"split": 7}), ("eval_args", {"mode": [1]}), ("topk", [10**9]), ("topk", {})),
    *(("load_col", {"inter": [7]}), ("data_path", 7), ("time_order", "no"), ("seed", -1), ("metrics", [7])),
    ("worker", 10**6),
]
"""Each is tried with one of the models in turn, and what decides a size with all of them."""


@pytest.mark.parametrize(
    ("model", "key", "value"),
    [
        (model, *setting)
        for number, setting in enumerate(SETTINGS)
        for turn, model in enumerate(MODELS)
        if number % len(MODELS) == turn or setting in (("num_layers", 10**7), ("hidden_size", 10**7))
    ],
)
def test_settings_that_cannot_be(trained, model, key, value, capfd):
    state = copy.copy(trained[model])
    for part in ("config", "given"):
        state[part] = {**state[part], key: value}
    harmless = (0, 2)
    ask("evaluate", forge(state), capfd, harmless)
    if model != "GRU4Rec":
        ask("recommend", "forged.pth", capfd, harmless)
    if (key, model) in (("num_layers", "2Mamba4Rec"), ("hidden_size", "GRU4Rec"), ("num_layers", "GRU4Rec")):
        ask("evaluate", "forged.pth", capfd)


def places(value, path: tuple = ()) -> list[tuple]:
    """The way to everything in a state."""
    found = [path] if path else []
    if isinstance(value, dict | list | tuple):
        for key, part in value.items() if isinstance(value, dict) else enumerate(value[:3]):
            found += places(part, (*path, key))
    return found


def replaced(value, path: tuple, new):
    """The value with another part at one place; of the others nothing is copied."""
    if not path:
        return new
    value = dict(value) if isinstance(value, dict) else list(value)
    value[path[0]] = replaced(value[path[0]], path[1:], new)
    return value


@pytest.mark.parametrize("model", MODELS)
def test_anything_anywhere(trained, model, capfd):
    """Many changes at random places: each is refused in a sentence, or does no harm."""
    draw = random.Random(model)
    values = [None, -1, 0, 10**9, 2**62, 0.5, float("nan"), "", "word", "\x1b[2J", True, [], {}, [1, "a"], {"a": 1}]
    values += [torch.zeros(0), torch.zeros(3, 3), torch.full((2,), float("nan")), 1 - 2**31]
    state = {key: value for key, value in trained[model].items() if not key.startswith("format")}
    ways = places(state)
    for number in range(15):
        path = draw.choice(ways)
        file = forge(replaced(state, path, draw.choice(values)))
        verb = ("inspect", "evaluate", "recommend")[number % 3]
        if verb == "recommend" and model == "GRU4Rec":
            verb = "evaluate"
        ask(verb, file, capfd, (0, 2))


TRAININGS = {
    "Adam": ("2Mamba4Rec", {}),
    "a schedule": ("2Mamba4Rec", {"lr_schedule": "one_cycle"}),
    "AdaGrad": ("GRU4Rec", {"learner": "adagrad"}),
}
DEEP = [
    *(
        (("training", "random", 0, "numpy", place), value)
        for place, value in enumerate(["a", torch.zeros(3), 10**9, "a"])
    ),
    (("training", "random", 0, "python", 1), [1, 2]),
    (("training", "random", 0, "torch"), torch.zeros(3)),
    (("training", "epoch_start", "random"), []),
    (("training", "epoch_start", "random", 0, "numpy", 2), -5),
    (("training", "epoch_start", "generator"), torch.zeros(3)),
    (("training", "loss_of_targets"), ["a", "b"]),
    (("training", "seconds"), "long"),
    (("optimizer", "state", 1, "step"), torch.zeros(3)),
    (("optimizer", "state", 1), {"step": torch.tensor(1.0)}),
    (("optimizer", "param_groups", 0, "lr"), "fast"),
    (("optimizer", "param_groups"), []),
    (("optimizer", "param_groups", 0, "params"), [0]),
    (("history", 0, "valid_result"), {"hit@10": 1.0}),
    (("history", 0, "train_seconds"), "long"),
    (("history", 0, "valid_score"), "good"),
    (("epoch",), -(10**9)),
]
"""What may stand deep within a training, and what a memory of other shape than the weights would be written over."""


@pytest.fixture(scope="module")
def begun(tmp_path_factory):
    """What checkpoints of trainings hold that were left off after two epochs, and how they were begun."""
    folder, found = tmp_path_factory.mktemp("begun"), {}
    write_dataset(folder, interactions(n_users=12, n_items=10))

    def leave(trainer) -> None:
        if len(trainer.history) == 2:
            states.append(checkpoint.read(trainer.latest_file))
            raise KeyboardInterrupt

    for name, (model, keys) in TRAININGS.items():
        states: list[dict] = []
        given = {
            "data_path": str(folder),
            "use_gpu": False,
            "show_progress": False,
            "epochs": 3,
            **small(model),
            **keys,
        }
        with pytest.raises(Interrupted):
            recbole_ssm.run(model, "tiny", config_dict=given | {"checkpoint_dir": str(folder)}, after_epoch=leave)
        found[name] = model, given, states[0]
    return found


def go_on(begun: tuple, path: tuple, value) -> str:
    """What is said of a training that goes on from a forged file: nothing, or a sentence."""
    model, given, state = begun
    forge(state)  # the best so far
    try:
        recbole_ssm.run(
            model, "tiny", config_dict=given, resume=forge(replaced(state, path, value), "forged.latest.pth")
        )
    except (InputError, TrainingDiverged) as error:
        assert "\n" not in str(error)
        return str(error)
    return ""


@pytest.mark.parametrize("training", TRAININGS)
def test_a_training_goes_on_only_from_what_is_one(begun, training):
    state = {key: value for key, value in begun[training][2].items() if not key.startswith("format")}
    assert go_on(begun[training], ("epoch",), state["epoch"]) == ""
    deep = [*DEEP, (("training", "schedule", "total_steps"), 7)]
    if training != "a schedule":  # of the others only what they have in another way
        deep = [(path, value) for path, value in DEEP if path[0] == "optimizer"]
    for path, value in deep:
        assert go_on(begun[training], path, value), path
    names = [name for name in state["optimizer"]["state"][1] if name != "step"]
    for odd in (torch.zeros(1), torch.zeros(3, 3), torch.zeros(0), 1.0, None):
        assert go_on(begun[training], ("optimizer", "state", 1, names[0]), odd), odd


@pytest.mark.parametrize("training", TRAININGS)
def test_anything_anywhere_in_a_training(begun, training):
    draw = random.Random(training)
    state = begun[training][2]
    ways = [path for path in places(state) if path[0] in ("training", "optimizer", "history", "epoch", "cur_step")]
    values = [None, -1, 0, 10**9, 0.5, float("nan"), "word", [], {}, [1, "a"], {"a": 1}, torch.zeros(3, 3), 1 - 2**31]
    for _ in range(8):
        go_on(begun[training], draw.choice(ways), draw.choice(values))
