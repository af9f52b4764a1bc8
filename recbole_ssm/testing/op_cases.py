"""Problems for each op, small enough for its reference: tensors, the op, and the reference on the same tensors."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from recbole_ssm import ops
from recbole_ssm.ops.added import Added
from recbole_ssm.ops.attention import reference as attention
from recbole_ssm.ops.convolution import depthwise_conv1d
from recbole_ssm.ops.convolution import reference as convolution
from recbole_ssm.ops.cross_entropy import reference as cross_entropy
from recbole_ssm.ops.mixer_steps import reference as steps
from recbole_ssm.ops.norm import reference as norm
from recbole_ssm.ops.packing import RowItems, cumulative_lengths
from recbole_ssm.ops.position_wise import reference as position_wise
from recbole_ssm.ops.recurrence import reference as recurrence
from recbole_ssm.ops.selective_state_space import reference as selection
from recbole_ssm.ops.state_space_duality import reference as duality
from recbole_ssm.ops.teacher import Teacher

Tensors = dict[str, Tensor]

LENGTHS = ((7, 1, 40, 9), (1,), (31, 32, 33, 64, 3))
"""Of sequences: short and long ones, one token alone, and around the lengths of chunks."""


@dataclass(frozen=True)
class Case:
    """One problem.

    Attributes:
        name: what is special about it.
        tensors: float64 or complex128, by name; all of them get gradients.
        run: the op on such tensors; its outputs by name.
        reference: the same by the formula.
        borders: ``cu_seqlens`` (S + 1,); a row is a sequence where rows do not depend on each other.
        tokens: names of tensors and outputs that have a row for each token.
        sequences: names of those that have a row for each sequence.
        error: relative error that is allowed in any number type.
    """

    name: str
    tensors: Tensors
    run: Callable[[Tensors], Tensors]
    reference: Callable[[Tensors], Tensors]
    borders: Tensor
    tokens: tuple[str, ...]
    sequences: tuple[str, ...] = ()
    error: float = 0.0


def _normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def _borders(lengths: tuple[int, ...]) -> Tensor:
    return cumulative_lengths(torch.tensor(lengths))


def _named(result: Tensor | tuple[Tensor, Tensor]) -> Tensors:
    return dict(zip(("y", "state"), result if isinstance(result, tuple) else (result,), strict=False))


def _scan_case(
    op: Callable[..., Any], formula: Callable[..., Any], shapes: dict[str, tuple[int, ...]], lengths: tuple[int, ...],
    *, reverse: bool, states: bool, extreme: bool,
) -> Case:  # fmt: skip
    """Of ``ssd`` or ``selective_scan``. At extreme decays ``dt A`` of a step is between 1e-6 and 1e3."""
    T, S, borders = sum(lengths), len(lengths), _borders(lengths)
    tensors = {name: _normal(T, *shapes[name], seed=k) for k, name in enumerate(("x", "dt", "B", "C"))}
    tensors |= {name: _normal(*shapes[name], seed=k) for k, name in enumerate(("A", "D"), 4)}
    tensors["dt"] = 10 ** (tensors["dt"] - 1.5).clamp(-3, 0) if extreme else F.softplus(tensors["dt"] - 1)
    tensors["A"] = -(10 ** (2 * tensors["A"]).clamp(-3, 3)) if extreme else -torch.exp(tensors["A"])
    if states:
        tensors["initial_state"] = _normal(S, *shapes["state"], seed=7)

    def call(function: Callable[..., Any], t: Tensors, **options: Any) -> Any:
        given = (t[name] for name in ("x", "dt", "A", "B", "C"))
        on = t["x"].device
        options |= {"D": t["D"], "reverse": reverse, "initial_state": t.get("initial_state")}
        return function(*given, borders.to(on), **options)

    def reference(t: Tensors) -> Tensors:
        y, state = call(formula, t)
        return {"y": y, "state": state} if states else {"y": y}

    words = f"lengths {lengths}" + ", reverse" * reverse + ", states" * states + ", extreme decays" * extreme
    return Case(
        words,
        tensors,
        lambda t: _named(call(op, t, return_final_state=states)),
        reference,
        borders,
        ("y", "x", "dt", "B", "C"),
        ("state", "initial_state"),
        1e-6 if extreme else 0.0,  # a decay below exp(-20) may count as exp(-20)
    )


def _scans(op: Callable[..., Any], formula: Callable[..., Any], shapes: dict[str, tuple[int, ...]]) -> Iterator[Case]:
    for reverse, states in product((False, True), (False, True)):
        yield _scan_case(op, formula, shapes, LENGTHS[0], reverse=reverse, states=states, extreme=False)
        yield _scan_case(op, formula, shapes, LENGTHS[0], reverse=reverse, states=states, extreme=True)
    for lengths, states in product(LENGTHS[1:], (False, True)):
        yield _scan_case(op, formula, shapes, lengths, reverse=False, states=states, extreme=False)


def ssd() -> Iterator[Case]:
    """Two groups of two heads, and one of one; sizes that fill no vector."""
    for H, P, G, N in ((4, 5, 2, 3), (1, 16, 1, 16)):
        shapes = {"x": (H, P), "dt": (H,), "A": (H,), "B": (G, N), "C": (G, N), "D": (H,), "state": (H, P, N)}
        yield from _scans(ops.ssd, duality.ssd, shapes)


def selective_scan() -> Iterator[Case]:
    """Numbers of channels that fill no vector, and that do."""
    for E, N in ((5, 3), (16, 16)):
        shapes = {"x": (E,), "dt": (E,), "A": (E, N), "B": (N,), "C": (N,), "D": (E,), "state": (E, N)}
        yield from _scans(ops.selective_scan, selection.selective_scan, shapes)


def conv1d() -> Iterator[Case]:
    """Looking back, centred and looking ahead; wider than some sequences are long."""
    lengths = (7, 1, 12, 2, 5)
    borders = _borders(lengths)
    for (width, ahead), channels, activation in product(((4, 0), (4, 3), (7, 3), (1, 0)), (8, 9), ("silu", None)):
        tensors = {"x": _normal(sum(lengths), channels), "weight": _normal(channels, width, seed=1)}
        tensors["bias"] = _normal(channels, seed=2)

        def run(t: Tensors, ahead: int = ahead, activation: str | None = activation) -> Tensors:
            cu_seqlens = borders.to(t["x"].device)
            y = depthwise_conv1d(t["x"], t["weight"], t["bias"], cu_seqlens, ahead=ahead, activation=activation)
            return {"y": y}

        def reference(t: Tensors, ahead: int = ahead, activation: str | None = activation) -> Tensors:
            y = convolution.depthwise_conv1d(t["x"], t["weight"], t["bias"], borders, ahead=ahead)
            return {"y": F.silu(y) if activation else y}

        words = f"{width} taps, {ahead} ahead, {channels} channels, {activation}"
        yield Case(words, tensors, run, reference, borders, ("y", "x"))


def linear_recurrence() -> Iterator[Case]:
    """Decays from nothing to none."""
    for lengths in LENGTHS:
        borders, T = _borders(lengths), sum(lengths)
        decay = torch.polar(torch.linspace(0.1, 1, 5).double(), torch.linspace(0, 6, 5).double())
        tensors = {"x": torch.complex(_normal(T, 5), _normal(T, 5, seed=1)), "decay": decay}

        def run(t: Tensors, borders: Tensor = borders) -> Tensors:
            return {"y": ops.linear_recurrence(t["x"], t["decay"], borders.to(t["x"].device))}

        def reference(t: Tensors, borders: Tensor = borders) -> Tensors:
            return {"y": recurrence.linear_recurrence(t["x"], t["decay"], borders)}

        yield Case(f"lengths {lengths}", tensors, run, reference, borders, ("y", "x"))


def causal_attention() -> Iterator[Case]:
    """Two heads."""
    for lengths in LENGTHS:
        borders = _borders(lengths)
        tensors = {name: _normal(sum(lengths), 2, 8, seed=k) for k, name in enumerate("qkv")}

        def run(t: Tensors, borders: Tensor = borders) -> Tensors:
            return {"y": ops.causal_attention(t["q"], t["k"], t["v"], borders.to(t["q"].device))}

        def reference(t: Tensors, borders: Tensor = borders) -> Tensors:
            return {"y": attention.causal_attention(t["q"], t["k"], t["v"], borders)}

        yield Case(f"lengths {lengths}", tensors, run, reference, borders, ("y", "q", "k", "v"))


def linear_cross_entropy() -> Iterator[Case]:
    """With and without biases, additions and a teacher; one row in three does not count."""
    for (rows, items, width), biases, taught in product(((9, 7, 16), (70, 300, 6)), (False, True), (False, True)):
        target = torch.arange(rows) % items
        target[1::3] = -1
        by_teacher = tuple(_added(rows, items, seed=6)) if biases else ()
        teacher = Teacher(_normal(rows, 5, seed=4), _normal(items, 5, seed=5), by_teacher, 0.4) if taught else None
        tensors = {"hidden": _normal(rows, width), "weight": _normal(items, width, seed=1)}
        added = _added(rows, items) if biases else []
        if biases:
            tensors |= {"bias": _normal(items, seed=2)}
            tensors |= {f"added{k}": each.weight for k, each in enumerate(added)}

        def lists(t: Tensors, added: list[Added] = added) -> tuple[Added, ...]:
            return tuple(Added(each.like(t["hidden"]).to, t[f"added{k}"]) for k, each in enumerate(added))

        def run(
            t: Tensors,
            target: Tensor = target,
            lists: Callable[[Tensors], tuple[Added, ...]] = lists,
            teacher: Teacher | None = teacher,
        ) -> Tensors:
            given = t["hidden"], t["weight"], target.to(t["hidden"].device)
            more: dict[str, Any] = {"bias": t.get("bias"), "added": lists(t), "teacher": teacher}
            return {"loss": ops.linear_cross_entropy(*given, ignore_index=-1, reduction="sum", **more)}

        def reference(
            t: Tensors,
            target: Tensor = target,
            lists: Callable[[Tensors], tuple[Added, ...]] = lists,
            teacher: Teacher | None = teacher,
        ) -> Tensors:
            given = t["hidden"], t["weight"], t.get("bias"), target
            return {"loss": cross_entropy.summed_cross_entropy(*given, added=lists(t), teacher=teacher)}

        words = f"{rows} rows, {items} items" + ", biases" * biases + ", a teacher" * taught
        tokens = ("hidden", *(name for name in tensors if name.startswith("added")))
        yield Case(words, tensors, run, reference, torch.arange(rows + 1), tokens)


def _added(rows: int, items: int, seed: int = 0) -> list[Added]:
    """One group without values, and three with values that name some items more than once, or none."""
    start = torch.arange(rows) % 4
    seen = RowItems(torch.tensor([3, -1, 0, 6, 2, 5]), start[:, None], (start + torch.arange(rows) % 3)[:, None])
    ids = torch.cat([torch.arange(items), torch.arange(items)]).int()
    ids[::5] = -1
    start = torch.stack([torch.arange(rows) % items, items - torch.arange(rows) % 3, torch.arange(rows) % 2], 1)
    length = torch.stack([torch.full((rows,), items), torch.arange(rows) % 4, torch.zeros(rows)], 1).long()
    memory = RowItems(ids, start, start + length, _normal(2 * items, seed=seed + 1))
    return [Added(seen, _normal(rows, 1, seed=seed + 2)), Added(memory, _normal(rows, 3, seed=seed + 3))]


def feed_forward() -> Iterator[Case]:
    """Without dropout; widths that fill vectors, and that do not."""
    for rows, d, E in ((9, 16, 32), (70, 6, 24)):
        sizes = {"x": (rows, d), "W1": (E, d), "b1": (E,), "W2": (d, E), "b2": (d,), "weight": (d,), "bias": (d,)}
        tensors = {name: _normal(*shape, seed=k) for k, (name, shape) in enumerate(sizes.items())}

        def run(t: Tensors) -> Tensors:
            return {"y": ops.feed_forward(*t.values(), eps=1e-5, dropout=0.0, dropout_after_norm=False)}

        def reference(t: Tensors) -> Tensors:
            return {"y": position_wise.feed_forward(*t.values(), eps=1e-5)}

        yield Case(f"widths {d} and {E}", tensors, run, reference, torch.arange(rows + 1), ("y", "x"))


def gated_norm() -> Iterator[Case]:
    """Both orders."""
    for (rows, n), before in product(((9, 16), (70, 5)), (False, True)):
        tensors = {"y": _normal(rows, n), "z": _normal(rows, n, seed=1), "weight": _normal(n, seed=2)}
        options = {"eps": 1e-5, "norm_before_gate": before}

        def run(t: Tensors, options: dict[str, Any] = options) -> Tensors:
            return {"out": ops.gated_rms_norm(*t.values(), **options)}

        def reference(t: Tensors, options: dict[str, Any] = options) -> Tensors:
            return {"out": norm.gated_rms_norm(*t.values(), **options)}

        words = f"width {n}" + ", the norm before the gate" * before
        yield Case(words, tensors, run, reference, torch.arange(rows + 1), ("out", "y", "z"))


def _step_cases(
    weights: Any, names: str, run: Callable[..., Any], formula: Callable[..., Any],
    *sizes: dict[str, tuple[int, ...]], **options: float,
) -> Iterator[Case]:  # fmt: skip
    """Of the step of a mixer, with a size for each of its arguments, ``names``, and for each of its weights."""
    given = names.split()
    for shapes in sizes:
        tensors = {name: 0.7 * _normal(*shape, seed=k) for k, (name, shape) in enumerate(shapes.items())}
        if weights is ops.LruWeights:
            tensors["state"] = torch.complex(tensors["state"], tensors["state"].roll(1, 1))
            tensors["elapsed"] = tensors["elapsed"].exp()

        def called(function: Callable[..., Any], t: Tensors) -> Tensors:
            of_mixer = weights(*(t[name] for name in weights._fields))
            found = function(*(t[name] for name in given), of_mixer, **options)
            return dict(zip(("y", *(f"next {name}" for name in given[1:])), found, strict=False))

        rows = shapes[given[0]][0]
        tokens = ("y", *given, *(f"next {name}" for name in given))
        words = ", ".join(f"{name} {shapes[name]}" for name in given)
        yield Case(words, tensors, partial(called, run), partial(called, formula), torch.arange(rows + 1), tokens)


def mamba2_step() -> Iterator[Case]:
    """Two groups of two heads, and widths that fill vectors."""

    def sizes(R: int, d: int, H: int, P: int, N: int, G: int, W: int) -> dict[str, tuple[int, ...]]:
        E, C = H * P, H * P + 2 * G * N
        given = {"hidden": (R, d), "window": (R, C, W - 1), "state": (R, H, P, N), "more_dt": (R, H)}
        shapes = (E + C + H, d), (C, W), (C,), (H,), (H,), (H,), (E,), (d, E)
        return given | dict(zip(ops.Mamba2Weights._fields, shapes, strict=True))

    shapes = sizes(3, 5, 4, 3, 7, 2, 4), sizes(1, 16, 2, 16, 32, 1, 3), sizes(70, 6, 2, 2, 3, 1, 1)
    names = "hidden window state more_dt"
    yield from _step_cases(ops.Mamba2Weights, names, ops.mamba2_step, steps.mamba2_step, *shapes, eps=1e-5)


def mamba_step() -> Iterator[Case]:
    """Widths that fill vectors, and that do not."""

    def sizes(R: int, d: int, E: int, N: int, r: int, W: int) -> dict[str, tuple[int, ...]]:
        given = {"hidden": (R, d), "window": (R, E, W - 1), "state": (R, E, N), "more_dt": (R, E)}
        shapes = (2 * E, d), (E, W), (E,), (r + 2 * N, E), (E, r), (E,), (E, N), (E,), (d, E)
        return given | dict(zip(ops.MambaWeights._fields, shapes, strict=True))

    shapes = sizes(3, 5, 10, 3, 2, 4), sizes(1, 16, 32, 16, 1, 4)
    names = "hidden window state more_dt"
    yield from _step_cases(ops.MambaWeights, names, ops.mamba_step, steps.mamba_step, *shapes)


def lru_step() -> Iterator[Case]:
    """Widths that fill vectors, and that do not."""

    def sizes(R: int, d: int, E: int) -> dict[str, tuple[int, ...]]:
        shapes = (E,), (E,), (E,), (2 * E, d), (2 * E,), (d, 2 * E), (d,)
        given = {"hidden": (R, d), "state": (R, E), "elapsed": (R, E)}
        return given | dict(zip(ops.LruWeights._fields, shapes, strict=True))

    yield from _step_cases(
        ops.LruWeights, "hidden state elapsed", ops.lru_step, steps.lru_step, sizes(3, 5, 10), sizes(1, 16, 32)
    )


def mixed_step() -> Iterator[Case]:
    """Widths that fill vectors, and that do not."""

    def sizes(R: int, d: int, E: int) -> dict[str, tuple[int, ...]]:
        shapes = (d,), (d,), (E, d), (E,), (d, E), (d,), (d,), (d,)
        return {"mixed": (R, d), "hidden": (R, d)} | dict(zip(ops.MixedWeights._fields, shapes, strict=True))

    def run(*arguments: Any, **options: Any) -> tuple[Tensor]:
        return (ops.mixed_step(*arguments, **options),)

    def formula(*arguments: Any, **options: Any) -> tuple[Tensor]:
        return (steps.mixed_step(*arguments, **options),)

    options = {"eps": 1e-3, "eps_of_network": 1e-5}
    yield from _step_cases(ops.MixedWeights, "mixed hidden", run, formula, sizes(3, 6, 10), sizes(9, 32, 48), **options)


CASES: dict[str, Callable[[], Iterator[Case]]] = {
    "ssd": ssd,
    "selective_scan": selective_scan,
    "conv1d": conv1d,
    "cross_entropy": linear_cross_entropy,
    "feed_forward": feed_forward,
    "gated_norm": gated_norm,
    "linear_recurrence": linear_recurrence,
    "attention": causal_attention,
    "mamba2_step": mamba2_step,
    "mamba_step": mamba_step,
    "lru_step": lru_step,
    "mixed_step": mixed_step,
}
"""By op. Dropout has no formula: :func:`recbole_ssm.testing.check_backend` looks at its statistics."""
