"""What a configuration is checked for before any work starts."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from recbole.evaluator.register import metrics_dict
from recbole.trainer import NCLTrainer, Trainer
from recbole.utils import EvaluatorType, ModelType, get_trainer
from recbole.utils.argument_list import dataset_arguments, general_arguments, training_arguments
from torch.nn.utils import clip_grad_norm_

from recbole_ssm.config.intervals import check_interval
from recbole_ssm.config.keys import FOR_ALL_MODELS, FOR_OUR_MODELS
from recbole_ssm.config.recbole_keys import KNOWN, passed_over, reads
from recbole_ssm.config.shipped_files import keys_of_model, keys_of_models
from recbole_ssm.errors import InputError, did_you_mean
from recbole_ssm.model.registry import check_packages, recboles_own
from recbole_ssm.ops.backends import check_backend
from recbole_ssm.system.distributed import world_size

if TYPE_CHECKING:
    from recbole_ssm.config.config import Config

_AT_LEAST = {
    **{"train_batch_size": 1, "eval_batch_size": 1, "learning_rate": 0, "weight_decay": 0, "seed": 0, "worker": 0},
    **{"epochs": 0, "stopping_step": 0, "metric_decimal_place": 0, "MAX_ITEM_LIST_LENGTH": 1},
}

_KINDS = {
    dict: (
        *("load_col", "unload_col", "unused_col", "val_interval", "threshold", "preload_weight", "discretization"),
        "clip_grad_norm",
    ),
    list: (
        *("alias_of_user_id", "alias_of_item_id", "alias_of_entity_id", "alias_of_relation_id"),
        *("numerical_features", "additional_feat_suffix", "benchmark_filename"),
    ),
    str: ("encoding", "dataset_save_path", "dataloaders_save_path"),
}
"""What a value must be, if there is one, of keys whose defaults do not say it."""

_LIKE = {"load_col": ", such as {'inter': ['user_id', 'item_id']}", "clip_grad_norm": ", such as {'max_norm': 1.0}"}

_NAMES = {*general_arguments, *training_arguments, *dataset_arguments} - {"gpu_id", *_KINDS[list]}
"""Keys whose default is a word, where it is one, and that need one."""

_NAMES_WITHIN = {
    "eval_args": ("split", "group_by", "order", "mode"),
    "train_neg_sample_args": ("distribution", "sample_num", "alpha", "dynamic", "candidate_num"),
    "clip_grad_norm": tuple(inspect.signature(clip_grad_norm_).parameters)[1:],
}
"""Keys whose values are dicts, and the names that these have."""

_MAY_BE_NONE = ("RATING_FIELD", "LABEL_FIELD")

_LEARNERS = ("adam", "adamw", "sgd", "adagrad", "rmsprop", "sparse_adam")
"""Those that RecBole knows; any other word would be Adam to it."""


def check(config: Config, *, trains: bool) -> None:
    """Raise :class:`InputError` for what cannot be used; what is passed over is noted in ``config.notes``."""
    _check_unknown_keys(config)
    applicable = keys_of_model(config["model"]) if config.is_packed else None
    for option in FOR_ALL_MODELS + (FOR_OUR_MODELS if config.is_packed else ()):
        if option.some_models and applicable and option.name not in applicable:
            if config[option.name] is not None:
                config.pass_over(option.name, f"it does not apply to {config['model']}")
        elif option.name in config:
            option.check(config[option.name])
    if not config.is_packed:
        of_ours = {option.name for option in FOR_OUR_MODELS} - config.recbole_defaults.keys()
        for key in sorted(of_ours & config.external_config_dict.keys()):
            config.pass_over(key, f"it is for the models of this package, and {config['model']} is none")
    data_path = config.external_config_dict.get("data_path")
    if config["dataset"] == "ml-100k" and isinstance(data_path, str) and (Path(data_path) / "ml-100k").is_dir():
        config.pass_over("data_path", "ml-100k is the one that comes with RecBole; give yours another name")
    _check_intervals(config)
    _check_recbole_types(config)
    _check_names_within(config)
    _check_split(config)
    _check_ranking(config)
    _check_fields(config)
    _check_presplit(config)
    if trains:
        if recboles_own(config.model_class, config["model"]):
            check_packages(config["model"])
        _check_valid_metric(config)
    if trains and world_size() > 1:
        _check_processes(config)
    if config.is_packed:
        _check_our_model(config, trains)
    else:
        _check_network_of_teacher(config)
    if config["use_gpu"] and config["device"].type == "cpu":
        shown = f" that CUDA_VISIBLE_DEVICES={config['gpu_id']} shows" if config["gpu_id"] else ""
        config.notes.append(f"use_gpu is on, but there is no GPU here{shown}: running on the CPU")


def _check_network_of_teacher(config: Config) -> None:
    """RecBole runs KD_DAGFM's ``teacher`` as Python: it must be the name of a network that stands beside the model."""
    model = recboles_own(config.model_class, "KD_DAGFM")
    if model is None:
        return
    beside = inspect.getmembers(inspect.getmodule(model), inspect.isclass)
    beside = [(name, kind) for name, kind in beside if kind.__module__ == model.__module__ and kind is not model]
    networks = [name for name, kind in beside if list(inspect.signature(kind).parameters) == ["config"]]
    if config["teacher"] not in networks:
        raise InputError(f"teacher must be one of {', '.join(networks)} for KD_DAGFM, but is {config['teacher']!r}")


