"""The kernels on a GPU: the contract of backends in each number type, and CUDA graphs."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from recbole_ssm import ops
from recbole_ssm.ops import use_backend
from recbole_ssm.ops.backends.gpu_packages import GPU_PACKAGES
from recbole_ssm.ops.backends.pytorch.backend import PYTORCH
from recbole_ssm.ops.backends.triton.backend import TRITON
from recbole_ssm.ops.packing import cumulative_lengths
from recbole_ssm.system.cuda_graphs import recorded
from recbole_ssm.testing import check_backend

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU here"),
]

BACKENDS = (TRITON, GPU_PACKAGES, PYTORCH)
DEVICE = "cuda"
HEADS, HEADDIM, STATES, TOKENS = 4, 16, 32, 300


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize(
    ("backend", "op"), [pytest.param(each, op, id=f"{each.name} {op}") for each in BACKENDS for op in each.kernels]
)
def test_the_contract_of_backends(backend, op, dtype):
    if backend.missing() is not None:
        pytest.skip(backend.missing())
    check_backend(replace(backend, kernels={op: backend.kernels[op]}), dtype=dtype, device="cuda")


def normal(*shape, seed=0):
    return torch.randn(*shape, device=DEVICE, generator=torch.Generator(DEVICE).manual_seed(seed))


def call(op, leaves, others):
    """The op on tensors that get gradients, and on others."""
    options = {"ssd": {}, "selective_scan": {}, "gated_norm": {"eps": 1e-5, "norm_before_gate": False}}
    function = getattr(ops, NAMES.get(op, op))
    return function(*leaves, *others, **options.get(op, {}))


NAMES = {
    "attention": "causal_attention",
    "conv1d": "causal_conv1d",
    "cross_entropy": "linear_cross_entropy",
    "gated_norm": "gated_rms_norm",
}


def inputs(op):
    """Tensors that get gradients, and the others, of an op."""
    borders = cumulative_lengths(torch.tensor([1, 70, 200, 29])).to(DEVICE)
    ones = torch.ones(64, 16, device=DEVICE)
    if op == "ssd":
        leaves = [normal(TOKENS, HEADS, HEADDIM), F.softplus(normal(TOKENS, HEADS) - 4), -ones[0, :HEADS]]
        return [*leaves, normal(TOKENS, 1, STATES), normal(TOKENS, 1, STATES)], [borders]
    if op == "selective_scan":
        leaves = [normal(TOKENS, 64), F.softplus(normal(TOKENS, 64) - 4), -ones]
        return [*leaves, normal(TOKENS, 16), normal(TOKENS, 16)], [borders]
    if op == "conv1d":
        return [normal(TOKENS, 64), normal(64, 4), normal(64)], [borders]
    if op == "gated_norm":
        return [normal(TOKENS, 64), normal(TOKENS, 64), normal(64)], []
    if op == "linear_recurrence":
        return [
            torch.complex(normal(TOKENS, 8), normal(TOKENS, 8, seed=1)),
            0.9 * torch.polar(ones[:8, 0], ones[:8, 1]),
        ], [borders]
    if op == "cross_entropy":
        return [normal(TOKENS, 32), normal(90, 32)], [torch.arange(TOKENS, device=DEVICE) % 90]
    if op == "attention":
        return [normal(TOKENS, HEADS, HEADDIM, seed=seed) for seed in range(3)], [borders]
    raise NotImplementedError(f"give inputs of {op} here")


@pytest.mark.parametrize("op", TRITON.kernels)
def test_kernels_can_be_captured_in_a_cuda_graph(op):
    """Forward and backward; a replay on other inputs gives what a call gives."""
    if TRITON.missing() is not None:
        pytest.skip(TRITON.missing())
    tensors, others = inputs(op)
    static = [tensor.clone().requires_grad_() for tensor in tensors]
    found = []

    def both_ways(leaves):
        with use_backend(TRITON):
            y = call(op, leaves, others)
            return [y, *torch.autograd.grad(y, leaves, torch.ones_like(y))]

    replay = recorded(lambda: found.append(both_ways(static)), torch.device(DEVICE))
    fresh = [tensor * 0.5 for tensor in tensors]
    with torch.no_grad():
        for leaf, value in zip(static, fresh, strict=True):
            leaf.copy_(value)
    replay()
    expected = both_ways([tensor.requires_grad_() for tensor in fresh])
    for captured, wanted in zip(found[-1], expected, strict=True):
        torch.testing.assert_close(captured, wanted)


@pytest.mark.parametrize("size", [32, 64, 128])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_attention_of_heads_of_any_width(dtype, size):
    """More than 32 numbers in half precision: a block of 64 tokens."""
    borders = cumulative_lengths(torch.tensor([1, 70, 200, 29])).to(DEVICE)
    tensors = [normal(TOKENS, HEADS, size, seed=seed).to(dtype).requires_grad_() for seed in range(4)]
    *leaves, upstream = tensors
    found = []
    for backend, kind in ((TRITON, dtype), (PYTORCH, torch.float64)):
        if backend.missing() is not None:
            pytest.skip(backend.missing())
        with use_backend(backend):
            y = ops.causal_attention(*(leaf.to(kind) for leaf in leaves), borders)
            found.append([y, *torch.autograd.grad(y, leaves, upstream.detach().to(kind))])
    tolerance = 1e-4 if dtype == torch.float32 else 5e-2
    for value, wanted in zip(*found, strict=True):
        torch.testing.assert_close(value.double(), wanted.double(), rtol=tolerance, atol=tolerance)


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="there is one GPU here")
@pytest.mark.parametrize("op", TRITON.kernels)
def test_tensors_may_be_on_another_gpu_than_the_current_one(op):
    tensors, others = inputs(op)
    found = []
    for device in ("cuda:0", "cuda:1"):
        leaves = [tensor.to(device).requires_grad_() for tensor in tensors]
        with use_backend(TRITON):
            y = call(op, leaves, [tensor.to(device) for tensor in others])
        found.append([y, *torch.autograd.grad(y, leaves, torch.ones_like(y))])
    for value, wanted in zip(*found, strict=True):
        torch.testing.assert_close(value.cpu(), wanted.cpu())
