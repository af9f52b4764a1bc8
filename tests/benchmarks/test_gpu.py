"""benchmarks/gpu.py, without a GPU: all of it from end to end with tiny sizes, and what can be seen more quickly."""

import json
import os
import subprocess
import sys

import pytest
from atomic import ROOT

sys.path.insert(0, str(ROOT / "benchmarks"))
from gpu_parts import LIMITS, wheels

SCRIPT = ROOT / "benchmarks" / "gpu.py"


def script(*arguments, **options) -> subprocess.CompletedProcess:
    """Run it in a process of its own."""
    command = [sys.executable, str(SCRIPT), *map(str, arguments)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment, **options)


def failures(value, path=""):
    """Where something says that it failed."""
    if isinstance(value, dict):
        for key, each in value.items():
            yield from [f"{path}: {each}"] if key == "failed" else failures(each, f"{path}/{key}")


@pytest.mark.slow
def test_all_parts_run_on_a_cpu(tmp_path):
    done = script("--cpu", "--tiny", "--seconds", 3600, "--out", tmp_path, "--wheels", tmp_path / "none")
    results = json.loads((tmp_path / "results.json").read_text())
    assert not list(failures(results["parts"])), (tmp_path / "log.txt").read_text()[-3000:]
    assert done.returncode == 0, done.stderr
    parts = results["parts"]
    assert list(parts) == ["machine", *LIMITS]
    assert parts["right"]["torch/ssd"]["float32"]["error"] < 1e-5
    assert parts["right"]["torch/ssd"]["long, bfloat16"]["error"] < 2e-2
    assert parts["models"]["2Mamba4Rec"]["right"] is True
    assert parts["models"]["SSD4Rec"]["resumed on the GPU"]["difference"] == 0
    for variant in ("with CUDA graphs", "the recipe"):
        assert [epoch["epoch"] for epoch in parts["ml1m"][variant]["epochs"]] == [1, 2]
    assert parts["paper"]["slice"]["tokens_per_second"] > 0
    assert parts["paper"]["whole"]["padded"]["seconds"] > 0
    assert parts["serving"]["2Mamba4Rec, session"]["median"] > 0
    assert parts["serving"]["2Mamba4Rec, step and ranking, CUDA graph"] == {"skipped": "it needs a GPU"}
    assert parts["steps"]["determinism"]["same_weights"] is True
    for part in LIMITS:
        assert f"({part}, " in done.stdout
    again = script("--table", tmp_path)
    assert again.returncode == 0, again.stderr
    assert again.stdout.strip() in done.stdout


@pytest.mark.slow
def test_without_a_gpu_it_says_so(tmp_path):
    if "cuda" in subprocess.run(["ls", "/dev"], capture_output=True, text=True, check=False).stdout:
        pytest.skip("there may be a GPU here")
    done = script("--tiny", "--parts", "ml1m", "--out", tmp_path, "--wheels", tmp_path / "none")
    assert "skipped: torch finds no GPU; --cpu rehearses on the CPU" in done.stdout


@pytest.mark.slow
def test_a_part_whose_time_ends_does_not_stop_the_others(tmp_path):
    done = script("--cpu", "--tiny", "--parts", "ml1m,steps", "--seconds", 9, "--out", tmp_path)
    assert done.returncode == 1
    parts = json.loads((tmp_path / "results.json").read_text())["parts"]
    assert set(parts) == {"machine", "ml1m", "steps"}
    assert parts["steps"] == {"failed": "no time was left"}


@pytest.mark.parametrize(
    ("arguments", "message"), [("--parts right,all", "all is none of right,"), ("--part a", "--part")]
)
def test_wrong_arguments_end_in_one_sentence(arguments, message):
    done = script(*arguments.split())
    assert done.returncode == 2
    assert message in done.stderr


def test_wheels_of_other_pythons_are_left_out():
    here = f"cp{sys.version_info[0]}{sys.version_info[1]}"
    assert wheels.fits("recbole-1.2.1-py3-none-any.whl")
    assert wheels.fits("pytz-2026.6-py2.py3-none-any.whl")
    assert wheels.fits(f"pandas-2.3.3-{here}-{here}-manylinux_2_28_x86_64.whl")
    assert not wheels.fits("pandas-2.3.3-cp27-cp27mu-manylinux_2_28_x86_64.whl")
