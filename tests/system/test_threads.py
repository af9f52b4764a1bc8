"""How many threads compute, and how waiting threads wait."""

import functools
import json
import math
import os
from types import SimpleNamespace

import pytest
import torch
from atomic import BARE, run_python

from recbole_ssm.system import openmp, threads

NAMES = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "LOCAL_WORLD_SIZE")

LATE = f"import torch{BARE}from recbole_ssm.system.openmp import wait_passively; wait_passively()"
"""What importing the package first does, after torch has been imported."""

SPINNING = """
{imports}
import json, os, sys, threading, time
import psutil, torch
torch.set_num_threads(2)

def of_others():
    every = psutil.Process().threads()
    return sum(thread.user_time + thread.system_time for thread in every if thread.id != threading.get_native_id())

x = torch.randn(2000, 64)
torch.nn.functional.gelu(x)  # starts the threads
time.sleep(0.1)
others, own = of_others(), time.thread_time()
for _ in range(60):
    torch.nn.functional.gelu(x)
    busy = time.thread_time() + 0.01  # many times as long as a waiting thread may spin
    while time.thread_time() < busy:
        pass
variables = os.environ["OMP_WAIT_POLICY"], os.environ["GOMP_SPINCOUNT"]
print(json.dumps([of_others() - others, time.thread_time() - own, *variables]))
"""


@pytest.fixture(autouse=True)
def nothing_asked_for(monkeypatch):
    """The environment says nothing of threads, and afterwards what it said."""
    for name in NAMES:
        monkeypatch.setenv(name, "")  # so that it is set back, whatever a test does
        monkeypatch.delenv(name)


@pytest.fixture
def first_call(monkeypatch):
    """:func:`openmp.wait_passively` as if it had not been called when the package was imported."""
    again = functools.cache(openmp.wait_passively.__wrapped__)
    for module in (openmp, threads):
        monkeypatch.setattr(module, "wait_passively", again)


@pytest.mark.slow
@pytest.mark.skipif(os.cpu_count() < 2, reason="with more threads than cores OpenMP never spins for long")
@pytest.mark.parametrize("imports", ["import recbole_ssm, torch", LATE], ids=["first", "after torch"])
def test_threads_that_wait_take_no_time(tmp_path, imports):
    done = run_python("-c", SPINNING.format(imports=imports), folder=tmp_path)
    assert done.returncode == 0, done.stderr
    others, own, *variables = json.loads(done.stdout)
    assert others < own / 4  # time of the processor, of which a spinning thread takes as much as the working one
    assert variables == ["PASSIVE", str(openmp.SPINS)]  # for processes that are started


@pytest.mark.parametrize(
    ("name", "value"), [("OMP_WAIT_POLICY", "ACTIVE"), ("GOMP_SPINCOUNT", "1000"), ("KMP_BLOCKTIME", "200")]
)
def test_the_users_way_of_waiting_holds(monkeypatch, first_call, name, value):
    monkeypatch.setenv(name, value)
    monkeypatch.setattr(openmp, "_calm", lambda library: pytest.fail("a library was changed"))
    openmp.wait_passively()
    assert {n: os.environ[n] for n in NAMES if n in os.environ} == {name: value}
    with threads.chosen() as words:
        assert words.endswith(f"; waiting ones as {name}={value} says")


def test_what_cannot_be_set_is_said(monkeypatch, first_call):
    monkeypatch.setattr(openmp, "_calm", lambda library: False)
    openmp.wait_passively()
    with threads.chosen() as words:
        assert "waiting ones may spin" in words
        assert "OMP_WAIT_POLICY=PASSIVE" in words


def test_other_libraries_are_told_to_block_or_left_alone():
    told = []
    assert openmp._calm(SimpleNamespace(kmp_set_blocktime=told.append, GOMP_parallel=None))
    assert told == [0]
    assert not openmp._calm(SimpleNamespace())