def _check_processes(config: Config) -> None:
    """Several processes share out each batch, which takes a loss that RecBole's trainer of the model lets us divide."""
    trainer = get_trainer(config["MODEL_TYPE"], config["model"])
    if config["MODEL_TYPE"] in (ModelType.TRADITIONAL, ModelType.DECISIONTREE) or not (
        trainer._train_epoch is Trainer._train_epoch or trainer is NCLTrainer
    ):
        raise InputError(f"{config['model']} cannot be trained by several processes; start it without torchrun")


def _check_unknown_keys(config: Config) -> None:
    for key, why in passed_over(config):
        config.pass_over(key, why)
    options = {option.name for option in FOR_ALL_MODELS + FOR_OUR_MODELS}
    own = keys_of_model(config["model"])
    known = {*KNOWN, *options, "model", "dataset", "config_files"}
    for key in sorted(config.external_config_dict.keys() - known):
        if reads(config, key):
            continue
        if key in own:
            config.pass_over(key, f"{config['model']} reads it nowhere, though it is in RecBole's file of it")
            continue
        if key in keys_of_models():
            config.pass_over(key, f"it is a key of other models than {config['model']}")
            continue
        message = f"unknown key {key!r}" + (did_you_mean(key, known | own) or "; --help lists the keys")
        if config.is_packed:
            raise InputError(message)
        config.pass_over(key, message)


def _check_names_within(config: Config) -> None:
    """RecBole passes over a name that it does not know in a dict, and what was meant has its default."""
    files = {"inter", "user", "item", "kg", "link", "net", *(config["additional_feat_suffix"] or ())}
    names: dict[str, Iterable[str]] = _NAMES_WITHIN | dict.fromkeys(("load_col", "unload_col", "unused_col"), files)
    for key, known in names.items():
        given = config.external_config_dict.get(key)
        for name in given.keys() - set(known) if isinstance(given, dict) else ():
            raise InputError(
                f"{key}: unknown name {name!r}" + (did_you_mean(str(name), known) or f"; it has {', '.join(known)}")
            )
    mode = config.external_config_dict.get("eval_args", {}).get("mode")
    if isinstance(mode, dict) and mode.keys() != {"valid", "test"}:
        raise InputError(f"eval_args: mode must be a word, or have valid and test, but is {mode!r}")
    _note_idle_names(config)
    clip = config["clip_grad_norm"]
    if clip is not None and not (isinstance(clip.get("max_norm"), int | float) and clip["max_norm"] > 0):
        raise InputError(f"clip_grad_norm: max_norm must be a number above 0, but is {clip.get('max_norm')!r}")


def _note_idle_names(config: Config) -> None:
    """Names of ``train_neg_sample_args`` that belong to another way of drawing negatives than the one asked for."""
    given, used = config.external_config_dict.get("train_neg_sample_args"), config["train_neg_sample_args"]
    if not isinstance(given, dict):
        return
    if given.get("alpha", 1.0) != 1.0 and used["distribution"] != "popularity":
        config.pass_over("train_neg_sample_args: alpha", f"distribution is {used['distribution']}, not popularity")
    if given.get("candidate_num") and not used.get("dynamic"):
        config.pass_over("train_neg_sample_args: candidate_num", "dynamic is off")


