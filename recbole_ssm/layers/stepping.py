"""What the step of a layer looks like from outside."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

from torch import Tensor

Step: TypeAlias = Callable[..., tuple[Tensor, Any]]
"""Called with what a layer reads of the next token of R sequences (R, d_model), with its state (None at the start), and
by name with what its mixer takes beside them; gives (R, d_model) and the state after this token."""
