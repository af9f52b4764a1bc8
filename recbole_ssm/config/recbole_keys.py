"""What each key of RecBole does here: taken as RecBole takes it, or passed over, and then why.

A key stands in :data:`TAKEN`, in :data:`PASSED_OVER`, or in both where that depends on the configuration. Keys of
single models stand in RecBole's files of models and in their code.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import recbole.data.dataset
import recbole.data.transform
import recbole.evaluator.metrics
from recbole.data.dataset import Dataset, KnowledgeBasedDataset
from recbole.utils import ModelType, get_trainer

if TYPE_CHECKING:
    from recbole_ssm.config.config import Config

TAKEN = frozenset(
    {
        *("use_gpu", "gpu_id", "worker", "seed", "reproducibility", "state", "show_progress", "shuffle"),
        *("data_path", "checkpoint_dir", "save_dataset", "dataset_save_path"),
        *("save_dataloaders", "dataloaders_save_path"),  # refused with packed batches, as transform is
        *("log_wandb", "wandb_project"),
        *("epochs", "train_batch_size", "learner", "learning_rate", "weight_decay", "clip_grad_norm"),
        *("train_neg_sample_args", "eval_step", "stopping_step", "loss_decimal_place", "enable_amp", "enable_scaler"),
        *("require_pow", "transform"),
        *("eval_args", "repeatable", "metrics", "topk", "valid_metric", "eval_batch_size", "metric_decimal_place"),
        "tail_ratio",
        *("field_separator", "seq_separator", "encoding", "seq_len", "numerical_features", "discretization"),
        *("USER_ID_FIELD", "ITEM_ID_FIELD", "RATING_FIELD", "TIME_FIELD", "LABEL_FIELD", "threshold", "NEG_PREFIX"),
        *("ITEM_LIST_LENGTH_FIELD", "LIST_SUFFIX", "MAX_ITEM_LIST_LENGTH"),
        *("HEAD_ENTITY_ID_FIELD", "TAIL_ENTITY_ID_FIELD", "RELATION_ID_FIELD", "ENTITY_ID_FIELD"),
        *("kg_reverse_r", "entity_kg_num_interval", "relation_kg_num_interval"),
        *("alias_of_user_id", "alias_of_item_id", "alias_of_entity_id", "alias_of_relation_id"),
        *("load_col", "unload_col", "unused_col", "additional_feat_suffix", "preload_weight"),
        *("rm_dup_inter", "val_interval", "filter_inter_by_user_or_item"),
        *("user_inter_num_interval", "item_inter_num_interval", "normalize_field", "normalize_all"),
        "benchmark_filename",
    }
)
"""Keys that do what RecBole says of them, for some model at least."""


@dataclass(frozen=True)
class PassedOver:
    """Keys that do nothing, and why."""

    keys: tuple[str, ...]
    why: str
    """``{model}`` stands for the model's name."""
    where: Callable[[Config], bool] = lambda config: True
    """Which configurations it holds for."""


_UNKNOWN = ""
"""The code of a class that was typed in."""


def code_of(config: Config) -> str:
    """The code of RecBole, or of one's own, that reads the keys of the configuration's model alone."""
    name = config["model"]
    dataset = getattr(recbole.data.dataset, f"{name}Dataset", None)
    return _code(config.model_class, get_trainer(config["MODEL_TYPE"], name), dataset, bool(config["transform"]))


def reads(config: Config, key: str) -> bool:
    """Whether that code reads a key: ``config["key"]``, ``config.key``, or as one of those that begin with a word.

    In the files of the model the word alone is enough; elsewhere it may be anything. Code that is not known is taken
    to read every key.
    """
    code, word = code_of(config), re.escape(key)
    return (
        code == _UNKNOWN
        or re.search(rf"config(\[|\.get\()\s*[\"']{word}[\"']|config\.{word}\b", code) is not None
        or key in _words_of(config.model_class)
        or key.startswith(tuple(re.findall(r"key\.startswith\([\"'](\w+)", code)))
    )


@lru_cache
def _words_of(model: type) -> set[str]:
    """Words in quotation marks in the files of a model's classes, which may be keys that are read one after another."""
    foreign = ("builtins", "torch", "recbole")
    bases = [base for base in model.__mro__[1:] if base.__module__.partition(".")[0] not in foreign]
    files = "\n".join(inspect.getsource(inspect.getmodule(each)) for each in (model, *bases))
    return set(re.findall(r"[\"'](\w+)[\"']", files))


@lru_cache
def _code(model: type, trainer: type, dataset: type | None, transforms: bool) -> str:
    bases = [base for base in model.__mro__ if base.__module__.partition(".")[0] not in ("builtins", "torch")]
    try:
        # RecBole keeps all base classes in one file, and all trainers.
        parts = [inspect.getmodule(model), *bases, *trainer.__mro__[:-1], recbole.evaluator.metrics]
        parts += [*([dataset] if dataset else []), *([recbole.data.transform] if transforms else [])]
        return "\n".join(map(inspect.getsource, parts))
    except (OSError, TypeError):
        return _UNKNOWN


