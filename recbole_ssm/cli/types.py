"""Types of options: each makes a value of a word, or raises ``ArgumentTypeError``.

The message of the error follows "--option=word", or is whole where it begins with the option.
"""

from __future__ import annotations

import ast
import os
from argparse import ArgumentTypeError
from collections.abc import Callable
from itertools import combinations
from pathlib import Path
from typing import Any

from recbole_ssm.config.values import literal

LANGUAGE_MODEL = (
    *("language_model", "FOLDER"),
    "where the language model lies whose adapters (LoRA) are in the checkpoint, or several, separated by commas; "
    "default where it lay in the training",
)
"""Name, value and help of an option."""


def names(word: str) -> list[str]:
    """Words separated by commas, all different."""
    return _different(word.split(","))


def values(word: str) -> list[str]:
    """Values of a key, separated by commas, all different; what stands in brackets or quotation marks is one."""
    words, depth, quote = [""], 0, ""
    for letter in word:
        if quote:
            quote = "" if letter == quote else quote
        elif letter in "'\"" and (depth or not words[-1]):
            quote = letter
        else:
            depth += (letter in "([{") - (letter in ")]}")
        if letter == "," and not (depth or quote):
            words.append("")
        else:
            words[-1] += letter
    for one, other in combinations(_different(words), 2):
        if _same(literal(one), literal(other)):
            raise ArgumentTypeError(f"has the same value twice, {one} and {other}")
    return words


def _same(one: Any, other: Any) -> bool:
    return one == other and isinstance(one, bool) == isinstance(other, bool)


def _different(words: list[str]) -> list[str]:
    if "" in words or len(set(words)) < len(words):
        raise ArgumentTypeError("must name different ones, separated by commas")
    return words


def count(word: str) -> int:
    """A whole number of at least 1."""
    if not word.isdecimal() or int(word) < 1:
        raise ArgumentTypeError("must be a whole number of at least 1")
    return int(word)


def sizes(least: int = 1) -> Callable[[str], list[int]]:
    """A type: whole numbers of at least ``least``, separated by commas; none at all for the word ``none``."""

    def read(word: str) -> list[int]:
        if word == "none":
            return []
        try:
            found = [int(each) for each in word.split(",")]
        except ValueError:
            found = [0]
        if min(found) < least:
            raise ArgumentTypeError("must be whole numbers" + (f" above {least - 1}" if least > 1 else ""))
        return found

    return read


def share(word: str) -> float:
    """A number of at least 0, a fraction too."""
    number = _number(word)
    if number is None or not 0 <= number < float("inf"):
        raise ArgumentTypeError("must be a number, 0 or more")
    return number


def seconds(word: str) -> float:
    """A positive number."""
    number = _number(word)
    if number is None or not 0 < number < float("inf"):
        raise ArgumentTypeError("must be a number of seconds")
    return number


def switch(word: str) -> bool:
    """True or False."""
    if word not in ("True", "False"):
        raise ArgumentTypeError("must be True or False")
    return word == "True"


def seeds(word: str) -> list[int]:
    """A number of seeds, which are then those from 2020 on; or two seeds and more, separated by commas."""
    try:
        numbers = [int(each) for each in word.split(",")]
    except ValueError:
        numbers = []
    if not numbers or min(numbers) < 0 or max(numbers) >= 2**32 or len(set(numbers)) < len(numbers) or numbers == [0]:
        raise ArgumentTypeError("must be how many, or different whole numbers below 2**32 separated by commas")
    return numbers if len(numbers) > 1 else [2020 + number for number in range(numbers[0])]


def files(word: str) -> list[str]:
    """Names of files, separated by commas or spaces; a file that exists may have some of these in its name."""
    if Path(word).is_file():
        return [word]
    found = word.replace(",", " ").split()
    if not found:
        raise ArgumentTypeError("--config_files= names no file; name one, or leave it out")
    return found


def begun(word: str) -> str:
    """The checkpoint of a training that goes on."""
    if not word.strip():
        raise ArgumentTypeError("--resume= names no file; name a checkpoint, or say --resume for the newest one")
    return word


def output_file(word: str) -> Path:
    """A file to write to when the work is done; that it can be is checked before."""
    path = Path(word).resolve()
    if (os.path.exists(path) and not path.is_file()) or not path.parent.is_dir():
        raise ArgumentTypeError("must be a file in a folder that there is")
    return Path(word)


def columns(word: str) -> dict[str, list[list[float]]]:
    """Columns of one history: a dict in Python, of a list for each column with a value for each item."""
    try:
        given = ast.literal_eval(word)
        return {str(name): [[float(value) for value in values]] for name, values in given.items()}
    except (ArithmeticError, AttributeError, MemoryError, RecursionError, SyntaxError, TypeError, ValueError) as error:
        example = "{'timestamp': [978300760, 978302109]}"
        raise ArgumentTypeError(f"--columns must be like {example}, but is {word!r}") from error


def _number(word: str) -> float | None:
    try:
        return float(word)
    except ValueError:
        return None
