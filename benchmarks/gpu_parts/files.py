"""Results as JSON."""

from __future__ import annotations

import json
import os
from pathlib import Path


def write(file: Path, content: dict) -> None:
    """Replace a file at once, so that a reader never finds half of it."""
    new = file.with_suffix(".new")
    new.write_text(json.dumps(content, indent=1), encoding="utf-8")
    os.replace(new, file)


def read(file: Path) -> dict:
    """What :func:`write` wrote."""
    return json.loads(file.read_text(encoding="utf-8"))
