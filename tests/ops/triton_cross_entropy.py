"""The loss over the catalogue in Triton's interpreter, against float64; run by ``triton_interpreted.py``."""

import torch
from packed_cases import randn

from recbole_ssm.ops import Added, Teacher, linear_cross_entropy, use_backend
from recbole_ssm.ops.backends import choose
from recbole_ssm.ops.backends.triton import cross_entropy as kernel
from recbole_ssm.ops.packing import RowItems
from recbole_ssm.testing import unwritten_memory_is_nan

ITEMS, WIDTH = 35, 6


def evaluate(dtype, *, rows=18, biases=True, taught=False, scale=1.0, counts=0.7):
    target = torch.randint(0, ITEMS, (rows,), generator=torch.Generator().manual_seed(0))
    target[torch.rand(rows, generator=torch.Generator().manual_seed(1)) >= counts] = -100
    items = torch.randperm(ITEMS, generator=torch.Generator().manual_seed(2))[:20]
    items[::5] = -1
    start = torch.arange(rows)[:, None] % torch.tensor([11, 7, 3])
    end = start + torch.arange(rows)[:, None] % torch.tensor([7, 13, 1])
    seen, memory = RowItems(items, start[:, :1], end[:, :1]), RowItems(items.int(), start, end, randn(20, seed=6))
    leaves = [scale * randn(rows, WIDTH, seed=1), randn(ITEMS, WIDTH, seed=2)]
    leaves += [randn(ITEMS, seed=3), randn(rows, 1, seed=7), randn(rows, 3, seed=8)] if biases else []
    leaves = [leaf.to(dtype).requires_grad_() for leaf in leaves]
    options = {"bias": leaves[2], "added": [Added(seen, leaves[3]), Added(memory, leaves[4])]} if biases else {}
    by_teacher = (Added(memory, randn(rows, 3, seed=9)),)
    options |= {"teacher": Teacher(randn(rows, 5, seed=4), randn(ITEMS, 5, seed=5), by_teacher, 0.3)} if taught else {}
    loss = linear_cross_entropy(*leaves[:2], target, **options, reduction="sum")
    if rows < 9:
        with torch.no_grad():
            assert torch.equal(linear_cross_entropy(*leaves[:2], target, **options, reduction="sum"), loss)
    return [loss.detach(), *torch.autograd.grad(2.0 * loss, leaves)]


def check(tolerance, dtype=torch.float32, **case):
    with use_backend("torch"):
        expected = evaluate(torch.float64, **case)
    with unwritten_memory_is_nan():
        found = evaluate(dtype, **case)
    for name, value, wanted in zip(
        ("loss", "hidden", "weight", "bias", "seen", "memory"), found, expected, strict=False
    ):
        error = (value.double() - wanted).abs().max() / wanted.abs().max().clamp(min=1e-3)
        assert error <= tolerance, f"{case}: {name} is off by {error:.1e}"


def check_cross_entropy():
    """Several blocks of rows, of items, and of additions."""
    kernel._ALIVE, kernel._WIDEST, kernel._ADDED = 1, 32, 4
    assert choose("cross_entropy", torch.empty(0)) == "triton"
    check(2e-6, taught=True)
    check(2e-6, rows=3)
    check(2e-6, rows=3, biases=False)
    check(2e-6, rows=3, biases=False, taught=True)
    check(1e-3, rows=3, scale=1e4)
    check(2e-2, torch.bfloat16, rows=3, taught=True)
