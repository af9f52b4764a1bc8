"""What verbs about a checkpoint found, on the screen and as JSON."""

from __future__ import annotations

import json
import textwrap
from pathlib import Path

from recbole_ssm.cli.arguments import write_output
from recbole_ssm.system.terminal import printable


def print_table(found: dict, json_file: Path | None) -> None:
    """Print a table of two columns, and write it as JSON where that is asked for."""
    for name, value in found.items():
        words = ", ".join(f"{key} {item}" for key, item in value.items()) if isinstance(value, dict) else str(value)
        print("\n".join(textwrap.wrap(printable(f"{name:<20}{words}"), 110, subsequent_indent=" " * 20)))
    if json_file is not None:
        write_output(json_file, (json.dumps(found, indent=1) + "\n").encode())