def passed_over(config: Config) -> Iterator[tuple[str, str]]:
    """Each key that is given, and to no purpose, and why; one that has its default is none."""
    for row in PASSED_OVER:
        for key in row.keys:
            value = config.external_config_dict.get(key)
            if value is not None and value != config.recbole_defaults.get(key) and row.where(config):
                yield key, row.why.format(model=config["model"])


def _unread(key: str) -> Callable[[Config], bool]:
    return lambda config: not reads(config, key)


def _without_features(config: Config) -> bool:
    words = ("ContextRecommender", "ContextSeqEmb", "FeatureSeqEmb", "numerical_features")
    return code_of(config) != _UNKNOWN and not any(word in code_of(config) for word in words)


def _without_graph(config: Config) -> bool:
    own = getattr(recbole.data.dataset, f"{config['model']}Dataset", Dataset)
    return config["MODEL_TYPE"] != ModelType.KNOWLEDGE and not issubclass(own, KnowledgeBasedDataset)


def _presplit(config: Config) -> bool:
    return config["benchmark_filename"] is not None


PASSED_OVER = (
    PassedOver(
        (
            *("user_inter_num_interval", "item_inter_num_interval", "filter_inter_by_user_or_item"),
            *("val_interval", "rm_dup_inter", "time_order"),
        ),
        "with benchmark_filename the samples are those of the files",
        _presplit,
    ),
    PassedOver(
        ("save_dataset", "dataset_save_path", "dataset_cache"),
        "with benchmark_filename the files are read each time",
        _presplit,
    ),
    PassedOver(
        ("nproc", "world_size", "ip", "port", "offset"),
        "start several processes with torchrun --nproc_per_node=N",
    ),
    PassedOver(("config_file",), "config files are named by config_files"),
    PassedOver(("device", "single_spec"), "use_gpu and gpu_id say what computes"),
    PassedOver(
        ("MODEL_TYPE", "MODEL_INPUT_TYPE", "eval_type", "verbose", "valid_neg_sample_args", "test_neg_sample_args"),
        "RecBole sets it itself",
    ),
    PassedOver(("valid_metric_bigger",), "it follows from valid_metric"),
    PassedOver(("neg_sampling", "training_neg_sample_num"), "train_neg_sample_args has taken its place"),
    PassedOver(("POSITION_FIELD", "lgb_early_stopping_rounds"), "RecBole reads it nowhere"),
    PassedOver(("wandb_project",), "log_wandb is off", lambda config: not config["log_wandb"]),
    PassedOver(("enable_scaler",), "it scales on a GPU only", lambda config: config["device"].type == "cpu"),
    PassedOver(("require_pow",), "{model} has no such loss", _unread("require_pow")),
    PassedOver(("RATING_FIELD",), "{model} reads no ratings", _unread("RATING_FIELD")),
    PassedOver(
        ("preload_weight",),
        "{model} learns its own embedding",
        lambda config: not reads(config, "preload_weight") and "get_preload_weight" not in code_of(config),
    ),
    PassedOver(("numerical_features", "discretization"), "{model} reads no features", _without_features),
    PassedOver(
        ("threshold",),
        "{model} learns from all interactions, and they are what it is tested on",
        lambda config: config.is_packed and "labeled" not in config["eval_args"]["mode"].values(),
    ),
    PassedOver(("additional_feat_suffix",), "{model} reads none of these files", lambda config: config.is_packed),
    PassedOver(
        (
            *("HEAD_ENTITY_ID_FIELD", "TAIL_ENTITY_ID_FIELD", "RELATION_ID_FIELD", "ENTITY_ID_FIELD"),
            *("alias_of_entity_id", "alias_of_relation_id"),
            *("kg_reverse_r", "entity_kg_num_interval", "relation_kg_num_interval"),
        ),
        "it is for models of knowledge graphs, and {model} is none",
        _without_graph,
    ),
    PassedOver(
        ("MAX_ITEM_LIST_LENGTH", "ITEM_LIST_LENGTH_FIELD", "LIST_SUFFIX"),
        "it is for sequential models, and {model} is none",
        lambda config: config["MODEL_TYPE"] != ModelType.SEQUENTIAL,
    ),
    PassedOver(
        (
            *("epochs", "learner", "learning_rate", "weight_decay", "clip_grad_norm", "enable_amp"),
            *("eval_step", "stopping_step", "lr_schedule"),
        ),
        "{model} counts once, and learns nothing by gradients",
        lambda config: config["MODEL_TYPE"] == ModelType.TRADITIONAL,
    ),
    PassedOver(
        ("train_batch_size",),
        "{model} counts in batches that hold no item twice",
        lambda config: config["model"] == "Pop" and config["train_neg_sample_args"]["distribution"] == "none",
    ),
)
"""Keys that do nothing here, for some models at least."""

KNOWN = TAKEN.union(*(row.keys for row in PASSED_OVER))
"""All keys of RecBole that are not of single models."""
