"""2Mamba4Rec: Mamba4Rec with Mamba-2 ("Exploring State Space Models' Application to Recommender Systems")."""

from __future__ import annotations

from recbole_ssm.layers import Mamba2
from recbole_ssm.model.mamba4rec import Mamba4Rec


class TwoMamba4Rec(Mamba4Rec):
    """Known to users as ``2Mamba4Rec``, which no Python class can be called."""

    def make_mixer(self, config) -> Mamba2:
        """The token mixer of one layer."""
        return Mamba2(self.hidden_size, config["d_state"], config["d_conv"], config["expand"], config["headdim"])
