"""The step of a model as one graph of torch's, without the Python between its ops, which takes longer than they do."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from logging import getLogger
from typing import Any

import torch
from torch import Tensor, nn

from recbole_ssm.ops.backends import use_backend
from recbole_ssm.serving.forms import leaves, like

_CALLS_BEFORE = 32
"""A step is traced when it is called once more than so often. To trace it takes as long as some hundred steps."""

_ROWS = (2, 3)
"""The sessions of the example, and those of the check: a graph must not depend on their number."""

_CLOSE = 1e-4
"""Up to this much, relative and absolute, may the graph differ from the model, which another backend may compute."""


class TracedStep:
    """Calls ``model.step``; by a graph, for a CPU, once it has been called often.

    A model whose graph gives other numbers than the model itself goes on without one.

    Args:
        model: one that streams, in evaluation mode.
        form: a state of it.
    """

    def __init__(self, model: Any, form: Any):
        self._model, self._form, self._calls = model, form, 0
        self._graph: Any = None

    def __call__(self, items: Tensor, state: Any, **columns: Tensor) -> tuple[Tensor, Any]:
        """See :meth:`recbole_ssm.model.base.PackedSequentialRecommender.step`."""
        if self._graph is None:
            self._calls += 1
            if self._calls <= _CALLS_BEFORE:
                return self._model.step(items, state, **columns)
            self._graph = self._made(items, state, columns)
        hidden, *after = self._graph(items, *columns.values(), *leaves(state))
        return hidden, like(self._form, iter(after))

    def _made(self, items: Tensor, state: Any, columns: Mapping[str, Tensor]) -> Any:
        """The graph; the model's step in its form where none can be made."""
        flat = _Flat(self._model, self._form, tuple(columns))
        try:
            example, check = (self._example(rows, items, state, columns) for rows in _ROWS)
            with warnings.catch_warnings(), use_backend("torch"):
                warnings.simplefilter("ignore")  # on Python values, which the check looks at
                graph = torch.jit.freeze(torch.jit.trace(flat.eval(), example, check_trace=False))
            for found, expected in zip(graph(*check), flat(*check), strict=True):
                torch.testing.assert_close(found, expected, rtol=_CLOSE, atol=_CLOSE)
            return graph
        except Exception as error:
            getLogger().warning(f"steps of sessions are not traced, and so are slow: {str(error).splitlines()[0]}")
            return flat

    def _example(self, rows: int, items: Tensor, state: Any, columns: Mapping[str, Tensor]) -> tuple[Tensor, ...]:
        """Arguments for so many sessions, made of the first one."""
        return tuple(
            each[:1].expand(rows, *each.shape[1:]).clone() for each in (items, *columns.values(), *leaves(state))
        )


class _Flat(nn.Module):
    """``model.step`` with tensors only."""

    def __init__(self, model: Any, form: Any, columns: tuple[str, ...]):
        super().__init__()
        self.model, self._form, self._columns = model, form, columns

    def forward(self, items: Tensor, *others: Tensor) -> tuple[Tensor, ...]:
        count = len(self._columns)
        columns = dict(zip(self._columns, others[:count], strict=True))
        hidden, state = self.model.step(items, like(self._form, iter(others[count:])), **columns)
        return hidden, *leaves(state)
