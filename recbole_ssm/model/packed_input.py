"""The input of all models of this package: histories, packed or padded, and the columns beside their items."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from recbole.data.interaction import Interaction
from recbole.model.abstract_recommender import SequentialRecommender
from torch import Tensor

from recbole_ssm.errors import InputError
from recbole_ssm.model.declarations import Column, Configuration, Key
from recbole_ssm.ops.packing import check_each, check_ids, check_shapes, lengths_of, pack_padded, sequence_index
from recbole_ssm.ops.values import demand, on_host

SEEN_ROWS, SEEN_ITEMS = "seen_rows", "seen_items"
"""Fields (n,) of a batch of evaluation: histories, and items that their users have had, also before what is read."""

LeftOut = Callable[[], Sequence[Tensor]]
"""Gives rows (n,) and items (n,) that are not recommended."""


class PackedRecommender(SequentialRecommender):
    """A sequential recommender that reads a packed stream of interactions.

    A batch is an :class:`Interaction` with ``item_id_list`` (T,) and ``cu_seqlens`` (S + 1,), or one of RecBole's with
    a padded ``item_id_list`` (S, L) and ``item_length`` (S,), which is packed on entry.
    """

    is_trained = True
    """Whether its parameters are learned in epochs over batches. One that counts is ready once it is made."""

    causal = True
    """Whether the output at a token depends on nothing after it."""

    keys: tuple[Key, ...] = ()
    """The keys of the configuration that it reads. A subclass repeats those of its base:
    ``keys = (*Base.keys, Key(...))``."""

    columns: tuple[Column, ...] = ()
    """What it reads of each interaction beside the item; :meth:`encode` gets it by name. Of a model that is made, those
    that its configuration asks for."""

    def __init__(self, config: Configuration, dataset: Any):
        super().__init__(config, dataset)
        self._list_suffix = config["LIST_SUFFIX"]
        self.columns = tuple(column for column in type(self).columns if column.is_read(config))

    @classmethod
    def check_config(cls, config: Configuration) -> None:
        """Raise InputError where values of its keys do not fit one another. Each by itself has been checked."""

    @classmethod
    def without_effect(cls, config: Configuration) -> frozenset[str]:
        """Keys that change nothing in this configuration; they get no settings from the data."""
        return frozenset()

    @classmethod
    def reads_seen(cls, config: Configuration) -> bool:
        """Whether batches of evaluation are to say what their users have had, see :meth:`seen`."""
        return False

    @classmethod
    def width(cls, config: Configuration) -> int:
        """The width of a model with a key ``hidden_size``; its default learning rate depends on it."""
        return int(config["hidden_size"])

    @classmethod
    def check_begin(cls, config: Configuration) -> None:
        """Raise InputError, before data are read, where a training cannot begin: a file is not given, or not there."""

    def update(self, tokens: Tensor, cu_seqlens: Tensor, new: Tensor) -> None:
        """Let what it counts take in new interactions, without training.

        Args:
            tokens: (T,) items of histories, on the CPU.
            cu_seqlens: (S + 1,) borders of the histories.
            new: (T,) bool, the items that were not counted before. They are the last of their histories.

        Raises:
            InputError: it counts nothing.
        """
        raise InputError(
            "the model counts nothing that could take in new interactions; train it with "
            "transition_memory, or use a model that counts, such as PCTM"
        )

    def item_vectors(self) -> Tensor | None:
        """The vector of each item, (n_items, d); None for a model without any."""
        return None

    def transitions(self, before: Tensor, after: Tensor) -> Tensor | None:
        """How often items came after others in the training's histories, weighted by their distances.

        Args:
            before: (n,) int64 items.
            after: (n,) int64 items.

        Returns:
            (n,), 0 also for what was too rare to be kept; None for a model that has not counted.
        """
        return None

    @property
    def streams(self) -> bool:
        """Whether :meth:`prefill` and :meth:`step` can be used: it keeps a state of constant size, not the history."""
        return False

    @property
    def step_is_fixed(self) -> bool:
        """Whether :meth:`step` does the same whatever the items are, so that a graph can be made of it."""
        return True

    def rank_best(self, interaction: Interaction, k: int, left_out: LeftOut) -> Tensor:
        """Scores (S, n_items) of all items after each history, of which the k best must be right.

        A model that looks at some items more closely than at others looks at these k.

        Args:
            interaction: a packed or padded batch.
            k: how many items are wanted.
            left_out: gives rows (n,) and items (n,) that are not recommended; their scores are not used.

        Returns:
            The scores.
        """
        scores: Tensor = self.full_sort_predict(interaction)
        return scores

    def score_exactly(self, interaction: Interaction) -> Tensor:
        """Scores (S, n_items) of all items after each history, all of them right, for means with those of other models.

        By ``full_sort_predict`` of a model that looks closely at its best items the others may be in no order.
        """
        scores: Tensor = self.full_sort_predict(interaction)
        return scores

    def predict(self, interaction: Interaction) -> Tensor:
        """Scores (R,) of the candidates ``item_id`` (R,), see :meth:`candidates`."""
        scores: Tensor = self.full_sort_predict(interaction)
        items, rows = self.candidates(interaction, len(scores))
        return scores[rows, items]

    def packed(self, interaction: Interaction) -> tuple[Tensor, Tensor]:
        """The items of a batch as one stream.

        Args:
            interaction: a packed batch, where the id 0 stands for an item that is hidden (``mask_ratio``), or a padded
                one, where it is padding.

        Returns:
            Tokens (T,) and ``cu_seqlens`` (S + 1,).

        Raises:
            ValueError: borders, lengths or ids are not valid, a padded row does not begin with its history, or a
                history is empty.
        """
        if "cu_seqlens" in interaction:
            tokens, cu_seqlens = interaction[self.ITEM_SEQ], interaction["cu_seqlens"]
        else:
            tokens, cu_seqlens = pack_padded(interaction[self.ITEM_SEQ], interaction[self.ITEM_SEQ_LEN])
            if bool((tokens == 0).any()):
                row = int(torch.searchsorted(cu_seqlens, (tokens == 0).nonzero()[0], right=True)) - 1
                raise ValueError(
                    f"history {row} of the batch has padding (id 0) within its length; each row must begin with its "
                    "history, the oldest item first, and be filled up with 0 at its end"
                )
        self.check_histories(tokens, cu_seqlens)
        return tokens, cu_seqlens

    def seen(self, interaction: Interaction) -> tuple[Tensor, Tensor]:
        """Rows (n,) and items (n,) that users of a batch have had before; those that are read, if it does not say."""
        if SEEN_ROWS in interaction:
            return interaction[SEEN_ROWS], interaction[SEEN_ITEMS]
        tokens, cu_seqlens = self.packed(interaction)
        return sequence_index(cu_seqlens, len(tokens)).long(), tokens

    def field_of(self, column: Column) -> str:
        """The field of a batch that has the values of a column."""
        return column.name + self._list_suffix

    def columns_of(self, interaction: Interaction) -> dict[str, Tensor]:
        """The columns that the model reads.

        Args:
            interaction: a packed or padded batch.

        Returns:
            (T,) each, by the column's name.

        Raises:
            ValueError: the batch lacks one of them, or it has another length than the items.
        """
        found = {}
        for column in self.columns:
            field = self.field_of(column)
            if field not in interaction:
                raise ValueError(f"the batch has no {field}, which {type(self).__name__} reads beside {self.ITEM_SEQ}")
            values, items = interaction[field], interaction[self.ITEM_SEQ]
            check_each(**{field: (values, items.shape)})
            if "cu_seqlens" not in interaction:
                values, _ = pack_padded(values, interaction[self.ITEM_SEQ_LEN])
            found[column.name] = values
        return found

    def check_histories(self, tokens: Tensor, cu_seqlens: Tensor) -> None:
        """Raise ValueError unless these are S histories with an item each, before anything is looked up by them."""
        check_shapes(cu_seqlens, len(tokens), **{self.ITEM_SEQ: (tokens, (len(tokens),))})
        check_ids(self.ITEM_SEQ, tokens, 0, self.n_items)
        has_items, wanted = lengths_of(cu_seqlens) > 0, "of the batch is empty; leave it out: it has no recommendation"
        if not on_host(has_items):
            demand(has_items.all(), f"a history {wanted}")
        elif not has_items.all():
            raise ValueError(f"history {int(has_items.logical_not().nonzero()[0])} {wanted}")

    def candidates(self, interaction: Interaction, n_histories: int) -> tuple[Tensor, Tensor]:
        """The candidates of a batch, and the history of each.

        Candidate r belongs to history ``candidate_seq_idx[r]`` where the batch has that field, else to history r.

        Args:
            interaction: a batch with ``item_id`` (R,).
            n_histories: S.

        Returns:
            items (R,) and rows (R,) int64.

        Raises:
            ValueError: an item or a history does not exist.
        """
        items = interaction[self.ITEM_ID]
        check_ids(self.ITEM_ID, items, 0, self.n_items)
        rows = torch.arange(len(items), device=items.device)
        if "candidate_seq_idx" in interaction:
            rows = interaction["candidate_seq_idx"]
        check_each(candidate_seq_idx=(rows, items.shape))
        check_ids("the history of each candidate", rows, 0, n_histories)
        return items, rows
