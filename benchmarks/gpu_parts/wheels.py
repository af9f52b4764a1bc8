"""Packages from a folder of wheels, installed without a network and beside what is there."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def install(folder: Path, into: Path) -> Path:
    """Install the wheels of a folder that this Python can use.

    Args:
        folder: of ``*.whl``, one version of each package.
        into: a new folder.

    Returns:
        ``into``, which is to come first on Python's path.
    """
    fitting = [str(wheel) for wheel in sorted(folder.glob("*.whl")) if fits(wheel.name)]
    into.mkdir()
    if fitting:
        options = ["--quiet", "--no-index", "--no-deps", "--no-compile", "--no-cache-dir", "--target", str(into)]
        try:
            subprocess.run([sys.executable, "-m", "pip", "install", *options, *fitting], check=True, timeout=120)
        except subprocess.SubprocessError:
            print(f"the wheels of {folder} are not installed; what needs them will fail", flush=True)
    return into


def fits(name: str) -> bool:
    """Whether a wheel is for this Python: pure ones are, and those that name its version."""
    python = name.removesuffix(".whl").split("-")[-3]
    return "py3" in python.split(".") or python == f"cp{sys.version_info[0]}{sys.version_info[1]}"
