"""The model under test, with batches to test it on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from recbole.data.interaction import Interaction
from torch import Tensor, nn

from recbole_ssm.config.config import Config
from recbole_ssm.model.base import PackedSequentialRecommender
from recbole_ssm.model.catalogue import Catalogue
from recbole_ssm.ops.packing import cumulative_lengths, sequence_index
from recbole_ssm.training.make_model import make_model


class Subject:
    """Builds a model and its batches.

    Args:
        model: the class of the model, or a registered name.
        settings: keys of the configuration.
        dataset: what the model is built from; by default a :class:`Catalogue`.
        column_values: values that a column of the model may have, by the column's name. Columns that are not named
            here get increasing Unix times, not evenly.
        dtype: number type of the weights.

    Attributes:
        model: the model in evaluation mode. All parameters are moved away from their initial values, so that none is
            0 or 1.
        lengths: lengths of the histories, from 1 to 24.
    """

    lengths = (5, 1, 24, 3)

    def __init__(
        self,
        model: type | str,
        settings: Mapping[str, Any],
        *,
        dataset: Any = None,
        column_values: Mapping[str, Sequence[float]] | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        fixed = {"use_gpu": False, "show_progress": False}
        self._config = Config(model, "ml-100k", config_dict={**fixed, **settings})
        self._dataset = Catalogue(50) if dataset is None else dataset
        self._dtype = dtype
        self._column_values = dict(column_values or {})
        self.model = self.build()

    def build(self, seed: int = 0) -> PackedSequentialRecommender:
        """A new model, in evaluation mode."""
        torch.manual_seed(seed)
        model = make_model(self._config, self._dataset)
        assert isinstance(model, PackedSequentialRecommender), "it must be a subclass of PackedSequentialRecommender"
        randomise(model, seed=seed)
        return model.to(self._dtype).eval()

    @property
    def n_items(self) -> int:
        """Number of items, with the padding item 0."""
        return int(self.model.n_items)

    def items(self, shape: int | tuple[int, ...], seed: int = 0) -> Tensor:
        """Random item ids, without the padding item."""
        size = (shape,) if isinstance(shape, int) else shape
        return torch.randint(1, self.n_items, size, generator=torch.Generator().manual_seed(seed))

    def histories(self, lengths: Iterable[int] | None = None) -> list[Interaction]:
        """One packed batch for each history, with a random target."""
        lengths = list(self.lengths if lengths is None else lengths)
        tokens, targets = self.items(sum(lengths)), self.items(len(lengths), seed=1)
        borders = cumulative_lengths(torch.tensor(lengths)).tolist()
        columns = self._columns(sum(lengths))
        streams = {self.model.ITEM_SEQ: tokens, **columns}
        return [
            self.one_history({field: values[start:end] for field, values in streams.items()}, targets[row : row + 1])
            for row, (start, end) in enumerate(pairwise(borders))
        ]

    def one_history(self, streams: Mapping[str, Tensor], target: Tensor) -> Interaction:
        """A packed batch of one history, from its items and columns (T,) and its target (1,)."""
        return packed(streams, [len(streams[self.model.ITEM_SEQ])], {self.model.ITEM_ID: target})

    def cut(self, history: Interaction, end: int) -> Interaction:
        """The first items of a history, with its target."""
        fields = {field: history[field][:end] for field in self.per_token_fields}
        return self.one_history(fields, history[self.model.ITEM_ID])

    def together(self, histories: Sequence[Interaction]) -> Interaction:
        """One packed batch of several histories."""
        streams = {field: torch.cat([one[field] for one in histories]) for field in self.per_token_fields}
        targets = torch.cat([one[self.model.ITEM_ID] for one in histories])
        lengths = [int(one["item_length"]) for one in histories]
        return packed(streams, lengths, {self.model.ITEM_ID: targets})

    def padded(self, histories: Sequence[Interaction], width: int) -> Interaction:
        """The batch that RecBole would make of several histories: rows of one width, filled up with 0."""
        fields = {
            field: torch.stack([F.pad(one[field], (0, width - len(one[field]))) for one in histories])
            for field in self.per_token_fields
        }
        fields["item_length"] = torch.cat([one["item_length"] for one in histories])
        fields[self.model.ITEM_ID] = torch.cat([one[self.model.ITEM_ID] for one in histories])
        return Interaction(fields)

    def with_other_items(self, history: Interaction, which: slice = slice(None)) -> Interaction:
        """A copy of a history in which some items are others."""
        other = Interaction(dict(history.interaction))
        items = history[self.model.ITEM_SEQ].clone()
        items[which] = items[which] % (self.n_items - 1) + 1
        other.interaction[self.model.ITEM_SEQ] = items
        return other

    def columns(self, batch: Interaction) -> dict[str, Tensor]:
        """The columns that the model reads of a packed batch."""
        return dict(self.model.columns_of(batch))

    def encode(self, batch: Interaction, readout: Tensor | None = None, **options: Tensor) -> Tensor:
        """Representation of each token of a packed batch, or of those of ``readout``."""
        tokens, cu_seqlens = self.model.packed(batch)
        hidden: Tensor = self.model.encode(tokens, cu_seqlens, readout, **self.columns(batch), **options)
        return hidden

    def influence(self, batch: Interaction, group: Tensor, **options: Tensor) -> Tensor:
        """What outputs read.

        Args:
            batch: packed histories.
            group: (T,) the group of each token's output, from 0 on.
            **options: further arguments of ``encode``.

        Returns:
            (number of groups, T) bool: whether outputs of the group have a gradient at the token's embedding, rounding
            aside. Of a model that reads something else of an item: whether they change when the item does.
        """
        looked_up: list[Tensor] = []
        hook = self.model.item_embedding.register_forward_hook(lambda module, ids, out: looked_up.append(out))
        hidden = self.encode(batch, **options)
        hook.remove()
        if not looked_up:
            return self._changes(batch, group, hidden, **options)
        weights = torch.rand(hidden.shape, dtype=hidden.dtype, generator=torch.Generator().manual_seed(3))
        sums = (hidden * weights).sum(1)
        rows = [
            torch.autograd.grad(sums[group == one].sum(), looked_up, retain_graph=True)[0].abs().amax(1)
            for one in range(int(group.max()) + 1)
        ]
        sizes = torch.stack(rows)
        assert torch.isfinite(sizes).all(), "the gradient of an output by the embeddings is not finite"
        return sizes > 10 * torch.finfo(sizes.dtype).eps * sizes.max()

    @torch.no_grad()
    def _changes(self, batch: Interaction, group: Tensor, before: Tensor, **options: Tensor) -> Tensor:
        found = torch.zeros(int(group.max()) + 1, len(batch[self.model.ITEM_SEQ]), dtype=torch.bool)
        for token in range(found.shape[1]):
            after = self.encode(self.with_other_items(batch, slice(token, token + 1)), **options)
            moved = (after - before).abs().amax(1) > 10 * torch.finfo(after.dtype).eps * before.abs().max()
            found[group[moved], token] = True
        return found

    @property
    def per_token_fields(self) -> list[str]:
        """Fields of a batch that have a value for each token."""
        columns = [self.model.field_of(column) for column in self.model.columns]
        return [self.model.ITEM_SEQ, *columns]

    def _columns(self, n_tokens: int) -> dict[str, Tensor]:
        """Values of the model's columns, by field of the batch."""
        found = {}
        for column in self.model.columns:
            if column.name in self._column_values:
                choices = torch.tensor(self._column_values[column.name], dtype=torch.float64)
                generator = torch.Generator().manual_seed(2)
                raw = choices[torch.randint(len(choices), (n_tokens,), generator=generator)]
            else:
                place = torch.arange(n_tokens, dtype=torch.float64)
                raw = 1.6e9 + 5000 * place + 700 * (place**2 % 7)
            found[self.model.field_of(column)] = column.values(raw)
        return found


def packed(streams: Mapping[str, Tensor], lengths: Sequence[int], others: Mapping[str, Tensor]) -> Interaction:
    """A packed batch of streams (T,), lengths (S,) and fields of other shapes."""
    n_tokens = sum(lengths)
    cu_seqlens = cumulative_lengths(torch.tensor(lengths))
    return Interaction(
        {
            **streams,
            "item_length": torch.tensor(lengths),
            "cu_seqlens": cu_seqlens,
            "seq_idx": sequence_index(cu_seqlens, n_tokens),
            **others,
        }
    )


def randomise(module: nn.Module, scale: float = 0.3, seed: int = 0) -> None:
    """Move every parameter by a random number of this scale."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(scale * torch.randn(parameter.shape, generator=generator))
