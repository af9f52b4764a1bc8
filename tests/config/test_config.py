"""Which value counts, and what is refused."""

import sys

import numpy as np
import pytest
import torch
from atomic import SMALL
from recbole.model.sequential_recommender import SASRec
from recbole.utils.argument_list import (
    dataset_arguments,
    evaluation_arguments,
    general_arguments,
    training_arguments,
)

from recbole_ssm.config.config import Config
from recbole_ssm.config.shipped_files import find_config_file, properties_folder
from recbole_ssm.config.splits import split_in_words
from recbole_ssm.errors import InputError
from recbole_ssm.model.registry import MODELS, model_class
from recbole_ssm.model.ssd4rec import SSD4Rec


def test_command_line_before_dict_before_files_before_defaults(tmp_path):
    file = tmp_path / "file.yaml"
    later = tmp_path / "later.yaml"
    file.write_text("d_state: 7\nexpand: 4\nhidden_size: 32\nnum_layers: 3\n")
    later.write_text("num_layers: 2\n")
    config = Config(
        "SSD4Rec",
        "ml-100k",
        [file, str(later)],
        {"d_state": 8, "expand": 3},
        ["--d_state=9"],
    )
    found = {key: config[key] for key in ("d_state", "expand", "hidden_size", "num_layers", "beta")}
    assert found == {"d_state": 9, "expand": 3, "hidden_size": 32, "num_layers": 2, "beta": 0.1}


def test_the_properties_of_a_model_come_before_recboles_own(tmp_path):
    config = Config("2Mamba4Rec", "ml-100k")
    assert config["valid_metric"] == "NDCG@10"
    assert config["eval_batch_size"] == 256
    assert config["MAX_ITEM_LIST_LENGTH"] is None
    assert config["time_order"] == "exact"
    assert config["filter_seen"] is False
    assert Config("SASRec", "ml-100k")["MAX_ITEM_LIST_LENGTH"] == 50


@pytest.mark.parametrize("model", ["2Mamba4Rec", "SASRec"])
def test_recboles_protocol_is_a_file(model):
    config = Config(model, "ml-100k", ["protocol/recbole"])
    assert (config["time_order"], config["filter_seen"]) == ("recbole", False)
    assert config["eval_args"]["split"] == {"LS": "valid_and_test"}


@pytest.mark.parametrize("model", ["2Mamba4Rec", "SASRec"])
@pytest.mark.parametrize(
    "keys", [{"numerical_features": ["when"]}, {"threshold": {"when": 3}}], ids=["numerical_features", "threshold"]
)
def test_the_times_stay_times(model, keys):
    with pytest.raises(InputError, match=f"{next(iter(keys))}: when gives the order of interactions"):
        Config(model, "unknown", config_dict={"TIME_FIELD": "when", **keys})
    Config("BPR", "unknown", config_dict={"TIME_FIELD": "when", **keys})  # whose split is at random


def test_properties_of_a_known_dataset_apply_to_every_model():
    for model in ("Mamba4Rec", "SASRec"):
        config = Config(model, "ml-1m")
        assert config["user_inter_num_interval"] == "[5,inf)"
        assert config["load_col"] == {"inter": ["user_id", "item_id", "timestamp"]}


@pytest.mark.parametrize("model", ["2Mamba4Rec", "SASRec", "GRU4Rec"])
def test_the_time_of_an_unknown_dataset_is_loaded(model):
    config = Config(model, "unknown", config_dict={"TIME_FIELD": "when", "USER_ID_FIELD": "who"})
    assert config["load_col"] == {"inter": ["who", "item_id", "when"]}


def test_cross_entropy_needs_no_word_on_negatives():
    for model in ("SASRec", "GRU4Rec", "2Mamba4Rec"):
        assert Config(model, "ml-100k")["train_neg_sample_args"]["distribution"] == "none"


