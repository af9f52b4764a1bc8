"""What preparing data costs, in time and memory, at sizes up to that of MovieLens-20M.

    python benchmarks/data.py --interactions 1000000 20000000

Each size is generated (as many interactions per user and item as MovieLens-20M has, with a heavy tail) and goes
through reading, splitting and the packing of one epoch, in a process of its own: this package's dataset from the file
("packed"), and as ``dataset_cache`` has kept it ("kept"). ``--kinds`` may also name what RecBole takes to read and
filter the file, which it does before anything else ("reading"), and its own dataset for SASRec ("recbole"), whose
memory grows with interactions times MAX_ITEM_LIST_LENGTH. Prints a table and writes JSON.

``--items 1000000`` instead trains an epoch of 2Mamba4Rec, one target per user, on a catalogue of so many items, each of
which 2,000 users have had between them, ranks all items for each user twice, and says what that took.
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


KINDS = ("packed", "kept", "reading", "recbole")


def generate(folder: Path, interactions: int, users: int | None = None, every_item: int = 0, seed: int = 0) -> Path:
    """Write ``folder/NAME/NAME.inter`` with about so many interactions, in random order of time within a user.

    Args:
        folder: where datasets are.
        interactions: how many.
        users: how many, if not as many as MovieLens-20M has for so many interactions.
        every_item: with so many items, each of which is had at least once, if there are interactions enough.
        seed: of all that is random.
    """
    rng = np.random.default_rng(seed)
    users = users or max(interactions * USERS // INTERACTIONS, 10)
    items = every_item or max(min(ITEMS, interactions * ITEMS // 1_000_000), 20)
    lengths = 20 + rng.lognormal(3.9, 1.25, users)
    lengths = np.maximum((lengths * interactions / lengths.sum()).astype(np.int64), 3)
    user = np.repeat(np.arange(users), lengths)
    popularity = 1.0 / (np.arange(items) + 10.0)
    item = rng.choice(items, len(user), p=popularity / popularity.sum())
    if every_item:
        item[: min(items, len(item))] = rng.permutation(items)[: len(item)]
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


def prepare(folder: str, name: str, kind: str) -> dict:
    """Seconds of each step and the peak memory, in this process."""
    from recbole.data import create_dataset as create_recbole_dataset

    import recbole_ssm
    from recbole_ssm.config.config import Config
    from recbole_ssm.data import create_dataset, data_preparation
    from recbole_ssm.system.resources import peak_memory_gib

    packed = kind in ("packed", "kept")
    keys = {"data_path": folder, "use_gpu": False}
    if packed:
        keys["dataset_cache"] = f"{folder}/kept" if kind == "kept" else None
    config = Config("2Mamba4Rec" if packed else "SASRec", name, config_dict=keys)
    before, start = peak_memory_gib(config["device"]), time.perf_counter()
    dataset = create_recbole_dataset(config) if kind == "reading" else create_dataset(config, packed=packed)
    interactions = int(dataset.inter_num)
    read = time.perf_counter()
    if kind != "reading":
        train, *_ = data_preparation(config, dataset)
    split = time.perf_counter()
    batches = sum(1 for _ in train) if packed else 0
    end = time.perf_counter()
    return {
        "version": recbole_ssm.__version__,
        "interactions": interactions,
        "read_seconds": read - start,
        "split_seconds": split - read,
        "epoch_seconds": end - split,
        "batches": batches,
        "peak_gib": peak_memory_gib(config["device"]),
        "gib_before": before,
    }


def catalogue(folder: str, name: str) -> dict:
    """Seconds and peak memory of a training and two full rankings, in this process."""
    from recbole_ssm.training.run import run as train

    keys = {"data_path": folder, "use_gpu": False, "epochs": 1, "show_progress": False, "state": "error"}
    keys |= {"train_samples": "sampled_prefixes", "prefixes_per_user": 1, "train_batch_tokens": 16_384}
    keys |= {"checkpoint_dir": f"{folder}/saved"}
    start = time.perf_counter()
    result = train("2Mamba4Rec", name, config_dict=keys)
    epoch = result["history"][0]
    return {
        "parameters": result["parameters"],
        "epoch_seconds": epoch["train_seconds"],
        "ranking_seconds": epoch["valid_seconds"],
        "seconds": time.perf_counter() - start,
        "peak_gib": result["peak_memory_gib"],
    }


def run(folder: str, name: str, kind: str) -> subprocess.CompletedProcess:
    """:func:`prepare` in a process of its own."""
    command = [sys.executable, "-W", "ignore", __file__, "--here", folder, name, kind]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def measure_catalogues(sizes: list[int], file: Path) -> None:
    """Print and write what :func:`catalogue` gives."""
    rows = []
    print(f"{'items':>10}{'parameters':>13}{'epoch s':>10}{'ranking s':>11}{'all s':>8}{'peak GiB':>10}")
    with tempfile.TemporaryDirectory() as folder:
        for items in sizes:
            name = generate(Path(folder), items * 11 // 10, users=2_000, every_item=items).parent.name
            done = run(folder, name, "catalogue")
            if done.returncode:
                sys.exit(f"{items} items: {done.stderr}")
            row = {"items": items, **json.loads(done.stdout.splitlines()[-1])}
            rows.append(row)
            print(
                f"{items:>10,}{row['parameters']:>13,}{row['epoch_seconds']:>10.1f}{row['ranking_seconds']:>11.1f}"
                f"{row['seconds']:>8.1f}{row['peak_gib']:>10.2f}",
                flush=True,
            )
    file.write_text(json.dumps({"machine": machine(), "rows": rows}, indent=1))
    print(f"\nwritten to {file}")


def main() -> None:
    """Measure what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--interactions", type=int, nargs="+", default=[1_000_000, INTERACTIONS])
    parser.add_argument("--items", type=int, nargs="+", default=[], help="measure catalogues of so many items instead")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=KINDS[:2], help="what is measured")
    parser.add_argument("--json", type=Path, default=Path("data.json"))
    parser.add_argument("--here", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.here:
        folder, name, kind = options.here
        print(json.dumps(catalogue(folder, name) if kind == "catalogue" else prepare(folder, name, kind)))
        return
    if options.items:
        measure_catalogues(options.items, options.json)
        return
    rows = []
    heads = f"{'read s':>9}{'split s':>9}{'epoch s':>9}{'peak GiB':>10}{'bytes each':>12}"
    print(f"{'interactions':>13} {'dataset':10}{heads}")
    with tempfile.TemporaryDirectory() as folder:
        for interactions in options.interactions:
            file = generate(Path(folder), interactions)
            run(folder, file.parent.name, "kept")  # which keeps it
            for kind in options.kinds:
                done = run(folder, file.parent.name, kind)
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
