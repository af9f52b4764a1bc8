"""Reading the arguments of verbs: words of the command line, of the form ``--key=value``."""

from __future__ import annotations

import inspect
import os
import textwrap
from collections.abc import Collection, Sequence
from pathlib import Path

from recbole_ssm.errors import InputError
from recbole_ssm.system.atomic_write import atomic_write

PROGRAM = "python -m recbole_ssm"

VERBS = ("train", "evaluate", "inspect", "recommend", "compare", "sweep", "tune", "scaling")
"""What can be asked for, by the first word of the command line; without one it is the first of these."""


def joined(arguments: Sequence[str], switches: Collection[str]) -> list[str]:
    """The arguments with ``--key value`` as ``--key=value``, and a switch without a value as ``--switch=True``."""
    found: list[str] = []
    waits = False
    for argument in arguments:
        if waits and argument != "-h" and not argument.startswith("--"):
            found[-1] += f"={argument}"
            waits = False
            continue
        found.append(argument)
        waits = argument.startswith("--") and "=" not in argument and argument not in ("--", "--help", "--version")
    return [f"{argument}=True" if argument in switches else argument for argument in found]


def help_of(usage: str, text: str) -> str:
    """What ``--help`` prints: the usage, broken into lines, and a docstring.

    Args:
        usage: what stands after the program's name.
        text: with the margin that docstrings have.
    """
    words = textwrap.wrap(f"usage: {PROGRAM} {usage}", 100, subsequent_indent="  ", break_on_hyphens=False)
    return "\n".join([*words, "", inspect.cleandoc(text)])


def value_of(arguments: Sequence[str], key: str) -> str | None:
    """The value of ``--key=value``."""
    values = {a.partition("=")[2] for a in arguments if a.startswith(f"--{key}=")}
    if len(values) > 1:
        raise InputError(f"--{key} is given twice, as {' and as '.join(sorted(values))}")
    return next(iter(values), None)


def own_arguments(arguments: Sequence[str], verb: str, needed: tuple, optional: tuple) -> tuple[dict, list[str]]:
    """What is given of the verb's own arguments, None for the others, and the rest."""
    ours = (*needed, *optional)
    given = {key: value_of(arguments, key) for key in ours}
    for key in needed:
        if not given[key]:
            raise InputError(f"{verb} needs --{key}=...; {verb} --help explains it")
    return given, [a for a in arguments if not a.startswith(tuple(f"--{key}=" for key in ours))]


def read_sizes(given: dict, key: str) -> list[int]:
    """Whole numbers, separated by commas, or ``none``; a catalogue must have more items than are recommended."""
    if given[key] == "none":
        return []
    try:
        sizes = [int(word) for word in given[key].split(",")]
    except ValueError:
        sizes = [0]
    if min(sizes) < (11 if key == "catalogues" else 1):
        raise InputError(f"--{key}={given[key]} must be whole numbers{' above 10' * (key == 'catalogues')}")
    return sizes


def read_count(given: dict, key: str, default: int | None) -> int | None:
    """A whole number of at least 1."""
    if given[key] is None:
        return default
    if not given[key].isdecimal() or int(given[key]) < 1:
        raise InputError(f"--{key}={given[key]} must be a whole number of at least 1")
    return int(given[key])


def read_share(given: dict, key: str) -> float | None:
    """A number of at least 0, a fraction too, or None."""
    try:
        share = None if given[key] is None else float(given[key])
    except ValueError:
        share = -1.0
    if share is not None and not 0 <= share < float("inf"):
        raise InputError(f"--{key}={given[key]} must be a number, 0 or more")
    return share


def read_switch(given: dict, key: str) -> bool | None:
    """True, False or, where it is not given, None."""
    if given[key] not in (None, "True", "False"):
        raise InputError(f"--{key}={given[key]} must be True or False")
    return None if given[key] is None else given[key] == "True"


def read_names(given: dict, key: str) -> list[str]:
    """Words separated by commas, all different."""
    words = given[key].split(",")
    if "" in words or len(set(words)) < len(words):
        raise InputError(f"--{key}={given[key]} must name different ones, separated by commas")
    return words


def read_seeds(text: str) -> list[int]:
    """How many seeds, which are then those from 2020 on, or two of them and more, separated by commas."""
    try:
        numbers = [int(word) for word in text.split(",")]
    except ValueError:
        numbers = []
    if not numbers or min(numbers) < 0 or max(numbers) >= 2**32 or len(set(numbers)) < len(numbers) or numbers == [0]:
        raise InputError(f"--seeds={text} must be how many, or different whole numbers below 2**32 separated by commas")
    return numbers if len(numbers) > 1 else [2020 + number for number in range(numbers[0])]


def read_seconds(text: str | None) -> float | None:
    """A positive number, or None."""
    try:
        seconds = None if text is None else float(text)
    except ValueError:
        seconds = 0.0
    if seconds is not None and not 0 < seconds < float("inf"):
        raise InputError(f"--budget={text} must be a number of seconds")
    return seconds


def read_files(text: str | None) -> list[str]:
    """Names of files, separated by commas or spaces; one that has some in its name, and is there, stands alone."""
    if text is not None and Path(text).is_file():
        return [text]
    files = (text or "").replace(",", " ").split()
    if text is not None and not files:
        raise InputError("--config_files= names no file; name one, or leave it out")
    return files


def read_output(given: dict, key: str) -> Path | None:
    """A file to write to when the work is done, which is checked before it; links are followed."""
    if given[key] is None:
        return None
    path = Path(os.path.realpath(given[key]))
    if (os.path.exists(path) and not path.is_file()) or not path.parent.is_dir():
        raise InputError(f"--{key}={given[key]} must be a file in a folder that there is")
    return path


def write_output(path: Path, content: bytes) -> None:
    """The file whole, or as it was before."""
    try:
        with atomic_write(path) as file:
            file.write(content)
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error}") from error
