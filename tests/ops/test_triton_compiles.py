"""Triton's compiler takes this package's kernels: the interpreter takes more than it does. This needs no GPU."""

import re
from importlib import import_module

import pytest

from recbole_ssm.ops.backends.triton.backend import TRITON

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(TRITON.missing() is not None, reason=str(TRITON.missing())),
]

TYPES = {
    **dict.fromkeys(["target", "starts", "ends"], "*i64"),
    **dict.fromkeys(["bias", "values", "weights", "d_weights", "loss", "log_sums", "dy_ys"], "*fp32"),
    **dict.fromkeys(["share", "scale"], "fp32"),
    **dict.fromkeys(["V", "WIDTH", "G", "T", "H", "P"], "i32"),
}
"""Of arguments by name; others are pointers to numbers of the type that is tested, or constants."""


def compile_for_gpu(kernel, number, constants, *, num_warps=8, **types):
    """A kernel for the type of ``number``, to the machine code of an H100; what the compiler made on the way."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    constants = {name: value for name, value in constants.items() if name in kernel.arg_names}
    types = TYPES | types | dict.fromkeys(constants, "constexpr")
    signature = {name: types.get(name, f"*{number}") for name in kernel.arg_names}
    source = ASTSource(fn=kernel, signature=signature, constexprs=constants)
    made = triton.compile(source, target=GPUTarget("cuda", 90, 32), options={"num_warps": num_warps}).asm
    assert made["cubin"]
    return made


@pytest.mark.parametrize("everything", [False, True])
@pytest.mark.parametrize("name", ["_rows", "_add", "_by_weights"])
def test_cross_entropy(name, everything):
    from recbole_ssm.ops.backends.triton import cross_entropy

    kinds = dict.fromkeys(["BIAS", "TAUGHT", "GRADIENT", "VALUES"], everything)
    number, items = ("bf16", "*i32") if everything else ("fp32", "*i64")
    compile_for_gpu(getattr(cross_entropy, name), number, kinds | {"BLOCK": 4096}, items=items)


@pytest.mark.parametrize(("number", "size"), [("fp32", 32), ("fp32", 64), ("bf16", 64), ("bf16", 128)])
@pytest.mark.parametrize("name", ["_forward", "_backward_of_queries", "_backward_of_keys"])
def test_attention(name, number, size):
    """Groups of 4 warps multiply 64 rows at once: no more of them than there are such rows."""
    import torch

    from recbole_ssm.ops.backends.triton import attention

    block, width, warps = attention.cut({"fp32": torch.float32, "bf16": torch.bfloat16}[number], size)
    sizes, tables = {"BLOCK": block, "BLOCK_P": width}, dict.fromkeys(["starts", "ends"], "*i32")
    made = compile_for_gpu(getattr(attention, name), number, sizes, num_warps=warps, **tables)
    groups = re.findall(r"versionMajor = 3, .*warpsPerCTA = \[(\d+)", made["ttgir"])
    assert bool(groups) == (block == 64)
    assert all(16 * int(along_rows) <= block for along_rows in groups)


@pytest.mark.parametrize("states", [False, True])
@pytest.mark.parametrize("name", ["prepare", "carry", "outputs", "gradients"])
def test_ssd(name, states):
    from recbole_ssm.ops.backends.triton import ssd_kernels

    flags = dict.fromkeys(["START", "END", "INITIAL", "FINAL", "REVERSE", "BACKWARD", "HAS_D"], states)
    given = {} if states else dict.fromkeys(["start_state", "end_state", "initial", "d_final", "D"])
    sizes = {"H": 4, "P": 16, "N": 32, "G": 1, "HEADS": 4, "Q": 16, "BLOCK_H": 4, "BLOCK_P": 16, "BLOCK_N": 32}
    numbers = dict.fromkeys(["S", "rounds", "x_row", "dt_row", "B_row", "C_row"], "i32")
    tables = dict.fromkeys(["seq", "cu_seqlens"], "*i32")
    constants = flags | given | sizes | {"PRECISION": "tf32x3"}
    compile_for_gpu(getattr(ssd_kernels, name), "fp32", constants, **numbers, **tables)


BACK = {"BLOCK_T": 8, "BLOCK_E": 16, "BLOCK_N": 16, "E": 32, "N": 16, "REVERSE": True}
ROWS = dict.fromkeys(["u_row", "dt_row", "B_row", "C_row", "dy_row"], 32)
OTHERS = {
    ("conv1d", "_convolve"): {"AHEAD": 0, "WIDTH": 4, "BIAS": True, "MIRRORED": False, "SILU": True},
    ("conv1d", "_gradient"): {"AHEAD": 0, "WIDTH": 4, "BIAS": True, "SILU": True, "BLOCK_W": 8},
    ("gated_norm", "_forward"): {"BEFORE": True, "ROWS": 4, "BLOCK": 64},
    ("gated_norm", "_backward"): {"BEFORE": False, "ROWS": 4, "BLOCK": 64},
    ("linear_recurrence", "_walk"): {"BACK": True, "BLOCK_T": 16, "BLOCK_E": 32},
    ("selective_scan", "_forward"): BACK | ROWS | {"kept": None, "initial": None},
    ("selective_scan", "_backward"): BACK | ROWS | {"d_initial": None, "d_final": None},
}
"""Constants of the other kernels."""


@pytest.mark.parametrize(("module", "name"), OTHERS)
def test_others(module, name):
    kernel = getattr(import_module(f"recbole_ssm.ops.backends.triton.{module}"), name)
    counts = ["R", "S", "n", "blocks", "programs", *(["C"] if module == "conv1d" else ["E"])]
    numbers = dict.fromkeys([*counts, *(f"{of}_row" for of in ("x", "y", "z", "d", "dy"))], "i32") | {"eps": "fp32"}
    tables = dict.fromkeys(["sequence", "cu_seqlens"], "*i32")
    blocks = {"BLOCK_T": 32, "BLOCK_C": 64}
    compile_for_gpu(kernel, "fp32", blocks | OTHERS[module, name], num_warps=4, **numbers, **tables)
