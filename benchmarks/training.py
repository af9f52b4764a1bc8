"""How quickly models train: whole steps (loss, gradients, optimiser) on real batches, with so many threads and others.

    python benchmarks/training.py 2Mamba4Rec Mamba4Rec --dataset=ml-100k --set num_layers=2 --threads 1 2

All thread counts of a model take turns in one process, on the same batches. Prints a table and writes JSON.
"""

from __future__ import annotations

import argparse
import json
import statistics
from itertools import islice
from pathlib import Path
from time import perf_counter

import torch
import yaml
from measuring import machine, median_ratio

from recbole_ssm.config import Config
from recbole_ssm.data import create_dataset, data_preparation
from recbole_ssm.trainer import create_trainer


def steps(model: str, dataset: str, options: dict, batches: int):
    """A function that trains on the same batches each time, and how many interactions these hold."""
    config = Config(model, dataset, config_dict=options)
    train = data_preparation(config, create_dataset(config, packed=True))[0]
    model = config.model_class(config, train.dataset).to(config["device"])
    optimizer = create_trainer(config, model).optimizer
    kept = [batch.to(config["device"]) for batch in islice(train, batches)]

    def run() -> None:
        for batch in kept:
            optimizer.zero_grad()
            model.calculate_loss(batch).backward()
            optimizer.step()
        if config["device"].type == "cuda":
            torch.cuda.synchronize()

    return run, sum(len(batch[model.ITEM_SEQ]) for batch in kept)


def main() -> None:
    """Measure what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", metavar="MODEL")
    parser.add_argument("--dataset", default="ml-100k")
    parser.add_argument("--data_path")
    parser.add_argument("--set", nargs="+", default=[], metavar="KEY=VALUE", help="options of the models")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--batches", type=int, default=12, help="trained on in each round")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json", type=Path, default=Path("training.json"))
    arguments = parser.parse_args()
    options = {key: yaml.safe_load(value) for key, value in (pair.split("=", 1) for pair in arguments.set)}
    if arguments.data_path:
        options["data_path"] = arguments.data_path
    rows = []
    print(f"{'model':14}{'threads':>8}{'ktok/s':>10}{'x first':>9}")
    for model in arguments.models:
        run, tokens = steps(model, arguments.dataset, options, arguments.batches)
        seconds = take_turns(run, arguments.threads, arguments.rounds)
        for threads in arguments.threads:
            speed = tokens / statistics.median(seconds[threads])
            ratio = median_ratio(seconds[arguments.threads[0]], seconds[threads])
            rows.append({"model": model, "threads": threads, "tokens_per_second": speed, "times_as_fast": ratio})
            print(f"{model:14}{threads:>8}{speed / 1e3:>10.1f}{ratio:>9.2f}", flush=True)
    given = {key: value for key, value in options.items() if key != "data_path"}
    arguments.json.write_text(
        json.dumps({"machine": machine(), "dataset": arguments.dataset, "options": given, "rows": rows}, indent=1)
    )
    print(f"\nwritten to {arguments.json}")


def take_turns(run, threads: list[int], rounds: int) -> dict[int, list[float]]:
    """Seconds on the wall of each round with each number of threads; a round before them warms up."""
    seconds: dict[int, list[float]] = {count: [] for count in threads}
    for round_ in range(rounds + 1):
        for count in threads:
            torch.set_num_threads(count)
            start = perf_counter()
            run()
            if round_:
                seconds[count].append(perf_counter() - start)
    return seconds


if __name__ == "__main__":
    main()
