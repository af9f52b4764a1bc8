"""Hydra4Rec: Mamba4Rec with Hydra ("Exploring State Space Models' Application to Recommender Systems")."""

from __future__ import annotations

from recbole_ssm.errors import InputError
from recbole_ssm.layers import Hydra
from recbole_ssm.model.base import PackedSequentialRecommender
from recbole_ssm.model.declarations import Configuration, Key
from recbole_ssm.model.mamba4rec import Mamba4Rec
from recbole_ssm.model.shared_keys import D_STATE, DROPOUT_PROB, EXPAND, HEADDIM, NUM_LAYERS, check_heads
from recbole_ssm.model.time_gaps import TIME_GAPS, n_gap_features


class Hydra4Rec(Mamba4Rec):
    """The last item's output, which has seen the whole history from both sides, stands for the history."""

    keys = (
        *PackedSequentialRecommender.keys,
        *(NUM_LAYERS, DROPOUT_PROB, D_STATE, EXPAND, HEADDIM, TIME_GAPS),
        Key("d_conv", int, "width of the centred convolution; must be odd", 7, low=1),
    )
    causal = False

    @classmethod
    def check_config(cls, config: Configuration) -> None:
        """See :meth:`PackedSequentialRecommender.check_config`."""
        super().check_config(config)
        check_heads(config)
        if config["d_conv"] % 2 == 0:
            raise InputError(
                f"d_conv must be odd for Hydra4Rec, since its convolution is centred, but is {config['d_conv']}"
            )

    def make_mixer(self, config: Configuration) -> Hydra:
        """The token mixer of one layer."""
        sizes = {key: config[key] for key in ("d_state", "d_conv", "expand", "headdim")}
        return Hydra(self.hidden_size, time_gaps=n_gap_features(config), **sizes)
