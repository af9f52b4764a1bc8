"""Settings that follow from the size of the data: the rule by itself, and what stands above it."""

import pytest
import yaml

from recbole_ssm.config.config import Config
from recbole_ssm.config.from_data import (
    Statistics,
    batch_tokens,
    counts_help,
    dropout,
    epochs,
    in_words,
    learning_rate,
    settings_from,
    weight_decay,
)
from recbole_ssm.config.keys import keys_of
from recbole_ssm.config.shipped_files import properties_folder
from recbole_ssm.errors import InputError
from recbole_ssm.model.base import PackedSequentialRecommender
from recbole_ssm.model.registry import SHIPPED, model_class
from recbole_ssm.system.plain import plain

TRAINED = [name for name in SHIPPED if any(key.name == "hidden_size" for key in model_class(name).keys)]
"""Those whose size the rule knows."""
BEAUTY = Statistics(198_502, 22_363, 12_101)
SIZES = [0, 1, 10, 999, 20_000, 10**5, 10**6, 10**8, 10**12]


def settled(model="2Mamba4Rec", data=BEAUTY, files=(), **keys):
    """A configuration whose data have been read."""
    config = Config(model, "ml-100k", list(files), {"use_gpu": False, **keys})
    config.settle(data)
    return config


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (Statistics(10, 3, 5), (40, 256, 0.5, 1.0, True)),
        (Statistics(100_000, 943, 1_682), (26, 2048, 0.32, 0.67, False)),
        (BEAUTY, (21, 2048, 0.5, 1.0, True)),
        (Statistics(999_611, 6_040, 3_416), (12, 2048, 0.05, 0.14, False)),
        (Statistics(1_045_516, 27_077, 7_502), (12, 2048, 0.18, 0.29, False)),
        (Statistics(10**8, 10**6, 10**6), (3, 2048, 0.23, 0.4, False)),
        (Statistics(10**7, 10**6, 10**6), (6, 2048, 0.5, 1.0, False)),
    ],
    ids=lambda value: f"{value.interactions}" if isinstance(value, Statistics) else "",
)
def test_the_rule_by_table(data, expected):
    config = settled(data=data)
    keys = ("epochs", "train_batch_tokens", "dropout_prob", "weight_decay", "transition_memory")
    assert tuple(config[key] for key in keys) == expected
    assert config["stopping_step"] == config["epochs"]  # a cycle is not stopped early


@pytest.mark.parametrize(
    ("rule", "lowest", "highest"),
    [
        (epochs, 2, 40),
        (lambda n: -batch_tokens(n), -2048, -256),
        (dropout, 0.05, 0.5),
        (lambda n: dropout(n, after_norm=True), 0.02, 0.1),
        (weight_decay, 0.1, 1),
        (lambda n: learning_rate(max(n, 1)), 0, 0.004),
        (lambda n: counts_help(Statistics(n, 10, 10)), 0, 1),
    ],
    ids=["epochs", "batches", "dropout", "dropout after norms", "weight decay", "learning rate", "memory"],
)
def test_each_formula_falls_within_its_borders(rule, lowest, highest):
    values = [rule(size) for size in SIZES]
    assert values == sorted(values, reverse=True)
    assert values[0] == highest
    assert lowest <= values[-1] < highest


