"""How long it takes from a table to the first recommendation: from the start of Python, with the five lines of README.

    python benchmarks/first_recommendation.py
    python benchmarks/first_recommendation.py --table=clicks.csv --keys epochs=2 --json=first.json

The table is ml-100k, which comes with RecBole, as a CSV file, unless another is named. All settings are the defaults
but for ``--keys``. The lines run in a Python of their own, in an empty folder, with as many threads as the package
chooses. Prints the seconds of each line, and of the processor in all, and writes JSON.
"""

from __future__ import annotations

import argparse
import ast
import inspect
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pandas as pd
from arguments import key_value, output_file
from measuring import machine

LINES = """
import pandas as pd
import recbole_ssm
clicks = pd.read_csv("clicks.csv", dtype=str, keep_default_na=False)
model = recbole_ssm.fit(clicks{keys})
print(model.recommend(clicks, k=5))
"""


def write_table(file: Path) -> None:
    """ml-100k as somebody would have it: a CSV file with a header."""
    import recbole

    source = Path(recbole.__file__).parent / "dataset_example" / "ml-100k" / "ml-100k.inter"
    table = pd.read_csv(source, sep="\t").rename(columns=lambda name: name.partition(":")[0])
    table.to_csv(file, index=False)


def timed(program: str) -> list[tuple[str, float]]:
    """Run a program statement by statement; each with the seconds that it took. It is run in a process of its own."""
    space: dict = {}
    found = []
    for statement in ast.parse(program).body:
        start = time.perf_counter()
        exec(compile(ast.Module([statement], []), "five lines", "exec"), space)
        found.append((ast.unparse(statement), time.perf_counter() - start))
    return found


def measure(table: Path | None, keys: list[str]) -> dict:
    """Seconds of each line in a new process, and from its start to the recommendation."""
    program = LINES.format(keys="".join(f", {key}" for key in keys))
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "clicks.csv"
        write_table(file) if table is None else file.symlink_to(table.resolve())
        result = Path(folder) / "seconds.json"
        child = f"import ast, json, resource, time\n{inspect.getsource(timed)}\nlines = timed({program!r})\n"
        child += "used = resource.getrusage(resource.RUSAGE_SELF)\n"
        child += f"json.dump([lines, time.time(), used.ru_utime + used.ru_stime], open({str(result)!r}, 'w'))"
        start = time.time()
        subprocess.run([sys.executable, "-c", child], cwd=folder, check=True)
        lines, end, processor = json.loads(result.read_text())
    given = {name: os.environ[name] for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS") if name in os.environ}
    kept = {"seconds": end - start, "processor_seconds": processor, "lines": lines, "cores": os.cpu_count()}
    return {**kept, "environment": given, **machine()}


def main(arguments: list[str] | None = None) -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--table", type=Path, help="another CSV file, with usual names of columns")
    parser.add_argument("--keys", nargs="*", type=key_value, default=[], help="keys of fit, as Python has them")
    parser.add_argument("--json", type=output_file, help="file to write")
    given = parser.parse_args(arguments)
    if given.table is not None and not given.table.is_file():
        parser.error(f"there is no file {given.table}")
    found = measure(given.table, given.keys)
    for line, seconds in found["lines"]:
        print(f"{seconds:8.1f} s  {line}")
    print(f"{found['seconds']:8.1f} s  from the start of Python, {found['processor_seconds']:.1f} s of the processor")
    if given.json:
        given.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
