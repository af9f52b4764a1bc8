"""What importing a table costs, in time and memory, at sizes up to 20 million rows.

    python benchmarks/importing.py --rows 2000000 20000000
    python benchmarks/importing.py --rows 2000000 --format parquet --dates --peers

Each table is generated: a log of clicks in order of time, with names of users and items as shops have them, 20 clicks
for each user and 100,000 items, both with a heavy tail. It is imported by the verb ``import``, with its default
settings, in a process of its own. ``--peers`` also measures how long pandas and pyarrow take to read the same file,
number users and items and sort by user and time, which is less than an import does, and in memory. Prints a table and
writes JSON. Memory is the peak of the process, with the pages of files that it has mapped.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
from arguments import output_file
from measuring import machine

ITEMS = 100_000
CLICKS_OF_A_USER = 20
_BLOCK = 1_000_000

PEERS = {
    "pandas": """
import numpy as np, pandas as pd
table = pd.read_csv(file, usecols=["customer", "product", "time"], dtype={"customer": str, "product": str})
users, items = pd.factorize(table["customer"])[0], pd.factorize(table["product"])[0]
order = np.lexsort((table["time"].to_numpy(), users))
""",
    "pyarrow": """
import pyarrow as pa, pyarrow.csv as csv
how = csv.ConvertOptions(include_columns=["customer", "product", "time"])
table = csv.read_csv(file, convert_options=how)
names = [table[name].combine_chunks().dictionary_encode().indices for name in ("customer", "product")]
numbered = pa.table([*names, table["time"]], names=["user", "item", "time"])
numbered.sort_by([("user", "ascending"), ("time", "ascending")])
""",
}
"""Reading, numbering and sorting a CSV file whose name is ``file``, in memory."""

IMPORT = """
from recbole_ssm.cli.main import main
assert main(["import", file, "--name=clicks", "--data_path=" + folder]) == 0
"""


def generate(file: Path, rows: int, *, dates: bool, seed: int = 0) -> None:
    """Write a table: CSV, JSON lines or Parquet, by the ending of the name.

    Args:
        file: the new file.
        rows: how many.
        dates: whether times are ISO 8601 dates, and not seconds.
        seed: of all that is random.
    """
    rng = np.random.default_rng(seed)
    n_users = max(rows // CLICKS_OF_A_USER, 1)
    users = np.array([f"cust-{number:08x}" for number in rng.integers(0, 2**32, n_users)], object)
    items = np.array([f"SKU/{number:06d}-{'abcdef'[number % 6]}" for number in range(ITEMS)], object)
    start = 1_700_000_000
    writer = None
    for first in range(0, rows, _BLOCK):
        n = min(_BLOCK, rows - first)
        seconds = start + np.sort(rng.integers(first // 10, (first + n) // 10 + 1, n))
        block = pd.DataFrame(
            {
                "customer": users[(rng.random(n) ** 2 * n_users).astype(np.int64)],
                "product": items[(rng.random(n) ** 3 * ITEMS).astype(np.int64)],
                "time": seconds.astype("datetime64[s]").astype(str) if dates else seconds,
                "event": rng.choice(["view", "cart", "purchase"], n),
            }
        )
        if file.suffix == ".parquet":
            import pyarrow as pa
            import pyarrow.parquet as pq

            table = pa.Table.from_pandas(block, preserve_index=False)
            writer = writer or pq.ParquetWriter(file, table.schema)
            writer.write_table(table)
        elif file.suffix == ".jsonl":
            block.to_json(file, orient="records", lines=True, mode="a")
        else:
            block.to_csv(file, index=False, header=first == 0, mode="a")
    if writer is not None:
        writer.close()


def measure(program: str, file: Path, folder: Path) -> dict[str, float]:
    """Seconds, seconds of the processor, peak memory of a program in a process of its own, and the load meanwhile."""
    child = f"file, folder = {str(file)!r}, {str(folder)!r}\n{program}\nimport resource, sys\n"
    child += "used = resource.getrusage(resource.RUSAGE_SELF)\n"
    child += "peak = next(l for l in open('/proc/self/status') if l.startswith('VmHWM')).split()[1]\n"
    child += "print('USED', used.ru_utime + used.ru_stime, int(peak) / 2**20)"
    load, begin = os.getloadavg()[0], time.perf_counter()
    done = subprocess.run([sys.executable, "-c", child], capture_output=True, text=True)
    seconds = time.perf_counter() - begin
    if done.returncode:
        sys.exit(done.stderr)
    _, processor, peak = next(line for line in done.stdout.splitlines() if line.startswith("USED")).split()
    return {
        "seconds": seconds,
        "processor": float(processor),
        "gib": float(peak),
        "load": (load + os.getloadavg()[0]) / 2,
    }


def main(arguments: list[str] | None = None) -> None:
    """Generate, measure, print, write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rows", type=int, nargs="+", default=[2_000_000], help="sizes of the tables")
    parser.add_argument("--format", choices=["csv", "jsonl", "parquet"], default="csv")
    parser.add_argument("--dates", action="store_true", help="ISO 8601 dates in place of seconds")
    parser.add_argument("--peers", action="store_true", help="also pandas and pyarrow, of CSV files")
    parser.add_argument("--json", type=output_file, help="file to write")
    given = parser.parse_args(arguments)
    found = []
    print("| rows | MB | with | s | s of the processor | GiB | load average |\n|---:|---:|---|---:|---:|---:|---:|")
    for rows in given.rows:
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / f"clicks.{given.format}"
            generate(file, rows, dates=given.dates)
            programs = {"import": IMPORT} | (PEERS if given.peers and given.format == "csv" else {})
            for name, program in programs.items():
                size = file.stat().st_size / 1e6
                one = {"rows": rows, "mb": size, "with": name, **measure(program, file, Path(folder) / "data")}
                found.append(one)
                figures = f"{one['seconds']:.1f} | {one['processor']:.1f} | {one['gib']:.2f} | {one['load']:.1f}"
                print(f"| {rows:,} | {size:.0f} | {name} | {figures} |", flush=True)
    if given.json:
        content = {"format": given.format, "dates": given.dates, "runs": found, **machine()}
        given.json.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
