"""PackedSASRec: SASRec (arXiv 1808.09781) under the same regime as the models of this package, to compare them with."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from recbole_ssm.errors import InputError
from recbole_ssm.layers import CausalSelfAttention
from recbole_ssm.model.base import PackedSequentialRecommender
from recbole_ssm.model.declarations import Configuration, Key
from recbole_ssm.model.mamba4rec import Mamba4Rec
from recbole_ssm.model.shared_keys import DROPOUT_PROB, NUM_LAYERS
from recbole_ssm.ops.packing import positions


class PackedSASRec(Mamba4Rec):
    """Mamba4Rec's layout with attention and learned positions.

    RecBole's SASRec differs in three things. There the LayerNorm of the embedding precedes its dropout. Weights of
    attention are dropped too, for which torch has no fast kernel on a CPU. And nothing is dropped between the two
    layers of the feed-forward network, where the SASRec of the paper has a dropout.

    Positions count from a history's first item that is read; from ``max_positions`` on they are the last one's.
    """

    keys = (
        *PackedSequentialRecommender.keys,
        *(NUM_LAYERS, DROPOUT_PROB),
        Key("n_heads", int, "heads of attention; must divide hidden_size", 2, low=1),
        Key("max_positions", int, "positions with an embedding of their own", 2048, low=1),
    )

    columns = ()

    residual_of_one_layer = True

    @classmethod
    def check_config(cls, config: Configuration) -> None:
        """See :meth:`PackedSequentialRecommender.check_config`."""
        if config["hidden_size"] % config["n_heads"]:
            raise InputError(f"n_heads {config['n_heads']} does not divide hidden_size {config['hidden_size']}")

    def __init__(self, config: Configuration, dataset: Any):
        super().__init__(config, dataset)
        self.position_embedding = nn.Embedding(config["max_positions"], self.hidden_size)
        self._init_weights(self.position_embedding)

    def make_mixer(self, config: Configuration) -> CausalSelfAttention:
        """The token mixer of one layer."""
        return CausalSelfAttention(self.hidden_size, config["n_heads"])

    def embed(self, tokens: Tensor, cu_seqlens: Tensor, **columns: Tensor) -> Tensor:
        """Items and their positions, (T, hidden_size)."""
        place = positions(cu_seqlens, tokens.shape[0]).clamp(max=self.position_embedding.num_embeddings - 1)
        return self.embed_items(tokens) + self.position_embedding(place)
