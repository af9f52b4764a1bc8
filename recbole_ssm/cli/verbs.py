"""The verbs: those of this package, a module each, and those of other packages, which register by entry point."""

from __future__ import annotations

import importlib
from argparse import Namespace
from importlib.metadata import entry_points
from typing import Protocol, cast

from recbole_ssm.cli.parser import VerbParser
from recbole_ssm.errors import InputError
from recbole_ssm.system.plugins import load_plugin

VERBS = (
    *("train", "evaluate", "inspect", "recommend", "compare", "sweep", "tune", "scaling"),
    *("serve", "import", "export", "item-vectors"),
)
"""The verbs of this package. Without a verb it is the first of these."""

GROUP = "recbole_ssm.verbs"
"""The group of entry points by which another package names the modules of its verbs."""


class Verb(Protocol):
    """The module of a verb."""

    def parser(self) -> VerbParser:
        """The options of the verb."""

    def call(self, given: Namespace, keys: list[str]) -> None:
        """Do what is asked for.

        Args:
            given: the values of the options, and ``command``, the command line.
            keys: the words ``--key=value`` for RecBole's configuration.
        """


def all_verbs() -> dict[str, str]:
    """The name of each verb and its module."""
    installed = {point.name: point.value for point in entry_points(group=GROUP)}
    return {name: f"recbole_ssm.cli.{name.replace('-', '_')}" for name in VERBS} | {
        name: module for name, module in installed.items() if name not in VERBS
    }


def find_verb(name: str) -> Verb:
    """The module of a verb.

    Args:
        name: one of :func:`all_verbs`.

    Returns:
        The imported module.

    Raises:
        InputError: the module of another package cannot be imported, or lacks a function of a verb.
    """
    module = all_verbs()[name]
    if name in VERBS:
        return cast(Verb, importlib.import_module(module))
    found = load_plugin(GROUP, "verb", name, module)
    if not (callable(getattr(found, "parser", None)) and callable(getattr(found, "call", None))):
        raise InputError(f"the verb {name} ({module}, entry point of {GROUP}) must have the functions parser and call")
    return cast(Verb, found)
