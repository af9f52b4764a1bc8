"""The errors that a user meets."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class InputError(ValueError):
    """What was asked for or given cannot be used. The message is one sentence that says what to do."""


class CheckpointError(InputError):
    """A file that cannot be taken for a checkpoint; the message says what to do."""


class CheckpointNotWritten(OSError):
    """There was no room, or no permission; what stood in the file before still stands there."""


def did_you_mean(word: str, known: Iterable[str], most: int = 1) -> str:
    """``. Did you mean X?`` for a word that is like one of the known ones; nothing for another."""
    by_lower_case = {other.lower(): other for other in known}
    close = difflib.get_close_matches(word.lower(), by_lower_case, n=most)
    return f". Did you mean {' or '.join(by_lower_case[match] for match in close)}?" if close else ""
