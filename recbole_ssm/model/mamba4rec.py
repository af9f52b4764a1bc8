"""Mamba4Rec: Mamba for efficient sequential recommendation (arXiv 2403.03900)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from recbole_ssm.layers import Dropout, FeedForward, Mamba
from recbole_ssm.layers.stepping import Step
from recbole_ssm.model.base import PackedSequentialRecommender
from recbole_ssm.model.declarations import Column, Configuration
from recbole_ssm.model.shared_keys import D_CONV, D_STATE, DROPOUT_PROB, EXPAND, NUM_LAYERS
from recbole_ssm.model.time_gaps import TIME, TIME_GAPS, check_time_gaps, make_time_gaps, n_gap_features
from recbole_ssm.ops import MixedWeights
from recbole_ssm.ops.backends import bound
from recbole_ssm.ops.once import once_a_batch
from recbole_ssm.ops.packing import at, check_each, check_ids, last_tokens


class MixerLayer(nn.Module):
    """``FeedForward(LayerNorm(dropout(mixer(x)) [+ x]))``."""

    def __init__(self, mixer: nn.Module, d_model: int, dropout: float, residual: bool):
        super().__init__()
        self.mixer: Any = mixer  # with prefill and step, where the model streams
        self.dropout = Dropout(dropout)
        self.norm = nn.LayerNorm(d_model, eps=1e-12)
        self.ffn = FeedForward(d_model, 4 * d_model, dropout)
        self.residual = residual

    def forward(self, hidden: Tensor, cu_seqlens: Tensor, readout: Tensor | None = None, **options: Tensor) -> Tensor:
        """(T, d_model) to (T, d_model), or to (R, d_model) for the tokens ``readout`` (R,); options are the mixer's."""
        mixed = self.mixer(hidden, cu_seqlens, readout, **options)
        return self._combine(mixed, at(readout, hidden))

    def prefill(self, hidden: Tensor, cu_seqlens: Tensor, **options: Tensor) -> tuple[Tensor, object]:
        """As the mixer's ``prefill``."""
        mixed, state = self.mixer.prefill(hidden, cu_seqlens, **options)
        return self._combine(mixed, hidden), state

    def step(self, hidden: Tensor, state: object = None, **options: Tensor) -> tuple[Tensor, object]:
        """As the mixer's ``step``."""
        return self.stepper()(hidden, state, **options)

    def stepper(self) -> Step:
        """:meth:`step` with the weights as they are now, for many calls; in evaluation mode."""
        mix = self.mixer.stepper() if hasattr(self.mixer, "stepper") else self.mixer.step
        ffn, residual = self.ffn, self.residual
        of_network = ffn.w_1.weight, ffn.w_1.bias, ffn.w_2.weight, ffn.w_2.bias, ffn.norm.weight, ffn.norm.bias
        weights = MixedWeights(self.norm.weight, self.norm.bias, *of_network)
        combine = bound("mixed_step", weights, eps=self.norm.eps, eps_of_network=ffn.norm.eps)

        def run(hidden: Tensor, state: object = None, **options: Tensor) -> tuple[Tensor, object]:
            mixed, state = mix(hidden, state, **options)
            return combine(mixed, hidden if residual else None), state

        return run

    def _combine(self, mixed: Tensor, hidden: Tensor) -> Tensor:
        mixed = self.dropout(mixed)
        return self.ffn(self.norm(mixed + hidden if self.residual else mixed))


