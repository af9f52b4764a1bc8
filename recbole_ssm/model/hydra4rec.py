"""Hydra4Rec: Mamba4Rec with Hydra ("Exploring State Space Models' Application to Recommender Systems")."""

from __future__ import annotations

from recbole_ssm.layers import Hydra
from recbole_ssm.model.mamba4rec import Mamba4Rec


class Hydra4Rec(Mamba4Rec):
    """The last item's output, which has seen the whole history from both sides, stands for the history."""

    causal = False

    def make_mixer(self, config) -> Hydra:
        """The token mixer of one layer."""
        return Hydra(self.hidden_size, config["d_state"], config["d_conv"], config["expand"], config["headdim"])
