"""SSD4Rec: structured state space duality for sequential recommendation (arXiv 2409.01192)."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from recbole_ssm.layers import Dropout, FeedForward, Mamba2
from recbole_ssm.model.base import PackedSequentialRecommender
from recbole_ssm.model.declarations import Column, Configuration, Key
from recbole_ssm.model.shared_keys import D_CONV, D_STATE, DROPOUT_PROB, EXPAND, HEADDIM, NUM_LAYERS, check_heads
from recbole_ssm.model.time_gaps import TIME, TIME_GAPS, check_time_gaps, make_time_gaps, n_gap_features
from recbole_ssm.ops.packing import at, cut_borders, flip_index, prefixes


class BiSSDLayer(nn.Module):
    """``h = dropout(LayerNorm(f + beta b + x))`` and a feed-forward network; f and b are one Mamba-2 both ways.

    Args:
        config: ``hidden_size``, ``d_state``, ``d_conv``, ``expand``, ``headdim``, ``dropout_prob``, ``beta``,
            ``dropout_after_norm`` and ``align_backward``. Without ``dropout_after_norm`` what the layer adds is
            dropped, ``h = LayerNorm(dropout(f + beta b) + x)``, as in a Transformer (arXiv 1706.03762, section 5.4),
            and not what goes on from layer to layer too. In the released code the backward output stays in the order
            in which it was computed, so that the last token gets the b that has read the whole history;
            ``align_backward`` puts each b back at its own token, where the last token's b has read that token only.
    """

    def __init__(self, config: Configuration):
        super().__init__()
        d_model, dropout = config["hidden_size"], config["dropout_prob"]
        sizes = {key: config[key] for key in ("d_state", "d_conv", "expand", "headdim")}
        self.mixer = Mamba2(d_model, time_gaps=n_gap_features(config), **sizes)
        self.beta = config["beta"]
        self.align_backward = config["align_backward"]
        self.norm = nn.LayerNorm(d_model, eps=1e-12)
        self.dropout = Dropout(dropout)
        self.dropout_after_norm = config["dropout_after_norm"]
        self.ffn = FeedForward(d_model, 4 * d_model, dropout, dropout_after_norm=self.dropout_after_norm)

    def forward(
        self,
        x: Tensor,
        cu_seqlens: Tensor,
        readout: Tensor | None = None,
        *,
        cut: Tensor | None = None,
        gaps: Tensor | None = None,
    ) -> Tensor:
        """(T, d_model) to (T, d_model), or to (R, d_model) for the tokens ``readout`` (R,).

        With ``cut`` (S,) the b of a token has read at most the first ``cut`` tokens of the sequence. A later token
        gets the b of the last of these; with ``align_backward`` it gets one that has read that last token only.
        ``gaps`` are those before the tokens; b reads the one after each token that it reads.
        """
        projected = self.mixer.in_proj(x)
        y = self.mixer.mix(projected, cu_seqlens, readout, gaps=gaps)
        y = y + self.beta * self._backward(projected, cu_seqlens, readout, cut, gaps)
        if self.dropout_after_norm:
            return self.ffn(self.dropout(self.norm(y + at(readout, x))))
        return self.ffn(self.norm(self.dropout(y) + at(readout, x)))

    def _backward(
        self,
        projected: Tensor,
        cu_seqlens: Tensor,
        readout: Tensor | None,
        cut: Tensor | None,
        gaps: Tensor | None,
    ) -> Tensor:
        """The b of each token, or of those of ``readout``."""
        if self.align_backward:
            borders = cu_seqlens if cut is None else cut_borders(cu_seqlens, projected.shape[0], cut)
            return self.mixer.mix(projected, borders, readout, reverse=True, gaps=gaps)
        mirrored = at(readout, flip_index(cu_seqlens, projected.shape[0], cut))
        if cut is None:
            return self.mixer.mix(projected, cu_seqlens, mirrored, reverse=True, gaps=gaps)
        prefix, borders = prefixes(cu_seqlens, cut)
        gaps = None if gaps is None else at(prefix, gaps)
        return at(mirrored, self.mixer.mix(at(prefix, projected), borders, reverse=True, gaps=gaps))


class SSD4Rec(PackedSequentialRecommender):
    """Embedding (with dropout and LayerNorm if ``norm_embedding``), then bidirectional SSD layers; tied prediction.

    Row 0 of the embedding is the learned vector of a masked item: in training the batch comes with ids replaced by 0
    with probability ``mask_ratio``.
    """

    keys = (
        *PackedSequentialRecommender.keys,
        *(NUM_LAYERS, DROPOUT_PROB, D_STATE, D_CONV, EXPAND, HEADDIM, TIME_GAPS),
        Key("beta", float, "weight of the backward direction", 0.1),
        Key("norm_embedding", bool, "whether the embedding has a dropout and a LayerNorm", True),
        Key(
            "dropout_after_norm",
            bool,
            "whether the dropout is after each norm, as in the released code, or on what a layer adds",
            True,
        ),
        Key(
            "align_backward",
            bool,
            "whether each backward output is put at its own token; the released code has False",
            False,
        ),
    )
    columns: tuple[Column, ...] = (TIME,)
    causal = False

    @classmethod
    def check_config(cls, config: Configuration) -> None:
        """See :meth:`PackedSequentialRecommender.check_config`."""
        check_time_gaps(config)
        check_heads(config)

    def __init__(self, config: Configuration, dataset: Any):
        super().__init__(config, dataset, padding_idx=None)
        self.time_gaps = make_time_gaps(self, config, dataset)
        self.norm_embedding = config["norm_embedding"]
        if self.norm_embedding:
            self.dropout = Dropout(config["dropout_prob"])
            self.norm = nn.LayerNorm(self.hidden_size, eps=1e-12)
        self.layers = nn.ModuleList(BiSSDLayer(config) for _ in range(config["num_layers"]))
        self.apply(self._init_weights)

    def embed(self, tokens: Tensor, cu_seqlens: Tensor, **columns: Tensor) -> Tensor:
        """What goes into the first layer, before dropout and LayerNorm: (T, hidden_size)."""
        return self.embed_items(tokens)

    def encode(
        self,
        tokens: Tensor,
        cu_seqlens: Tensor,
        readout: Tensor | None = None,
        *,
        cut: Tensor | None = None,
        **columns: Tensor,
    ) -> Tensor:
        """See :meth:`PackedSequentialRecommender.encode`."""
        *layers, last = self.layers
        gaps = None if self.time_gaps is None else self.time_gaps(columns.pop(TIME.name), cu_seqlens)
        hidden = self.embed(tokens, cu_seqlens, **columns)
        if self.norm_embedding:
            hidden = self.norm(self.dropout(hidden))
        for layer in layers:
            hidden = layer(hidden, cu_seqlens, cut=cut, gaps=gaps)
        return last(hidden, cu_seqlens, readout, cut=cut, gaps=gaps)
