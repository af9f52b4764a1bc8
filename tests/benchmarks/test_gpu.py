"""benchmarks/gpu.py, without a GPU: each part with tiny sizes, and how parts are started and ended.

``python benchmarks/gpu.py --cpu --tiny`` runs all parts as on a GPU, in processes of their own.
"""

import json
import os
import sys
import time
from argparse import Namespace
from importlib import import_module

import pytest
import torch
from atomic import ROOT

sys.path.insert(0, str(ROOT / "benchmarks"))
import gpu
from data import generate
from gpu_parts import LIMITS, child, children, sanitizer, tables, wheels
from gpu_parts.files import read
from gpu_parts.place import Place


def failures(value, path=""):
    """Where something says that it failed."""
    if isinstance(value, dict):
        for key, each in value.items():
            yield from [f"{path}: {each}"] if key == "failed" else failures(each, f"{path}/{key}")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dataset")
    generate(folder, 900, users=30)
    return folder


@pytest.fixture
def place(data, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return Place(torch.device("cpu"), True, data, time.time() + 3600, tmp_path / "result.json")


def found_in_right(found):
    assert found["torch/ssd"]["float32"]["error"] < 1e-5
    assert found["torch/ssd"]["float32"]["all"]
    assert found["torch/ssd"]["long, bfloat16"]["error"] < 2e-2


def found_in_models(found):
    assert found["2Mamba4Rec"]["right"] is True
    assert found["SSD4Rec"]["resumed on the GPU"]["difference"] == 0


def found_in_ml1m(found):
    assert [epoch["epoch"] for epoch in found["with CUDA graphs"]["epochs"]] == [1, 2]
    assert found["the recipe"]["reached"]["epoch"] == len(found["the recipe"]["epochs"])


def found_in_paper(found):
    assert found["slice"]["tokens_per_second"] > 0
    assert found["whole"]["padded"]["seconds"] > 0


def found_in_throughput(found):
    assert found["model step, width 64, MovieLens's lengths"]["RecBole's SASRec, padded"]["tokens_per_second"] > 0


def found_in_steps(found):
    assert found["determinism"]["same_weights"] is True
    assert found["graphs"]["seconds_per_step"] > 0


def found_in_serving(found):
    assert found["2Mamba4Rec, session"]["median"] > 0
    assert found["2Mamba4Rec, step and ranking, CUDA graph"] == {"skipped": "it needs a GPU"}


def found_in_mixers(found):
    assert found["SSD, width 64, MovieLens's lengths, float32"]["ours, PyTorch"]["error"] < 1e-5


def found_in_sanitizer(found):
    assert found == {} or found["ssd"] == {"problems": 1}


def found_in_peers(found):
    assert found["SSD, width 64, MovieLens's lengths, bfloat16"]["ours, PyTorch"]["error"] < 2e-2


@pytest.mark.slow
@pytest.mark.parametrize("part", LIMITS)
def test_each_part_runs_on_a_cpu(part, place, monkeypatch):
    module = import_module(f"gpu_parts.{part}")

    def here(place, part, jobs, *_, **__):
        for job in jobs:
            module.job(place, job)

    if hasattr(module, "in_parallel"):
        monkeypatch.setattr(module, "in_parallel", here)
    place.tried(module.measure, place)
    assert not list(failures(place.result))
    globals()[f"found_in_{part}"](place.result)
    written = read(place.file) if place.file.exists() else {}
    page = tables.page({"date": "today", "tiny": True, "parts": {part: written | {"seconds": 1}}})
    assert page.endswith(f"({part}, 1 s)")
    assert "no table" not in page


@pytest.mark.slow
def test_the_script_from_end_to_end(tmp_path, monkeypatch, capsys):
    """Each part in a process of its own."""
    monkeypatch.setattr(gpu, "_print_table", lambda file, environment: gpu.main(["--table", str(file)]))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    given = ["--parts", "ml1m", "--seconds", 3600, "--out", tmp_path, "--wheels", tmp_path]
    status = gpu.main(["--cpu", "--tiny", *map(str, given)])
    results = json.loads((tmp_path / "results.json").read_text())
    assert not list(failures(results["parts"])), (tmp_path / "log.txt").read_text()[-3000:]
    assert status == 0
    assert list(results["parts"]) == ["machine", "ml1m"]
    assert "(ml1m, " in capsys.readouterr().out


PROGRAMS = {
    "finds and ends": "write({'found': 1})",
    "finds and fails": "write({'found': 2}); sys.exit(3)",
    "finds and takes long": "write({'found': 3}); time.sleep(600)",
    "finds nothing": "sys.exit(4)",
}
ENDS = {
    "finds and ends": {"found": 1},
    "finds and fails": {"found": 2, "failed": "status 3"},
    "finds and takes long": {"found": 3, "failed": "its time ended (4 s)"},
    "finds nothing": {"failed": "status 4"},
}


def program(name, result, until, **_):
    """In place of a part: a process that does what its name says."""
    begin = f"import sys, time; sys.path.insert(0, {str(ROOT / 'benchmarks')!r}); from gpu_parts import files\n"
    begin += f"from pathlib import Path; write = lambda found: files.write(Path({str(result)!r}), found)\n"
    return [sys.executable, "-S", "-c", begin + PROGRAMS[name.rpartition(":")[2]]]


@pytest.mark.parametrize("name", PROGRAMS)
def test_what_a_part_has_found_is_kept_however_it_ends(tmp_path, monkeypatch, name):
    monkeypatch.setattr(gpu, "command", program)
    given = Namespace(cpu=True, tiny=True, data=tmp_path)
    with (tmp_path / "log").open("w") as log:
        *_, last = gpu._watched(name, given, tmp_path, dict(os.environ), 4.2, log)
    assert last == ENDS[name]


def test_parts_after_one_that_fails_run(tmp_path, monkeypatch):
    def watched(name, *_):
        yield {"failed": "status 3"} if name == "models" else {"found": name}

    monkeypatch.setattr(gpu, "_watched", watched)
    monkeypatch.setattr(gpu, "_print_table", lambda *_: None)
    assert gpu.main(["--parts", "right,models,ml1m", "--out", str(tmp_path), "--wheels", "none"]) == 1
    parts = read(tmp_path / "results.json")["parts"]
    assert [each.get("found") for each in parts.values()] == ["machine", "right", None, "ml1m"]


def test_time_that_is_left_goes_to_the_parts_after():
    assert gpu._share(["peers"]) == 1
    assert gpu._share(["right", "models"]) == LIMITS["right"] / (LIMITS["right"] + LIMITS["models"])
    assert gpu.ALL + 20 <= 540, "with the table it takes nine minutes at most"


def test_jobs_are_put_together_and_end_in_time(place, monkeypatch):
    monkeypatch.setattr(children, "command", program)
    place.until = time.time() + 4
    children.in_parallel(place, "right", list(PROGRAMS), 4)
    assert place.result["finds and takes long"] == {"failed": "its time ended"}
    assert place.result["finds and fails"] == {"failed": "status 3"}
    assert place.result["found"] in (1, 2, 3)
    assert time.time() < place.until + 60  # what takes long takes ten minutes


def test_without_a_gpu_it_says_so(tmp_path, monkeypatch):
    if torch.cuda.is_available():
        pytest.skip("there is a GPU here")
    monkeypatch.setattr(sys, "meta_path", [*sys.meta_path])
    given = {"child": "ml1m", "cpu": False, "tiny": True, "data": tmp_path, "until": time.time() + 60}
    assert child.serve(Namespace(**given, result=tmp_path / "found.json")) == 0
    assert read(tmp_path / "found.json") == {"skipped": "torch finds no GPU; --cpu rehearses on the CPU"}


LOGS = {
    "========= COMPUTE-SANITIZER\n========= ERROR SUMMARY: 0 errors\n": {"errors": 0, "first": ""},
    "========= COMPUTE-SANITIZER\n========= Invalid __global__ read of size 4 bytes\n=========     at _walk\n"
    "========= ERROR SUMMARY: 12 errors\n": {"errors": 12, "first": "Invalid __global__ read of size 4 bytes"},
    "========= COMPUTE-SANITIZER\n========= Error: Device not supported\n": {
        "failed": "the tool came to no end: Error: Device not supported"
    },
    "": {"failed": "the tool came to no end: "},
}


@pytest.mark.parametrize("text", LOGS, ids=range(len(LOGS)))
def test_logs_of_the_sanitizer_are_read(tmp_path, text):
    (tmp_path / "log").write_text(text)
    assert sanitizer.said(tmp_path / "log") == LOGS[text]


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
