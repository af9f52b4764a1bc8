"""``inspect``: what is in a checkpoint."""

from __future__ import annotations

from collections.abc import Sequence

from recbole_ssm.checkpoints.describe import describe
from recbole_ssm.cli.arguments import help_of, own_arguments, read_output
from recbole_ssm.cli.two_columns import print_table
from recbole_ssm.errors import InputError


def inspect_checkpoint(arguments: Sequence[str]) -> None:
    """Say what is in a checkpoint: what was trained, on what, and how well."""
    if {"-h", "--help"} & set(arguments):
        print(help_of("inspect --checkpoint=FILE [--json=FILE]", inspect_checkpoint.__doc__))
        return
    given, rest = own_arguments(arguments, "inspect", ("checkpoint",), ("json",))
    if rest:
        raise InputError(f"inspect has no use for {rest[0]!r}; it takes --checkpoint=FILE and --json=FILE")
    json_file = read_output(given, "json")
    print_table(describe(given["checkpoint"]), json_file)
