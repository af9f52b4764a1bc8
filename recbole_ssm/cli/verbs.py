"""The verbs: those of this package, a module each, and those of other packages, which register by entry point."""

from __future__ import annotations

import importlib
from argparse import Namespace
from importlib.metadata import entry_points
from typing import Protocol, cast

from recbole_ssm.cli.parser import VerbParser
from recbole_ssm.errors import InputError, did_you_mean
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
    return {name: _module(name) for name in VERBS} | {
        name: module for name, module in installed.items() if name not in VERBS
    }


def _module(name: str) -> str:
    """The module of a verb of this package."""
    return f"recbole_ssm.cli.{name.replace('-', '_')}"


def find_verb(name: str) -> Verb:
    """The module of a verb.

    Args:
        name: one of :func:`all_verbs`.

    Returns:
        The imported module.

    Raises:
        InputError: there is no such verb, or the module of another package cannot be imported or lacks a function of
            a verb.
    """
    if name in VERBS:  # what is installed need not be looked through
        return cast(Verb, importlib.import_module(_module(name)))
    verbs = all_verbs()
    if name not in verbs:
        hint = did_you_mean(name, verbs) or "."
        raise InputError(f"there is no verb {name!r}{hint} Verbs: {', '.join(verbs)}; arguments are --key=value")
    module = verbs[name]
    found = load_plugin(GROUP, "verb", name, module)
    if not (callable(getattr(found, "parser", None)) and callable(getattr(found, "call", None))):
        raise InputError(f"the verb {name} ({module}, entry point of {GROUP}) must have the functions parser and call")
    return cast(Verb, found)