def _check_recbole_types(config: Config) -> None:
    """Numbers and switches of RecBole must stay numbers and switches: it finds out deep in the training."""
    for key, default in config.recbole_defaults.items():
        value = config[key]
        if isinstance(default, bool):
            fits, kind = isinstance(value, bool), "True or False"
        elif isinstance(default, int | float):
            fits, kind = isinstance(value, int | float) and not isinstance(value, bool), "a number"
            if isinstance(default, int) and key != "MAX_ITEM_LIST_LENGTH":
                fits, kind = fits and isinstance(value, int), "a whole number"
        elif isinstance(default, str) and key in _NAMES:
            fits, kind = isinstance(value, str) or (value is None and key in _MAY_BE_NONE), "a word"
        else:
            continue
        if key == "MAX_ITEM_LIST_LENGTH" and config.is_packed:
            continue
        if not fits:
            raise InputError(f"{key} must be {kind}, but is {value!r}")
        if key in _AT_LEAST and value < _AT_LEAST[key]:
            raise InputError(f"{key} must be {_AT_LEAST[key]} or more, but is {value!r}")
    if str(config["learner"]).lower() not in _LEARNERS:
        raise InputError(f"learner must be one of {', '.join(_LEARNERS)}, but is {config['learner']!r}")
    if not isinstance(config["field_separator"], str) or not config["field_separator"]:
        raise InputError("field_separator must not be empty; between the columns of a file stands, for example, a tab")
    if config["log_wandb"] and getattr(find_spec("wandb"), "origin", None) is None:  # its logs' folder is none either
        raise InputError("log_wandb needs wandb, which is not installed; pip install wandb, or set log_wandb: False")
    if not config["checkpoint_dir"]:
        raise InputError("checkpoint_dir must not be empty")
    if config["seed"] >= 2**32:
        raise InputError(f"seed must be less than 2**32, but is {config['seed']}")
    _check_kinds(config)
    samples = config["train_neg_sample_args"]["sample_num"]
    if samples != "none" and not (isinstance(samples, int) and samples > 0):
        raise InputError(f"train_neg_sample_args: sample_num must be 1 or more, but is {samples!r}")


def _check_kinds(config: Config) -> None:
    for kind, keys in _KINDS.items():
        for key in keys:
            if not isinstance(config[key], kind | None):
                raise InputError(f"{key} must be a {kind.__name__}{_LIKE.get(key, '')}, but is {config[key]!r}")
    for key in ("load_col", "unload_col", "unused_col"):
        for file, columns in (config[key] or {}).items():
            if not isinstance(columns, list | tuple | str):
                raise InputError(f"{key} must name the columns of {file} in a list, but has {columns!r}")


def _check_split(config: Config) -> None:
    """What RecBole refuses only once it has read the data."""
    order, split = config["eval_args"]["order"], config["eval_args"]["split"]
    orders = ("TO",) if config["MODEL_TYPE"] == ModelType.SEQUENTIAL else ("TO", "RO")
    if order not in orders:
        raise InputError(f"eval_args: order must be {' or '.join(orders)} for {config['model']}, but is {order!r}")
    kind, value = next(iter(split.items())) if isinstance(split, dict) and len(split) == 1 else (None, None)
    parts = ("valid_and_test", "valid_only", "test_only")
    shares = isinstance(value, list) and len(value) == 3 and all(isinstance(v, int | float) and v >= 0 for v in value)
    if not ((kind == "LS" and value in parts) or (kind in ("RS", "TS") and shares and value[0] > 0)):
        raise InputError(
            f"eval_args: split must be {{'LS': one of {', '.join(parts)}}}, or {{'RS': [0.8, 0.1, 0.1]}}, "
            f"or TS likewise, but is {split!r}"
        )
    group_by = config["eval_args"]["group_by"]
    if kind == "RS" and str(group_by).lower() not in ("none", "user"):
        raise InputError(f"eval_args: group_by must be user or none, but is {group_by!r}")
    if not config.held_out[0]:
        config.notes.append(
            f"there is no validation: all {config['epochs']} epochs are trained, and the model of the last one is kept"
        )


