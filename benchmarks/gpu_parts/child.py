"""What a process of ``benchmarks/gpu.py`` does that runs a part, or a job of one."""

from __future__ import annotations

import argparse
import platform
import sys
import traceback
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import recbole_ssm  # isort: skip  (before torch)
import numpy as np
import torch

from gpu_parts.place import Place, Skipped, in_one_line
from recbole_ssm.system.resources import processor


class NoRay:
    """Raises ImportError for ray, which nothing here may need."""

    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "ray":
            raise ImportError(f"{name} is imported, and must not be needed")


def serve(given: argparse.Namespace) -> int:
    """Measure; 1 if it failed, which the result then says."""
    sys.meta_path.insert(0, NoRay())
    part, _, job = given.child.partition(":")
    place = Place(torch.device("cpu" if given.cpu else "cuda"), given.tiny, given.data, given.until, Path(given.result))
    try:
        if part == "machine":
            place.note("machine", _machine(place))
            return 0
        if place.on_gpu and not torch.cuda.is_available():
            raise Skipped("torch finds no GPU; --cpu rehearses on the CPU")
        module = import_module(f"gpu_parts.{part}")
        module.job(place, job) if job else module.measure(place)
    except Skipped as why:
        place.note("skipped", str(why))
    except Exception as error:
        traceback.print_exc()
        place.note("failed", in_one_line(error))
        return 1
    return 0


def _machine(place: Place) -> dict:
    """What all figures hold for; the tiny dataset is made here, too."""
    if place.tiny:
        from data import generate

        generate(place.data, 900, users=30)
    gpu = torch.cuda.get_device_properties(0) if place.on_gpu and torch.cuda.is_available() else None
    return {
        "gpu": None if gpu is None else f"{gpu.name}, {gpu.total_memory / 2**30:.0f} GiB",
        "cpu": processor(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "recbole_ssm": recbole_ssm.__version__,
        **{name: _version(name) for name in ("triton", "recbole", "pandas", "flash-linear-attention", "mamba-ssm")},
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
