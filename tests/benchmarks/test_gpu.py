"""benchmarks/gpu.py, without a GPU: all of it from end to end with tiny sizes, and what can be seen more quickly."""

import importlib
import json
import os
import subprocess
import sys

import pytest
import torch
from atomic import ROOT

sys.path.insert(0, str(ROOT / "benchmarks"))
import gpu
from data import generate
from gpu_parts import LIMITS, child, wheels
from gpu_parts.files import read
from gpu_parts.tables import page

SCRIPT = ROOT / "benchmarks" / "gpu.py"


def script(*arguments, **options) -> subprocess.CompletedProcess:
    """Run it in a process of its own."""
    command = [sys.executable, str(SCRIPT), *map(str, arguments)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment, **options)


@pytest.fixture
def part(tmp_path, monkeypatch):
    """Does what the process of a part does, in this one, and returns what the part has found."""
    monkeypatch.setattr(sys, "meta_path", [*sys.meta_path])

    def jobs_here(place, name, jobs, **_):
        for job in jobs:
            importlib.import_module(f"gpu_parts.{name}").job(place, job)

    def serve(name, *flags):
        monkeypatch.setattr(f"gpu_parts.{name}.in_parallel", jobs_here, raising=False)
        (tmp_path / name).mkdir()
        monkeypatch.chdir(tmp_path / name)
        data, result = tmp_path / "dataset", tmp_path / f"{name}.json"
        given = ["--tiny", "--child", name, "--data", str(data), "--result", str(result), "--seconds", "3600", *flags]
        child.serve(gpu._parser().parse_args(given))
        return read(result)

    return serve


def failures(value, path=""):
    """Where something says that it failed."""
    if isinstance(value, dict):
        for key, each in value.items():
            yield from [f"{path}: {each}"] if key == "failed" else failures(each, f"{path}/{key}")


@pytest.mark.slow
def test_all_parts_run_on_a_cpu(tmp_path, part):
    generate(tmp_path / "dataset", 900, users=30)
    parts = {name: part(name, "--cpu") for name in LIMITS}
    assert not list(failures(parts))
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
    machine = {"gpu": None, "cpu": "a processor", "torch": torch.__version__, "seconds": 1.0}
    shown = page({"date": "2026-01-01", "tiny": True, "parts": {"machine": machine} | parts})
    assert all(f"({name}, " in shown for name in parts)


@pytest.mark.slow
def test_a_part_is_a_process_and_its_table_is_printed_again_on_request(tmp_path):
    done = script("--cpu", "--tiny", "--parts=ml1m", "--seconds", 3600, "--out", tmp_path, "--wheels", tmp_path / "no")
    results = json.loads((tmp_path / "results.json").read_text())
    assert not list(failures(results["parts"])), (tmp_path / "log.txt").read_text()[-3000:]
    assert done.returncode == 0, done.stderr
    assert list(results["parts"]) == ["machine", "ml1m"]
    assert "(ml1m, " in done.stdout
    assert page(results).strip() in done.stdout


def test_without_a_gpu_it_says_so(part):
    if torch.cuda.is_available():
        pytest.skip("there is a GPU here")
    assert part("ml1m") == {"skipped": "torch finds no GPU; --cpu rehearses on the CPU"}


PROGRAMS = {
    "machine": "import json; json.dump({'cpu': 'one'}, open({result!r}, 'w'))",
    "models": "raise SystemExit(3)",
    "ml1m": "import time; time.sleep(60)",
}


@pytest.mark.slow
def test_a_part_that_fails_or_whose_time_ends_does_not_stop_the_others(tmp_path, monkeypatch):
    monkeypatch.setattr(gpu, "LEAST", 0.2)
    monkeypatch.setattr(gpu, "_print_table", lambda *_: None)
    monkeypatch.setattr(
        gpu,
        "command",
        lambda name, result, *_, **__: [sys.executable, "-c", PROGRAMS[name].replace("{result!r}", repr(str(result)))],
    )
    monkeypatch.setattr("signal.signal", lambda *_: None)
    given = ["--cpu", "--tiny", "--parts=models,ml1m,steps", "--seconds=2.5", f"--out={tmp_path / 'out'}"]
    assert gpu.main(given) == 1
    parts = json.loads((tmp_path / "out" / "results.json").read_text())["parts"]
    assert parts["machine"]["cpu"] == "one"
    assert parts["models"]["failed"] == "status 3"
    assert parts["ml1m"]["failed"].startswith("its time ended")
    assert parts["steps"] == {"failed": "no time was left"}


@pytest.mark.parametrize(
    ("arguments", "message"), [("--parts right,all", "all is none of right,"), ("--part a", "--part")]
)
def test_wrong_arguments_end_in_one_sentence(arguments, message, capsys):
    with pytest.raises(SystemExit) as end:
        gpu.main(arguments.split())
    assert end.value.code == 2
    assert message in capsys.readouterr().err


def test_wheels_of_other_pythons_are_left_out():
    here = f"cp{sys.version_info[0]}{sys.version_info[1]}"
    assert wheels.fits("recbole-1.2.1-py3-none-any.whl")
    assert wheels.fits("pytz-2026.6-py2.py3-none-any.whl")
    assert wheels.fits(f"pandas-2.3.3-{here}-{here}-manylinux_2_28_x86_64.whl")
    assert not wheels.fits("pandas-2.3.3-cp27-cp27mu-manylinux_2_28_x86_64.whl")
