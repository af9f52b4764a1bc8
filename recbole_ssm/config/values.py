"""Values as they are written, and what they are in Python."""

from __future__ import annotations

import ast
import os
from typing import Any

import numpy as np
import torch
import yaml

_SafeLoader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""Of libyaml where PyYAML was built with it: six times as fast."""


class YamlLoader(_SafeLoader):
    """Reads numbers as RecBole's loader does, and no Python objects."""


def literal(word: str) -> Any:
    """The number, list, dict, True, False or None that a word is in Python; else the word itself."""
    if word.lower() in ("true", "false"):
        return word.lower() == "true"
    try:
        value = ast.literal_eval(word)
    except (MemoryError, RecursionError, SyntaxError, TypeError, ValueError):
        return word
    return value if isinstance(value, str | int | float | list | tuple | dict | None) else word


def in_python(value: Any) -> Any:
    """A copy with Python's own types: numbers for numpy's and torch's, lists for their arrays, words for paths."""
    if isinstance(value, dict):
        return {in_python(key): in_python(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return tuple(map(in_python, value)) if isinstance(value, tuple) else list(map(in_python, value))
    if isinstance(value, np.generic | np.ndarray | torch.Tensor):
        return value.tolist()
    return os.fspath(value) if isinstance(value, os.PathLike) else value


def merged(before: dict[str, Any], after: dict[str, Any]) -> dict[str, Any]:
    """Both dicts; of equal keys the latter's value. ``eval_args``, a dict itself, is merged name by name."""
    both = {**before, **after}
    if all(isinstance(given.get("eval_args"), dict) for given in (before, after)):
        both["eval_args"] = {**before["eval_args"], **after["eval_args"]}
    return both