def _check_ranking(config: Config) -> None:
    """RecBole takes half an item and no candidate, and fails or finds every model perfect."""
    for k in config["topk"]:
        if isinstance(k, bool) or not isinstance(k, int):
            raise InputError(f"topk must be a whole number or a list of them, but is {config['topk']!r}")
    modes = config["eval_args"]["mode"]
    if config["filter_seen"] and "labeled" in modes.values():
        raise InputError("filter_seen needs a ranking; set eval_args: {'mode': 'full'} or filter_seen: False")
    if "labeled" in modes.values() and config["eval_type"] == EvaluatorType.RANKING:
        raise InputError(
            "eval_args: mode labeled judges each interaction by its label, by AUC, LogLoss, MAE or RMSE, "
            f"and metrics are {config['metrics']}; set metrics: ['AUC'] and valid_metric: AUC, or mode: full"
        )
    if config["MODEL_TYPE"] == ModelType.DECISIONTREE and set(modes.values()) != {"labeled"}:
        raise InputError(f"{config['model']} learns and predicts labels; set eval_args: {{'mode': 'labeled'}}")
    for phase, mode in modes.items():
        drawn = re.fullmatch(r"(uni|pop)(\d+)", mode)
        if mode not in ("full", "labeled") and not (drawn and int(drawn[2]) > 0):
            raise InputError(
                f"eval_args: mode must be full, labeled, uniN or popN with N of 1 or more, but is {mode!r} for {phase}"
            )


def _check_fields(config: Config) -> None:
    names = [config[key] for key in ("USER_ID_FIELD", "ITEM_ID_FIELD", "TIME_FIELD")]
    if len(set(names)) < 3:
        raise InputError(f"USER_ID_FIELD, ITEM_ID_FIELD and TIME_FIELD must be three columns, but are {names}")
    time, in_order = config["TIME_FIELD"], config["eval_args"]["order"] == "TO"
    for key in ("numerical_features", "threshold"):  # RecBole makes something else of such a column
        if in_order and time in (config[key] or ()):
            raise InputError(
                f"{key}: {time} gives the order of interactions, and must stay as it is; leave it out, or name a copy "
                "of this column"
            )


def _check_presplit(config: Config) -> None:
    names = config["benchmark_filename"]
    if names is None:
        return
    if len(names) != 3 or not all(isinstance(name, str) and name for name in names):
        raise InputError(
            "benchmark_filename must name three files, of training, validation and test, such as "
            f"['train', 'valid', 'test'], but is {names!r}"
        )
    if not config["LIST_SUFFIX"]:
        raise InputError("LIST_SUFFIX must not be empty: with ITEM_ID_FIELD it names the column of histories")
    if not isinstance(config["seq_separator"], str) or not config["seq_separator"]:
        raise InputError("seq_separator must not be empty; between the items of a list stands, for example, a space")
    cut = [field for field in config["seq_len"] or () if field.endswith(config["LIST_SUFFIX"])]
    if cut:
        raise InputError(f"seq_len would keep the first values of {cut[0]}, not the latest; set MAX_ITEM_LIST_LENGTH")


def _check_intervals(config: Config) -> None:
    """Those of numbers of interactions; :mod:`recbole_ssm.data.atomic_files` checks ``val_interval`` by the columns."""
    for key in (
        "user_inter_num_interval",
        "item_inter_num_interval",
        "entity_kg_num_interval",
        "relation_kg_num_interval",
    ):
        if config[key] is not None:
            check_interval(key, config[key])


def _check_valid_metric(config: Config) -> None:
    metrics = {name: metrics_dict[name.lower()](config) for name in config["metrics"]}
    computed = [
        name if k is None else f"{name}@{k}"
        for name, metric in metrics.items()
        for k in (config["topk"] if hasattr(metric, "topk") else [None])
    ]
    if str(config["valid_metric"]).lower() not in [name.lower() for name in computed]:
        raise InputError(
            f"valid_metric {config['valid_metric']!r} is not computed; metrics with topk {config['topk']} give "
            + f"{', '.join(computed)}. Name one of these, or change metrics or topk"
        )


def _check_our_model(config: Config, trains: bool) -> None:
    _check_samples(config)
    _check_teacher(config, trains)
    _check_loss(config)
    _check_backend(config)
    _check_shapes(config)
    _note_unused_columns(config)
    for key in ("save_dataloaders", "dataloaders_save_path", "transform"):
        if config[key]:
            raise InputError(f"{key} does not apply to packed batches; remove it")


