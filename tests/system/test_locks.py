"""The lock of a folder: exclusive, gone with its process, and its message names the holder."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from recbole_ssm.errors import InputError
from recbole_ssm.system.locks import folder_lock

HOLDING = """
import subprocess, sys
from pathlib import Path
from recbole_ssm.system.locks import folder_lock
with folder_lock(Path(sys.argv[1])):
    child = subprocess.Popen(["sleep", "60"], stdout=subprocess.DEVNULL)
    print(child.pid, flush=True)
    sys.stdin.readline()
"""


@pytest.fixture
def holder(tmp_path):
    """A process that holds the lock of ``tmp_path``, until it is told a line, and the number of its child."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    process = subprocess.Popen([sys.executable, "-c", HOLDING, str(tmp_path)], **pipes)
    child = int(process.stdout.readline())
    yield process
    os.kill(child, signal.SIGTERM)
    process.kill()
    process.communicate()


@pytest.mark.slow
def test_a_folder_is_one_process_s_until_it_has_done(holder, tmp_path):
    message = rf"another process is at work in .*\(process {holder.pid} on .+\); wait for its end, or .* --out"
    for wait in (0.0, 0.3):
        with pytest.raises(InputError, match=message), folder_lock(tmp_path, wait=wait):
            pass
    holder.communicate("\n")
    with folder_lock(tmp_path):
        pass


@pytest.mark.slow
def test_a_killed_process_holds_nothing_although_its_child_lives(holder, tmp_path):
    holder.kill()
    holder.wait()
    with folder_lock(tmp_path, wait=5.0):
        assert f"process {os.getpid()} on" in next(tmp_path.glob(".lock-holder")).read_text(encoding="utf-8")
    assert not list(tmp_path.glob(".lock-holder"))


@pytest.mark.slow
def test_other_folders_are_free(holder, tmp_path):
    (tmp_path / "other").mkdir()
    with folder_lock(tmp_path / "other"):
        pass