@pytest.mark.parametrize(
    ("torchs", "cores", "quota", "most", "environment", "expected"),
    [
        (64, 64, math.inf, None, {}, "64 (as many as cores)"),
        (64, 64, math.inf, 8, {}, "8 (more do not help this model)"),
        (4, 4, math.inf, 8, {}, "4 (as many as cores)"),
        (64, 64, 2.0, 8, {}, "2 (the cgroup's CPU quota is 2)"),
        (16, 16, 0.4, None, {}, "1 (the cgroup's CPU quota is 0.4)"),
        (8, 8, 2.6, None, {}, "3 (the cgroup's CPU quota is 2.6)"),
        (32, 64, 1e6, None, {}, "32 (as torch has it)"),
        (12, 64, 2.0, 8, {}, "12 (as torch has it)"),
        (16, 64, 2.0, 8, {"OMP_NUM_THREADS": "16"}, "16 (OMP_NUM_THREADS=16)"),
        (3, 64, 2.0, 8, {"MKL_NUM_THREADS": "3"}, "3 (MKL_NUM_THREADS=3)"),
        (5, 64, 2.0, 8, {"OMP_NUM_THREADS": "4,2"}, "5 (as torch has it, whatever OMP_NUM_THREADS=4,2 says)"),
        (2, 64, 2.0, 8, {"OMP_NUM_THREADS": "abc"}, "2 (as torch has it, whatever OMP_NUM_THREADS=abc says)"),
        (64, 64, math.inf, 8, {"LOCAL_WORLD_SIZE": "1"}, "8 (more do not help this model)"),
    ],
)
def test_how_many(monkeypatch, torchs, cores, quota, most, environment, expected):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(threads, "_cores", lambda: cores)
    monkeypatch.setattr(threads, "_quota", lambda: quota)
    monkeypatch.setattr(threads.psutil, "cpu_count", lambda logical: cores // 2)
    torch.set_num_threads(torchs)  # the fixture torch_for_tests sets it back
    with threads.chosen(most) as words:
        assert words.startswith(expected + "; ")
        assert torch.get_num_threads() == int(expected.split()[0])
    assert torch.get_num_threads() == torchs


@pytest.mark.parametrize(
    ("of_torchrun", "processes", "torchs", "quota", "expected"),
    [
        ({}, 2, 1, math.inf, "8 (more do not help this model)"),
        ({}, 4, 1, math.inf, "6 (as many as cores, divided among 4 processes)"),
        ({}, 4, 1, 10.0, "2 (the cgroup's CPU quota is 10, divided among 4 processes)"),
        ({}, 40, 1, math.inf, "1 (as many as cores, divided among 40 processes)"),
        ({}, 2, 3, math.inf, "3 (as torch has it)"),
        ({"OMP_NUM_THREADS": "1"}, 2, 1, math.inf, "1 (OMP_NUM_THREADS=1)"),
    ],
)
def test_torchruns_processes_share(monkeypatch, of_torchrun, processes, torchs, quota, expected):
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "any")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # as torchrun sets it for its processes where nobody has
    monkeypatch.setenv("LOCAL_WORLD_SIZE", str(processes))
    monkeypatch.setattr(threads, "_cores", lambda: 24)
    monkeypatch.setattr(threads, "_quota", lambda: quota)
    parent = SimpleNamespace(parent=lambda: SimpleNamespace(environ=lambda: of_torchrun))
    monkeypatch.setattr(threads.psutil, "Process", lambda: parent)
    torch.set_num_threads(torchs)
    with threads.chosen(8) as words:
        assert words.startswith(expected + "; ")


@pytest.mark.parametrize(
    ("groups", "files", "expected"),
    [
        ("0::/\n", {"cpu.max": "150000 100000\n"}, 1.5),
        ("0::/\n", {"cpu.max": "max 100000\n"}, math.inf),
        ("0::/user/job\n", {"user/cpu.max": "200000 100000\n", "user/job/cpu.max": "400000 100000\n"}, 2.0),
        ("0::/user/job\n", {"cpu.max": "max 100000\n", "user/job/cpu.max": "50000 100000\n"}, 0.5),
        ("3:cpu,cpuacct:/\n", {"cpu/cpu.cfs_quota_us": "300000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 3.0),
        ("3:cpu:/\n0::/\n", {"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, math.inf),
        (
            "5:cpuset:/docker/1\n3:cpu:/docker/1\n",  # the host's path, which is not there in the container
            {"cpu/cpu.cfs_quota_us": "25000\n", "cpu/cpu.cfs_period_us": "50000\n", "cpuset/cpu.max": "1 1000\n"},
            0.5,
        ),
        ("0::/../..\n", {"cpu.max": "100000 100000\n"}, 1.0),
        ("0::/\n", {"cpu.max": "nonsense\n"}, math.inf),
        (None, {}, math.inf),
    ],
)
def test_quotas_of_cgroups(tmp_path, groups, files, expected):
    told, mounted = tmp_path / "cgroup", tmp_path / "mounted"
    if groups is not None:
        told.write_text(groups)
    for name, text in files.items():
        (mounted / name).parent.mkdir(parents=True, exist_ok=True)
        (mounted / name).write_text(text)
    assert threads._quota(told, mounted) == expected
