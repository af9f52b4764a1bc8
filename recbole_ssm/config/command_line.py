"""Words of the command line, of the form ``--key=value``."""

from __future__ import annotations


def key_of(argument: str) -> str:
    """The key of an argument ``--key=value``."""
    return argument.removeprefix("--").partition("=")[0]