@pytest.mark.parametrize("model", ["SASRec", "2Mamba4Rec"])
def test_bpr_keeps_its_negatives(model):
    config = Config(model, "ml-100k", config_dict={"loss_type": "BPR"})
    assert config["train_neg_sample_args"]["distribution"] == "uniform"
    assert config["train_neg_sample_args"]["sample_num"] == 1
    given = {"distribution": "popularity", "sample_num": 4}
    config = Config(model, "ml-100k", config_dict={"loss_type": "BPR", "train_neg_sample_args": given})
    assert config["train_neg_sample_args"]["distribution"] == "popularity"
    assert config["train_neg_sample_args"]["sample_num"] == 4


def test_general_models_keep_their_negatives():
    assert Config("BPR", "ml-100k")["train_neg_sample_args"]["distribution"] == "uniform"


def test_without_use_gpu_the_device_is_the_cpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert Config("2Mamba4Rec", "ml-100k", config_dict={"use_gpu": False})["device"].type == "cpu"
    assert Config("2Mamba4Rec", "ml-100k", config_dict={"use_gpu": True})["device"].type == "cuda"


def test_models_of_this_package_are_packed_and_recboles_are_not():
    assert [Config(name, "ml-100k").is_packed for name in [*MODELS, "SASRec", "BPR"]] == [True] * len(MODELS) + [
        False
    ] * 2


@pytest.mark.parametrize(
    ("file", "meant"),
    [
        ("recipe/2Mamba4Rec-ml1m", "recipe/2Mamba4Rec-ml-1m"),
        ("protocol/leave-one-out", "protocol/leave_one_out"),
        ("paper/mamba4rec-amazon-beauty", "paper/Mamba4Rec-amazon-beauty"),
        ("of my own.yaml", None),
    ],
)
def test_a_config_file_that_is_not_there(file, meant):
    with pytest.raises(InputError) as error:
        find_config_file(file)
    assert file in str(error.value) and "--help" in str(error.value) and len(str(error.value)) < 250
    assert (meant is None) == ("Did you mean" not in str(error.value)) and (meant or "") in str(error.value)


def test_every_registered_name_has_a_class_and_properties():
    trained = ["SSD4Rec", "Mamba4Rec", "2Mamba4Rec", "Hydra4Rec", "LRURec", "PackedSASRec"]
    assert list(MODELS)[:6] == trained and list(MODELS)[-3:] == ["PCTM", "SeqRules", "MarkovChain"]
    assert {"MamRec", "GPT4Rec", "LlamaRec", "BM25"} <= set(list(MODELS)[6:-3])
    for name in MODELS:
        assert model_class(name).__module__.startswith("recbole_ssm.model.")
        assert (properties_folder() / "model" / f"{name}.yaml").is_file()
        assert Config(name, "ml-100k")["model"] == name
    assert model_class("SASRec") is SASRec


def test_recboles_models_do_not_turn_on_anomaly_detection(monkeypatch):
    """As they do where they are imported otherwise; it makes a training almost twice as long."""
    monkeypatch.setattr("recbole_ssm.model.registry.get_model", lambda _: torch.autograd.set_detect_anomaly(True))
    model_class("SASRec")
    assert not torch.is_anomaly_enabled()


def test_prefix_lm_needs_a_model_that_can_be_told_where_to_cut():
    blind = type("SSD4Rec", (SSD4Rec,), {"encode": lambda self, tokens, cu_seqlens, readout=None: tokens})
    with pytest.raises(InputError, match="encode takes cut"):
        Config(blind, "ml-100k", config_dict={"train_samples": "prefix_lm"})


def test_a_class_may_stand_for_its_name():
    config = Config(SSD4Rec, "ml-100k")
    assert config["model"] == "SSD4Rec"
    assert config["beta"] == 0.1
    assert config.model_class is SSD4Rec


def test_a_dict_in_place_of_a_file_is_taken_as_it_is():
    word = "__import__('os').getpid()"
    given = {"wandb_project": word, "user_inter_num_interval": "[5,10]", "d_state": 7}
    config = Config("SSD4Rec", "ml-100k", [given], {"d_state": 8})
    assert (config["wandb_project"], config["user_inter_num_interval"], config["d_state"]) == (word, "[5,10]", 8)