class Mamba4Rec(PackedSequentialRecommender):
    """Embedding, dropout, LayerNorm, then layers of a mixer and a feed-forward network; scores by tied embeddings.

    2Mamba4Rec, Hydra4Rec, LRURec and PackedSASRec are this model with another mixer.
    """

    keys = (*PackedSequentialRecommender.keys, NUM_LAYERS, DROPOUT_PROB, D_STATE, D_CONV, EXPAND, TIME_GAPS)
    columns: tuple[Column, ...] = (TIME,)

    residual_of_one_layer = False
    """Whether a single layer, as each of several, has a residual around its mixer. Mamba4Rec's has none."""

    @classmethod
    def check_config(cls, config: Configuration) -> None:
        """See :meth:`PackedSequentialRecommender.check_config`."""
        check_time_gaps(config)

    def __init__(self, config: Configuration, dataset: Any):
        super().__init__(config, dataset)
        self.time_gaps = make_time_gaps(self, config, dataset)
        n_layers, dropout = config["num_layers"], config["dropout_prob"]
        residual = n_layers > 1 or self.residual_of_one_layer
        self.dropout = Dropout(dropout)
        self.norm = nn.LayerNorm(self.hidden_size, eps=1e-12)
        self.layers: Any = nn.ModuleList(  # of MixerLayers; torch's type says Modules
            MixerLayer(self.make_mixer(config), self.hidden_size, dropout, residual) for _ in range(n_layers)
        )
        self.apply(self._init_weights)

    def make_mixer(self, config: Configuration) -> nn.Module:
        """The token mixer of one layer."""
        return Mamba(self.hidden_size, config["d_state"], config["d_conv"], config["expand"], n_gap_features(config))

    def embed(self, tokens: Tensor, cu_seqlens: Tensor, **columns: Tensor) -> Tensor:
        """What goes into the first layer, before dropout and LayerNorm: (T, hidden_size).

        Where the model streams, each row must depend on its own token and columns alone.
        """
        return self.embed_items(tokens)

    def encode(self, tokens: Tensor, cu_seqlens: Tensor, readout: Tensor | None = None, **options: Tensor) -> Tensor:
        """See :meth:`PackedSequentialRecommender.encode`; options are the columns, and the mixers'."""
        *layers, last = self.layers
        columns = {column.name: options.pop(column.name) for column in self.columns}
        if self.time_gaps is not None:
            options["gaps"] = self.time_gaps(columns.pop(TIME.name), cu_seqlens)
        hidden = self.norm(self.dropout(self.embed(tokens, cu_seqlens, **columns)))
        for layer in layers:
            hidden = layer(hidden, cu_seqlens, **options)
        return last(hidden, cu_seqlens, readout, **options)

    @property
    def streams(self) -> bool:
        """See :attr:`PackedSequentialRecommender.streams`."""
        return self.causal and all(hasattr(layer.mixer, name) for layer in self.layers for name in ("prefill", "step"))

    @once_a_batch()
    def prefill(self, tokens: Tensor, cu_seqlens: Tensor, **columns: Tensor) -> tuple[Tensor, list[Any]]:
        """See :meth:`PackedSequentialRecommender.prefill`."""
        if not self.streams:
            return super().prefill(tokens, cu_seqlens, **columns)
        self.check_histories(tokens, cu_seqlens)
        options, states = {}, []
        last = last_tokens(cu_seqlens)
        if self.time_gaps is not None:
            time = columns.pop(TIME.name)
            options["gaps"] = self.time_gaps(time, cu_seqlens)
            states.append(time[last])
        hidden = self.norm(self.dropout(self.embed(tokens, cu_seqlens, **columns)))
        for layer in self.layers:
            hidden, state = layer.prefill(hidden, cu_seqlens, **options)
            states.append(state)
        return hidden[last], states

    def step(self, items: Tensor, state: list[Any] | None = None, **columns: Tensor) -> tuple[Tensor, list[Any]]:
        """See :meth:`PackedSequentialRecommender.step`."""
        if not self.streams:
            return super().step(items, state, **columns)
        return self.stepper()(items, state, **columns)

    def stepper(self) -> Step:
        """See :meth:`PackedSequentialRecommender.stepper`."""
        if not self.streams:
            return super().stepper()
        layers = [layer.stepper() for layer in self.layers]

        def run(items: Tensor, state: list[Any] | None = None, **columns: Tensor) -> tuple[Tensor, list[Any]]:
            check_each(items=(items, (items.numel(),)))
            check_ids(self.ITEM_ID, items, 0, self.n_items)
            alone = torch.arange(items.shape[0] + 1, dtype=torch.int32, device=items.device)
            options, after, states = {}, [], iter(state or [])
            if self.time_gaps is not None:
                time = columns.pop(TIME.name)
                options["gaps"] = self.time_gaps.of(time - next(states, time))
                after.append(time)
            hidden = self.norm(self.embed(items, alone, **columns))
            for layer in layers:
                hidden, remembered = layer(hidden, next(states, None), **options)
                after.append(remembered)
            return hidden, after

        return run
