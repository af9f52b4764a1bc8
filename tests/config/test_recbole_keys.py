"""No key of RecBole is passed over without a word."""

import re
from fnmatch import fnmatch
from functools import partial
from pathlib import Path

import pytest
import recbole
import yaml
from recbole.model.sequential_recommender import GRU4Rec
from recbole.utils.argument_list import (
    dataset_arguments,
    evaluation_arguments,
    general_arguments,
    training_arguments,
)

from recbole_ssm.config.config import Config
from recbole_ssm.config.recbole_keys import KNOWN, PASSED_OVER, TAKEN
from recbole_ssm.config.shipped_files import keys_of_model, keys_of_models
from recbole_ssm.errors import InputError
from recbole_ssm.model.declarations import Key
from recbole_ssm.model.lrurec import LRURec
from recbole_ssm.model.recbole_models import READS_MORE, recbole_models

FOLDER = Path(recbole.__file__).parent
ABSTRACT = (FOLDER / "model" / "abstract_recommender.py").read_text()
TRAINERS = (FOLDER / "trainer" / "trainer.py").read_text()

OF_SINGLE_MODELS = ("transform.py", "customized_dataset.py", "decisiontree_dataset.py", "hyper_tuning.py")
"""RecBole's files that read keys of some models, or none of a configuration."""

NOT_GENERAL = {"model", "dataset", "local_rank", "xgb_early_stopping_rounds"}
"""Read or refused by this package itself; and one of a single model, which stands in no file."""


def general_keys():
    """Those of RecBole's lists, of its files that are of no model, and of its code that is of no model."""
    keys = {*general_arguments, *training_arguments, *evaluation_arguments, *dataset_arguments}
    for file in ("overall.yaml", "dataset/sample.yaml", "dataset/ml-100k.yaml"):
        keys |= yaml.load((FOLDER / "properties" / file).read_text(), yaml.BaseLoader).keys()
    for file in FOLDER.rglob("*.py"):
        if file.parts[len(FOLDER.parts)] != "model" and file.name not in OF_SINGLE_MODELS:
            keys |= set(re.findall(r"""config(?:_dict)?(?:\[|\.get\()\s*["'](\w+)["']""", file.read_text()))
    return keys - (keys_of_models() - TAKEN) - NOT_GENERAL


def test_each_key_of_recbole_is_taken_or_passed_over():
    assert general_keys() - KNOWN == set()
    assert TAKEN - general_keys() == set(), "no keys of RecBole"


def config(model, **keys):
    metrics = {"metrics": ["AUC"], "valid_metric": "AUC", "eval_args": {"mode": "labeled"}}
    try:
        return Config(model, "ml-100k", config_dict=keys)
    except InputError as error:
        if "value-based" not in str(error):
            raise
    return Config(model, "ml-100k", config_dict={**metrics, **keys})


EACH = {
    **{"nproc": 2, "world_size": 2, "ip": "1.2.3.4", "port": 5, "offset": 1, "config_file": "a.yaml"},
    **{"device": "cuda:1", "eval_type": "x", "verbose": False, "valid_metric_bigger": False, "POSITION_FIELD": "p"},
    **{"training_neg_sample_num": 3, "wandb_project": "mine", "lgb_early_stopping_rounds": 3, "use_gpu": False},
}
OF_DATA = {"kg_reverse_r": True, "ENTITY_ID_FIELD": "e", "RATING_FIELD": "stars", "preload_weight": {"i": "v"}}
OF_DATA |= {"numerical_features": ["price"], "discretization": {"price": {"method": "ED", "bucket": 3}}}
MORE = {"enable_scaler": True, "require_pow": True, "MAX_ITEM_LIST_LENGTH": 33, "learning_rate": 0.003, "beta": 0.3}


