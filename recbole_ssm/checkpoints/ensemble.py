"""Several trained models that predict as one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from recbole.data.interaction import Interaction
from torch import Tensor, nn

from recbole_ssm.ops.added import Added
from recbole_ssm.ops.values import remember_total


class Ensemble(nn.Module):
    """Models of this package that predict together: by the mean of their scores.

    The softmax of that mean is the geometric mean of their softmaxes, normalised.

    Args:
        models: for the same items.
    """

    def __init__(self, models: Sequence[Any]):
        super().__init__()
        self.models = nn.ModuleList(model.eval().requires_grad_(False) for model in models)

    def full_sort_predict(self, interaction: Interaction) -> Tensor:
        """Scores (S, n_items) of every item after each history."""
        return torch.stack([model.score_exactly(interaction) for model in self._members()]).mean(0)

    def predict(self, interaction: Interaction) -> Tensor:
        """Scores (R,) of the candidates ``item_id`` (R,)."""
        return torch.stack([model.predict(interaction) for model in self._members()]).mean(0)

    @torch.no_grad()
    def encode(
        self,
        tokens: Tensor,
        cu_seqlens: Tensor,
        readout: Tensor | None,
        cut: Tensor | None = None,
        columns: Mapping[str, Tensor] | None = None,
    ) -> Tensor:
        """What the scores are computed from, as ``encode() @ item_weights().T``, without :meth:`added`.

        Args:
            tokens: (T,) item ids.
            cu_seqlens: (S + 1,) borders of the sequences.
            readout: (R,) the tokens that are wanted; None for all.
            cut: (S,) how many of each sequence's first tokens are read in both directions, by a model that does so.
                None where each sequence has one readout, its end; elsewhere such a model then reads the first token
                only.
            columns: (T,) values by name, of all columns that the models read.

        Returns:
            (R, k), the representations of all models side by side.
        """
        if cut is None and (readout is None or len(readout) != len(cu_seqlens) - 1):
            cut = remember_total(torch.ones_like(cu_seqlens[1:], dtype=torch.int64), len(cu_seqlens) - 1)
        parts = []
        for model in self._members():
            options = {column.name: (columns or {})[column.name] for column in model.columns}
            if cut is not None and not model.causal:
                options["cut"] = cut
            hidden = model.encode(tokens, cu_seqlens, readout, **options)
            parts += [hidden] if model.item_bias is None else [hidden, hidden.new_ones(len(hidden), 1)]
        return torch.cat(parts, 1)

    def item_weights(self) -> Tensor:
        """(V, k), the embeddings of the items in all models side by side, with what is added to their scores."""
        return torch.cat([_item_weights(model) / len(self.models) for model in self._members()], 1)

    @torch.no_grad()
    def added(
        self, tokens: Tensor, cu_seqlens: Tensor, readout: Tensor | None, target: Tensor | None = None
    ) -> tuple[Added, ...]:
        """What all models add to the scores of some items; see :meth:`PackedSequentialRecommender.added`."""
        found = [each for model in self._members() for each in model.added(tokens, cu_seqlens, readout, target)]
        return tuple(each.times(1 / len(self.models)) for each in found)

    def _members(self) -> Sequence[Any]:
        return list(self.models)


def _item_weights(model: Any) -> Tensor:
    """(V, hidden_size), the embeddings of the items; (V, hidden_size + 1) with ``item_bias``."""
    weight, bias = model.item_table().detach(), model.item_bias
    return weight if bias is None else torch.cat([weight, bias.detach()[:, None]], 1)