@pytest.mark.parametrize("model", ["SASRec", "Pop"])
def test_a_part_of_eval_args_replaces_that_part(model):
    config = Config(model, "ml-100k", ["protocol/leave_one_out"], {"eval_args": {"split": {"LS": "test_only"}}})
    assert config["eval_args"]["split"] == {"LS": "test_only"}
    assert (config["eval_args"]["order"], config["eval_args"]["mode"]["test"]) == ("TO", "full")
    mode = Config(model, "ml-100k", ["protocol/leave_one_out"], command_line=["--eval_args={'mode':'uni5'}"])
    assert mode["eval_args"]["split"] == {"LS": "valid_and_test"}
    assert mode["eval_args"]["mode"] == {"valid": "uni5", "test": "uni5"}


@pytest.mark.parametrize(
    ("key", "says"), [("config_files=a", "config_files"), ("model=SASRec", "the model is"), ("dataset=a", "ml-100k")]
)
def test_what_a_run_is_of_is_no_key_of_it(key, says):
    with pytest.raises(InputError, match=says):
        Config("SSD4Rec", "ml-100k", command_line=[f"--{key}"])


@pytest.mark.parametrize("model", ["GRU4RecKG", "KSR"])
def test_defaults_that_are_words_and_become_lists_are_taken(model):
    assert Config(model, "ml-100k", config_dict={"eval_args": {"order": "TO"}})["additional_feat_suffix"] == ["ent"]


def test_a_key_that_a_model_of_recbole_reads_is_known():
    keys = {"contrast": "us_x", "contrasst": 1}
    config = Config("FEARec", "ml-100k", config_dict=keys)
    assert set(config.passed_over) == {"contrasst"}
    assert config["contrast"] == "us_x"


def test_keys_of_other_models_are_passed_over():
    keys = {"n_layers": 4, "beta": 0.2, "inner_size": 3, "num_layers": 2}
    assert set(Config("SSD4Rec", "ml-100k", config_dict=keys).passed_over) == {"n_layers", "inner_size"}
    own = type("Mine", (SSD4Rec,), {})
    config = Config(own, "ml-100k", config_dict={"n_layers": 4, "d_state": 8})
    assert set(config.passed_over) == {"n_layers"}
    assert (config["d_state"], config["hidden_size"], config["train_samples"]) == (8, 64, "all_prefixes")


@pytest.mark.parametrize(
    ("model", "shared"),
    [("SSD4Rec", True), ("SASRec", True), ("BPR", True), ("NCL", True), ("RecVAE", False), ("Pop", False)],
)
def test_models_whose_loss_cannot_be_shared_out_are_refused(monkeypatch, model, shared):
    monkeypatch.setattr("recbole_ssm.config.checks.world_size", lambda: 2)
    monkeypatch.setattr("recbole_ssm.config.checks.check_packages", lambda name: None)
    if shared:
        Config(model, "ml-100k")
    else:
        with pytest.raises(InputError, match=f"{model} cannot be trained by several processes"):
            Config(model, "ml-100k")


def test_files_of_the_package_are_found_by_their_name():
    assert Config("2Mamba4Rec", "ml-100k", ["recipe/2Mamba4Rec-ml-100k"])["headdim"] == 16
    assert Config("2Mamba4Rec", "ml-100k", ["recipe/2Mamba4Rec-ml-100k.yaml"])["headdim"] == 16


def test_that_nothing_is_validated_is_said():
    notes = Config("2Mamba4Rec", "ml-100k", ["protocol/no_validation"], {"epochs": 7, "use_gpu": False}).notes
    assert notes == ["there is no validation: all epochs are trained, and the model of the last one is kept"]
    assert not Config("2Mamba4Rec", "ml-100k", ["protocol/leave_one_out"], {"use_gpu": False}).notes