@pytest.mark.parametrize(
    ("model", "done"),
    [
        ("2Mamba4Rec", {"MAX_ITEM_LIST_LENGTH", "learning_rate"}),
        ("SSD4Rec", {"MAX_ITEM_LIST_LENGTH", "learning_rate", "beta"}),
        ("SASRec", {"MAX_ITEM_LIST_LENGTH", "learning_rate"}),
        ("SASRecF", {"MAX_ITEM_LIST_LENGTH", "learning_rate", "numerical_features", "discretization"}),
        ("BPR", {"learning_rate"}),
        ("DMF", {"learning_rate", "RATING_FIELD"}),
        ("LightGCN", {"learning_rate", "require_pow"}),
        ("MacridVAE", {"learning_rate"}),
        ("CKE", {"learning_rate", "kg_reverse_r", "ENTITY_ID_FIELD"}),
        ("KSR", {"learning_rate", "MAX_ITEM_LIST_LENGTH", "kg_reverse_r", "ENTITY_ID_FIELD", "preload_weight"}),
        ("Pop", set()),
    ],
)
def test_what_does_nothing_for_a_model_is_named(model, done):
    found = config(model, **EACH, **OF_DATA, **MORE, eval_args={"order": "TO"})
    assert set(found.passed_over) == {*EACH, *OF_DATA, *MORE} - done - {"use_gpu"}
    for key, note in found.passed_over.items():
        assert note.startswith(f"{key} is passed over: ") and note in found.notes


@pytest.mark.parametrize("key", ["epoch", "optimizer", "params", "config", "time", "eval"])
def test_words_of_recboles_code_are_no_keys(key):
    with pytest.raises(InputError, match=f"unknown key '{key}'"):
        config("2Mamba4Rec", **{key: 3})
    for model in ("SASRec", "BPR", "Pop"):
        assert f"unknown key '{key}'" in config(model, **{key: 3}).passed_over[key]


@pytest.mark.parametrize(
    ("model", "negatives", "passed_over"),
    [("Pop", {}, True), ("Pop", {"distribution": "uniform", "sample_num": 1}, False), ("ItemKNN", {}, False)],
)
def test_pop_has_batches_of_its_own(model, negatives, passed_over):
    keys = {"train_neg_sample_args": negatives} if negatives else {}
    assert ("train_batch_size" in config(model, train_batch_size=77, **keys).passed_over) == passed_over


@pytest.mark.parametrize("model", ["2Mamba4Rec", "SASRec", "Pop"])
def test_what_has_its_default_is_not_named(model):
    defaults = Config(model, "ml-100k").recbole_defaults
    given = {key: defaults[key] for row in PASSED_OVER for key in row.keys if key in defaults}
    assert len(given) > 20
    assert config(model, **given, nproc=None, ip=None).passed_over == {}


@pytest.mark.parametrize("model", ["2Mamba4Rec", "SASRec", "BPR"])
@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("eval_args", {"ordr": "TO"}, "eval_args: unknown name 'ordr'. Did you mean order?"),
        ("eval_args", {"groupby": "user"}, "unknown name 'groupby'. Did you mean group_by?"),
        ("eval_args", {"xyzw": 1}, "unknown name 'xyzw'; it has split, group_by, order, mode"),
        ("eval_args", {"mode": {"valid": "full"}}, "mode must be a word, or have valid and test"),
        ("eval_args", {"mode": {"vaild": "full", "test": "full"}}, "mode must be a word, or have valid and test"),
        ("load_col", {"intr": ["user_id"]}, "load_col: unknown name 'intr'. Did you mean inter?"),
        ("unload_col", {"items": ["class"]}, "unload_col: unknown name 'items'. Did you mean item?"),
        ("unused_col", {"usr": ["age"]}, "unused_col: unknown name 'usr'. Did you mean user?"),
        ("clip_grad_norm", {"max_nrom": 5}, "clip_grad_norm: unknown name 'max_nrom'. Did you mean max_norm?"),
        ("clip_grad_norm", {"norm_type": 2}, "clip_grad_norm: max_norm must be a number above 0, but is None"),
        ("clip_grad_norm", {"max_norm": "5"}, "max_norm must be a number above 0, but is '5'"),
    ],
)
def test_names_within_a_dict_are_checked(model, key, value, words):
    with pytest.raises(InputError, match=re.escape(words)):
        config(model, **{key: value})


