"""Models that learn from trained ones: their predictions are part of the targets.

What a trained model predicts is smoother than the one item that came next, and a model that learns from one like itself
can become better than it (Hinton et al., arXiv 1503.02531; born-again networks, arXiv 1805.04770).
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from recbole_ssm.checkpoints.load import trained_models
from recbole_ssm.ops import Teacher


class Teachers:
    """Trained models that predict together: the mean of their scores, and so the geometric mean of their softmaxes.

    Args:
        models: of this package, for the same items.
        share: of the targets; the rest has the item that came next.
    """

    def __init__(self, models: list, share: float):
        self._models = [model.eval().requires_grad_(False) for model in models]
        self._weight = torch.cat([_weight_of(model) / len(models) for model in models], 1)
        self._seen_bias = sum(model.bias_of_seen().item() for model in models if model.repeat_bias is not None)
        self._share = share

    @torch.no_grad()
    def predict(
        self,
        tokens: Tensor,
        cu_seqlens: Tensor,
        readout: Tensor | None,
        cut: Tensor | None = None,
        columns: Mapping[str, Tensor] | None = None,
    ) -> Teacher:
        """What they expect after the tokens ``readout`` (R,) of a packed batch, or after each; without dropout.

        Args:
            tokens, cu_seqlens, readout, cut, columns: as in :meth:`PackedSequentialRecommender.encode`, and the items
                that are hidden from a student are hidden here, too. A model that reads in both directions does so up to
                the cut; without one, where each history has one ``readout``, its end, and else not at all.
        """
        if cut is None and (readout is None or len(readout) != len(cu_seqlens) - 1):
            cut = torch.ones_like(cu_seqlens[1:], dtype=torch.int64)
        parts = []
        for model in self._models:
            options = {column.name: (columns or {})[column.name] for column in model.columns}
            if cut is not None and not model.causal:
                options["cut"] = cut
            hidden = model.encode(tokens, cu_seqlens, readout, **options)
            parts += [hidden] if model.item_bias is None else [hidden, hidden.new_ones(len(hidden), 1)]
        return Teacher(torch.cat(parts, 1), self._weight, self._seen_bias / len(self._models), self._share)


def _weight_of(model) -> Tensor:
    """(V, hidden_size), the embeddings of the items, or (V, hidden_size + 1) with what is added to their scores."""
    weight, bias = model.item_embedding.weight.detach(), model.item_bias
    return weight if bias is None else torch.cat([weight, bias.detach()[:, None]], 1)


def load_teachers(config, dataset) -> Teachers | None:
    """The models that ``teacher`` names, or None if it names none.

    Args:
        config: of the model that learns from them.
        dataset: its training split.

    Raises:
        CheckpointError: a file cannot be read, its model is not of this package, or it was trained on other data, which
            may be what this one is tested on.
    """
    if not config["teacher"]:
        return None
    models, share = trained_models(config.teacher_files, config, dataset), config["teacher_share"]
    return Teachers(models, 0.5 if share is None else share)  # a model of one's own may have no default of it
