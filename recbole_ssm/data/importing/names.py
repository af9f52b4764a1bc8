"""Names of users and items: which words can be names, and how numbers become words."""

from __future__ import annotations

import re

from recbole_ssm.errors import InputError

LONGEST = 1000
"""Characters of a name. numpy's arrays of words take four bytes times the longest for each of them."""

PADDING = "[PAD]"
"""RecBole's own name for number 0."""

_UNUSABLE = re.compile(r"[\0\ud800-\udfff]")


def bad_name(word: str) -> str | None:
    """Why a word cannot be a name; None where it can."""
    if not word:
        return "is empty"
    if len(word) > LONGEST:
        return f"has more than {LONGEST} characters"
    if word == PADDING:
        return f"is {PADDING}, which is RecBole's padding"
    return "holds zero bytes or half characters" if _UNUSABLE.search(word) else None


def name_of(value: object, column: str) -> str:
    """A value as a name: words as they are, and whole numbers without a fraction.

    Args:
        value: of a DataFrame, not missing.
        column: its column.

    Returns:
        The name.

    Raises:
        InputError: it is a number with a fraction, or neither a word nor a number.
    """
    if isinstance(value, float):
        if not value.is_integer():
            raise InputError(
                f"column {column!r} holds {value!r}; names must be words or whole numbers, so make words of them first"
            )
        value = int(value)
    if not isinstance(value, str | int | bytes) and not hasattr(value, "hex"):
        raise InputError(f"column {column!r} holds a {type(value).__name__}; names must be words or whole numbers")
    if isinstance(value, bytes):
        raise InputError(f"column {column!r} holds bytes; decode them first")
    return str(value)


def quoted(word: str) -> str:
    """A name as a field of an atomic file: between quotation marks where it holds one, a tab or a line break."""
    if '"' in word or "\t" in word or "\n" in word or "\r" in word:
        return '"' + word.replace('"', '""') + '"'
    return word
