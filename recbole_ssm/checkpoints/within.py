"""A model's checkpoint within that of another model, which begins with its recommendations."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

_SETTINGS, _PARTS = "retriever.settings", ("state_dict", "other_parameter")


def kept_of(state: Mapping[str, Any]) -> dict[str, Any]:
    """What another model's checkpoint keeps of a model.

    Args:
        state: what is in the model's checkpoint.

    Returns:
        Texts, numbers and tensors by name, for ``other_parameter``.
    """
    settings = {key: state[key] for key in ("config", "versions")} | {"items": len(state["item_vocabulary"])}
    parts = {f"retriever.{part}.{name}": value for part in _PARTS for name, value in (state.get(part) or {}).items()}
    return {_SETTINGS: json.dumps(settings), **parts}


def state_within(kept: Mapping[str, Any]) -> dict[str, Any] | None:
    """What :func:`kept_of` was given, as far as a model is made of it; None where there is no such thing.

    Args:
        kept: ``other_parameter`` of a checkpoint.

    Returns:
        The state.

    Raises:
        ValueError: it is damaged.
    """
    if _SETTINGS not in kept:
        return None
    settings = json.loads(kept[_SETTINGS])
    found: dict[str, dict[str, Any]] = {part: {} for part in _PARTS}
    for name, value in kept.items():
        for part in _PARTS:
            if name.startswith(f"retriever.{part}."):
                found[part][name.removeprefix(f"retriever.{part}.")] = value
    return {
        "config": settings["config"],
        "versions": settings["versions"],
        "item_vocabulary": [""] * settings["items"],
        **found,
    }