@pytest.mark.parametrize(
    ("model", "keys", "order"),
    [
        ("SASRec", {}, "exact"),
        ("2Mamba4Rec", {"time_order": "recbole"}, "recbole"),
        ("BPR", {}, "none, a random split"),
        ("BPR", {"eval_args": {"order": "TO", "split": {"LS": "valid_and_test"}}}, "exact"),
    ],
)
def test_results_name_the_order_that_counts(model, keys, order):
    assert Config(model, "ml-100k", config_dict=keys).order_of_histories == order


def test_what_train_samples_has_no_use_for_is_named():
    note = "prefixes_per_user is passed over: train_samples is prefix_lm"
    keys = {"prefixes_per_user": 2}
    assert note in Config("SSD4Rec", "ml-100k", config_dict=keys).notes
    keys["train_samples"] = "sampled_prefixes"
    assert not any("passed over" in note for note in Config("SSD4Rec", "ml-100k", config_dict=keys).notes)


@pytest.mark.parametrize("file", sorted(path.stem for path in properties_folder().glob("paper/*.yaml")))
def test_the_settings_of_the_papers_fit_their_models_and_datasets(file):
    model, _, dataset = file.partition("-")
    config = Config(model, dataset, [f"paper/{file}"])
    assert config.is_packed
    assert config["train_samples"] == ("whole_sequence" if model == "MamRec" else "all_prefixes")


def test_the_protocol_file_gives_general_models_the_split_of_sequential_ones():
    sequential = Config("SASRec", "ml-100k")["eval_args"]
    assert Config("BPR", "ml-100k")["eval_args"] != sequential
    assert Config("BPR", "ml-100k", ["protocol/leave_one_out"])["eval_args"] == sequential
    assert Config("BPR", "another")["load_col"] == {"inter": ["user_id", "item_id"]}
    by_time = Config("BPR", "another", ["protocol/no_validation"], {"TIME_FIELD": "when"})
    assert by_time["load_col"] == {"inter": ["user_id", "item_id", "when"]}


def test_a_file_in_the_current_folder_comes_before_the_packages(tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "SSD4Rec.yaml").write_text("headdim: 32\n")
    assert Config("2Mamba4Rec", "ml-100k", ["model/SSD4Rec.yaml"])["headdim"] == 32


def test_an_empty_file_changes_nothing(tmp_path):
    (tmp_path / "empty.yaml").write_text("# nothing yet\n")
    assert Config("2Mamba4Rec", "ml-100k", ["empty.yaml"])["headdim"] == 4


def test_the_arguments_of_the_process_are_not_read(monkeypatch):
    monkeypatch.setattr("sys.argv", ["program", "--d_state=3", "--model=GRU4Rec", "-q", "whatever"])
    config = Config("2Mamba4Rec", "ml-100k")
    assert config["d_state"] == 128
    assert config["model"] == "2Mamba4Rec"


def test_model_and_dataset_may_stand_in_a_file_a_dict_or_the_command_line(tmp_path):
    (tmp_path / "both.yaml").write_text("model: 2Mamba4Rec\ndataset: ml-100k\n")
    for config in (
        Config(config_file_list=["both.yaml"]),
        Config(config_dict={"model": "2Mamba4Rec", "dataset": "ml-100k"}),
        Config(command_line=["--model=2Mamba4Rec", "--dataset=ml-100k"]),
    ):
        assert (config["model"], config["dataset"], config.is_packed) == ("2Mamba4Rec", "ml-100k", True)


@pytest.mark.parametrize("alias", ["bool", "int", "float", "complex", "object", "str", "long", "unicode"])
def test_numpy_has_the_names_that_recbole_looks_up(monkeypatch, alias):
    monkeypatch.delattr(np, alias, raising=False)
    Config("2Mamba4Rec", "ml-100k")
    assert np.zeros(2, dtype=getattr(np, alias)).shape == (2,)


