"""Packages that only some features need, and that an extra of this package installs."""

from __future__ import annotations

import importlib
from typing import Any

from recbole_ssm.errors import InputError


def package(module: str, extra: str, what: str) -> Any:
    """A module of a package that may be missing.

    Args:
        module: its name.
        extra: the extra of this package that installs it.
        what: needs it, in words for the message.

    Returns:
        The module.

    Raises:
        InputError: it is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        name = module.partition(".")[0]
        raise InputError(f"{what} needs {name} ({error}); pip install 'recbole-ssm[{extra}]'") from error
