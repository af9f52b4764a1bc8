"""``inspect``: what is in a checkpoint."""

from __future__ import annotations

from argparse import Namespace

from recbole_ssm.cli import types
from recbole_ssm.cli.output import print_table
from recbole_ssm.cli.parser import VerbParser


def parser() -> VerbParser:
    """The options of the verb."""
    found = VerbParser("inspect", "Say what is in a checkpoint: what was trained, on what, and how well.")
    found.option("checkpoint", "FILE", "the file", needed=True)
    found.option("json", "FILE", "file to write the same to, for programs", type=types.output_file)
    return found


def call(given: Namespace, keys: list[str]) -> None:
    """Print what is in the file."""
    from recbole_ssm.checkpoints.describe import describe

    print_table(describe(given.checkpoint), given.json)
