"""The kernels on a GPU: the contract of backends in each number type, and CUDA graphs."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from recbole_ssm.ops.backends.gpu_packages import GPU_PACKAGES
from recbole_ssm.ops.backends.pytorch.backend import PYTORCH
from recbole_ssm.ops.backends.triton.backend import TRITON
from recbole_ssm.ops.packing import cumulative_lengths
from recbole_ssm.testing import check_backend

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU here"),
]

BACKENDS = (TRITON, GPU_PACKAGES, PYTORCH)
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
    return torch.randn(*shape, device="cuda", generator=torch.Generator("cuda").manual_seed(seed))


def inputs(op):
    """Tensors that get gradients, and the other arguments, of a kernel."""
    borders = cumulative_lengths(torch.tensor([1, 70, 200, 29])).cuda()
    if op == "ssd":
        tensors = [normal(TOKENS, HEADS, HEADDIM), F.softplus(normal(TOKENS, HEADS) - 4), -torch.ones(HEADS).cuda()]
        tensors += [normal(TOKENS, 1, STATES), normal(TOKENS, 1, STATES)]
        more = {"D": None, "reverse": False, "initial_state": None, "return_final_state": False}
        return tensors, [borders], more
    if op == "selective_scan":
        tensors = [normal(TOKENS, 64), F.softplus(normal(TOKENS, 64) - 4), -torch.ones(64, 16).cuda()]
        tensors += [normal(TOKENS, 16), normal(TOKENS, 16)]
        more = {"D": None, "reverse": False, "initial_state": None, "return_final_state": False}
        return tensors, [borders], more
    if op == "conv1d":
        return [normal(TOKENS, 64), normal(64, 4), normal(64)], [borders], {"ahead": 0, "activation": "silu"}
    if op == "gated_norm":
        return [normal(TOKENS, 64), normal(TOKENS, 64), normal(64)], [], {"eps": 1e-5, "norm_before_gate": False}
    pytest.skip(f"no inputs for {op} here")


@pytest.mark.parametrize("op", TRITON.kernels)
def test_kernels_can_be_captured_in_a_cuda_graph(op):
    """Forward and backward; a replay on other inputs gives what a call gives."""
    if TRITON.missing() is not None:
        pytest.skip(TRITON.missing())
    tensors, others, options = inputs(op)
    static = [tensor.clone().requires_grad_() for tensor in tensors]

    def both_ways(leaves):
        y = TRITON.kernels[op].run(*leaves, *others, **options)
        return y, *torch.autograd.grad(y, leaves, torch.ones_like(y))

    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(2):
            both_ways(static)
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = both_ways(static)
    fresh = [tensor * 0.5 for tensor in tensors]
    with torch.no_grad():
        for leaf, value in zip(static, fresh, strict=True):
            leaf.copy_(value)
    graph.replay()
    torch.cuda.synchronize()
    expected = both_ways([tensor.requires_grad_() for tensor in fresh])
    for found, wanted in zip(captured, expected, strict=True):
        torch.testing.assert_close(found, wanted)
