"""What runs in a folder were asked for, so that those of other settings or other data are not mixed with them."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from recbole_ssm.checkpoints.latest import differences
from recbole_ssm.config.config import Config
from recbole_ssm.data.atomic_files import files_hash
from recbole_ssm.errors import InputError
from recbole_ssm.system.plain import plain


def asked_for(config: Config, leave_out: Iterable[str] = ()) -> dict:
    """``settings``, all keys and values but those left out, and ``data``, a hash of the files, as JSON has them."""
    settings = {key: value for key, value in plain(config.final_config_dict).items() if key not in set(leave_out)}
    return json.loads(json.dumps({"settings": settings, "data": files_hash(config)}))


def check_same(before: dict, now: dict, folder: Path, what: str) -> None:
    """Raise InputError if what a folder has was asked for with other settings, or on other data, than now.

    Args:
        before: :func:`asked_for` of what is there.
        now: that of what is to be added.
        folder: where.
        what: is there, in words.
    """
    if "data" not in before or "model" not in before.get("settings", {}):
        reason = "of an earlier version of this package"
    elif before["data"] != now["data"]:
        reason = "on other data of this name"
    elif other := list(differences(before["settings"], now["settings"]).values()):
        reason = f"with other settings, {', '.join(other[:5])}"
    else:
        return
    raise InputError(f"{folder} has {what} {reason}; name another folder with --out")
