"""This package's Triton kernels on a CPU, in Triton's interpreter; ``tests/gpu`` has them on a GPU."""

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

needs_triton = pytest.mark.skipif(find_spec("triton") is None, reason="triton is not installed: pip install triton")


@needs_triton
@pytest.mark.slow
@pytest.mark.parametrize("script", ["triton_interpreted", "triton_watched_faults"])
def test_kernels_equal_their_formulas_and_keep_to_their_memory(script):
    tests = Path(__file__).parents[1]
    path = os.pathsep.join([str(tests), str(tests.parent), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = os.environ | {"TRITON_INTERPRET": "1", "PYTHONPATH": path}
    script = Path(__file__).with_name(f"{script}.py")
    done = subprocess.run(
        [sys.executable, str(script)], env=environment, capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == 0, done.stderr
