"""Each key is declared once, and what is made from the declaration agrees with it."""

import dataclasses
import sys
from typing import get_args, get_origin, get_type_hints

import pytest
import torch
import yaml
from atomic import ROOT

from recbole_ssm.cli.train_help import help_text
from recbole_ssm.config.config import Config
from recbole_ssm.config.keys import FOR_ALL_MODELS, FOR_OUR_MODELS, keys_of, sections
from recbole_ssm.config.keys_page import with_tables
from recbole_ssm.config.recbole_keys import KNOWN, TAKEN
from recbole_ssm.config.settings import Settings
from recbole_ssm.config.shipped_files import keys_of_model, properties_folder
from recbole_ssm.errors import InputError
from recbole_ssm.model import registry
from recbole_ssm.model.base import PackedSequentialRecommender
from recbole_ssm.model.declarations import Column, Key
from recbole_ssm.model.lrurec import LRURec
from recbole_ssm.model.registry import MODELS, SHIPPED, model_class

ALL = [key for _, keys in sections() for key, _ in keys]


def test_the_page_of_keys_is_made_from_the_declarations():
    written = (ROOT / "docs" / "keys.md").read_text(encoding="utf-8")
    assert written == with_tables(written), "run: python -m recbole_ssm.config.keys_page docs/keys.md"


def test_every_key_has_a_sentence_and_a_default_that_it_takes():
    words = " ".join(help_text("dataset").split())
    for key in ALL:
        assert key.text and not key.text.endswith(".")
        assert key.name in words and key.values in words
        key.check(key.default)
        with pytest.raises(InputError, match=f"{key.name} must be "):
            key.check(object())
    for model in SHIPPED:
        names = [key.name for key in keys_of(model_class(model))]
        assert len(names) == len(set(names))


@pytest.mark.parametrize(
    ("key", "fits", "wrong", "words"),
    [
        (Key("k", int, low=1), [1, 7], [0, 1.0, True, None, "1"], "a whole number, 1 or more"),
        (Key("k", float, low=0, high=1), [0, 0.5, 1], [-0.1, 1.1, False, "x"], "a number from 0 to 1"),
        (Key("k", float, high=3, optional=True), [None, -8], [4], "a number, 3 or less, or None"),
        (Key("k", bool), [True, False], [0, 1, None], "True or False"),
        (Key("k", str, choices=("a", "b")), ["a"], ["c", 1, None], "one of a, b"),
        (Key("k", dict, optional=True, example="{}"), [{}, None], [[], "{}"], "a dict, such as {}, or None"),
    ],
    ids=lambda value: getattr(value, "values", None),
)
def test_a_key_takes_what_it_declares(key, fits, wrong, words):
    assert key.values == words
    for value in fits:
        key.check(value)
    for value in wrong:
        with pytest.raises(InputError) as error:
            key.check(value)
        assert str(error.value) == f"k must be {words}, but is {value!r}"


@pytest.mark.parametrize("model", SHIPPED)
def test_the_file_of_a_model_has_what_differs(model):
    given = yaml.safe_load((properties_folder() / "model" / f"{model}.yaml").read_text())
    declared = {key.name: key.default for key in keys_of(model_class(model))}
    assert given.keys() <= declared.keys() | KNOWN
    assert not [key for key, value in given.items() if key in declared and value == declared[key]]
    config = Config(model, "ml-100k")
    assert {key: config[key] for key in declared} == declared | {key: given[key] for key in declared.keys() & given}
    assert keys_of_model(model) == given.keys()


@pytest.mark.parametrize("model", ["2Mamba4Rec", "SASRec", "Pop"])
def test_typed_attributes_of_a_configuration_have_their_types(model):
    config = Config(model, "ml-100k")
    for name, hint in get_type_hints(Settings).items():
        kinds = tuple(
            get_origin(kind) or kind for kind in (get_args(hint) if type(None) in get_args(hint) else (hint,))
        )
        assert isinstance(getattr(config, name), kinds), name


def test_keys_of_recboles_models_and_of_ours_do_not_meet():
    assert not {key.name for key in FOR_ALL_MODELS} & TAKEN
    assert {key.name for key in FOR_OUR_MODELS} & TAKEN == {"MAX_ITEM_LIST_LENGTH"}


WRONG = {
    "keys": ("must be a tuple of Keys", {"keys": [Key("a", int)]}),
    "columns": ("must be a tuple of Columns", {"columns": ("hour",)}),
    "twice": ("declares 'a' twice", {"keys": (Key("a", int), Key("a", float))}),
    "encode": ("encode must take 'hour'", {"columns": (Column("hour"),)}),
}


