"""This package's Triton kernels, run by Triton's interpreter, against their formulas in float64.

Run in a process of its own by ``test_triton_kernels.py``: Triton reads TRITON_INTERPRET when it is imported. Blocks are
made small, so that short sequences have several. No kernel may touch memory beyond its tensors.
"""

from collections.abc import Callable
from functools import partial

import scan_contract as contract
import torch
from packed_cases import borders, randn, relative_error
from torch import Tensor
from triton_cross_entropy import check_cross_entropy
from triton_watched import launches, watched
from triton_watched_faults import check_faults_are_found

from recbole_ssm import ops
from recbole_ssm.ops import use_backend
from recbole_ssm.ops.attention import reference as attention
from recbole_ssm.ops.backends import choose
from recbole_ssm.ops.backends.triton import conv1d, gated_norm, linear_recurrence, selective_scan, ssd
from recbole_ssm.ops.convolution import depthwise_conv1d
from recbole_ssm.ops.convolution import reference as convolution
from recbole_ssm.ops.norm import reference as norm
from recbole_ssm.ops.recurrence import reference as recurrence
from recbole_ssm.testing.buffers import unwritten_memory_is_nan

LENGTHS = (5, 0, 1, 3)
TOLERANCE = {torch.float32: 1e-5, torch.float16: 1e-2, torch.complex64: 1e-5, torch.bfloat16: 2e-2}


def cut_out(tensor: Tensor) -> Tensor:
    """The same values as a slice of a wider tensor that has NaN elsewhere."""
    return torch.cat([torch.full_like(tensor, torch.nan), tensor], -1)[..., tensor.shape[-1] :]


def evaluate(run: Callable[..., Tensor], tensors: list[Tensor]) -> list[Tensor]:
    """The output, and the gradients of all tensors under a fixed random one."""
    leaves = [tensor.detach().requires_grad_() for tensor in tensors]
    y = run(*leaves)
    read = torch.view_as_real(y) if y.is_complex() else y
    return [y.detach(), *torch.autograd.grad((read * randn(*read.shape, seed=9).to(read.dtype)).sum(), leaves)]


def check(run: Callable[..., Tensor], formula: Callable[..., Tensor], *tensors: Tensor) -> None:
    """The first output in the type of the first input; all gradients."""
    exact = [tensor.to(torch.complex128 if tensor.is_complex() else torch.float64) for tensor in tensors]
    with unwritten_memory_is_nan():
        found = evaluate(run, [cut_out(tensor) for tensor in tensors])
    assert found[0].dtype == tensors[0].dtype
    for actual, expected in zip(found, evaluate(formula, exact), strict=True):
        assert relative_error(actual, expected) < TOLERANCE[tensors[0].dtype]


def check_conv1d() -> None:
    """To either side; more taps than tokens; with and without SiLU and bias; two blocks of tokens and of channels."""
    conv1d._TOKENS, conv1d._CHANNELS, conv1d._PROGRAMS = 4, 2, 2
    cu_seqlens = borders(LENGTHS)
    cases = ((4, 0, "silu", torch.float32), (4, 3, None, torch.float32), (7, 3, "silu", torch.bfloat16))
    for width, ahead, activation, dtype in cases:
        run = partial(depthwise_conv1d, cu_seqlens=cu_seqlens, ahead=ahead, activation=activation)

        def formula(*tensors: Tensor, ahead: int = ahead, activation: str | None = activation) -> Tensor:
            y = convolution.depthwise_conv1d(*tensors, cu_seqlens, ahead=ahead)
            return y * torch.sigmoid(y) if activation else y

        tensors = [randn(9, 3), randn(3, width, seed=1), randn(3, seed=2)]
        check(run, formula, *(tensor.to(dtype) for tensor in tensors))
    x, weight = randn(9, 3).float(), randn(3, 2, seed=1).float()
    run = partial(depthwise_conv1d, bias=None, cu_seqlens=cu_seqlens, ahead=0, activation=None)
    check(run, partial(convolution.depthwise_conv1d, bias=None, cu_seqlens=cu_seqlens, ahead=0), x, weight)
    none = evaluate(partial(run, cu_seqlens=borders((0,))), [x[:0], weight])
    assert [tensor.shape for tensor in none] == [(0, 3), (0, 3), (3, 2)]
    assert not none[2].any()


def check_gated_norm() -> None:
    """Both orders; rows that fill a block, and that do not; several blocks for a program."""
    gated_norm._ELEMENTS, gated_norm._PROGRAMS = 16, 2
    for before, dtype in ((False, torch.float32), (True, torch.float32), (True, torch.bfloat16)):
        options = {"eps": 1e-5, "norm_before_gate": before}
        tensors = [randn(9, 5).to(dtype), randn(9, 5, seed=1).to(dtype), randn(5, seed=2).to(dtype)]
        check(partial(ops.gated_rms_norm, **options), partial(norm.gated_rms_norm, **options), *tensors)
        none = evaluate(partial(ops.gated_rms_norm, **options), [tensors[0][:0], tensors[1][:0], tensors[2]])
        assert [tensor.shape for tensor in none] == [(0, 5), (0, 5), (0, 5), (5,)]


