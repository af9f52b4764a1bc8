"""The configuration keys that this package adds to RecBole's: what they mean and which values they take.

Defaults stand in ``properties/``: for all models in ``overall.yaml``, for each model in ``model/NAME.yaml``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from recbole_ssm.errors import InputError
from recbole_ssm.ops.backends import backend_names


@dataclass(frozen=True)
class Option:
    """One key: its type, its limits, and a sentence on what it does."""

    name: str
    kind: type
    text: str
    choices: tuple = ()
    low: float | None = None
    high: float | None = None
    optional: bool = False
    some_models: bool = False
    """Whether it applies only to models that have a default of it."""

    @property
    def values(self) -> str:
        """The values it takes, in words."""
        words = {int: "a whole number", float: "a number", bool: "True or False", str: "a word"}[self.kind]
        if self.choices:
            words = "one of " + ", ".join(self.choices)
        elif self.low is not None and self.high is not None:
            words += f" from {self.low} to {self.high}"
        elif self.low is not None:
            words += f", {self.low} or more"
        return words + (", or None" if self.optional else "")

    def check(self, value: Any) -> None:
        """Raise :class:`InputError` unless ``value`` is one that the option takes."""
        if value is None and self.optional:
            return
        if not (self._has_type(value) and self._is_allowed(value)):
            raise InputError(f"{self.name} must be {self.values}, but is {value!r}")

    def _has_type(self, value: Any) -> bool:
        if isinstance(value, bool):
            return self.kind is bool
        return isinstance(value, int | float if self.kind is float else self.kind)

    def _is_allowed(self, value: Any) -> bool:
        if self.choices:
            return value in self.choices
        return (self.low is None or value >= self.low) and (self.high is None or value <= self.high)


FOR_ALL_MODELS = (
    Option(
        "time_order",
        str,
        "order of a history: by times as they are, or by float32 times as in RecBole (64-second steps on Unix time)",
        choices=("exact", "recbole"),
    ),
    Option(
        "filter_seen",
        bool,
        "items of the history cannot be recommended, and a target that is one of them is a miss, for every model; with "
        "False RecBole leaves the history out for models that are not sequential, but never a target",
    ),
    Option(
        "trust_checkpoint",
        bool,
        "also read a checkpoint that holds Python objects, as RecBole's do: reading it runs code that stands in it",
    ),
    Option(
        "trust_dataset",
        bool,
        "also read what RecBole kept as Python objects (dataset_save_path, dataloaders_save_path): reading it runs "
        "code that stands in it",
    ),
    Option(
        "dataset_cache",
        str,
        "a folder where the dataset is kept as it is once read and filtered: the next start with the same files and "
        "settings takes it from there; None for nothing kept",
        optional=True,
    ),
    Option(
        "time_budget",
        float,
        "seconds of training and validation after which no further epoch is begun; None for no limit",
        low=0,
        optional=True,
    ),
    Option(
        "lr_schedule",
        str,
        "the learning rate stays as it is, or rises for the first tenth of all epochs and then falls along a cosine to "
        "nothing (torch's OneCycleLR); epochs is then how long the training is, not a limit to it",
        choices=("constant", "one_cycle"),
    ),
)

FOR_OUR_MODELS = (
    Option(
        "train_samples",
        str,
        "what an epoch trains on: every prefix of each user; a few of them; each user once with a target after every "
        "item (causal models); or each user once, read both ways up to a random item, with a target after each item "
        "from there on (SSD4Rec, Hydra4Rec)",
        choices=("all_prefixes", "sampled_prefixes", "whole_sequence", "prefix_lm"),
    ),
    Option(
        "prefixes_per_user", int, "how many prefixes sampled_prefixes draws per user and epoch", low=1, optional=True
    ),
    Option(
        "causal_epochs",
        int,
        "prefix_lm: so many epochs at first read each history in one direction, so that every item has a target",
        low=0,
        optional=True,
    ),
    Option(
        "train_batch_tokens",
        int,
        "interactions per training batch at most, in place of train_batch_size",
        low=1,
        optional=True,
    ),
    Option(
        "MAX_ITEM_LIST_LENGTH",
        int,
        "latest interactions of a history that are read; None for all",
        low=1,
        optional=True,
    ),
    Option(
        "ssm_backend",
        str,
        "what computes scans and convolutions: the fastest that is there, or always the same (see the README)",
        choices=backend_names(),
    ),
    Option("hidden_size", int, "width of embeddings and layers", low=1),
    Option("num_layers", int, "number of layers", low=1),
    Option("dropout_prob", float, "dropout probability", low=0, high=1),
    Option("loss_type", str, "full softmax cross-entropy, or BPR on sampled negatives", choices=("CE", "BPR")),
    Option("initializer_range", float, "standard deviation of initial weights", low=0),
    Option(
        "embedding_lr_scale",
        float,
        "learning rate of embeddings, in units of learning_rate: above 1 they learn faster than the layers",
        low=0,
    ),
    Option(
        "teacher",
        str,
        "checkpoints, separated by commas, of trained models whose predictions are part of the targets; None for none",
        optional=True,
    ),
    Option("teacher_share", float, "which part of the targets the predictions of teacher are", low=0, high=1),
    Option("item_bias", bool, "learn a number for each item that is added to its score"),
    Option("repeat_bias", bool, "learn one number that is added to the scores of all items of the history"),
    Option("d_state", int, "state size N of the recurrence", low=1, some_models=True),
    Option("d_conv", int, "width of the convolution in front of it (odd for Hydra4Rec)", low=1, some_models=True),
    Option("expand", int, "inner width of a mixer over hidden_size", low=1, some_models=True),
    Option("headdim", int, "width of a head (Mamba-2, Hydra); divides expand * hidden_size", low=1, some_models=True),
    Option("n_heads", int, "PackedSASRec: heads; divides hidden_size", low=1, some_models=True),
    Option("max_positions", int, "PackedSASRec: positions with an embedding of their own", low=1, some_models=True),
    Option("beta", float, "SSD4Rec: weight of the backward direction", some_models=True),
    Option(
        "mask_ratio",
        float,
        "probability that an item of the history is hidden in training (SSD4Rec learns a vector for that)",
        low=0,
        high=1,
    ),
    Option("norm_embedding", bool, "SSD4Rec: dropout and LayerNorm on the embedding", some_models=True),
    Option(
        "dropout_after_norm",
        bool,
        "SSD4Rec: dropout after each norm (released code: True), and not of what a layer adds",
        some_models=True,
    ),
    Option(
        "align_backward",
        bool,
        "SSD4Rec: put each backward output at its own token (released code: False)",
        some_models=True,
    ),
)
