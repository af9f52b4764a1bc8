"""What preparing data costs, in time and memory, at sizes up to that of MovieLens-20M.

    python benchmarks/data.py --interactions 1000000 20000000

Each size is generated (as many interactions per user and item as MovieLens-20M has, with a heavy tail) and goes
through reading, splitting and the packing of one epoch, in a process of its own. ``--recbole`` adds RecBole's own
dataset, whose memory grows with interactions times MAX_ITEM_LIST_LENGTH. Prints a table and writes JSON.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from measuring import machine

INTERACTIONS, USERS, ITEMS = 20_000_000, 138_000, 27_000
"""Of MovieLens-20M."""


def generate(folder: Path, interactions: int, seed: int = 0) -> Path:
    """Write ``folder/NAME/NAME.inter`` with about so many interactions, in random order of time within a user."""
    rng = np.random.default_rng(seed)
    users = max(interactions * USERS // INTERACTIONS, 10)
    items = max(min(ITEMS, interactions * ITEMS // 1_000_000), 20)
    lengths = 20 + rng.lognormal(3.9, 1.25, users)
    lengths = np.maximum((lengths * interactions / lengths.sum()).astype(np.int64), 3)
    user = np.repeat(np.arange(users), lengths)
    popularity = 1.0 / (np.arange(items) + 10.0)
    item = rng.choice(items, len(user), p=popularity / popularity.sum())
    start = rng.integers(800_000_000, 1_400_000_000, users)
    time_ = start[user] + rng.integers(0, 30_000_000, len(user))
    name = f"synthetic-{interactions}"
    file = folder / name / f"{name}.inter"
    file.parent.mkdir(parents=True)
    with file.open("w", encoding="ascii") as lines:
        lines.write("user_id:token\titem_id:token\ttimestamp:float\n")
        for first in range(0, len(user), 1_000_000):
            rows = slice(first, first + 1_000_000)
            columns = zip(user[rows].tolist(), item[rows].tolist(), time_[rows].tolist(), strict=True)
            lines.write("".join(f"{u}\t{i}\t{t}\n" for u, i, t in columns))
    return file


def prepare(folder: str, name: str, recbole: bool) -> dict:
    """Seconds of each step and the peak memory, in this process."""
    import recbole_ssm
    from recbole_ssm.config import Config
    from recbole_ssm.data import create_dataset, data_preparation
    from recbole_ssm.quick_start import peak_memory_gib

    model = "SASRec" if recbole else "2Mamba4Rec"
    config = Config(model, name, config_dict={"data_path": folder, "use_gpu": False})
    before, start = peak_memory_gib(config["device"]), time.perf_counter()
    dataset = create_dataset(config, packed=not recbole)
    read = time.perf_counter()
    train, *_ = data_preparation(config, dataset)
    split = time.perf_counter()
    batches = 0
    if not recbole:
        batches = sum(1 for _ in train)
    end = time.perf_counter()
    return {
        "version": recbole_ssm.__version__,
        "model": model,
        "interactions": int(dataset.inter_num),
        "read_seconds": read - start,
        "split_seconds": split - read,
        "epoch_seconds": end - split,
        "batches": batches,
        "peak_gib": peak_memory_gib(config["device"]),
        "gib_before": before,
    }


def main() -> None:
    """Measure what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--interactions", type=int, nargs="+", default=[1_000_000, INTERACTIONS])
    parser.add_argument("--recbole", action="store_true", help="also RecBole's own dataset and SASRec")
    parser.add_argument("--json", type=Path, default=Path("data.json"))
    parser.add_argument("--here", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.here:
        folder, name, kind = options.here
        print(json.dumps(prepare(folder, name, kind == "recbole")))
        return
    rows = []
    heads = f"{'read s':>9}{'split s':>9}{'epoch s':>9}{'peak GiB':>10}{'bytes each':>12}"
    print(f"{'interactions':>13} {'dataset':10}{heads}")
    with tempfile.TemporaryDirectory() as folder:
        for interactions in options.interactions:
            file = generate(Path(folder), interactions)
            for kind in ("packed", "recbole") if options.recbole else ("packed",):
                command = [sys.executable, "-W", "ignore", __file__, "--here", folder, file.parent.name, kind]
                done = subprocess.run(command, capture_output=True, text=True, check=False)
                if done.returncode:
                    print(f"{interactions:>13,} {kind:10} failed: {done.stderr.strip().splitlines()[-1:]}", flush=True)
                    rows.append({"interactions": interactions, "dataset": kind, "failed": done.returncode})
                    continue
                row = {"dataset": kind, **json.loads(done.stdout.splitlines()[-1])}
                rows.append(row)
                each = (row["peak_gib"] - row["gib_before"]) * 2**30 / row["interactions"]
                print(
                    f"{row['interactions']:>13,} {kind:10}{row['read_seconds']:>9.1f}{row['split_seconds']:>9.1f}"
                    f"{row['epoch_seconds']:>9.1f}{row['peak_gib']:>10.2f}{each:>12.0f}",
                    flush=True,
                )
    options.json.write_text(json.dumps({"machine": machine(), "rows": rows}, indent=1))
    print(f"\nwritten to {options.json}")


if __name__ == "__main__":
    main()
