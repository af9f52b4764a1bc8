"""Models that read the texts of items with a language model: their keys, and what they share.

A model that ranks by text is a :class:`TextRecommender`:

.. code-block:: python

    class LastTitle(TextRecommender):
        def calculate_loss(self, interaction):
            ...  # self.language.loss(self.language(tokens, cu_seqlens, readout), target)

        def full_sort_predict(self, interaction):
            language = self.language
            for history in as_lists(*self.packed(interaction)):  # numbers of items, the latest last
                text = ", ".join(language.texts[item] for item in history[-self.history_items :])
                tokens = torch.tensor([language.tokenizer.begin, *language.tokenizer.encode([text])[0]])
                hidden = language(tokens, cumulative_lengths(torch.tensor([len(tokens)])))  # (T, width)
                logits = language.logits(hidden[-1:])  # (1, vocabulary)
            ...  # scores (S, n_items)

``self.language`` is a :class:`recbole_ssm.language.model.LanguageModel`: ``.model`` is transformers' own, ``.packed``
the same on packed ops with kept states (Mamba only), ``.titles()`` the tokens of each item's text. Texts, tokenizer and
configuration go into checkpoints, and come back from them.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from recbole.utils import InputType
from torch import Tensor

from recbole_ssm.errors import InputError
from recbole_ssm.language.loading import check_folder
from recbole_ssm.language.lora import Lora
from recbole_ssm.language.making import DTYPES, Options, from_folder, from_kept, from_settings
from recbole_ssm.language.model import LanguageModel
from recbole_ssm.language.tokenizer import check_tokenizer
from recbole_ssm.model.declarations import Configuration, Key
from recbole_ssm.model.packed_input import PackedRecommender

ITEM_TEXT = Key(
    "item_text",
    str,
    "the text of an item, made of columns of the .item file in braces, such as {title} ({year}); None for the title by "
    "its usual names, with the year",
    optional=True,
)

TEXT_KEYS = (
    Key(
        "language_model",
        str,
        "folder of a pretrained causal language model, as save_pretrained of transformers writes it, with safetensors; "
        "None for one with random weights",
        optional=True,
    ),
    Key(
        "language_config",
        dict,
        "a language model with random weights: its model_type as in transformers, such as mamba or llama, and settings "
        "of that type's configuration; None for the usual one",
        optional=True,
        example="{'model_type': 'mamba'} (in a shell in quotation marks)",
    ),
    Key(
        "tokenizer",
        str,
        "folder of a tokenizer; None for that of language_model, or one that is trained on the texts",
        optional=True,
    ),
    Key("tokenizer_size", int, "tokens of a tokenizer that is trained on the texts, at most", 2000, low=259),
    ITEM_TEXT,
    Key("title_tokens", int, "tokens of an item's text that are read, from its beginning", 32, low=1),
    Key(
        "lora_rank",
        int,
        "rank of adapters (LoRA), which alone are trained then; 0 to train all weights of the language model",
        0,
        low=0,
    ),
    Key("lora_alpha", float, "adapters count lora_alpha / lora_rank", 16.0, low=0),
    Key("lora_dropout", float, "dropout in front of adapters", 0.05, low=0, high=1),
    Key(
        "lora_targets",
        str,
        "modules of the language model that get adapters, separated by commas, such as q_proj,v_proj; None for the "
        "usual ones",
        optional=True,
    ),
    Key(
        "language_dtype",
        str,
        "numbers of the language model's weights, where lora_rank adds adapters to them; auto is what the folder has",
        "float32",
        choices=tuple(DTYPES),
    ),
    Key(
        "load_in_4bit",
        bool,
        "keep the weights of language_model in 4 bits (QLoRA: NF4, double quantisation); on a GPU, with lora_rank",
        False,
    ),
)
"""The keys that every model with a language model reads."""


def check_text(config: Configuration) -> None:
    """Raise InputError where keys of :data:`TEXT_KEYS` do not fit one another."""
    if config["language_model"] and config["language_config"]:
        raise InputError("language_model and language_config exclude each other: a folder has its own; give one")
    if config["lora_rank"] and not config["language_model"]:
        raise InputError("lora_rank: random weights have to be trained themselves; set it to 0, or name language_model")
    _options(config).check()


def check_folders(config: Configuration) -> None:
    """Raise InputError unless the folders of the language model and of its tokenizer have what is read of them."""
    folder, words = config["language_model"], config["tokenizer"] or config["language_model"]
    if folder:
        check_folder(Path(folder))
    if words:
        check_tokenizer(Path(words))


def make_language(config: Configuration, dataset: Any, usual: Mapping[str, Any]) -> LanguageModel:
    """The language model that the keys ask for, with the texts of a dataset's items.

    Args:
        config: with :data:`TEXT_KEYS`.
        dataset: the training split, or a :class:`recbole_ssm.model.catalogue.Catalogue`. What a checkpoint keeps is its
            attribute ``kept``, if it has one. Items of which nothing is known are called by their numbers.
        usual: ``language_config`` where none is given.

    Returns:
        The model.

    Raises:
        InputError: the folder, the tokenizer or the texts cannot be used.
    """
    options, kept = _options(config), getattr(dataset, "kept", None) or {}
    folder, tokenizer = config["language_model"], config["tokenizer"]
    texts = None if "texts" in kept else texts_of(config, dataset)
    if "language_config" in kept:
        return from_kept(kept, texts, options, folder=folder if folder and Path(folder).is_dir() else None)
    assert texts is not None
    if folder:
        return from_folder(folder, texts, options, tokenizer=tokenizer)
    settings, size = config["language_config"] or usual, config["tokenizer_size"]
    return from_settings(settings, texts, options, tokenizer=tokenizer, tokenizer_size=size)


def _options(config: Configuration) -> Options:
    targets = [word.strip() for word in (config["lora_targets"] or "").split(",") if word.strip()]
    lora = Lora(config["lora_rank"], config["lora_alpha"], config["lora_dropout"], targets)
    dtype = DTYPES[config["language_dtype"] or "float32"]  # older checkpoints do not say it
    return Options(config["title_tokens"], lora if lora.rank else None, bool(config["load_in_4bit"]), dtype)


def texts_of(config: Configuration, dataset: Any) -> list[str]:
    """The text of each item of a dataset, by its number.

    Args:
        config: with :data:`ITEM_TEXT`.
        dataset: the training split; for what stands for one, items are called by their numbers.

    Returns:
        n_items texts, that of the padding empty.
    """
    if hasattr(dataset, "item_texts"):
        return list(dataset.item_texts(config["item_text"]))
    return ["", *(f"item {number}" for number in range(1, dataset.item_num))]


class KeepsTexts:
    """What a model with a language model keeps in checkpoints: tokenizer, texts and configuration.

    Attributes:
        language: the language model.
    """

    language: LanguageModel

    def other_parameter(self) -> dict[str, Any]:
        """What a checkpoint keeps beside the weights."""
        return self.language.kept()

    def load_other_parameter(self, kept: Mapping[str, Any] | None) -> None:
        """Take over what a checkpoint has kept; ValueError if it is of another catalogue."""
        if kept:
            self.language.take(kept)


class TextRecommender(KeepsTexts, PackedRecommender):
    """A recommender that reads texts with a language model, and ranks all items after each history at once.

    A subclass gives ``calculate_loss`` and ``full_sort_predict``; see the example at the top of this file.

    Args:
        config: the configuration.
        dataset: the training split, or for a model from a checkpoint what stands for it.

    Attributes:
        language: the language model, with tokenizer and texts.
        history_items: how many of the latest items it reads.
    """

    keys: tuple[Key, ...] = (*TEXT_KEYS, Key("history_items", int, "latest items whose titles are read", 10, low=1))
    input_type = InputType.POINTWISE  # RecBole asks for one; no negatives are drawn
    causal = False  # a prompt has one answer, at its end

    usual_language: Mapping[str, Any] = {"model_type": "mamba", "hidden_size": 96, "num_hidden_layers": 2}
    """``language_config`` where none is given."""

    @classmethod
    def check_config(cls, config: Configuration) -> None:
        """See :meth:`PackedRecommender.check_config`."""
        check_text(config)

    @classmethod
    def check_begin(cls, config: Configuration) -> None:
        """See :meth:`PackedRecommender.check_begin`."""
        super().check_begin(config)
        check_folders(config)

    def __init__(self, config: Configuration, dataset: Any):
        super().__init__(config, dataset)
        self.history_items: int = config["history_items"]
        self.language = make_language(config, dataset, self.usual_language)

    def nothing_learned(self) -> Tensor:
        """A loss of 0 for a batch that teaches nothing; its gradients are 0."""
        return 0 * torch.stack([each.sum() for each in self.parameters() if each.requires_grad]).sum()