def _note_unused_columns(config: Config) -> None:
    """Columns that are loaded because somebody names them, and are in no batch."""
    given = config.external_config_dict.get("load_col")
    if config["benchmark_filename"] is not None or not isinstance(given, dict):
        return
    used = {config[key] for key in ("USER_ID_FIELD", "ITEM_ID_FIELD", "TIME_FIELD", "LABEL_FIELD")}
    used |= {*(config["val_interval"] or ()), *(config["threshold"] or ())}
    used |= {column.field(config) for column in config.columns}
    used |= {name for key in ("alias_of_user_id", "alias_of_item_id") for name in config[key] or ()}
    named = [name for columns in given.values() if isinstance(columns, list | tuple) for name in columns]
    unused = [name for name in dict.fromkeys(named) if name not in used]
    if unused:
        config.notes.append(
            f"load_col: {', '.join(map(str, unused))} will be read and not used: {config['model']} learns from items "
            "and their order alone"
        )


def _check_samples(config: Config) -> None:
    model, samples, given = config.model_class, config["train_samples"], config.external_config_dict
    if samples == "whole_sequence" and not model.causal:
        raise InputError(
            f"train_samples: whole_sequence trains a prediction at each item, but {config['model']} reads a history "
            "in both directions and would see the item that it has to predict; use prefix_lm, or all_prefixes or "
            "sampled_prefixes"
        )
    if samples == "prefix_lm" and model.causal:
        raise InputError(
            f"train_samples: prefix_lm is for models that read a history in both directions, and {config['model']} is "
            "causal; use whole_sequence"
        )
    takes = inspect.signature(model.encode).parameters.values()
    if samples == "prefix_lm" and not any(p.name == "cut" or p.kind == p.VAR_KEYWORD for p in takes):
        raise InputError(
            f"train_samples: prefix_lm needs a model whose encode takes cut, which {config['model']}'s does not; use "
            "all_prefixes or sampled_prefixes"
        )
    if config["causal_epochs"] and samples != "prefix_lm":
        raise InputError(f"causal_epochs belongs to train_samples: prefix_lm, which is {samples}")
    if config["causal_epochs"] and config["causal_epochs"] >= config["epochs"]:
        raise InputError(
            f"causal_epochs {config['causal_epochs']} leaves none of {config['epochs']} epochs to train both directions"
        )
    if samples == "sampled_prefixes" and config["prefixes_per_user"] is None:
        raise InputError("train_samples: sampled_prefixes needs prefixes_per_user")
    if samples != "sampled_prefixes" and "prefixes_per_user" in given:
        config.pass_over("prefixes_per_user", f"train_samples is {samples}")
    if config["train_batch_tokens"] is not None and "train_batch_size" in given:
        config.pass_over("train_batch_size", "train_batch_tokens is given")


def _check_teacher(config: Config, trains: bool) -> None:
    if not config["teacher"] and "teacher_share" in config.external_config_dict:
        config.pass_over("teacher_share", "there is no teacher")
    for file in config.teacher_files:
        if trains and not Path(file).is_file():
            raise InputError(f"teacher: there is no checkpoint {file}; train one with this package, or name another")
    if config["teacher"] and config["loss_type"] != "CE":
        raise InputError(f"teacher needs loss_type: CE, and it is {config['loss_type']}")


def _check_loss(config: Config) -> None:
    if config["loss_type"] == "BPR" and config["train_neg_sample_args"]["distribution"] == "none":
        raise InputError("loss_type: BPR needs negatives; leave train_neg_sample_args at its default")
    if config["train_neg_sample_args"].get("dynamic"):
        raise InputError("train_neg_sample_args: dynamic is not available with packed batches; set it to False")


def _check_backend(config: Config) -> None:
    try:
        check_backend(config["ssm_backend"] or "auto")
    except ValueError as error:
        raise InputError(f"ssm_backend: {error}") from error
    if config["ssm_backend"] in ("mamba_ssm", "triton") and config["device"].type != "cuda":
        raise InputError(
            f"ssm_backend: {config['ssm_backend']} computes on a GPU only, and none is used here; set auto"
        )


def _check_shapes(config: Config) -> None:
    inner = (config["expand"] or 1) * config["hidden_size"]
    if config["headdim"] is not None and inner % config["headdim"]:
        raise InputError(f"headdim {config['headdim']} does not divide expand * hidden_size = {inner}")
    if config["n_heads"] is not None and config["hidden_size"] % config["n_heads"]:
        raise InputError(f"n_heads {config['n_heads']} does not divide hidden_size {config['hidden_size']}")
    if config["model"] == "Hydra4Rec" and config["d_conv"] % 2 == 0:
        raise InputError(
            f"d_conv must be odd for Hydra4Rec, since its convolution is centred, but is {config['d_conv']}"
        )