@pytest.mark.parametrize("through", ["command_line", "config_dict", "file"])
def test_sequences_per_batch_replace_tokens_per_batch(tmp_path, through):
    assert Config("2Mamba4Rec", "ml-100k")["train_batch_tokens"] == 2048
    (tmp_path / "file.yaml").write_text("train_batch_size: 16\n")
    arguments = {
        "command_line": {"command_line": ["--train_batch_size=16"]},
        "config_dict": {"config_dict": {"train_batch_size": 16}},
        "file": {"config_file_list": ["file.yaml"]},
    }
    config = Config("2Mamba4Rec", "ml-100k", **arguments[through])
    assert config["train_batch_size"] == 16
    assert config["train_batch_tokens"] is None


def test_of_two_limits_of_a_batch_the_one_of_higher_priority_holds(tmp_path):
    note = "train_batch_size is passed over: train_batch_tokens is given"
    both = Config("2Mamba4Rec", "ml-100k", config_dict={"train_batch_size": 16, "train_batch_tokens": 300})
    assert both["train_batch_tokens"] == 300 and note in both.notes
    recipe = {"model": "2Mamba4Rec", "dataset": "ml-100k", "config_file_list": ["recipe/2Mamba4Rec-ml-100k"]}
    by_size = Config(**recipe, command_line=["--train_batch_size=16"])
    replaced = "train_batch_tokens is passed over: train_batch_size is given with higher priority"
    assert by_size["train_batch_tokens"] is None and replaced in by_size.notes and note not in by_size.notes
    again = Config("2Mamba4Rec", "ml-100k", config_dict=by_size.external_config_dict)  # as from a checkpoint
    assert (again["train_batch_size"], again["train_batch_tokens"]) == (16, None)
    (tmp_path / "mine.yaml").write_text("train_batch_size: 16\n")
    files = [*recipe["config_file_list"], str(tmp_path / "mine.yaml")]
    assert Config("2Mamba4Rec", "ml-100k", files)["train_batch_tokens"] is None
    assert Config("2Mamba4Rec", "ml-100k", files[::-1])["train_batch_tokens"] == 2048
    assert not any("train_batch" in line for line in Config("SASRec", "ml-100k", files[1:]).notes)
    by_tokens = Config(**recipe, config_dict={"train_batch_size": 16}, command_line=["--train_batch_tokens=300"])
    assert by_tokens["train_batch_tokens"] == 300 and note in by_tokens.notes


@pytest.mark.parametrize(
    ("argument", "key", "value"),
    [
        ("--MAX_ITEM_LIST_LENGTH=None", "MAX_ITEM_LIST_LENGTH", None),
        ("--MAX_ITEM_LIST_LENGTH=~", "MAX_ITEM_LIST_LENGTH", None),  # as the lists of keys write it
        ("--load_col=~", "load_col", None),
        ("--MAX_ITEM_LIST_LENGTH=30", "MAX_ITEM_LIST_LENGTH", 30),
        ("--learning_rate=5e-4", "learning_rate", 5e-4),
        ("--dropout_prob=0", "dropout_prob", 0),
        ("--use_gpu=false", "use_gpu", False),
        ("--filter_seen=True", "filter_seen", True),
        ("--topk=[5,10,20]", "topk", [5, 10, 20]),
        ("--topk=5", "topk", [5]),
        ("--metrics=['Hit','NDCG']", "metrics", ["Hit", "NDCG"]),
        ("--user_inter_num_interval=[5,inf)", "user_inter_num_interval", "[5,inf)"),
        ("--clip_grad_norm={'max_norm': 5.0}", "clip_grad_norm", {"max_norm": 5.0}),
        ("--valid_metric=Hit@10", "valid_metric", "Hit@10"),
        ("--checkpoint_dir=a=b", "checkpoint_dir", "a=b"),
        ("--data_path=../some/where", "data_path", "../some/where/else"),
    ],
    ids=lambda value: value if isinstance(value, str) and value.startswith("--") else "",
)
def test_values_of_the_command_line_get_their_type(argument, key, value):
    extra = ["--valid_metric=Hit@5"] if argument == "--topk=5" else []
    config = Config("2Mamba4Rec", "else", command_line=[argument, *extra])
    assert config[key] == value
    assert type(config[key]) is type(value)


