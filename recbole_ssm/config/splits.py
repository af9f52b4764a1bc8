"""What ``eval_args`` says of the split: its parts, and in words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from recbole_ssm.errors import InputError, did_you_mean

TEMPORAL = "temporal"
"""The name of the global temporal split in ``eval_args: split``; RecBole's own are LS, RS and TS."""

TARGETS = ("last", "successive")

DECIDE_THE_TEST = (
    *("time_order", "data_path", "eval_args", "benchmark_filename", "rm_dup_inter", "val_interval"),
    *("eval_users", "cold_items", "filter_seen", "repeatable"),
    *("user_inter_num_interval", "item_inter_num_interval", "filter_inter_by_user_or_item"),
    *("USER_ID_FIELD", "ITEM_ID_FIELD", "TIME_FIELD"),
)
"""Keys that decide what is validated and tested, and how it is ranked: results with other values are not compared."""


class TemporalSplit(NamedTuple):
    """One border in time for all users, as in "Time to Split" (Gusak et al., 2025, arXiv 2507.16289)."""

    quantile: float = 0.9
    """Of the times of all interactions: the border between what comes before the test and the test."""
    target: str = "last"
    """Of the items after a border: ``last`` tests each user's last one, ``successive`` each of them."""
    validation: float | None = 0.9
    """Quantile of the times up to the border: what is later validates. None: all up to the border is trained on."""


def temporal_split(split: object) -> TemporalSplit | None:
    """The temporal split that ``eval_args: split`` asks for; None if it asks for another split.

    Args:
        split: the value of ``split``.

    Returns:
        All its parts, with defaults for those that are left out.

    Raises:
        InputError: a name in it is unknown, or a value cannot be used.
    """
    if not isinstance(split, Mapping) or list(split) != [TEMPORAL]:
        return None
    given = split[TEMPORAL]
    if not isinstance(given, Mapping):
        raise InputError(
            f"eval_args: split: temporal must be like {TemporalSplit()._asdict()}, of which any can be left out, "
            f"but is {given!r}"
        )
    for name in given.keys() - set(TemporalSplit._fields):
        hint = did_you_mean(str(name), TemporalSplit._fields) or f"; it has {', '.join(TemporalSplit._fields)}"
        raise InputError(f"eval_args: split: temporal: unknown name {name!r}{hint}")
    found = TemporalSplit(**given)
    _check_share("quantile", found.quantile)
    if found.validation is not None:
        _check_share("validation", found.validation)
    if found.target not in TARGETS:
        raise InputError(f"eval_args: split: temporal: target must be {' or '.join(TARGETS)}, but is {found.target!r}")
    return found


def _check_share(name: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 1:
        also = ", or None" if name == "validation" else ""
        raise InputError(f"eval_args: split: temporal: {name} must be a number between 0 and 1{also}, but is {value!r}")


def split_in_words(split: Mapping[str, Any], group_by: object = "user") -> str:
    """What is tested, and whether what validates is trained on: rows with other words are not compared.

    Args:
        split: of ``eval_args``.
        group_by: of ``eval_args``; it matters to splits by shares.

    Returns:
        A phrase.
    """
    found = temporal_split(split)
    if found is not None:
        tested = "each user's last item" if found.target == "last" else "every item"
        validation = (
            "no validation: all before it trained on"
            if found.validation is None
            else f"validation items, after quantile {found.validation:g} of the times before it, not trained on"
        )
        return f"temporal split, {tested} after quantile {found.quantile:g} of all times; {validation}"
    kind, value = next(iter(split.items()))
    if kind == "LS":
        return "leave one out" + _LEFT_OUT.get(str(value), f" ({value})")
    grouped = "of all users together" if kind == "RS" and str(group_by).lower() == "none" else "by user"
    return f"split {kind} {value} {grouped}" + ("; validation items not trained on" if value[1] else "; no validation")


_LEFT_OUT = {
    "valid_and_test": "; validation items not trained on",
    "test_only": "; no validation: all but the last item trained on",
    "valid_only": "; no test",
}