@pytest.mark.sampled(5)
@pytest.mark.parametrize("model", TRAINED)
@pytest.mark.parametrize("n", SIZES)
def test_every_model_takes_what_follows_from_data_of_any_size(model, n):
    config = settled(model, Statistics(n, n // 10, n // 5))
    found = {key: value for group in config.from_data for key, value in group.settings.items()}
    for key in keys_of(model_class(model)):
        key.check(config[key.name])
    assert found == {key: config[key] for key in found}
    assert config["lr_schedule"] == "one_cycle"
    assert config["train_samples"] == ("whole_sequence" if model_class(model).causal else "prefix_lm")
    assert len(in_words(config.from_data).splitlines()) == len(config.from_data) <= 6


def test_what_is_given_stays(tmp_path):
    (tmp_path / "mine.yaml").write_text("dropout_prob: 0.07\nweight_decay: 0.3\n")
    given = {"learning_rate": 0.01, "weight_decay": 0.2, "epochs": 5, "transition_memory": False}
    config = settled(files=[tmp_path / "mine.yaml"], **given)
    assert [config[key] for key in ("dropout_prob", "weight_decay", "learning_rate")] == [0.07, 0.2, 0.01]
    assert (config["epochs"], config["stopping_step"]) == (5, 5)
    assert (config["num_layers"], config["transition_memory"]) == (2, False)
    assert not {"dropout_prob", "epochs"} & {key for group in config.from_data for key in group.settings}


def test_what_is_set_later_stays():
    config = Config("2Mamba4Rec", "ml-100k")
    config["num_layers"] = 3
    config.settle(BEAUTY)
    assert (config["num_layers"], config["d_state"]) == (3, 32)


def test_a_configuration_that_is_used_again_has_each_setting_once():
    config = Config("2Mamba4Rec", "ml-100k")
    config.settle(BEAUTY)
    before = config.from_data
    config.settle(BEAUTY)
    assert config.from_data == before


@pytest.mark.parametrize(
    ("mode", "words"),
    [
        ("full", ""),
        ("uni100", "; ranked against 100 items drawn"),
        ("pop5", "; ranked against 5 items drawn by popularity"),
    ],
)
def test_results_say_if_targets_are_ranked_against_some_items_only(mode, words):
    config = Config("2Mamba4Rec", "ml-100k", config_dict={"eval_args": {"mode": mode}})
    assert config.split_in_words == "leave one out; validation items not trained on" + words


def test_mamrec_gets_no_settings_that_its_language_model_or_titles_make_void():
    mamba = {"model_type": "mamba", "hidden_size": 256}
    config = settled("MamRec", item_scores="titles", language_config=mamba)
    found = {key for group in config.from_data for key in group.settings}
    assert found.isdisjoint({"transition_memory", "memory_rarity", "repeat_bias", "num_layers"}) and "epochs" in found
    assert config["learning_rate"] == 0.002 and "for width 256" in in_words(config.from_data)
    assert settled("MamRec", language_config=mamba)["transition_memory"]


def test_what_belongs_to_another_choice_is_left_out():
    published = Config("2Mamba4Rec", "ml-100k")
    constant = settled(lr_schedule="constant")
    assert [constant[key] for key in ("epochs", "learning_rate", "dropout_prob")] == [300, 0.002, 0.5]
    assert settled(learner="adam")["weight_decay"] == published["weight_decay"]
    assert settled(learner="sgd")["learning_rate"] == published["learning_rate"]
    assert settled(train_batch_size=8)["train_batch_tokens"] is None
    assert settled(hidden_size=12, expand=1)["headdim"] == 4
    assert settled(hidden_size=256)["learning_rate"] == 0.002


@pytest.mark.parametrize(("per_item", "expected"), [(1, 0), (60, 0), (139, 3), (292, 7), (1000, 8)])
def test_histories_are_first_read_in_one_direction_where_items_are_frequent(per_item, expected):
    config = settled("SSD4Rec", Statistics(1000 * per_item, 100, 1000), epochs=12)
    assert config["causal_epochs"] == expected
    assert settled("2Mamba4Rec", Statistics(10**6, 100, 1000))["causal_epochs"] is None


def test_causal_epochs_fit_the_epochs():
    assert settled("SSD4Rec", Statistics(10**6, 6000, 3000), epochs=1)["causal_epochs"] == 0
    with pytest.raises(InputError, match="causal_epochs 30 leaves none of 21 epochs"):
        settled("SSD4Rec", causal_epochs=30)


def test_files_of_a_dataset_and_of_ones_own_model_stand_above_the_data(tmp_path, monkeypatch):
    monkeypatch.setattr("recbole_ssm.config.defaults.properties_folder", lambda: tmp_path)
    (tmp_path / "dataset").mkdir()
    (tmp_path / "dataset" / "ml-100k.yaml").write_text("dropout_prob: 0.11\n")
    assert settled()["dropout_prob"] == 0.11
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "own_model_of_mine.py").write_text(
        "from recbole_ssm.model.lrurec import LRURec\nclass Mine(LRURec):\n    pass\n"
    )
    (tmp_path / "Mine.yaml").write_text("epochs: 3\n")
    from own_model_of_mine import Mine

    config = settled(Mine)
    assert (config["epochs"], config["stopping_step"], config["dropout_prob"]) == (3, 3, 0.11)


def test_a_model_gets_only_keys_that_it_has():
    class Plain(PackedSequentialRecommender):
        """Without layers, dropout or state."""

    found = {key for group in settled(Plain).from_data for key in group.settings}
    assert not found & {"num_layers", "dropout_prob", "d_state", "headdim"}
    assert {"epochs", "learning_rate", "repeat_bias"} <= found


@pytest.mark.parametrize("model", ["PCTM", "SASRec", "Pop"])
def test_models_that_are_not_packed_or_not_trained_keep_their_settings(model):
    config = Config(model, "ml-100k")
    before = plain(config.final_config_dict)
    config.settle(BEAUTY)
    assert plain(config.final_config_dict) == before and not config.from_data


@pytest.mark.parametrize("model", TRAINED)
def test_published_defaults(model):
    before = Config(model, "ml-100k", config_dict={"defaults": "paper"})
    after = settled(model, defaults="paper", use_gpu=before["use_gpu"])
    assert plain(after.final_config_dict) == plain(before.final_config_dict)
    assert not after.from_data


FILES = [
    file
    for folder in ("recipe", "memory", "wide", "paper")
    for file in sorted((properties_folder() / folder).glob("*.yaml"))
    if file.stem.partition("-")[0] in TRAINED
]


@pytest.mark.sampled(5)
@pytest.mark.parametrize("file", FILES, ids=lambda file: f"{file.parent.name}/{file.stem}")
def test_recipes_do_not_depend_on_the_data(file):
    """Their figures are of these settings, whatever the rule becomes."""
    model, _, dataset = file.stem.partition("-")
    assert yaml.safe_load(file.read_text())["defaults"] == "paper"
    config = Config(model, dataset, [file])
    before = plain(config.final_config_dict)
    config.settle(BEAUTY)
    assert plain(config.final_config_dict) == before


def test_pretrained_weights_move_less():
    slow = settled("MamRec", language_model="folder")
    assert (slow["learning_rate"], slow["embedding_lr_scale"]) == (2e-4, 15.0)
    assert settled("MamRec")["learning_rate"] == learning_rate(96)


def test_the_rule_reads_and_changes_nothing_else():
    config = Config("2Mamba4Rec", "ml-100k")
    before = plain(config.final_config_dict)
    assert settings_from(BEAUTY, config, (), 64) == settings_from(BEAUTY, config, (), 64)
    assert plain(config.final_config_dict) == before