def check_linear_recurrence() -> None:
    """Sequences that end within what is loaded at a time, and after it; a decay of none."""
    linear_recurrence._TOKENS, linear_recurrence._CHANNELS = 2, 2
    cu_seqlens = borders(LENGTHS)
    x, decay = torch.complex(randn(9, 3), randn(9, 3, seed=1)), torch.polar(randn(3).abs().clamp(max=1), randn(3))
    run, formula = (partial(op, cu_seqlens=cu_seqlens) for op in (ops.linear_recurrence, recurrence.linear_recurrence))
    check(run, formula, x.to(torch.complex64), decay.to(torch.complex64))


def check_selective_scan() -> None:
    """Both ways, with and without D and states; several runs of tokens, blocks of channels, sequences of a program."""
    selective_scan._TOKENS, selective_scan._STATES, selective_scan._PROGRAMS = 4, 16, 2
    for options in ({}, {"reverse": True, "skip": False}, {"initial": False, "channels": 5, "d_state": 5}):
        case = contract.SelectiveScanCase((7, 0, 1, 9), **({"channels": 3, "d_state": 3} | options))
        contract.check_recurrence(case, torch.float32)
        if "reverse" in options:
            contract.check_recurrence_without_states(case, torch.float32)
    extreme = contract.SelectiveScanCase((9, 4), extreme=True)
    contract.check_recurrence(extreme, torch.float32, contract.EXTREME_TOLERANCE)
    run = partial(ops.selective_scan, cu_seqlens=borders(LENGTHS))
    formula = partial(contract.SelectiveScanCase.recurrence, cu_seqlens=borders(LENGTHS))
    shapes = ((9, 3), (9, 3), (3, 2), (9, 2), (9, 2))
    u, dt, A, B, C = (randn(*shape, seed=k).bfloat16() for k, shape in enumerate(shapes))
    check(run, lambda *tensors: formula(*tensors)[0], u, dt.abs(), -A.abs(), B, C)
    none = evaluate(partial(run, cu_seqlens=borders((0,))), [u[:0], dt[:0], A, B[:0], C[:0]])
    assert [len(tensor) for tensor in none] == [0, 0, 0, 3, 0, 0]
    assert not none[3].any()


def check_ssd() -> None:
    """As the scan of Mamba, and no tokens at all."""
    ssd._chunk_length = lambda *_: 16  # several to a sequence of few tokens
    groups = {"groups": 2, "heads_per_group": 2, "headdim": 17, "d_state": 40}
    for lengths, options in (
        ((0, 7, 1, 40), {"d_state": 3}),
        ((7, 1, 40, 0), {"d_state": 3, "reverse": True, "skip": False}),
        ((3, 20, 1, 0, 1), {"initial": False, **groups}),
    ):
        case = contract.SsdCase(lengths, **options)
        contract.check_recurrence(case, torch.float32)
        if "reverse" in options:
            contract.check_recurrence_without_states(case, torch.float32)
    extreme = contract.SsdCase((9, 34), extreme=True)
    contract.check_recurrence(extreme, torch.float32, contract.EXTREME_TOLERANCE)
    contract.check_recurrence_without_states(extreme, torch.float32, contract.EXTREME_TOLERANCE)
    nothing = contract.SsdCase((0, 0)).inputs(torch.float32)
    y, states = contract.call(ops.ssd, nothing, torch.tensor([0, 0, 0]), return_final_state=True)
    assert y.shape == (0, 1, 4)
    assert torch.equal(states, nothing["initial_state"])


def check_ssd_is_compiled_once() -> None:
    """Two heads, and each number of chunks: no kernel gets tensors of another alignment."""
    ssd._chunk_length = lambda *_: 16
    with launches() as found:
        for n_chunks in range(1, 5):
            case = contract.SsdCase((16 * n_chunks,), headdim=4, d_state=4, heads_per_group=2)
            contract.check_recurrence(case, torch.float32)
    assert {name for name, _ in found} == {"prepare", "carry", "outputs", "gradients"}
    assert len(set(found)) == 4


def check_attention() -> None:
    """Sequences within a block, and over several of them; heads that are no power of two."""
    for lengths, size, dtype in (((7, 1, 0, 40, 9), 5, torch.float32), ((31, 33, 3), 8, torch.float16)):
        cu_seqlens = borders(lengths)
        tensors = [randn(sum(lengths), 2, size, seed=seed).to(dtype) for seed in range(3)]
        run, formula = (partial(op, cu_seqlens=cu_seqlens) for op in (ops.causal_attention, attention.causal_attention))
        check(run, formula, *tensors)
    none = evaluate(partial(ops.causal_attention, cu_seqlens=borders((0,))), [randn(0, 2, 8).float()] * 3)
    assert [tensor.shape for tensor in none] == [(0, 2, 8)] * 4


if __name__ == "__main__":
    check_faults_are_found()
    with use_backend("triton"), watched():
        for op in ("conv1d", "gated_norm", "selective_scan", "ssd", "attention"):
            assert choose(op, torch.empty(0)) == "triton"
            assert choose(op, torch.empty(0, dtype=torch.complex64)) == "torch"
        assert choose("linear_recurrence", torch.empty(0)) == "torch"
        assert choose("linear_recurrence", torch.empty(0, dtype=torch.complex64)) == "triton"
        check_attention()
        check_conv1d()
        check_cross_entropy()
        check_gated_norm()
        check_linear_recurrence()
        check_selective_scan()
        check_ssd()
        check_ssd_is_compiled_once()
