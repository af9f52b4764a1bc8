"""Checks of the values of RecBole's keys, which RecBole itself finds wrong only deep in the training, or never."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable
from importlib.util import find_spec

from recbole.utils import EvaluatorType, ModelType
from torch.nn.utils import clip_grad_norm_

from recbole_ssm.config.intervals import check_interval
from recbole_ssm.config.recbole_keys import LEARNERS, recbole_keys
from recbole_ssm.config.settings import Settings
from recbole_ssm.config.splits import TEMPORAL, temporal_split
from recbole_ssm.errors import InputError, did_you_mean
from recbole_ssm.model.declarations import Key

_NAMES_WITHIN = {
    "eval_args": ("split", "group_by", "order", "mode"),
    "train_neg_sample_args": ("distribution", "sample_num", "alpha", "dynamic", "candidate_num"),
    "clip_grad_norm": tuple(inspect.signature(clip_grad_norm_).parameters)[1:],
}
"""Keys whose values are dicts, and the names that these have."""


def check_recbole_values(config: Settings) -> None:
    """Raise :class:`InputError` for a value of a key of RecBole that cannot be used."""
    _check_intervals(config)
    for key in recbole_keys(config):
        key.check(config[key.name])
    _check_single_values(config)
    _check_columns(config)
    _check_names_within(config)
    _check_split(config)
    _check_ranking(config)
    _check_fields(config)
    _check_presplit(config)
    _check_cold_items(config)


def _check_single_values(config: Settings) -> None:
    Key("learner", str, choices=LEARNERS).check(str(config["learner"]).lower())
    if not isinstance(config["field_separator"], str) or not config["field_separator"]:
        raise InputError("field_separator must not be empty; between the columns of a file stands, for example, a tab")
    if (
        config["log_wandb"] and getattr(find_spec("wandb"), "origin", None) is None
    ):  # its logs' folder has the same name, but is not a package
        raise InputError("log_wandb needs wandb, which is not installed; pip install wandb, or set log_wandb: False")
    if not config["checkpoint_dir"]:
        raise InputError("checkpoint_dir must not be empty")
    samples = config["train_neg_sample_args"]["sample_num"]
    if samples != "none" and not (isinstance(samples, int) and samples > 0):
        raise InputError(f"train_neg_sample_args: sample_num must be 1 or more, but is {samples!r}")


def _check_columns(config: Settings) -> None:
    for key in ("load_col", "unload_col", "unused_col"):
        for file, columns in (config[key] or {}).items():
            if not isinstance(columns, list | tuple | str):
                raise InputError(f"{key} must name the columns of {file} in a list, but has {columns!r}")


def _check_names_within(config: Settings) -> None:
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


def _note_idle_names(config: Settings) -> None:
    """Names of ``train_neg_sample_args`` that belong to another way of drawing negatives than the one asked for."""
    given, used = config.external_config_dict.get("train_neg_sample_args"), config["train_neg_sample_args"]
    if not isinstance(given, dict):
        return
    if given.get("alpha", 1.0) != 1.0 and used["distribution"] != "popularity":
        config.pass_over("train_neg_sample_args: alpha", f"distribution is {used['distribution']}, not popularity")
    if given.get("candidate_num") and not used.get("dynamic"):
        config.pass_over("train_neg_sample_args: candidate_num", "dynamic is off")


def _check_split(config: Settings) -> None:
    """What RecBole refuses only once it has read the data."""
    order, split = config["eval_args"]["order"], config["eval_args"]["split"]
    orders = ("TO",) if config["MODEL_TYPE"] == ModelType.SEQUENTIAL else ("TO", "RO")
    if order not in orders:
        raise InputError(f"eval_args: order must be {' or '.join(orders)} for {config['model']}, but is {order!r}")
    if temporal_split(split) is not None:
        if config.temporal is not None:
            _check_temporal(config)
        return
    kind, value = next(iter(split.items())) if isinstance(split, dict) and len(split) == 1 else (None, None)
    parts = ("valid_and_test", "valid_only", "test_only")
    shares = value if isinstance(value, list) and all(isinstance(v, int | float) and v >= 0 for v in value) else []
    by_shares = kind in ("RS", "TS") and len(shares) == 3 and shares[0] > 0
    if not (by_shares or (kind == "LS" and value in parts)):
        raise InputError(
            f"eval_args: split must be {{'LS': one of {', '.join(parts)}}}, or {{'RS': [0.8, 0.1, 0.1]}}, "
            f"or TS likewise, or {{'{TEMPORAL}': {{'target': 'last'}}}}, but is {split!r}"
        )
    group_by = config["eval_args"]["group_by"]
    if kind == "RS" and str(group_by).lower() not in ("none", "user"):
        raise InputError(f"eval_args: group_by must be user or none, but is {group_by!r}")


def _check_temporal(config: Settings) -> None:
    order, time_order = config["eval_args"]["order"], config["time_order"]
    if order != "TO":
        raise InputError(f"eval_args: split: temporal needs order: TO, and order is {order}")
    if time_order != "exact":
        raise InputError(
            f"eval_args: split: temporal compares times as they are, and time_order is {time_order}, which rounds "
            "them; set --time_order=exact"
        )


def _check_ranking(config: Settings) -> None:
    """RecBole takes half an item and no candidate, and fails or finds every model perfect."""
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


def _check_fields(config: Settings) -> None:
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


_TESTS_LAST = [{"LS": "valid_and_test"}, {"LS": "test_only"}]


def _check_cold_items(config: Settings) -> None:
    if config["cold_items"] and (config["benchmark_filename"] or config["eval_args"]["split"] not in _TESTS_LAST):
        raise InputError(
            "cold_items needs the split that tests each user's last item: --config_files=protocol/leave_one_out"
        )


def _check_presplit(config: Settings) -> None:
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


def _check_intervals(config: Settings) -> None:
    """Those of numbers of interactions; :mod:`recbole_ssm.data.atomic_files` checks ``val_interval`` by the columns."""
    for key in (
        "user_inter_num_interval",
        "item_inter_num_interval",
        "entity_kg_num_interval",
        "relation_kg_num_interval",
    ):
        if config[key] is not None:
            check_interval(key, config[key])
