"""This package's Triton kernels on a CPU, in Triton's interpreter; ``tests/gpu`` has them on a GPU."""

import os
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from recbole_ssm.ops.backends.triton import backend
from recbole_ssm.ops.backends.triton.backend import TRITON

needs_triton = pytest.mark.skipif(TRITON.missing() is not None, reason=str(TRITON.missing()))


@needs_triton
@pytest.mark.slow
def test_kernels_equal_their_formulas_and_keep_to_their_memory():
    """In a process of their own: Triton reads TRITON_INTERPRET when it is imported."""
    tests = Path(__file__).parents[1]
    path = os.pathsep.join([str(tests), str(tests.parent), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = os.environ | {"TRITON_INTERPRET": "1", "PYTHONPATH": path}
    script = Path(__file__).with_name("triton_interpreted.py")
    done = subprocess.run(
        [sys.executable, str(script)], env=environment, capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == 0, done.stderr


@needs_triton
def test_kernels_are_launched_on_the_gpu_that_has_the_tensors(monkeypatch):
    """Triton launches on the current one."""
    from recbole_ssm.ops.backends.triton import attention

    current = []

    @contextmanager
    def device_of(tensor):
        current.append(tensor)
        yield
        current.pop()

    monkeypatch.setattr(torch.cuda, "device_of", device_of)
    monkeypatch.setattr(attention, "attention", lambda *_: list(current))
    q = torch.zeros(2)
    assert TRITON.kernels["attention"].run(q, torch.zeros(3)) == [q]
    assert not current


@pytest.mark.parametrize(("installed", "good"), [("3.2.0", False), ("3.3.1", False), ("3.4.0", True), ("3.10.0", True)])
def test_a_triton_that_is_too_old_is_named(monkeypatch, installed, good):
    monkeypatch.setattr(backend, "find_spec", lambda name: name)
    monkeypatch.setattr(backend, "version", lambda name: installed)
    told = backend._missing.__wrapped__()
    assert told is None if good else "triton 3.4" in told and installed[:3] in told
