"""Types of arguments that the benchmarks share; argparse puts what they say into one sentence."""

from __future__ import annotations

from argparse import ArgumentTypeError
from pathlib import Path

from recbole_ssm.cli import types


def at_least_one(word: str) -> int:
    """A whole number."""
    if not word.isdecimal() or int(word) < 1:
        raise ArgumentTypeError(f"{word!r} is no whole number of at least 1")
    return int(word)


def output_file(word: str) -> Path:
    """A file to write to when all is measured; that it can be is checked before."""
    try:
        return types.output_file(word)
    except ArgumentTypeError as error:
        raise ArgumentTypeError(f"{word} {error}") from error


def key_value(word: str) -> str:
    """``KEY=VALUE``."""
    key, equals, _ = word.partition("=")
    if not key or not equals:
        raise ArgumentTypeError(f"takes KEY=VALUE, and not {word!r}")
    return word