def test_the_same_value_twice_is_no_contradiction():
    assert Config("2Mamba4Rec", "ml-100k", command_line=["--epochs=3", "--epochs=3"])["epochs"] == 3


@pytest.mark.parametrize("model", list(MODELS))
def test_values_at_their_limits_are_taken(model):
    limits = {**SMALL, "dropout_prob": 1, "d_state": 1, "d_conv": 1, "expand": 1, "epochs": 0, "learning_rate": 1}
    config = Config(model, "ml-100k", config_dict={**limits, "MAX_ITEM_LIST_LENGTH": 1, "train_batch_tokens": 1})
    assert config["dropout_prob"] == 1


@pytest.mark.parametrize(("backend", "what"), [("native", "C compiler"), ("mamba_ssm", "install mamba-ssm")])
def test_a_backend_that_is_not_installed_is_refused_at_once(monkeypatch, backend, what):
    monkeypatch.setattr("recbole_ssm.ops.backends.native.loading.library", lambda: None)
    monkeypatch.setattr("recbole_ssm.ops.backends.gpu_packages.installed", lambda: False)
    with pytest.raises(InputError, match=rf"ssm_backend: .*{what}"):
        Config("2Mamba4Rec", "ml-100k", config_dict={"ssm_backend": backend})


@pytest.mark.parametrize("model", ["2Mamba4Rec", "SASRec"])
def test_a_log_that_needs_another_package_is_refused_without_it(monkeypatch, model):
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(InputError, match="log_wandb needs wandb, which is not installed; pip install wandb"):
        Config(model, "ml-100k", config_dict={"log_wandb": True})


@pytest.mark.parametrize("backend", ["mamba_ssm", "triton"])
def test_a_backend_of_gpus_is_refused_without_one(monkeypatch, backend):
    monkeypatch.setattr("recbole_ssm.ops.backends.gpu_packages.installed", lambda: True)
    if backend == "triton":
        pytest.importorskip("triton", reason="Triton is not installed")
    keys = {"ssm_backend": backend, "use_gpu": False}
    with pytest.raises(InputError, match=f"{backend} computes on a GPU only"):
        Config("2Mamba4Rec", "ml-100k", config_dict=keys)


def test_an_unknown_key_for_one_of_recboles_models_is_a_warning():
    config = Config("SASRec", "ml-100k", config_dict={"n_layerz": 4})
    assert config["n_layerz"] == 4
    assert any("n_layerz" in note and "n_layers" in note for note in config.notes)


def test_keys_of_all_of_recbole_are_known():
    keys = {"log_wandb": False, "worker": 1, "clip_grad_norm": None, "encoding": "utf-8", "benchmark_filename": None}
    config = Config("2Mamba4Rec", "ml-100k", config_dict=keys)
    assert config["worker"] == 1


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "value"),
    [*(("2Mamba4Rec", value) for value in ("~", "3", "word", "{'a': 1}")), ("SASRec", "[1]")],
)
def test_any_value_of_any_key_is_taken_or_refused_with_words(model, value):
    keys = [*general_arguments, *training_arguments, *evaluation_arguments, *dataset_arguments]
    for key in [*keys, "hidden_size", "loss_type", "train_samples", "time_order", "ssm_backend"]:
        try:
            Config(model, "ml-100k", command_line=[f"--{key}={value}"])
        except InputError as error:
            assert key in str(error) or "configuration cannot be used" in str(error), (key, str(error))


def test_an_error_of_the_configuration_is_a_value_error_with_its_cause():
    with pytest.raises(InputError) as error:
        Config("2Mamba4Rec", "ml-100k", config_dict={"metrics": ["Foo"]})
    assert isinstance(error.value, ValueError)
    assert isinstance(error.value.__cause__, NotImplementedError)


def test_a_configuration_leaves_the_callers_dict_alone():
    given = {"d_state": "8", "train_neg_sample_args": {"distribution": "uniform"}, "loss_type": "BPR"}
    before = {**given, "train_neg_sample_args": dict(given["train_neg_sample_args"])}
    assert Config("2Mamba4Rec", "ml-100k", config_dict=given)["d_state"] == 8
    assert given == before


