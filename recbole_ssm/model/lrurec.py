"""LRURec: "Linear Recurrent Units for Sequential Recommendation", over packed histories."""

from __future__ import annotations

from recbole_ssm.layers import LRU
from recbole_ssm.model.base import PackedSequentialRecommender
from recbole_ssm.model.declarations import Configuration
from recbole_ssm.model.mamba4rec import Mamba4Rec
from recbole_ssm.model.shared_keys import DROPOUT_PROB, EXPAND, NUM_LAYERS
from recbole_ssm.model.time_gaps import TIME_GAPS, n_gap_features


class LRURec(Mamba4Rec):
    """Mamba4Rec's layout with linear recurrent units, and by default a bias of each item (``item_bias``)."""

    keys = (*PackedSequentialRecommender.keys, NUM_LAYERS, DROPOUT_PROB, EXPAND, TIME_GAPS)

    residual_of_one_layer = True

    def make_mixer(self, config: Configuration) -> LRU:
        """The token mixer of one layer."""
        return LRU(self.hidden_size, config["expand"], time_gaps=n_gap_features(config))
