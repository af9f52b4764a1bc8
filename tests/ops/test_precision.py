"""Half precision and autocast: outputs and gradients within 1e-2, states and sums in float32."""

from copy import deepcopy
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from packed_cases import borders, randn, relative_error
from scan_contract import SelectiveScanCase, SsdCase, call, evaluate

from recbole_ssm.layers import FeedForward
from recbole_ssm.layers.norm import GatedRMSNorm
from recbole_ssm.ops import causal_conv1d, centred_conv1d, linear_cross_entropy, use_backend
from recbole_ssm.ops.backends import choose
from recbole_ssm.ops.backends.gpu_packages import GPU_PACKAGES
from recbole_ssm.ops.convolution.reference import depthwise_conv1d

BOUND = 1e-2

cases = pytest.mark.parametrize(
    "case",
    [SsdCase((7, 1, 70), groups=2, heads_per_group=2), SelectiveScanCase((7, 1, 70), reverse=True)],
    ids=["ssd", "selective_scan"],
)
backends = pytest.mark.parametrize("backend", ["auto", "torch"])


@cases
@backends
def test_scans_in_bfloat16(case, backend):
    """Against the float64 recurrence of the same rounded numbers: what is left is the rounding of the results."""
    inputs = case.inputs(torch.bfloat16)
    with use_backend(backend):
        found = evaluate(case.op, inputs, case.cu_seqlens, reverse=case.reverse, return_final_state=True)
    exact = {name: tensor.double() for name, tensor in inputs.items()}
    expected = evaluate(case.recurrence, exact, case.cu_seqlens, reverse=case.reverse)
    assert found.pop("state").dtype == torch.float32
    assert {value.dtype for value in found.values()} == {torch.bfloat16}
    assert {
        name: error for name, value in found.items() if (error := relative_error(value, expected[name])) > BOUND
    } == {}


@cases
@backends
def test_scans_of_mixed_types_under_autocast(case, backend):
    """As in a model: x, B and C come from a product of matrices, dt and A do not."""
    inputs = case.inputs(torch.float32)
    inputs |= {name: inputs[name].bfloat16() for name in ("x", "B", "C")}
    with use_backend(backend), torch.autocast("cpu"):
        y = call(case.op, inputs, case.cu_seqlens, reverse=case.reverse)
    assert y.dtype == torch.bfloat16
    exact = {name: tensor.double() for name, tensor in inputs.items()}
    assert relative_error(y, call(case.recurrence, exact, case.cu_seqlens, reverse=case.reverse)[0]) < BOUND


@cases
@backends
def test_autocast_does_not_touch_float32(case, backend):
    """Recurrences of float32 tensors are the same to the last bit with autocast and without."""
    inputs = case.inputs(torch.float32)
    with use_backend(backend):
        plain = call(case.op, inputs, case.cu_seqlens)
        with torch.autocast("cpu"):
            assert torch.equal(call(case.op, inputs, case.cu_seqlens), plain)


@backends
def test_the_convolution_in_bfloat16(backend):
    lengths = (5, 1, 12)
    x, weight, bias = randn(18, 8).bfloat16(), randn(8, 4, seed=1), randn(8, seed=2)
    with use_backend(backend), torch.autocast("cpu"):
        y = causal_conv1d(x, weight.float(), bias.float(), borders(lengths))
    assert y.dtype == torch.bfloat16
    assert relative_error(y, F.silu(depthwise_conv1d(x.double(), weight, bias, borders(lengths), ahead=0))) < BOUND


@pytest.mark.parametrize("op", ["conv1d", "ssd"])
def test_half_precision_that_a_gpu_kernel_does_not_take(op):
    """Seven taps, or a scan with states: the backend is chosen, and PyTorch computes, as if it had not been."""
    case = SsdCase((7, 1, 70), groups=2, heads_per_group=2)
    x, weight, bias = randn(78, 8).bfloat16(), randn(8, 7, seed=1), randn(8, seed=2)

    def compute() -> list[torch.Tensor]:
        if op == "conv1d":
            return [centred_conv1d(x, weight, bias, case.cu_seqlens)]
        inputs = case.inputs(torch.bfloat16)
        return list(evaluate(case.op, inputs, case.cu_seqlens, return_final_state=True).values())

    with use_backend("torch"):
        expected = compute()
    anywhere = replace(GPU_PACKAGES, takes=lambda tensor: True, missing=lambda: None)
    with use_backend(anywhere):
        assert choose(op, x) == "mamba_ssm"
        found = compute()
    assert [tensor.dtype for tensor in found] == [tensor.dtype for tensor in expected]
    assert max(relative_error(one, other) for one, other in zip(found, expected, strict=True)) < BOUND


@cases
@backends
def test_gradients_taken_under_autocast_are_the_same(case, backend):
    inputs = {name: tensor for name, tensor in case.inputs(torch.float32).items() if name != "initial_state"}

    def gradients(within: bool) -> list[torch.Tensor]:
        leaves = {name: tensor.clone().requires_grad_() for name, tensor in inputs.items()}
        with use_backend(backend), torch.autocast("cpu"):
            y = call(case.op, leaves, case.cu_seqlens).sum()
            if within:
                y.backward()
        if not within:
            y.backward()
        return [leaf.grad for leaf in leaves.values() if leaf.grad is not None]

    for one, other in zip(gradients(True), gradients(False), strict=True):
        assert torch.equal(one, other)


@backends
@pytest.mark.parametrize("how", ["autocast", "half precision"])
def test_cross_entropy(how, backend):
    """The loss comes in float32, gradients in the type of what they belong to."""
    hidden, weight = randn(50, 16), randn(700, 16, seed=1)
    target = torch.arange(50) * 13
    target[3] = -100
    exact = [tensor.clone().requires_grad_() for tensor in (hidden, weight)]
    expected = F.cross_entropy(exact[0] @ exact[1].T, target)
    expected.backward()
    kind = torch.float32 if how == "autocast" else torch.bfloat16
    leaves = [tensor.to(kind).requires_grad_() for tensor in (hidden, weight)]
    with use_backend(backend), torch.autocast("cpu", enabled=how == "autocast"):
        loss = linear_cross_entropy(*leaves, target)
    loss.backward()
    assert loss.dtype == torch.float32
    assert relative_error(loss, expected) < BOUND
    for leaf, right in zip(leaves, exact, strict=True):
        assert leaf.grad.dtype == kind
        assert relative_error(leaf.grad, right.grad) < 2 * BOUND


@backends
@pytest.mark.parametrize("layer, inputs", [(FeedForward(16, 64, 0.0), 1), (GatedRMSNorm(16), 2)], ids=["ffn", "norm"])
def test_layers_under_autocast(layer, inputs, backend):
    """As in a model: what comes in is half precision, and the parameters are not."""
    halves = [randn(9, 16, seed=seed).bfloat16() for seed in range(inputs)]
    exact = [half.double().requires_grad_() for half in halves]
    expected = deepcopy(layer).double()(*exact)
    weights = randn(9, 16, seed=7)
    (weights * expected).sum().backward()
    leaves = [half.requires_grad_() for half in halves]
    with use_backend(backend), torch.autocast("cpu"):
        y = layer(*leaves)
    (weights * y).sum().backward()
    assert relative_error(y, expected) < BOUND
    for leaf, right in zip(leaves, exact, strict=True):
        assert leaf.grad.dtype == torch.bfloat16
        assert relative_error(leaf.grad, right.grad) < 2 * BOUND