@pytest.mark.parametrize("as_file", [False, True])
@pytest.mark.parametrize("model", ["2Mamba4Rec", "SASRec"])
def test_numbers_of_numpy_and_paths_are_taken(model, as_file, tmp_path):
    given = {
        **{"learning_rate": np.float32(0.5), "epochs": np.int64(3), "use_gpu": np.bool_(False), "seed": np.array(7)},
        **{"topk": np.array([5, 10]), "hidden_size": torch.tensor(16), "valid_metric": np.str_("Hit@5")},
        **{"checkpoint_dir": tmp_path / "here", "data_path": tmp_path, "clip_grad_norm": {"max_norm": np.float64(2)}},
    }
    config = Config(model, "else", [given] if as_file else None, None if as_file else given)
    plain = {
        **{"learning_rate": 0.5, "epochs": 3, "use_gpu": False, "seed": 7, "topk": [5, 10], "hidden_size": 16},
        **{"valid_metric": "Hit@5", "checkpoint_dir": str(tmp_path / "here"), "clip_grad_norm": {"max_norm": 2.0}},
        "data_path": str(tmp_path / "else"),
    }
    assert {key: config[key] for key in plain} == plain
    assert [type(config[key]) for key in plain] == [type(value) for value in plain.values()]


def test_one_configuration_does_not_change_the_next():
    Config("2Mamba4Rec", "ml-100k", config_dict={"hidden_size": 32})
    first = Config("Mamba4Rec", "ml-100k").final_config_dict
    Config("BPR", "ml-100k")
    Config("SSD4Rec", "ml-1m")
    assert Config("Mamba4Rec", "ml-100k").final_config_dict == first


@pytest.mark.parametrize("model", ["2Mamba4Rec", "SASRec", "BPR"])
@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"topk": [5.5]}, r"topk must be a whole number or a list of them, but is \[5.5\]"),
        ({"topk": [10, 2.0]}, "topk must be a whole number"),
        ({"topk": [True]}, "topk must be a whole number"),
        ({"eval_args": {"mode": "uni0"}}, "uniN or popN with N of 1 or more, but is 'uni0'"),
        ({"eval_args": {"mode": {"valid": "full", "test": "pop0"}}}, "but is 'pop0' for test"),
        ({"eval_args": {"mode": "uni-3"}}, "but is 'uni-3' for valid"),
        ({"eval_args": {"mode": "labeled"}}, "mode labeled judges each interaction by its label"),
    ],
    ids=str,
)
def test_rankings_that_cannot_be_are_refused(model, given, words):
    with pytest.raises(InputError, match=words):
        Config(model, "ml-100k", config_dict={"valid_metric": "NDCG@10", **given})


@pytest.mark.parametrize(
    ("model", "keys", "same"),
    [
        ("2Mamba4Rec", {}, ["hit"]),
        ("SASRec", {"valid_metric": "Recall@10"}, ["recall"]),
        ("SASRec", {"eval_args": {"split": {"RS": [0.8, 0.1, 0.1]}}}, ["recall", "hit"]),
        ("BPR", {}, ["recall", "hit"]),
        ("BPR", {"eval_args": {"split": {"LS": "valid_and_test"}, "order": "TO"}}, ["hit"]),
        ("SASRec", {"metrics": ["Recall", "Hit", "MRR"]}, ["recall", "hit"]),
    ],
)
def test_recall_and_hit_are_not_both_computed_by_default_where_they_are_the_same(model, keys, same):
    metrics = Config(model, "ml-100k", config_dict=keys)["metrics"]
    assert [name.lower() for name in metrics if name.lower() in ("recall", "hit")] == same


@pytest.mark.parametrize(
    ("shares", "says"), [([8, 1, 1], "validation items not trained on"), ([1, 0, 0], "no validation")]
)
def test_a_split_by_shares_says_whether_anything_validates(shares, says):
    assert split_in_words({"RS": shares}, "user") == f"split RS {shares} by user; {says}"
