"""What each key of RecBole does here: taken as RecBole takes it, or passed over, and then why.

A key stands in :data:`TAKEN`, in :data:`PASSED_OVER`, or in both where that depends on the configuration. Keys of
single models stand in RecBole's files of models and in :mod:`recbole_ssm.model.recbole_models`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

import recbole.data.dataset
from recbole.data.dataset import Dataset, KnowledgeBasedDataset
from recbole.utils import ModelType
from recbole.utils.argument_list import dataset_arguments, general_arguments, training_arguments

from recbole_ssm.config.keys import keys_of
from recbole_ssm.config.settings import Settings
from recbole_ssm.config.shipped_files import keys_of_model
from recbole_ssm.model.declarations import Key
from recbole_ssm.model.recbole_models import READ_BY_TRANSFORMS, READS_MORE, READS_NOT

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
    """Keys that do nothing, and why.

    Attributes:
        keys: the keys.
        why: in words; ``{model}`` stands for the model's name.
        where: which configurations it holds for.
    """

    keys: tuple[str, ...]
    why: str
    where: Callable[[Settings], bool] = lambda config: True


def reads(config: Settings, key: str) -> bool:
    """Whether the model of a configuration reads a key that is not read for every model.

    A model of this package declares its keys. One of RecBole has them in its file of defaults, or in
    :data:`~recbole_ssm.model.recbole_models.READS_MORE`. The class of somebody else, which declares nothing, may read
    any key.
    """
    if config.is_packed:
        names = {own.name for own in keys_of(config.model_class)}
        return key in names | {column.source for column in config.columns}
    if is_foreign(config.model_class):
        return True
    name = config["model"]
    more = [pattern for models, keys in READS_MORE if name in models for pattern in keys]
    if config["transform"]:
        more.extend(READ_BY_TRANSFORMS.get(config["transform"], ()))
    if any(fnmatchcase(key, pattern) for pattern in more):
        return True
    return key in keys_of_model(name) and key not in READS_NOT.get(name, ())


def is_foreign(model: type[Any]) -> bool:
    """Whether a model is neither of this package's kind nor one of RecBole's own."""
    return not hasattr(model, "packed") and model.__module__.partition(".")[0] != "recbole"


def passed_over(config: Settings) -> Iterator[tuple[str, str]]:
    """Each key that is given and does nothing, and why; a key with its default does not count."""
    for row in PASSED_OVER:
        for key in row.keys:
            value = config.external_config_dict.get(key)
            if value is not None and value != config.recbole_defaults.get(key) and row.where(config):
                yield key, row.why.format(model=config["model"])


def _unread(key: str) -> Callable[[Settings], bool]:
    return lambda config: not reads(config, key)


def _without_graph(config: Settings) -> bool:
    own = getattr(recbole.data.dataset, f"{config['model']}Dataset", Dataset)
    return config["MODEL_TYPE"] != ModelType.KNOWLEDGE and not issubclass(own, KnowledgeBasedDataset)


def _presplit(config: Settings) -> bool:
    return config["benchmark_filename"] is not None


_OF_EPOCHS = (
    *("epochs", "learner", "learning_rate", "weight_decay", "clip_grad_norm", "enable_amp"),
    *("eval_step", "stopping_step", "lr_schedule"),
)

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
        _unread("preload_weight"),
    ),
    PassedOver(("numerical_features", "discretization"), "{model} reads no features", _unread("numerical_features")),
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
    PassedOver((*_OF_EPOCHS, "time_budget"), "nothing is trained here", lambda config: not config.trains),
    PassedOver(
        _OF_EPOCHS,
        "{model} counts once, and learns nothing by gradients",
        lambda config: config["MODEL_TYPE"] == ModelType.TRADITIONAL,
    ),
    PassedOver(
        ("train_batch_size",),
        "{model} counts in batches that hold no item twice",
        lambda config: config.counts_per_batch,
    ),
)
"""Keys that do nothing here, for some models at least."""

KNOWN = TAKEN.union(*(row.keys for row in PASSED_OVER))
"""All keys of RecBole that are not of single models."""


def _of_kind(kind: type, *names: str, **limits: Any) -> list[Key]:
    return [Key(name, kind, **limits) for name in names]


_DECLARED = (
    *_of_kind(int, "train_batch_size", "eval_batch_size", "eval_step", low=1),
    *_of_kind(int, "epochs", "stopping_step", "metric_decimal_place", "worker", low=0),
    *_of_kind(float, "learning_rate", "weight_decay", low=0),
    Key("seed", int, low=0, high=2**32 - 1),
    *_of_kind(dict, "unload_col", "unused_col", "val_interval", "threshold", "preload_weight", optional=True),
    *_of_kind(dict, "discretization", "seq_len", optional=True),
    Key("load_col", dict, optional=True, example="{'inter': ['user_id', 'item_id']}"),
    Key("clip_grad_norm", dict, optional=True, example="{'max_norm': 1.0}"),
    *_of_kind(list, "alias_of_user_id", "alias_of_item_id", "alias_of_entity_id", optional=True),
    *_of_kind(list, "alias_of_relation_id", "numerical_features", optional=True),
    *_of_kind(list, "additional_feat_suffix", "benchmark_filename", optional=True),
    *_of_kind(str, "encoding", "dataset_save_path", "dataloaders_save_path", optional=True),
    *_of_kind(str, "RATING_FIELD", "LABEL_FIELD", optional=True),
)
"""Keys of RecBole whose values its defaults do not tell. RecBole finds a wrong one deep in the training."""

LEARNERS = ("adam", "adamw", "sgd", "adagrad", "rmsprop", "sparse_adam")
"""Those that RecBole knows; any other word would be Adam to it."""

_WORDS = frozenset({*general_arguments, *training_arguments, *dataset_arguments} - {"gpu_id"})
"""Keys that need a word, where their default is one."""


def recbole_keys(config: Settings) -> Iterator[Key]:
    """What the values of RecBole's keys must be: as declared here, or of the type of RecBole's default."""
    declared = {key.name: key for key in _DECLARED}
    yield from declared.values()
    for name, default in config.recbole_defaults.items():
        kind = type(default)
        if name in declared or name.endswith("_num_interval") or (name == "MAX_ITEM_LIST_LENGTH" and config.is_packed):
            continue  # an interval may be a word or a list, and is checked as one
        if name == "MAX_ITEM_LIST_LENGTH":
            yield Key(name, int, low=1)
        elif kind in (bool, int, float) or (kind is str and name in _WORDS):
            yield Key(name, kind)
