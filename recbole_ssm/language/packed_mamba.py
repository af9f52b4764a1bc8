"""Mamba and Mamba-2 language models of transformers on packed streams, with this package's ops.

transformers pads, restarts its scan where several tokens follow a kept state, and on a CPU computes gradients in a time
that grows with the square of the length. Here its modules keep the weights and are called, adapters included, and the
ops between them are :mod:`recbole_ssm.ops`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recbole_ssm.ops import (
    causal_conv1d,
    causal_conv1d_step,
    causal_conv1d_window,
    selective_scan,
    selective_scan_step,
    ssd,
    ssd_step,
)
from recbole_ssm.ops.linear import linear
from recbole_ssm.ops.mixer_steps import MambaWeights, mamba_step
from recbole_ssm.ops.once import once
from recbole_ssm.ops.packing import at, sequence_index

State = list[tuple[Tensor, Tensor]]
"""Of each layer the last inputs of its convolution (S, C, W - 1), and the states of its recurrence (S, ...)."""


def is_packable(model: Any) -> bool:
    """Whether a causal language model of transformers is one that :class:`PackedMamba` computes."""
    settings = model.config
    return settings.model_type in _MIXERS and settings.hidden_act in ("silu", "swish")


class PackedMamba:
    """The backbone of a ``MambaForCausalLM`` or ``Mamba2ForCausalLM``. It has no weights of its own.

    Args:
        model: the model of transformers, with or without LoRA.
    """

    def __init__(self, model: Any):
        backbone = model.backbone
        self._embeddings, self._norm, self._layers = backbone.embeddings, backbone.norm_f, list(backbone.layers)
        mixer = _MIXERS[model.config.model_type]
        self._mixers = [mixer(layer.mixer) for layer in self._layers]
        self._in_float32 = bool(model.config.residual_in_fp32)

    def forward(self, tokens: Tensor, cu_seqlens: Tensor, readout: Tensor | None = None) -> Tensor:
        """Representations after the last norm.

        Args:
            tokens: (T,) int64.
            cu_seqlens: (S + 1,) borders of the sequences.
            readout: (R,) int64, the tokens that are wanted; None for all.

        Returns:
            (T, width), or (R, width).
        """
        return self._read(tokens, cu_seqlens, readout, None, keep=False)[0]

    def prefill(self, tokens: Tensor, cu_seqlens: Tensor, readout: Tensor | None = None) -> tuple[Tensor, State]:
        """As :meth:`forward`, and the state after each sequence."""
        return self._read(tokens, cu_seqlens, readout, None, keep=True)

    def extend(
        self, tokens: Tensor, cu_seqlens: Tensor, state: State, readout: Tensor | None = None
    ) -> tuple[Tensor, State]:
        """Go on with any number of tokens after kept states.

        Args:
            tokens: (T,) the tokens that come next.
            cu_seqlens: (S + 1,) their borders. A sequence may get none.
            state: after the tokens before.
            readout: (R,) int64, the tokens that are wanted; None for all.

        Returns:
            (T, width) or (R, width), and the state after these tokens.
        """
        return self._read(tokens, cu_seqlens, readout, state, keep=True)

    def step(self, tokens: Tensor, state: State) -> tuple[Tensor, State]:
        """Go on with one token (R,) after each of R kept states.

        Args:
            tokens: (R,) the tokens that come next.
            state: after the tokens before.

        Returns:
            (R, width), and the state after these tokens.
        """
        hidden, after = self._embeddings(tokens), []
        for layer, mixer, before in zip(self._layers, self._mixers, state, strict=True):
            mixed, kept = mixer.step(self._normed(layer, hidden), before)
            hidden = self._residual(hidden) + mixed
            after.append(kept)
        return self._norm(hidden), after

    def _read(
        self, tokens: Tensor, cu_seqlens: Tensor, readout: Tensor | None, state: State | None, *, keep: bool
    ) -> tuple[Tensor, State]:
        hidden, after = self._embeddings(tokens), []
        for number, (layer, mixer) in enumerate(zip(self._layers, self._mixers, strict=True)):
            wanted = readout if number == len(self._layers) - 1 else None
            before = None if state is None else state[number]
            mixed, kept = mixer.read(self._normed(layer, hidden), cu_seqlens, wanted, before, keep=keep)
            hidden = self._residual(at(wanted, hidden)) + mixed
            after.append(kept)
        return self._norm(hidden), after

    def _normed(self, layer: Any, hidden: Tensor) -> Tensor:
        return layer.norm(hidden.to(layer.norm.weight.dtype))

    def _residual(self, hidden: Tensor) -> Tensor:
        return hidden.float() if self._in_float32 and hidden.dtype != torch.float64 else hidden


class _Mixer:
    """What both mixers share: the convolution with a kept window, around :meth:`scan`."""

    def __init__(self, mixer: nn.Module):
        self.m: Any = mixer

    @property
    def taps(self) -> int:
        return self.m.conv_kernel_size

    def split(self, projected: Tensor) -> Sequence[Tensor]:
        """What goes into the convolution, and the others of the input projection."""
        raise NotImplementedError

    def selected(self, x: Tensor, others: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """What the recurrence takes: inputs, dt, A, B, C."""
        raise NotImplementedError

    def out(self, y: Tensor, others: Sequence[Tensor]) -> Tensor:
        """What follows the recurrence, of rows (R, ...)."""
        raise NotImplementedError

    scan: Any
    scan_step: Any

    def read(
        self,
        hidden: Tensor,
        cu_seqlens: Tensor,
        readout: Tensor | None,
        state: tuple[Tensor, Tensor] | None,
        *,
        keep: bool,
    ) -> tuple[Tensor, Any]:
        x, *others = self.split(linear(self.m.in_proj, hidden))
        window, states = (None, None) if state is None else state
        weight, bias = self.m.conv1d.weight.squeeze(1), self.m.conv1d.bias
        stream, borders, own = x, cu_seqlens, None
        if window is not None:
            own, places, borders = _behind_windows(cu_seqlens, x.shape[0], self.taps - 1)
            stream = x.new_empty(len(own) + len(places), x.shape[1]).index_copy(0, own, x)
            stream = stream.index_copy(0, places, window.mT.reshape(-1, x.shape[1]).to(x.dtype))
        kept = causal_conv1d_window(stream, borders, self.taps) if keep else None
        x = at(own, causal_conv1d(stream, weight, bias, borders))
        found = self.scan(
            *self.selected(x, others), cu_seqlens, D=self.m.D, initial_state=states, return_final_state=keep
        )
        y, states = found if keep else (found, None)
        return self.out(at(readout, y), [at(readout, each) for each in others]), (kept, states)

    def step(self, hidden: Tensor, state: tuple[Tensor, Tensor]) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        x, *others = self.split(self.m.in_proj(hidden))
        window, states = state
        x, window = causal_conv1d_step(window, x, self.m.conv1d.weight.squeeze(1), self.m.conv1d.bias)
        y, states = self.scan_step(states, *self.selected(x, others), D=self.m.D)
        return self.out(y, others), (window, states)


class _Mamba1(_Mixer):
    scan, scan_step = staticmethod(selective_scan), staticmethod(selective_scan_step)

    def split(self, projected: Tensor) -> Sequence[Tensor]:
        return projected.chunk(2, dim=-1)

    def selected(self, x: Tensor, others: Sequence[Tensor]) -> tuple[Tensor, ...]:
        sizes = [self.m.time_step_rank, self.m.ssm_state_size, self.m.ssm_state_size]
        dt, B, C = self.m.x_proj(x).split(sizes, dim=-1)
        return x, F.softplus(self.m.dt_proj(dt)), -torch.exp(self.m.A_log), B, C

    def out(self, y: Tensor, others: Sequence[Tensor]) -> Tensor:
        return linear(self.m.out_proj, y * F.silu(others[0]))

    def step(self, hidden: Tensor, state: tuple[Tensor, Tensor]) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        weights = self._weights()
        if weights is None:
            return super().step(hidden, state)
        out, window, states = mamba_step(hidden, *state, None, weights)
        return out, (window, states)

    def _weights(self) -> MambaWeights | None:
        """Those of a mixer that is as it was made; None where it has adapters, or other biases than usual."""
        m = self.m
        plain = all(type(each) is nn.Linear for each in (m.in_proj, m.x_proj, m.dt_proj, m.out_proj))
        if not plain or m.in_proj.bias is not None or m.out_proj.bias is not None or m.conv1d.bias is None:
            return None
        convolution, step_size = (m.conv1d.weight.squeeze(1), m.conv1d.bias), (m.dt_proj.weight, m.dt_proj.bias)
        return MambaWeights(
            m.in_proj.weight, *convolution, m.x_proj.weight, *step_size, m.A_log, m.D, m.out_proj.weight
        )


class _Mamba2(_Mixer):
    scan, scan_step = staticmethod(ssd), staticmethod(ssd_step)

    def split(self, projected: Tensor) -> Sequence[Tensor]:
        inner, channels = self.m.intermediate_size, self.m.conv1d.weight.shape[0]
        z, x, dt = projected.split([inner, channels, self.m.num_heads], dim=-1)
        return x, z, dt

    def selected(self, x: Tensor, others: Sequence[Tensor]) -> tuple[Tensor, ...]:
        groups = self.m.n_groups, self.m.ssm_state_size
        x, B, C = x.split([self.m.intermediate_size, *[groups[0] * groups[1]] * 2], dim=-1)
        dt = F.softplus(others[1] + self.m.dt_bias).clamp(*self.m.time_step_limit)
        A = -torch.exp(self.m.A_log)
        return x.unflatten(-1, (self.m.num_heads, -1)), dt, A, B.unflatten(-1, groups), C.unflatten(-1, groups)

    def out(self, y: Tensor, others: Sequence[Tensor]) -> Tensor:
        return linear(self.m.out_proj, self.m.norm(y.flatten(-2), others[0]).to(others[0].dtype))


_MIXERS: dict[str, type[_Mixer]] = {"mamba": _Mamba1, "mamba2": _Mamba2}


@once
def _behind_windows(cu_seqlens: Tensor, n_tokens: int, width: int) -> tuple[Tensor, Tensor, Tensor]:
    """A stream in which kept inputs stand in front of each sequence.

    Args:
        cu_seqlens: (S + 1,) borders without them.
        n_tokens: T.
        width: how many stand in front of each.

    Returns:
        The places of the tokens (T,), those of the kept inputs (S * width,), and the borders (S + 1,) of both.
    """
    device, number = cu_seqlens.device, torch.arange(len(cu_seqlens), device=cu_seqlens.device)
    own = torch.arange(n_tokens, device=device) + width * (sequence_index(cu_seqlens, n_tokens).long() + 1)
    borders = (cu_seqlens + width * number).to(cu_seqlens.dtype)
    kept = (borders[:-1, None] + torch.arange(width, device=device)).flatten()
    return own, kept, borders
