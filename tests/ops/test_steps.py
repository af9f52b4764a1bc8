"""Steps give, token by token, what the scans and the convolution give for a whole stream, and leave the same state."""

import pytest
import torch
from packed_cases import borders, randn, relative_error, slices
from scan_contract import SelectiveScanCase, SsdCase, call

from recbole_ssm import ops
from recbole_ssm.ops import causal_conv1d, causal_conv1d_step, selective_scan_step, ssd_step
from recbole_ssm.ops.backends import bound
from recbole_ssm.testing.op_cases import CASES

LENGTHS = (1, 9, 40)


STEPS: dict = {
    "mamba2_step": (ops.Mamba2Weights, {"eps": 1e-5}),
    "mamba_step": (ops.MambaWeights, {}),
    "lru_step": (ops.LruWeights, {}),
    "mixed_step": (ops.MixedWeights, {"eps": 1e-3, "eps_of_network": 1e-5}),
}


def check(case, step, dtype):
    """Every sequence alone, from the initial state on."""
    inputs, limit = case.inputs(dtype), 1e-12 if dtype == torch.float64 else 2e-6
    y, state = call(case.op, inputs, case.cu_seqlens, return_final_state=True)
    of_the_model = {name: inputs[name] for name in ("D",) if name in inputs}
    for s, part in enumerate(slices(case.lengths)):
        now = inputs["initial_state"][s : s + 1]
        for t in range(part.start, part.stop):
            x, dt, B, C = (inputs[name][t : t + 1] for name in ("x", "dt", "B", "C"))
            out, now = step(now, x, dt, inputs["A"], B, C, **of_the_model)
            assert relative_error(out[0], y[t], floor=1.0) < limit
        assert relative_error(now[0], state[s]) < limit


@pytest.mark.parametrize("skip", [False, True])
def test_ssd_step(dtype, skip):
    check(SsdCase(LENGTHS, groups=2, heads_per_group=3, skip=skip), ssd_step, dtype)


@pytest.mark.parametrize("skip", [False, True])
def test_selective_scan_step(dtype, skip):
    check(SelectiveScanCase(LENGTHS, skip=skip), selective_scan_step, dtype)


@pytest.mark.parametrize("activation", ["silu", None])
@pytest.mark.parametrize("with_bias", [False, True])
def test_causal_conv1d_step(dtype, activation, with_bias):
    """All sequences advance together, as users do who click at the same time."""
    length, n, channels, width = 12, 3, 5, 4
    x, weight = randn(n * length, channels).to(dtype), randn(channels, width, seed=1).to(dtype)
    bias = randn(channels, seed=2).to(dtype) if with_bias else None
    y = causal_conv1d(x, weight, bias, borders([length] * n), activation=activation).unflatten(0, (n, length))
    window = torch.zeros(n, channels, width - 1, dtype=dtype)
    for t in range(length):
        now = x.unflatten(0, (n, length))[:, t]
        out, window = causal_conv1d_step(window, now, weight, bias, activation=activation)
        assert relative_error(out, y[:, t]) < (1e-12 if dtype == torch.float64 else 2e-6)
    assert torch.equal(window, x.unflatten(0, (n, length))[:, 1 - width :].mT)


def test_the_step_of_the_convolution_refuses_an_unknown_activation():
    with pytest.raises(ValueError, match="activation"):
        causal_conv1d_step(torch.zeros(1, 1, 1), torch.zeros(1, 1), torch.zeros(1, 2), None, activation="gelu")


@pytest.mark.parametrize("op", STEPS)
def test_a_bound_step_reads_rows_that_lie_apart(op):
    """As a service keeps states: each session's in a row of bytes. Nobody else need have the weights."""
    kind, options = STEPS[op]
    for case in CASES[op]():
        tensors = {
            name: tensor.to(torch.complex64 if tensor.is_complex() else torch.float32)
            for name, tensor in case.tensors.items()
        }
        names = [name for name in tensors if name in case.tokens]
        apart = [torch.stack([tensors[name], torch.full_like(tensors[name], torch.nan)], 1)[:, 0] for name in names]
        with torch.no_grad():
            step = bound(op, kind(*(tensors[name].clone() for name in kind._fields)), **options)
            found = step(*apart)
        found = found if isinstance(found, tuple) else (found,)
        for actual, expected in zip(found, case.run(tensors).values(), strict=True):
            torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-5)


def test_a_bound_step_refuses_what_its_weights_do_not_fit():
    case = next(CASES["mamba2_step"]())
    tensors = {name: tensor.float() for name, tensor in case.tensors.items()}
    given = [tensors[name] for name in ("hidden", "window", "state", "more_dt")]
    with torch.no_grad():
        step = bound("mamba2_step", ops.Mamba2Weights(*(tensors[name] for name in ops.Mamba2Weights._fields)), eps=1e-5)
        for place, other in enumerate((given[0][:, 1:], given[1][1:], given[2][:, 1:], given[3][:, 1:])):
            with pytest.raises((ValueError, RuntimeError)):
                step(*given[:place], other, *given[place + 1 :])
