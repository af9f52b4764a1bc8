"""Graphs as torch's programs and as ONNX, each compared with the model that it was made of."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from recbole_ssm.errors import InputError
from recbole_ssm.serving.export.graphs import Graph, Step, exportable
from recbole_ssm.system.extras import package

_TORCH = (2, 9)
"""The first version whose graphs hold recurrences token by token, for any number of tokens."""

TOLERANCE = 1e-5
"""What scores of a graph may differ from the model's, as a share of the largest."""

_LENGTHS = (1, 2, 37)
"""Histories with which a graph is compared."""

Run = Callable[[dict[str, Tensor]], list[Tensor]]


def torch_program(graph: Graph) -> Any:
    """``torch.export``'s program of a graph; InputError where this torch cannot make it."""
    if tuple(int(part) for part in torch.__version__.split(".")[:2]) < _TORCH:
        raise InputError(f"a graph needs torch 2.9 or later, and this is {torch.__version__}; update it")
    any_size = [{0: torch.export.Dim.DYNAMIC} if name in graph.dynamic else None for name in graph.inputs]
    first, *others = any_size
    shapes = (first, tuple(others)) if others else (first,)
    with exportable(), _quiet():
        return torch.export.export(graph.module, tuple(graph.inputs.values()), dynamic_shapes=shapes, strict=False)


def write_torch(graph: Graph, folder: Path) -> tuple[str, float]:
    """Write ``NAME.pt2``, for ``torch.export.load``.

    Args:
        graph: what it holds.
        folder: where it goes.

    Returns:
        The name of the file, and the largest difference to the model's scores.

    Raises:
        InputError: torch is too old, or scores differ.
    """
    program = torch_program(graph)
    module = program.module()
    largest = compare(graph, lambda given: list(module(*given.values())))
    file = f"{graph.name}.pt2"
    with _quiet():
        torch.export.save(program, folder / file)
    return file, largest


def write_onnx(graph: Graph, folder: Path) -> tuple[str, float]:
    """Write ``NAME.onnx``; as :func:`write_torch`."""
    for name in ("onnx", "onnxscript"):
        package(name, "export", "--format=onnx")
    runtime = package("onnxruntime", "export", "--format=onnx")
    program = torch_program(graph)
    with exportable(), _quiet():
        made = torch.onnx.export(
            program, dynamo=True, verbose=False, input_names=list(graph.inputs), output_names=graph.outputs
        )
    assert made is not None  # with dynamo=True
    file = f"{graph.name}.onnx"
    with _quiet():
        made.save(folder / file)
    options = runtime.SessionOptions()
    options.intra_op_num_threads = 1
    session = runtime.InferenceSession(folder / file, options, providers=["CPUExecutionProvider"])

    def run(given: dict[str, Tensor]) -> list[Tensor]:
        found = session.run(None, {name: value.numpy() for name, value in given.items()})
        return [torch.from_numpy(each) for each in found]

    return file, compare(graph, run)


def compare(graph: Graph, run: Run) -> float:
    """The largest difference of scores between a graph and its model, as a share of the largest score.

    Args:
        graph: what was made.
        run: computes the outputs of what was made.

    Returns:
        The share.

    Raises:
        InputError: it is above :data:`TOLERANCE`, or other items are the best.
    """
    largest = 0.0
    with torch.inference_mode():
        for given in _examples(graph):
            expected = graph.module(*given.values())
            for name, value, found in zip(graph.outputs, expected, run(given), strict=True):
                if not value.is_floating_point():
                    continue
                scale = value.masked_fill(~value.isfinite(), 0).abs().max().clamp(min=1e-6)
                off = (value - found).masked_fill(value == found, 0).abs().max() / scale
                if not off <= TOLERANCE:
                    raise InputError(
                        f"the graph {graph.name} gives {name} that differ from the model's by {off:.1e} of the "
                        "largest; this version of torch or onnxruntime computes it otherwise: try another"
                    )
                largest = max(largest, float(off))
    return largest


def _examples(graph: Graph) -> Iterator[dict[str, Tensor]]:
    """Inputs: histories of several lengths; or steps, each after the one before."""
    draw = torch.Generator().manual_seed(0)
    n_items = graph.module.ranking.model.n_items
    if not isinstance(graph.module, Step):
        for length in _LENGTHS:
            given = {"items": torch.randint(1, n_items, (length,), generator=draw)}
            yield given | {name: torch.arange(length).double() ** 2 for name in list(graph.inputs)[1:]}
        return
    rows, kept = 3, graph.module.start(3)
    columns = [name for name in graph.inputs if name != "item" and name not in kept]
    for step in range(4):
        given = {"item": torch.randint(1, n_items, (rows,), generator=draw)}
        given |= {name: torch.full((rows,), float(step * step), dtype=torch.float64) for name in columns}
        yield given | kept
        found = dict(zip(graph.outputs, graph.module(*given.values(), *kept.values()), strict=True))
        kept = {name: found[f"new_{name}"] for name in kept}


@contextmanager
def _quiet() -> Iterator[None]:
    """Without torch's notes on its own code."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)