@pytest.mark.parametrize("wrong", ["smple_num", "distribtion", "dynamc"])
@pytest.mark.parametrize("model", ["2Mamba4Rec", "SASRec", "BPR"])
def test_names_of_negatives_are_checked(model, wrong):
    keys = {} if model == "BPR" else {"loss_type": "BPR"}
    with pytest.raises(InputError, match=f"train_neg_sample_args: unknown name '{wrong}'. Did you mean"):
        config(model, **keys, train_neg_sample_args={wrong: 3})


def test_files_that_are_named_may_be_named_in_load_col():
    columns = {"inter": ["user_id", "item_id", "timestamp"], "vectors": ["iid", "vector"], "item": "*"}
    found = config("SASRec", additional_feat_suffix=["vectors"], load_col=columns)
    assert found["load_col"] == columns


@pytest.mark.parametrize(
    ("keys", "unused"),
    [
        ({"load_col": {"inter": ["user_id", "item_id", "timestamp", "rating"]}}, "rating"),
        (
            {"load_col": {"inter": ["user_id", "item_id", "timestamp"], "item": ["item_id", "class", "year"]}},
            "class, year",
        ),
        ({"load_col": {"inter": ["user_id", "item_id", "timestamp", "a"]}, "val_interval": {"a": "[1,2]"}}, None),
        ({"load_col": {"inter": ["user_id", "item_id", "timestamp"]}}, None),
        ({}, None),
    ],
)
def test_columns_that_no_batch_has_are_named(keys, unused):
    notes = [note for note in config("2Mamba4Rec", **keys).notes if note.startswith("load_col")]
    assert notes == (
        []
        if unused is None
        else [f"load_col: {unused} will be read and not used: 2Mamba4Rec learns from items and their order alone"]
    )


class Forgetful(LRURec):
    """A model with a key of its own."""

    keys = (*LRURec.keys, Key("forgetting_rate", float, "how fast", 0.5, low=0, high=1))

    @classmethod
    def check_config(cls, config):
        """A check of its own."""
        if config["forgetting_rate"] == config["dropout_prob"]:
            raise InputError("forgetting_rate must differ from dropout_prob")


def test_a_key_of_ones_own_model_has_its_default_and_checks():
    assert Config(Forgetful, "ml-100k")["forgetting_rate"] == 0.5
    found = Config(Forgetful, "ml-100k", config_dict={"forgetting_rate": 1, "headdim": 4})
    assert found["forgetting_rate"] == 1
    assert found.passed_over["headdim"] == "headdim is passed over: it does not apply to Forgetful"
    assert "forgetting_rate" in found.parameters["State-space"]
    for value, words in (
        (2, "must be a number from 0 to 1"),
        (None, "must be a number"),
        (0.2, "must differ from dropout"),
    ):
        with pytest.raises(InputError, match=f"forgetting_rate {words}"):
            Config(Forgetful, "ml-100k", config_dict={"forgetting_rate": value})
    with pytest.raises(InputError, match=r"unknown key 'forgeting_rate'.*must stand in Forgetful.keys"):
        Config(Forgetful, "ml-100k", config_dict={"forgeting_rate": 3})


class Foreign(GRU4Rec):
    """Somebody's model in RecBole's manner, which declares nothing."""


def test_of_somebodys_model_in_recboles_manner_every_key_may_be_read():
    settings = {"embedding_size": 8, "hidden_size": 8, "num_layers": 1, "dropout_prob": 0.1, "loss_type": "CE"}
    found = Config(Foreign, "ml-100k", config_dict=settings | {"whatever": 3, "RATING_FIELD": "stars"})
    assert found["whatever"] == 3
    assert not found.passed_over


