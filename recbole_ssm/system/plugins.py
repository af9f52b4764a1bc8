"""What other packages register by entry point."""

from __future__ import annotations

from importlib.metadata import EntryPoint
from typing import Any

from recbole_ssm.errors import InputError


def load_plugin(group: str, kind: str, name: str, value: str) -> Any:
    """The object, or the module, of an entry point.

    Args:
        group: of entry points.
        kind: what it registers, in words for the message, such as ``model``.
        name: its name in the group.
        value: ``module:object`` or ``module``, as packaging takes them.

    Returns:
        What the value stands for.

    Raises:
        InputError: it cannot be imported.
    """
    try:
        return EntryPoint(name, value, group).load()
    except (Exception, SystemExit) as error:  # its code may raise anything
        reason = str(error) or type(error).__name__
        raise InputError(
            f"the {kind} {name} ({value}, entry point of {group}) cannot be imported: {reason}; mend or uninstall it"
        ) from error
