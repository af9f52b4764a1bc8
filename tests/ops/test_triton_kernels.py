"""This package's Triton kernels on a CPU, in Triton's interpreter, and on a GPU where there is one."""

import os
import subprocess
import sys
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

from recbole_ssm.ops.backends.triton.backend import TRITON
from recbole_ssm.testing import check_backend

needs_triton = pytest.mark.skipif(find_spec("triton") is None, reason="triton is not installed: pip install triton")


@needs_triton
@pytest.mark.slow
def test_kernels_equal_their_formulas():
    tests = Path(__file__).parents[1]
    path = os.pathsep.join([str(tests), str(tests.parent), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = os.environ | {"TRITON_INTERPRET": "1", "PYTHONPATH": path}
    script = Path(__file__).with_name("triton_interpreted.py")
    done = subprocess.run(
        [sys.executable, str(script)], env=environment, capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == 0, done.stderr


@needs_triton
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU here")
@pytest.mark.parametrize("op", sorted(TRITON.kernels))
def test_kernels_on_a_gpu(op):
    check_backend(replace(TRITON, kernels={op: TRITON.kernels[op]}), device="cuda")
