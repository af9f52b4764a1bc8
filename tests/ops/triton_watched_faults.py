"""Kernels with faults, in Triton's interpreter; run by ``triton_interpreted.py``."""

import torch
import triton
import triton.language as tl
from triton.runtime.errors import InterpreterError
from triton_watched import watched


@triton.jit
def copy(x, y, n, AHEAD: tl.constexpr, STEP: tl.constexpr):
    """Four elements of x, those ``AHEAD``; ``STEP`` from one program to the next."""
    i = tl.program_id(0) * STEP + tl.arange(0, 4)
    tl.store(y + i, tl.load(x + i + AHEAD, i < n, 0.0), i < n)


@triton.jit
def shift(x, n):
    """Each program writes what the next one reads."""
    i = tl.program_id(0) * 4 + tl.arange(0, 4)
    tl.store(x + i, tl.load(x + i + 1, i + 1 < n, 0.0), i < n)


@triton.jit
def gather(x):
    """All lanes write the first element."""
    i = tl.arange(0, 4)
    tl.store(x + i // 4, tl.load(x + i))


def fault(kernel, *arguments):
    """What is said of three programs, or of one."""
    try:
        with watched():
            kernel[(1 if kernel is gather else 3,)](*arguments)
    except (AssertionError, InterpreterError) as error:
        return str(error)
    return ""


def check_faults_are_found() -> None:
    """Reads and writes beyond tensors, and programs that disturb each other."""
    wide = torch.arange(60.0)
    x, y = wide[20:30], wide[40:50]
    assert not fault(copy, x, y, 10, 0, 4)
    assert torch.equal(x, y)
    assert "reads beyond" in fault(copy, x, y, 10, 1, 4)
    assert "reads beyond" in fault(copy, x, y, 10, -1, 4)
    assert "reads beyond" in fault(copy, wide[20:40:2], y, 10, 0, 4)
    assert "writes beyond" in fault(copy, x, y[:9], 10, 0, 4)
    assert "two programs write" in fault(copy, x, y, 10, 0, 2)
    assert "a program reads what another one writes" in fault(shift, x, 10)
    assert "writes an element twice" in fault(gather, x)
