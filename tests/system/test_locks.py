"""The lock of a folder: exclusive, gone with its process, and its message names the holder."""

from __future__ import annotations

import multiprocessing
import os
import signal

import processes
import pytest

from recbole_ssm.errors import InputError
from recbole_ssm.system.locks import folder_lock


@pytest.fixture
def holder(tmp_path):
    """A process that holds the lock of ``tmp_path``, and what ends it when it is called."""
    pipe, other = multiprocessing.Pipe()
    process = processes.process(processes.hold_lock, tmp_path, other)
    child = pipe.recv()

    def end():
        pipe.send(None)
        process.join()

    yield process, end
    os.kill(child, signal.SIGTERM)
    process.kill()
    process.join()


@pytest.mark.slow
def test_a_folder_is_one_process_s_until_it_has_done(holder, tmp_path):
    process, end = holder
    message = rf"another process is at work in .*\(process {process.pid} on .+\); wait for its end, or .* --out"
    for wait in (0.0, 0.3):
        with pytest.raises(InputError, match=message), folder_lock(tmp_path, wait=wait):
            pass
    end()
    with folder_lock(tmp_path):
        pass


@pytest.mark.slow
def test_a_killed_process_holds_nothing_although_its_child_lives(holder, tmp_path):
    process, _ = holder
    process.kill()
    process.join()
    with folder_lock(tmp_path, wait=5.0):
        assert f"process {os.getpid()} on" in next(tmp_path.glob(".lock-holder")).read_text(encoding="utf-8")
    assert not list(tmp_path.glob(".lock-holder"))


@pytest.mark.slow
def test_other_folders_are_free(holder, tmp_path):
    (tmp_path / "other").mkdir()
    with folder_lock(tmp_path / "other"):
        pass