def code_of(name):
    """The code that reads the keys of a model of RecBole alone: its file, base classes, trainer and dataset."""
    files = {file.stem.lower(): file for file in FOLDER.glob("model/*_recommender/*.py")}
    text = files[name.lower()].read_text()
    for base in re.findall(r"^class \w+\((\w+)\)", text, re.MULTILINE):
        if base.lower() in files:
            text += files[base.lower()].read_text()
        elif base != "SequentialRecommender":  # the code of base classes begins with their names
            found = re.search(rf"^class {base}\(.*?(?=^class |\Z)", ABSTRACT, re.MULTILINE | re.DOTALL)
            text += found[0] if found else ""
    trainer = {"KGAT": "KGATTrainer"}.get(name, f"{name}Trainer")
    if not re.search(rf"^class {trainer}\(", TRAINERS, re.MULTILINE) and "knowledge_aware" in str(files[name.lower()]):
        trainer = "KGTrainer"
    while found := re.search(rf"^class {trainer}\((\w+)\).*?(?=^class |\Z)", TRAINERS, re.MULTILINE | re.DOTALL):
        text += found[0] if trainer != "Trainer" else ""
        trainer = found[1]
    own = FOLDER / "data" / "dataset" / "customized_dataset.py"
    found = re.search(rf"^class {name}Dataset\(.*?(?=^class |\Z)", own.read_text(), re.MULTILINE | re.DOTALL)
    return text + (found[0] if found else "")


SET_BY_CODE = {"MASK_INDEX", "MASK_ITEM_SEQ", "POS_ITEMS", "NEG_ITEMS", "INVERSE_ITEM_SEQ", "feature_num"}
SET_BY_CODE |= {"final_config_dict", "model", "dataset", "local_rank", "parameters", "time"}


@pytest.mark.sampled(4)
@pytest.mark.parametrize("model", recbole_models())
def test_the_tables_of_keys_of_single_models_are_those_of_recboles_code(model):
    code = code_of(model)
    read = set(re.findall(r"""\bconfig(?:\[|\.get\()\s*["']([\w-]+)["']""", code)) - SET_BY_CODE
    patterns = [pattern for models, keys in READS_MORE if model in models for pattern in keys]
    told = {key for key in read if key in keys_of_model(model) or any(map(partial(fnmatch, key), patterns))}
    assert read - told - KNOWN == set(), "READS_MORE lacks them"
    words = {"numerical_features", "discretization", "preload_weight", "require_pow", "RATING_FIELD"}
    unread = {key for key in patterns if key not in read and not key.endswith("*")} - words
    assert unread == set(), "READS_MORE has them for nothing"
    for key in words & {"require_pow", "RATING_FIELD"}:
        assert (key in patterns) == (key in read)
    assert ("preload_weight" in patterns) == ("preload_weight" in code)
    with_features = re.search("ContextRecommender|ContextSeqEmb|FeatureSeqEmb|numerical_features", code) is not None
    assert ("numerical_features" in patterns) == (with_features or model in ("LightGBM", "XGBoost"))


@pytest.mark.parametrize(
    ("given", "idle"),
    [
        ({"alpha": 0.5}, ["alpha"]),
        ({"candidate_num": 3}, ["candidate_num"]),
        ({"alpha": 0.5, "candidate_num": 3}, ["alpha", "candidate_num"]),
        ({"distribution": "popularity", "alpha": 0.5}, []),
        ({"dynamic": True, "candidate_num": 3}, []),
        ({"alpha": 1.0, "candidate_num": 0, "sample_num": 2}, []),
    ],
)
def test_names_of_another_way_to_draw_negatives_are_told(given, idle):
    given = {"distribution": "uniform", "sample_num": 1, "alpha": 1.0, "dynamic": False, "candidate_num": 0} | given
    config = Config("BPR", "ml-100k", config_dict={"use_gpu": False, "train_neg_sample_args": given})
    assert [key for key in config.passed_over if key.startswith("train_neg")] == [
        f"train_neg_sample_args: {name}" for name in idle
    ]
