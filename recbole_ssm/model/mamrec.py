"""MamRec: a Mamba language model reads the titles of a history, and scores all items after each of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from recbole.data.interaction import Interaction
from torch import Tensor

from recbole_ssm.errors import InputError
from recbole_ssm.language.loading import make_settings
from recbole_ssm.language.packed_mamba import PackedMamba
from recbole_ssm.language.streams import title_stream
from recbole_ssm.language.title_scores import TitleScores
from recbole_ssm.layers import Dropout
from recbole_ssm.model.base import PackedSequentialRecommender
from recbole_ssm.model.declarations import Configuration, Key
from recbole_ssm.model.packed_input import LeftOut
from recbole_ssm.model.shared_keys import DROPOUT_PROB, NUM_LAYERS
from recbole_ssm.model.text import TEXT_KEYS, KeepsTexts, check_folders, check_text, make_language
from recbole_ssm.ops.added import Added, AddedWhere
from recbole_ssm.ops.once import once_a_batch
from recbole_ssm.ops.packing import at, check_each, check_ids, last_tokens


class MamRec(KeepsTexts, PackedSequentialRecommender):
    """Scores ``h . e_i`` of item i, with h the language model's output at the end of the last title.

    A history is a stream of text: a begin token, and then the title of each item and one token that ends it. All
    histories of a batch are one packed stream, and one read of a user trains the prediction of each next item. A click
    costs one title: the language model keeps a state.

    Args:
        config: the configuration.
        dataset: the training split, or for a model from a checkpoint what stands for it.

    Attributes:
        language: the language model, with tokenizer and titles. Without ``language_model`` and ``language_config`` it
            is a Mamba of ``hidden_size`` and ``num_layers`` with random weights.
    """

    keys = (
        *PackedSequentialRecommender.keys,
        *(NUM_LAYERS, DROPOUT_PROB),
        *TEXT_KEYS,
        Key(
            "item_start",
            str,
            "the embeddings of items begin as random numbers, or with titles as the mean of their tokens' embeddings",
            "titles",
            choices=("random", "titles"),
        ),
        Key(
            "item_scores",
            str,
            "what an item's score is: with head the product of its learned embedding and what the language model makes "
            "of the history; with titles the log-probability of its title as the next one",
            "head",
            choices=("head", "titles"),
        ),
        Key(
            "title_beam",
            int,
            "with item_scores titles: beginnings of titles that are followed at once until enough titles are found",
            16,
            low=1,
        ),
    )

    @classmethod
    def check_config(cls, config: Configuration) -> None:
        """See :meth:`PackedSequentialRecommender.check_config`."""
        check_text(config)
        if config["item_scores"] == "titles":
            for key, usual in (("teacher", None), ("loss_type", "CE")):
                if config[key] and config[key] != usual:
                    raise InputError(f"{key} {config[key]} does not apply to item_scores: titles; remove it")

    @classmethod
    def without_effect(cls, config: Configuration) -> frozenset[str]:
        """See :meth:`PackedSequentialRecommender.without_effect`."""
        own = {"hidden_size", "num_layers"} if config["language_model"] or config["language_config"] else set()
        return frozenset(own | _OF_HEAD | {"memory_rarity"} if config["item_scores"] == "titles" else own)

    @classmethod
    def reads_seen(cls, config: Configuration) -> bool:
        """See :meth:`PackedSequentialRecommender.reads_seen`: what was seen is none of the titles' best."""
        return bool(config["filter_seen"]) and config["item_scores"] == "titles"

    @classmethod
    def width(cls, config: Configuration) -> int:
        """See :meth:`PackedSequentialRecommender.width`; of pretrained weights nothing depends on it."""
        given = config["language_config"] or _usual_language(config)
        known = given.get("hidden_size")
        return known if isinstance(known, int) else int(make_settings(given).hidden_size)

    @classmethod
    def check_begin(cls, config: Configuration) -> None:
        """See :meth:`PackedSequentialRecommender.check_begin`."""
        super().check_begin(config)
        check_folders(config)
        given = sorted(key for key in _OF_HEAD if config[key]) if config["item_scores"] == "titles" else []
        if given:
            raise InputError(f"{given[0]} does not apply to item_scores: titles; remove it, or set item_scores to head")

    def __init__(self, config: Configuration, dataset: Any):
        language = make_language(config, dataset, _usual_language(config))
        titles = config["item_scores"] == "titles"
        super().__init__(
            _With(config, **_WITHOUT_HEAD) if titles else _With(config, hidden_size=language.width), dataset
        )
        if language.packed is None:
            kind = language.model.config.model_type
            raise InputError(f"MamRec reads with a mamba or mamba2, and language_model is a {kind}; use GPT4Rec for it")
        self.language = language
        if config["language_model"]:  # it learns like the layers, and not as new embeddings of items do
            setattr(language.model.get_input_embeddings().weight, "_is_pretrained", True)  # noqa: B010
        self.dropout = Dropout(config["dropout_prob"])
        self.titles = TitleScores(language, config["title_beam"]) if titles else None
        self._best, self._filter_seen = max(config["topk"]), self.reads_seen(config)
        self._init_weights(self.item_embedding)
        if config["item_start"] == "titles" and not titles:
            self._begin_with_titles()

    @torch.no_grad()
    def _begin_with_titles(self) -> None:
        """Embeddings of items as means of their tokens' embeddings, of the usual standard deviation.

        Those of items without a title stay as they are drawn.
        """
        language, weight = self.language, self.item_embedding.weight
        if weight.device.type == "meta":
            return
        start, tokens = language.title_start, language.title_flat
        item = torch.arange(self.n_items).repeat_interleave(start.diff())
        words = language.model.get_input_embeddings().weight.float()[tokens]
        means = torch.zeros_like(weight).index_add(0, item, words) / start.diff()[:, None]
        titled = start.diff() > 1
        means[titled] -= means[titled].mean(0)
        weight[titled] = means[titled] * (self.initializer_range / means[titled].std().clamp(min=1e-6))

    @property
    def streams(self) -> bool:
        """See :attr:`PackedSequentialRecommender.streams`."""
        return True

    @property
    def step_is_fixed(self) -> bool:
        """See :attr:`PackedSequentialRecommender.step_is_fixed`: titles are of different lengths."""
        return False

    @property
    def _reader(self) -> PackedMamba:
        assert self.language.packed is not None
        return self.language.packed

    def encode(self, tokens: Tensor, cu_seqlens: Tensor, readout: Tensor | None = None, **columns: Tensor) -> Tensor:
        """See :meth:`PackedSequentialRecommender.encode`."""
        if self.titles is not None:
            raise InputError("with item_scores: titles MamRec has no representations of histories; use head")
        stream = title_stream(self.language, tokens, cu_seqlens)
        return self._read(self._reader.forward(stream.tokens, stream.cu_seqlens, at(readout, stream.ends)))

    def _read(self, hidden: Tensor) -> Tensor:
        """Representations (R, hidden_size) of what the language model gives, which may be in half precision."""
        return self.dropout(hidden.to(self.item_embedding.weight.dtype))

    @once_a_batch()
    def prefill(self, tokens: Tensor, cu_seqlens: Tensor, **columns: Tensor) -> tuple[Tensor, list[Any]]:
        """See :meth:`PackedSequentialRecommender.prefill`."""
        self.check_histories(tokens, cu_seqlens)
        stream = title_stream(self.language, tokens, cu_seqlens)
        last = stream.ends[last_tokens(cu_seqlens)]
        hidden, state = self._reader.prefill(stream.tokens, stream.cu_seqlens, last)
        return self._read(hidden), state

    @once_a_batch()
    def step(self, items: Tensor, state: list[Any] | None = None, **columns: Tensor) -> tuple[Tensor, list[Any]]:
        """See :meth:`PackedSequentialRecommender.step`."""
        check_each(items=(items, (items.numel(),)))
        check_ids(self.ITEM_ID, items, 0, self.n_items)
        alone = torch.arange(len(items) + 1, dtype=torch.int32, device=items.device)
        if state is None:
            return self.prefill(items, alone)
        stream = title_stream(self.language, items, alone, begin=False)
        hidden, state = self._reader.extend(stream.tokens, stream.cu_seqlens, state, stream.ends)
        return self._read(hidden), state

    @once_a_batch()
    def calculate_loss(self, interaction: Interaction) -> Tensor:
        """See :meth:`PackedSequentialRecommender.calculate_loss`; of titles that of their tokens."""
        if self.titles is None:
            return super().calculate_loss(interaction)
        return self.titles.loss(*self.packed(interaction), interaction[self.POS_ITEM_ID], self.dropout)

    @once_a_batch()
    def full_sort_predict(self, interaction: Interaction) -> Tensor:
        """Scores (S, n_items) of every item after each history; of titles the best of ``topk`` are exact.

        With ``filter_seen`` items that the user has had are none of these.
        """
        if self.titles is None:
            return super().full_sort_predict(interaction)
        seen = self.seen(interaction) if self._filter_seen else None
        return self.titles.best(*self.packed(interaction), self._best, seen)

    @once_a_batch()
    def score_exactly(self, interaction: Interaction) -> Tensor:
        """See :meth:`PackedSequentialRecommender.score_exactly`; of titles the whole tree is walked."""
        if self.titles is None:
            return super().full_sort_predict(interaction)
        return self.titles.best(*self.packed(interaction), None)

    @once_a_batch()
    def rank_best(self, interaction: Interaction, k: int, left_out: LeftOut) -> Tensor:
        """See :meth:`PackedSequentialRecommender.rank_best`."""
        if self.titles is None:
            return super().full_sort_predict(interaction)
        rows, items = left_out()
        return self.titles.best(*self.packed(interaction), k, (rows, items))

    @once_a_batch()
    def rank_after(
        self,
        hidden: Tensor,
        state: Callable[[], Any],
        added: Sequence[Added | AddedWhere],
        k: int,
        left_out: LeftOut,
    ) -> Tensor:
        """See :meth:`PackedSequentialRecommender.rank_after`; titles are read from the state on."""
        if self.titles is None:
            return super().rank_after(hidden, state, added, k, left_out)
        rows, items = left_out()
        return self.titles.best_after(self.language.logits(hidden), state(), k, (rows, items))

    @once_a_batch()
    def predict(self, interaction: Interaction) -> Tensor:
        """See :meth:`PackedSequentialRecommender.predict`."""
        if self.titles is None:
            return super().predict(interaction)
        tokens, cu_seqlens = self.packed(interaction)
        items, rows = self.candidates(interaction, len(cu_seqlens) - 1)
        return self.titles.of(tokens, cu_seqlens, rows, items)

    def item_vectors(self) -> Tensor | None:
        """See :meth:`PackedSequentialRecommender.item_vectors`."""
        return super().item_vectors() if self.titles is None else None


_WITHOUT_HEAD = {
    **{"hidden_size": 0, "item_bias": False, "repeat_bias": False, "transition_memory": False},
    **{"item_vectors": None, "item_features": None},
}
"""What is added to scores of items is no part of the probability of a title."""

_OF_HEAD = _WITHOUT_HEAD.keys() - {"hidden_size"}


def _usual_language(config: Configuration) -> dict[str, Any]:
    return {
        "model_type": "mamba",
        "hidden_size": config["hidden_size"],
        "num_hidden_layers": config["num_layers"],
    }


class _With:
    """A configuration in which some keys have other values."""

    def __init__(self, config: Configuration, **changed: Any):
        self._config, self._changed = config, changed

    def __getitem__(self, key: str) -> Any:
        return self._changed[key] if key in self._changed else self._config[key]

    def __contains__(self, key: object) -> bool:
        return key in self._changed or key in self._config
