"""What is known of items beside their ids, as part of their embeddings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

_VERY_LITTLE = -1e4


class ItemContent(nn.Module):
    """Fixed vectors of items, and a learned projection of them that is added to the embeddings.

    An item that is in no history of the training has no embedding of its own that means anything, so it is its
    projected vector alone. In training a share of the items is, too, so that the projection learns to stand alone
    (DropoutNet: Volkovs et al., NIPS 2017).

    Args:
        n_items: with the padding item 0.
        hidden_size: width of the embeddings.
        dropout: the share of the items that in a training step are their projected vectors alone.
        std: standard deviation of the initial projection.

    Attributes:
        values: (n_items, d) float32, the vectors; a row of zeros is an item of which nothing is known.
        known: (n_items, 1) float32, 1 for items with an embedding of their own, else 0; 0 for all where none has one.
        projection: (hidden_size, d).
        untrained: (n_items,) what the training adds to scores, very little for items that are in none of its histories:
            that nobody has had them says nothing against them. It is not part of a checkpoint.
    """

    OF_DATA = ("values", "known")
    """The buffers that are about the items."""

    values: Tensor
    known: Tensor
    untrained: Tensor

    def __init__(self, n_items: int, hidden_size: int, dropout: float, std: float):
        super().__init__()
        self.dropout, self._std = dropout, std
        self.register_buffer("values", torch.zeros(n_items, 0))
        self.register_buffer("known", torch.ones(n_items, 1))
        self.register_buffer("untrained", torch.zeros(n_items), persistent=False)
        self.projection = nn.Parameter(torch.zeros(hidden_size, 0))
        self._kept: tuple[tuple[int, ...], Tensor] | None = None

    def describe(self, values: Tensor, trained: Tensor, *, frozen: bool = False) -> None:
        """Take vectors, and draw an initial projection.

        Args:
            values: (n_items, d) float32.
            trained: (n_items,) bool, the items that are in histories of the training.
            frozen: whether no item has an embedding of its own.
        """
        self.values, self.known = values, (trained & (not frozen))[:, None].float()
        self.untrained = torch.where(trained, 0.0, _VERY_LITTLE)
        self.projection = nn.Parameter(torch.randn(self.projection.shape[0], values.shape[1]) * self._std)

    def table(self, embedding: Tensor) -> Tensor:
        """The embedding of each item with its content, from the items' own embeddings (n_items, hidden_size).

        It is computed once for weights that do not change.
        """
        own = self.known
        if self.training and self.dropout:
            own = own * (torch.rand_like(own) >= self.dropout)
        if self.training or torch.is_grad_enabled():
            return embedding * own + self.values @ self.projection.T
        key = tuple(number for each in (embedding, own, self.values, self.projection) for number in _identity(each))
        if self._kept is None or self._kept[0] != key:
            self._kept = key, embedding * own + self.values @ self.projection.T
        return self._kept[1]

    def of(self, items: Tensor, embedded: Tensor) -> Tensor:
        """The same of some items (n,) alone, from their own embeddings (n, hidden_size)."""
        return embedded * self.known[items] + self.values[items] @ self.projection.T

    def _load_from_state_dict(self, state_dict: Mapping[str, Any], prefix: str, *arguments: Any) -> None:
        """Take over vectors of another width, too."""
        found = state_dict.get(f"{prefix}projection")
        own = self.projection.shape
        if isinstance(found, Tensor) and found.dim() == 2 and found.shape[0] == own[0] and found.shape != own:
            self.values = self.values.new_zeros(len(self.values), found.shape[1])
            self.projection = nn.Parameter(self.projection.new_zeros(found.shape))
        super()._load_from_state_dict(state_dict, prefix, *arguments)


def _identity(tensor: Tensor) -> tuple[int, int]:
    """Changes with the tensor, and when it is changed in place."""
    return tensor.data_ptr(), tensor._version
