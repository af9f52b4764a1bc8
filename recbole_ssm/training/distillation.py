"""Models that learn from trained ones: their predictions are part of the targets.

What a trained model predicts is smoother than the one item that came next, and a model that learns from one like itself
can become better than it (Hinton et al., arXiv 1503.02531; born-again networks, arXiv 1805.04770).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from recbole_ssm.checkpoints.ensemble import Ensemble
from recbole_ssm.checkpoints.load import in_its_place, load_ensemble
from recbole_ssm.config.config import Config
from recbole_ssm.errors import CheckpointError
from recbole_ssm.model.base import PackedSequentialRecommender
from recbole_ssm.ops import Teacher


class Teachers:
    """Trained models whose predictions a model learns. It is no module, so that they are no part of that model.

    Args:
        ensemble: the trained models.
        share: of the targets; the rest is the item that came next.
    """

    def __init__(self, ensemble: Ensemble, share: float):
        self._ensemble, self._share = ensemble, share
        self._weight = ensemble.item_weights()

    def predict(
        self,
        tokens: Tensor,
        cu_seqlens: Tensor,
        readout: Tensor | None,
        cut: Tensor | None = None,
        columns: Mapping[str, Tensor] | None = None,
        target: Tensor | None = None,
    ) -> Teacher:
        """The targets after each token of ``readout``, without dropout; arguments as in :meth:`Ensemble.encode`.

        With ``target`` (R,), a teacher's memory leaves out what it knows from these sequences. Items that are hidden
        from the model that learns are hidden here, too.
        """
        hidden = self._ensemble.encode(tokens, cu_seqlens, readout, cut, columns)
        return Teacher(hidden, self._weight, self._ensemble.added(tokens, cu_seqlens, readout, target), self._share)


def load_teachers(config: Config, dataset: Any) -> Teachers | None:
    """The models that ``teacher`` names, or None if it names none.

    Args:
        config: of the model that learns from them.
        dataset: its training split.

    Returns:
        The models, as a source of targets.

    Raises:
        CheckpointError: a file cannot be read, its model is not of this package, or it was trained on other data, which
            may be what this one is tested on.
    """
    if not config.teacher:
        return None
    with in_its_place("teacher"):
        ensemble = load_ensemble(config.teacher_files, config, dataset)
    for file, model in zip(config.teacher_files, ensemble.models, strict=True):
        if not isinstance(model, PackedSequentialRecommender) or model.item_vectors() is None:
            raise CheckpointError(
                f"teacher: {file} is a {type(model).__name__} without embeddings of items; name a model that has them"
            )
    share = config.teacher_share
    return Teachers(ensemble, 0.5 if share is None else share)  # a model of one's own may have no default of it
