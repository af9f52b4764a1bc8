"""The keys that this package adds to RecBole's, but for those that single models declare.

A key is declared once: its name, its values, its default and a sentence. ``--help``, the checks of values, the category
of keys in the log and ``docs/keys.md`` are made from that. What a model alone reads is declared in the model's class
(:attr:`recbole_ssm.model.base.PackedSequentialRecommender.keys`).
"""

from __future__ import annotations

from typing import Any

from recbole_ssm.model.declarations import Key
from recbole_ssm.model.registry import SHIPPED, shipped_models
from recbole_ssm.ops.backends import backend_names

FOR_ALL_MODELS = (
    Key(
        "time_order",
        str,
        "order of a history: exact by its times as they are, recbole by float32 times as in RecBole, which on Unix "
        "time are steps of 64 seconds",
        "exact",
        choices=("exact", "recbole"),
    ),
    Key(
        "filter_seen",
        bool,
        "items of the history are not recommended, and a target that is one of them is a miss; with False RecBole "
        "leaves out the history for models that are not sequential, but never a target",
        False,
    ),
    Key(
        "eval_users",
        int,
        "users that are validated and tested, for models that take long to rank all items: the first of a permutation "
        "that is the same for all models and seeds; None for all users",
        low=1,
        optional=True,
    ),
    Key(
        "cold_items",
        float,
        "share of the items that are in no training: only they are tested, ranked among all, for users whose last item "
        "is one of them; 0 for none",
        0.0,
        low=0,
        high=0.9,
    ),
    Key(
        "trust_checkpoint",
        bool,
        "also read a checkpoint that holds Python objects, as RecBole's do; reading it runs code that stands in it",
        False,
    ),
    Key(
        "trust_dataset",
        bool,
        "also read what RecBole has pickled (dataset_save_path, dataloaders_save_path); reading it runs code that "
        "stands in it",
        False,
    ),
    Key(
        "dataset_cache",
        str,
        "a folder in which the dataset is kept once it is read and filtered; the next start with the same files and "
        "settings takes it from there",
        optional=True,
    ),
    Key(
        "time_budget",
        float,
        "seconds of training and validation after which no further epoch begins; None for no limit",
        low=0,
        optional=True,
    ),
    Key(
        "lr_schedule",
        str,
        "learning rate over time: with one_cycle it rises for a tenth of epochs and then falls along a cosine to 0 "
        "(torch's OneCycleLR), so that epochs is the length of the training, not a limit",
        "constant",
        choices=("constant", "one_cycle"),
    ),
    Key(
        "console",
        str,
        "what a training prints: quiet, the data, the model, a line for each epoch and the result; verbose, all that "
        "goes to the log file, with RecBole's configuration; none, nothing",
        "quiet",
        choices=("quiet", "verbose", "none"),
    ),
)
"""Keys that apply to RecBole's models, too."""

OF_HISTORIES = (
    Key(
        "MAX_ITEM_LIST_LENGTH",
        int,
        "latest interactions of a history that are read; None for all",
        low=1,
        optional=True,
    ),
)
"""Keys that apply to every model of this package."""

OF_TRAINING = (
    Key(
        "defaults",
        str,
        "values of keys that nobody gives: with data they follow from the size of the data, with paper they are the "
        "published constants",
        "data",
        choices=("data", "paper"),
    ),
    Key(
        "train_samples",
        str,
        "what an epoch trains on: all_prefixes of each user; sampled_prefixes, some of them; whole_sequence, each user "
        "once with a target after each item (causal models); prefix_lm, each user once, read in both directions up to "
        "a random item, with a target after each item from there on (models that read both ways)",
        "whole_sequence",
        choices=("all_prefixes", "sampled_prefixes", "whole_sequence", "prefix_lm"),
    ),
    Key(
        "init_from",
        str,
        "a checkpoint of the same model, with whose weights and settings the training begins, for a quarter of the "
        "epochs; the data may have new items, and others may be gone; None for new weights",
        optional=True,
    ),
    Key(
        "prefixes_per_user",
        float,
        "prefixes that sampled_prefixes draws per user and epoch; 0.2 is one of each of a fifth of the users",
        low=0.001,
        optional=True,
    ),
    Key(
        "causal_epochs",
        int,
        "with prefix_lm: the number of first epochs that read in one direction, so that every item has a target",
        low=0,
        optional=True,
    ),
    Key(
        "train_batch_tokens",
        int,
        "interactions per training batch at most; train_batch_size (sequences) replaces it if given",
        2048,
        low=1,
        optional=True,
    ),
    Key(
        "mask_ratio",
        float,
        "probability that an item of the history is hidden in training",
        0.0,
        low=0,
        high=1,
    ),
    Key(
        "embedding_lr_scale",
        float,
        "learning rate of the embeddings, as a multiple of learning_rate; above 1 they learn faster than the layers",
        1.0,
        low=0,
    ),
    Key(
        "teacher",
        str,
        "checkpoints, separated by commas, of trained models whose predictions are part of the targets; None for none",
        optional=True,
    ),
    Key(
        "cuda_graph",
        bool,
        "batches are filled up to few shapes, and on a GPU the training step of each shape is a CUDA graph, launched "
        "at once; for loss_type CE, and not with a teacher, enable_scaler or several processes",
        False,
    ),
    Key("teacher_share", float, "part of the targets that the predictions of teacher are", 0.5, low=0, high=1),
    Key(
        "ssm_backend",
        str,
        "what computes scans, convolutions, loss and layers; auto takes the fastest that is installed and fits",
        "auto",
        choices=backend_names(),
    ),
)
"""Keys that apply to every model of this package that is trained."""

FOR_OUR_MODELS = OF_HISTORIES + OF_TRAINING


def keys_of(model: type[Any]) -> tuple[Key, ...]:
    """All keys of this package that apply to a model of this package."""
    return FOR_ALL_MODELS + OF_HISTORIES + (OF_TRAINING if model.is_trained else ()) + model.keys


def keys_of_shipped_models() -> dict[str, tuple[Key, ...]]:
    """The keys that each model of this package declares, by its name."""
    return {name: model.keys for name, model in shipped_models().items()}


def defaults_of(model: str) -> dict[str, Any]:
    """The default of each key of this package that may apply to the model of this name."""
    keys = FOR_ALL_MODELS + FOR_OUR_MODELS + keys_of_shipped_models().get(model, ())
    return {key.name: key.default for key in keys}


def names_for_our_models() -> frozenset[str]:
    """Names of all keys of this package that do not apply to RecBole's models."""
    of_models = {key.name for keys in keys_of_shipped_models().values() for key in keys}
    return frozenset({key.name for key in FOR_OUR_MODELS} | of_models)


def sections() -> list[tuple[str, list[tuple[Key, str]]]]:
    """All keys under their titles, each with the models that have it (empty: all of the title's)."""
    found = [
        ("Keys for all models, RecBole's too", [(key, "") for key in FOR_ALL_MODELS]),
        ("Keys for the models of this package", [(key, "") for key in OF_HISTORIES]),
        ("Keys for those of them that are trained", [(key, "") for key in OF_TRAINING]),
    ]
    models: dict[Key, list[str]] = {}
    for name, keys in keys_of_shipped_models().items():
        for key in keys:
            models.setdefault(key, []).append(name)
    of_models = [(key, "" if len(names) == len(SHIPPED) else ", ".join(names)) for key, names in models.items()]
    return [*found, ("Keys of the models themselves", of_models)]