@pytest.mark.parametrize("words", WRONG)
def test_a_declaration_that_is_wrong_is_named(words):
    said, attributes = WRONG[words]
    plain = {"encode": lambda self, tokens, cu_seqlens, readout=None: tokens}
    model = type("Mine", (PackedSequentialRecommender,), {**plain, **attributes})
    with pytest.raises(InputError, match=rf"Mine\.\w+ .*{said.partition(' ')[2]}"):
        Config(model, "ml-100k")
    assert dataclasses.is_dataclass(Key)


MODULE = """
from recbole_ssm.model.declarations import Key
from recbole_ssm.model.lrurec import LRURec

class Mine(LRURec):
    keys = (*LRURec.keys, Key("speed", float, "how fast", 1.0, low=0))

class NoModel:
    class Inner(Mine):
        pass
"""


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """A package with entry points, as pip would install it."""
    name = f"{tmp_path.name.replace('-', '_')}_models"
    (tmp_path / f"{name}.py").write_text(MODULE)
    (tmp_path / "Mine.yaml").write_text("speed: 2.5\nlearning_rate: 0.01\n")
    (tmp_path / f"{name}-1.dist-info").mkdir()
    (tmp_path / f"{name}-1.dist-info" / "METADATA").write_text(f"Name: {name}\nVersion: 1\n")
    points = {"Mine": "Mine", "Broken": "Missing", "NoModel": "NoModel", "SASRec": "Mine", "LRURec": "Mine"}
    lines = [f"{point} = {name}:{of}" for point, of in points.items()] + ["Gone = no_such_module_anywhere:Gone"]
    lines += [f"Inner = {name}:NoModel.Inner [extra]", f"Leaves = {name}_that_leaves:Leaves"]
    (tmp_path / f"{name}_that_leaves.py").write_text("raise SystemExit('there is no licence')\n")
    (tmp_path / f"{name}-1.dist-info" / "entry_points.txt").write_text("\n".join([f"[{registry.GROUP}]", *lines]))
    monkeypatch.syspath_prepend(tmp_path)
    return name


def test_a_model_of_another_package_is_known_by_name(installed):
    assert list(MODELS)[: len(SHIPPED)] == list(SHIPPED) and "Mine" in MODELS
    config = Config("Mine", "ml-100k")
    assert config.is_packed and issubclass(config.model_class, LRURec)
    assert (config["speed"], config["learning_rate"], config["hidden_size"]) == (2.5, 0.01, 64)
    assert "Mine" in help_text("dataset")
    with pytest.raises(InputError, match="speed must be a number, 0 or more"):
        Config("Mine", "ml-100k", command_line=["--speed=-1"])


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("Broken", r"the model Broken \(.*:Missing, entry point of recbole_ssm.models\) cannot be imported"),
        ("Gone", "cannot be imported: No module named 'no_such_module_anywhere'"),
        ("Leaves", "cannot be imported: there is no licence; mend or uninstall it"),
        ("NoModel", "must be a class made from PackedSequentialRecommender"),
        ("SASRec", "several models are called 'SASRec': RecBole's SASRec, "),
        ("LRURec", "several models are called 'LRURec': recbole_ssm.model.lrurec:LRURec, "),
    ],
)
def test_a_model_that_is_registered_wrongly_is_named(installed, name, words):
    with pytest.raises(InputError, match=words):
        Config(name, "ml-100k")


def test_a_value_may_be_all_that_entry_points_may_be(installed):
    config = Config("Inner", "ml-100k")
    assert config.model_class.__qualname__ == "NoModel.Inner" and config["speed"] == 1.0


def test_without_them_the_models_are_those_of_this_package():
    assert {name for name in MODELS if MODELS[name].startswith("recbole_ssm.")} == set(SHIPPED)
    assert "no_such_module_anywhere" not in sys.modules


@pytest.mark.parametrize("model", ["2Mamba4Rec", "SASRec"])
@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"topk": ["10"]}, r"topk must be a whole number or a list of them, but is \['10'\]"),
        ({"topk": "x"}, "topk must be a whole number"),
        ({"eval_step": -1}, "eval_step must be a whole number, 1 or more, but is -1"),
        ({"seed": 2**32}, "seed must be a whole number from 0 to 4294967295"),
        ({"learner": "adamm"}, "learner must be one of adam, adamw"),
    ],
    ids=str,
)
def test_values_that_recbole_would_take_or_fail_at_are_refused(model, given, words):
    with pytest.raises(InputError, match=words):
        Config(model, "ml-100k", config_dict=given)


@pytest.mark.parametrize(("given", "told"), [({}, 0), ({"use_gpu": True}, 1), ({"gpu_id": 0}, 1)], ids=str)
def test_only_who_asks_for_a_gpu_is_told_that_there_is_none(monkeypatch, given, told):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr("recbole_ssm.config.settings.show_gpus", lambda number: None)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    notes = [note for note in Config("2Mamba4Rec", "ml-100k", config_dict=given).notes if "there is no GPU" in note]
    assert len(notes) == told
