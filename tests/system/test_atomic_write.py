"""Atomic writes: a file is whole or not there, and unfinished files of killed writes are removed."""

from __future__ import annotations

import multiprocessing
import os
import sys
from pathlib import Path

import processes
import pytest

from recbole_ssm.system.atomic_write import atomic_write, write_json


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_the_next_write_removes_what_a_killed_one_has_left(tmp_path):
    """But not what another process is writing just now, in whose place a killed process's number may be."""
    names = ("killed.pth", "killed.json", "alive.pth")
    pipe, other = multiprocessing.Pipe()
    writers = [processes.process(processes.write_half, tmp_path / name, other) for name in names]
    for _ in writers:
        pipe.recv()
    for writer in writers[:2]:
        writer.kill()
        writer.join()
    (tmp_path / ".old.pth.1.part").write_bytes(b"of a process whose number another one has now")
    assert len(list(tmp_path.glob(".*.part"))) == 4
    write_json(tmp_path / "other.json", [1])
    assert [file.name for file in tmp_path.glob(".*.part")] == [f".alive.pth.{writers[2].pid}.part"]
    pipe.send(None)
    writers[2].join()
    assert (tmp_path / "alive.pth").read_bytes() == b"half"
    assert sorted(os.listdir(tmp_path)) == ["alive.pth", "other.json"]


def test_files_of_others_stay(tmp_path):
    others = [".hidden.part", "a.12.part", ".a.part", "b.part", ".12"]
    for name in others:
        (tmp_path / name).touch()
    write_json(tmp_path / "a", 1)
    assert sorted(os.listdir(tmp_path)) == sorted([*others, "a"])


def test_an_error_leaves_what_was_there(tmp_path):
    file = Path(tmp_path / "a")
    for before in (None, b"before"):
        if before is not None:
            file.write_bytes(before)
        with pytest.raises(KeyError), atomic_write(file) as content:
            content.write(b"new")
            raise KeyError
        assert os.listdir(tmp_path) == ([] if before is None else ["a"])
        assert before is None or file.read_bytes() == before
