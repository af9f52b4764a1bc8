"""The parser of a verb: options of its own, and any number of RecBole's ``--key=value``."""

from __future__ import annotations

import argparse
import textwrap
from collections.abc import Callable, Collection, Sequence
from typing import Any, NamedTuple

from recbole_ssm.errors import InputError, did_you_mean

PROGRAM = "python -m recbole_ssm"

WIDTH = 100
"""Of help, in characters."""

_FEW = 6
"""An error names all options of a verb that has no more than this."""


class Option(NamedTuple):
    """An option of a verb, as help shows it."""

    name: str
    value: str
    needed: bool
    help: str

    @property
    def usage(self) -> str:
        """How it stands on the command line; in brackets if it may be left out."""
        words = f"--{self.name}={self.value}"
        return words if self.needed else f"[{words}]"


class VerbParser(argparse.ArgumentParser):
    """The parser of a verb.

    Args:
        verb: its name.
        text: what it does.
        keys: what the keys ``--key=value`` are for; None for a verb that takes none.
        note: stands at the end of help.
    """

    def __init__(self, verb: str, text: str, *, keys: str | None = None, note: str = "") -> None:
        super().__init__(prog=f"{PROGRAM} {verb}", add_help=False, allow_abbrev=False, exit_on_error=False)
        self.verb, self.text, self.keys, self.note = verb, text, keys, note
        self.options: list[Option] = []
        self.words: Option | None = None

    def option(
        self,
        name: str,
        value: str,
        help: str,
        *,
        type: Callable[[str], Any] = str,
        default: Any = None,
        needed: bool = False,
        **how: Any,
    ) -> None:
        """Add an option ``--name=value``.

        Args:
            name: without the dashes.
            value: stands for its value in the usage, for example ``FILE``.
            help: what it is.
            type: see :mod:`recbole_ssm.cli.types`.
            default: the value if it is left out.
            needed: whether it must be given.
            **how: see ``add_argument`` of argparse.
        """
        self.options.append(Option(name, value, needed, help))
        self.add_argument(f"--{name}", type=type, default=default, **how)

    def take_words(self, name: str, value: str, help: str) -> None:
        """Take words that are no options, such as names of files: one or more, as a list.

        Args:
            name: of the list among the values.
            value: stands for a word in the usage, for example ``FILE``.
            help: what they are.
        """
        self.words = Option(name, value, True, help)

    def parse(self, arguments: Sequence[str]) -> tuple[argparse.Namespace, list[str]]:
        """Read the words behind the verb.

        Args:
            arguments: as :func:`joined` leaves them.

        Returns:
            The values of the options, and all other words: the keys.

        Raises:
            InputError: an option is missing, given twice, or has a value that cannot be used.
        """
        words = {option.name: value_of(arguments, option.name) for option in self.options}
        for option in self.options:
            if option.needed and not words[option.name]:
                raise InputError(f"{self.verb} needs --{option.name}=...; {self.verb} --help explains it")
        try:
            given, rest = self.parse_known_args(list(arguments))
        except argparse.ArgumentError as error:
            name = str(error.argument_name).removeprefix("--")
            word = "" if words.get(name) is None else f"={words[name]}"
            whole = error.message.startswith(f"--{name}")
            raise InputError(error.message if whole else f"--{name}{word} {error.message}") from error
        if self.words is not None:
            found = [word for word in rest if not word.startswith("-")]
            setattr(given, self.words.name, found)
            rest = [word for word in rest if word.startswith("-")]
            if not found:
                raise InputError(f"{self.verb} needs {self.words.value}; {self.verb} --help explains it")
        if rest and self.keys is None:
            takes = " and ".join(f"--{option.name}={option.value}" for option in self.options)
            if len(self.options) > _FEW:
                names = [option.name for option in self.options]
                hint = did_you_mean(rest[0].lstrip("-").partition("=")[0], names)
                takes = f"what {self.verb} --help lists{hint}"
            raise InputError(f"{self.verb} has no use for {rest[0]!r}; it takes {takes}")
        return given, rest

    def help(self, arguments: Sequence[str] = ()) -> str:
        """What ``--help`` prints, where ``arguments`` are the other words that are given."""
        usage = [] if self.words is None else [f"{self.words.value} ..."]
        usage += [option.usage for option in self.options] + ["[--key=value ...]"] * (self.keys is not None)
        lines = [*wrapped(f"usage: {self.prog} {' '.join(usage)}"), "", *textwrap.wrap(self.text, WIDTH), ""]
        rows = [] if self.words is None else [(self.words.value, self.words.help)]
        rows += [(f"--{option.name}", option.help) for option in self.options]
        rows += [] if self.keys is None else [("--key=value", self.keys)]
        margin = max(len(name) for name, _ in rows) + 2
        for name, text in rows:
            lines += textwrap.wrap(
                text,
                WIDTH,
                initial_indent=f"{name:<{margin}}",
                subsequent_indent=" " * margin,
                break_on_hyphens=False,
            )
        if self.note:
            lines += ["", *textwrap.wrap(self.note, WIDTH)]
        return "\n".join(lines)

    def error(self, message: str) -> None:  # type: ignore[override]  # argparse's exits
        """Raise InputError in place of leaving the program."""
        raise InputError(f"{self.verb}: {message}")


def wrapped(text: str) -> list[str]:
    """The lines of a paragraph, the second one and those after it indented."""
    return textwrap.wrap(text, WIDTH, subsequent_indent="  ", break_on_hyphens=False)


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


def value_of(arguments: Sequence[str], key: str) -> str | None:
    """The word of ``--key=word``.

    Args:
        arguments: words of the command line.
        key: without the dashes.

    Returns:
        The word, or None if the key is not given.

    Raises:
        InputError: the key is given twice, with different words.
    """
    values = {a.partition("=")[2] for a in arguments if a.startswith(f"--{key}=")}
    if len(values) > 1:
        raise InputError(f"--{key} is given twice, as {' and as '.join(sorted(values))}")
    return next(iter(values), None)
