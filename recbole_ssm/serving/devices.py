"""Where a model computes, and with which code."""

from __future__ import annotations

import torch

from recbole_ssm.checkpoints.configuration import usable_backend
from recbole_ssm.errors import InputError
from recbole_ssm.ops.backends import check_backend


def usable_device(device: torch.device | str) -> torch.device:
    """A device by its name; InputError if there is none."""
    try:
        torch.ones(1, device=device).item()
        return torch.device(device)
    except (AssertionError, ImportError, NotImplementedError, RuntimeError, TypeError) as error:
        reason = str(error).splitlines()[0].partition(". ")[0]
        raise InputError(f"device {device!r} cannot be used ({reason}); name another, for example cpu") from error


def usable_backend_of(asked: str | None, stored: str | None, device: torch.device) -> str:
    """The backend that is asked for, or else the one of the training where it can be used on this device."""
    if asked is None:
        return usable_backend(stored, device.type) or "auto"
    try:
        check_backend(asked)
    except ValueError as error:
        raise InputError(f"ssm_backend: {error}") from error
    return asked
