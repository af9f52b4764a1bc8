"""The errors that a user meets."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class InputError(ValueError):
    """A file, key or argument cannot be used. The message is one sentence: what is wrong, where, and what to do."""


class CheckpointError(InputError):
    """A file cannot be read as a checkpoint."""


class FolderMissing(CheckpointError):
    """A checkpoint has adapters alone, and the folder of their language model is not there, or holds another one.

    Args:
        what: is wrong, without what to do.
    """

    def __init__(self, what: str):
        super().__init__(f"{what}; name the folder where it is now, as language_model=FOLDER")
        self.what = what

    def of_command(self) -> str:
        """The message with the option of the command line."""
        return str(self).replace("as language_model=", "as --language_model=")


class OutOfMemory(InputError):
    """Something does not fit into memory. The message names the keys that make it smaller."""


class CheckpointNotWritten(OSError):
    """A file could not be written, for want of space or permission. What stood in the file before is still there."""


def did_you_mean(word: str, known: Iterable[str], most: int = 1) -> str:
    """A hint such as ``. Did you mean X?`` for a misspelt word.

    Args:
        word: what was given.
        known: what there is. Case is ignored.
        most: how many suggestions the hint has at most.

    Returns:
        The hint, to be appended to a message; empty where no known word is similar.
    """
    by_lower_case = {other.lower(): other for other in known}
    close = difflib.get_close_matches(word.lower(), by_lower_case, n=most)
    return f". Did you mean {' or '.join(by_lower_case[match] for match in close)}?" if close else ""
