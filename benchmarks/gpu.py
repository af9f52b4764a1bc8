"""Proves the GPU path in one command, most telling part first: results in a file as they come, a table in the end.

    python benchmarks/gpu.py --wheels .gpu/wheels --data .gpu/dataset
    python benchmarks/gpu.py --parts right,ml1m --seconds 200
    python benchmarks/gpu.py --cpu --tiny
    python benchmarks/gpu.py --table gpu-results

Packages that are missing are installed from the folder of wheels into a temporary folder. Each part runs in a process
of its own with a time limit, and one that fails does not stop the others. ``docs/gpu.md`` says what each part measures.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from gpu_parts import LIMITS, ROOT, wheels
from gpu_parts.children import SPARE, Ended, command, end, ended
from gpu_parts.files import read, write

ALL = 520
"""Seconds that all parts may take; the table comes after."""

INTERPRETED = ("right", "sanitizer")
"""Parts that on a CPU run the kernels in Triton's interpreter."""

LEAST = 5
"""Seconds in which no part can do anything."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what the command line asks for."""
    parser = _parser()
    given = parser.parse_args(arguments)
    if given.child:
        from gpu_parts.child import serve

        return serve(given)
    if given.table:
        from gpu_parts.tables import page

        print(page(read(given.table / "results.json" if given.table.is_dir() else given.table)))
        return 0
    parts = given.parts.split(",")
    given.data = given.data.absolute()
    if unknown := sorted(set(parts) - LIMITS.keys()):
        parser.error(f"--parts: {', '.join(unknown)} is none of {','.join(LIMITS)}")
    given.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        return _run(parts, given, Path(folder))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--parts", default=",".join(LIMITS), help="in this order; default: %(default)s")
    parser.add_argument("--seconds", type=float, default=ALL, help="of all parts together; default: %(default)s")
    parser.add_argument("--out", type=Path, default=Path("gpu-results"), help="folder of the results")
    parser.add_argument("--wheels", type=Path, default=ROOT / ".gpu" / "wheels", help="folder of packages to install")
    parser.add_argument("--data", type=Path, default=ROOT / ".gpu" / "dataset", help="folder with ml-1m")
    parser.add_argument("--cpu", action="store_true", help="rehearse on the CPU")
    parser.add_argument("--tiny", action="store_true", help="with sizes that take no time")
    parser.add_argument("--table", type=Path, metavar="RESULTS", help="print the table of earlier results")
    parser.add_argument("--until", type=float, help=argparse.SUPPRESS)
    for hidden in ("--child", "--result"):
        parser.add_argument(hidden, help=argparse.SUPPRESS)
    return parser


def _run(parts: Sequence[str], given: argparse.Namespace, folder: Path) -> int:
    begun = time.monotonic()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what was started ends, too
    environment = _environment(given, folder)
    if given.tiny:
        given.data = folder / "dataset"
    results = {"date": time.strftime("%Y-%m-%d"), "tiny": given.tiny, "parts": {}}
    file = given.out / "results.json"
    with (given.out / "log.txt").open("w", encoding="utf-8") as log:
        for number, name in enumerate(("machine", *parts)):
            left = given.seconds - (time.monotonic() - begun)
            limit = min(left, 60.0) if name == "machine" else left * _share(parts[number - 1 :])
            if limit < LEAST:
                results["parts"][name] = {"failed": "no time was left"}
                continue
            print(f"{name}: at most {limit:.0f} s", flush=True)
            started = time.monotonic()
            for found in _watched(name, given, folder, environment, limit, log):
                results["parts"][name] = found | {"seconds": round(time.monotonic() - started, 1)}
                write(file, results)
            print(f"{name}: {_end_of(results['parts'][name])}", flush=True)
    write(file, results)
    _print_table(file, environment)
    return int(any("failed" in part for part in results["parts"].values()))


def _share(parts: Sequence[str]) -> float:
    """Of the time that is left, what the first of the parts that are left may take."""
    return LIMITS[parts[0]] / sum(LIMITS[name] for name in parts)


def _end_of(part: dict) -> str:
    how = "failed, " + part["failed"] if "failed" in part else "ended"
    return f"{how} after {part.get('seconds', 0):.0f} s"


def _environment(given: argparse.Namespace, folder: Path) -> dict[str, str]:
    """Variables of all processes: where packages are, no threads that spin, and lines of the log as they come."""
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    if given.wheels.is_dir():
        paths.insert(0, str(wheels.install(given.wheels, folder / "site")))
    return os.environ | {
        "PYTHONPATH": os.pathsep.join(paths),
        "OMP_WAIT_POLICY": "PASSIVE",
        "PYTHONUNBUFFERED": "1",
    }


def _watched(name: str, given: argparse.Namespace, folder: Path, environment: dict, limit: float, log):
    """Yield what a part has found: whenever there is more, and in the end."""
    result, begun, seen = folder / f"{name}.json", time.monotonic(), 0.0
    interpreted = {"TRITON_INTERPRET": "1"} if given.cpu and name in INTERPRETED else {}
    scratch = folder / name
    scratch.mkdir()
    process = subprocess.Popen(
        command(
            *(name, result, time.time() + limit - SPARE),
            **{"device": "cpu" if given.cpu else "cuda", "tiny": given.tiny, "data": given.data},
        ),
        **ended(environment | interpreted, scratch, log),
    )
    try:
        while process.poll() is None and time.monotonic() - begun < limit:
            time.sleep(0.1)
            if result.exists() and result.stat().st_mtime > seen:
                seen = result.stat().st_mtime
                yield read(result)
        how = Ended.BY_ITSELF if process.poll() == 0 else Ended.TOO_LATE if process.poll() is None else Ended.FAILED
    finally:
        end(process)
    found = read(result) if result.exists() else {}
    if how is not Ended.BY_ITSELF and "failed" not in found:
        found["failed"] = f"its time ended ({limit:.0f} s)" if how is Ended.TOO_LATE else f"status {process.returncode}"
    yield found


def _print_table(file: Path, environment: dict[str, str]) -> None:
    """In a process that has the packages."""
    with suppress(subprocess.TimeoutExpired):
        subprocess.run([sys.executable, __file__, "--table", str(file)], env=environment, check=False, timeout=120)
    print(f"\nwritten to {file}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
