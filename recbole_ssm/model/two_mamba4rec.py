"""2Mamba4Rec: Mamba4Rec with Mamba-2 ("Exploring State Space Models' Application to Recommender Systems")."""

from __future__ import annotations

from recbole_ssm.layers import Mamba2
from recbole_ssm.model.declarations import Configuration
from recbole_ssm.model.mamba4rec import Mamba4Rec
from recbole_ssm.model.shared_keys import HEADDIM, check_heads
from recbole_ssm.model.time_gaps import n_gap_features


class TwoMamba4Rec(Mamba4Rec):
    """Known to users as ``2Mamba4Rec``, which no Python class can be called."""

    keys = (*Mamba4Rec.keys, HEADDIM)

    @classmethod
    def check_config(cls, config: Configuration) -> None:
        """See :meth:`PackedSequentialRecommender.check_config`."""
        super().check_config(config)
        check_heads(config)

    def make_mixer(self, config: Configuration) -> Mamba2:
        """The token mixer of one layer."""
        sizes = {key: config[key] for key in ("d_state", "d_conv", "expand", "headdim")}
        return Mamba2(self.hidden_size, time_gaps=n_gap_features(config), **sizes)
