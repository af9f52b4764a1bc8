"""What verbs print and write."""

from __future__ import annotations

import json
import textwrap
from pathlib import Path
from typing import Any

from recbole_ssm.errors import InputError
from recbole_ssm.system.atomic_write import atomic_write
from recbole_ssm.system.terminal import printable


def print_table(found: dict[str, Any], json_file: Path | None) -> None:
    """Print names and values in two columns.

    Args:
        found: a value that is a dict is printed as its names and values.
        json_file: gets the same as JSON; None for no file.

    Raises:
        InputError: the file cannot be written.
    """
    for name, value in found.items():
        words = ", ".join(f"{key} {item}" for key, item in value.items()) if isinstance(value, dict) else str(value)
        print("\n".join(textwrap.wrap(printable(f"{name:<20}{words}"), 110, subsequent_indent=" " * 20)))
    if json_file is not None:
        write_output(json_file, (json.dumps(found, indent=1) + "\n").encode())


def write_output(path: Path, content: bytes) -> None:
    """Write a file in an atomic write; InputError if that cannot be done."""
    try:
        with atomic_write(path) as file:
            file.write(content)
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error}") from error
