"""How quickly models train: whole steps (loss, gradients, optimiser) on real batches, with so many threads and others.

    python benchmarks/training.py 2Mamba4Rec Mamba4Rec --dataset=ml-100k --set num_layers=2 --threads 1 2
    python benchmarks/training.py 2Mamba4Rec --dataset=ml-100k --config_files recipe/2Mamba4Rec-ml-100k --beside=2

All thread counts of a model take turns in one process, on the same batches. Prints a table and writes JSON.

With --beside=N three processes take turns: with one thread, as the package comes, and with threads that spin while
they wait, as OpenMP has it; alone, and while N processes beside multiply matrices at the same priority.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Callable, Sequence
from itertools import islice
from time import perf_counter

import recbole_ssm  # noqa: F401  (before torch, as run_recbole_ssm.py has it)

# isort: split
import torch
import yaml
from arguments import at_least_one, key_value, output_file
from beside import Worker, others
from measuring import machine, median_ratio
from recbole.utils import ModelType

from recbole_ssm.config.config import Config
from recbole_ssm.data import create_dataset
from recbole_ssm.errors import InputError
from recbole_ssm.system import threads
from recbole_ssm.training.assembly import assemble

ONE, AS_IT_COMES, SPINNING = "one thread", "as it comes", "spinning"
ENVIRONMENTS = {
    ONE: {"OMP_NUM_THREADS": "1"},
    AS_IT_COMES: {},
    SPINNING: {"GOMP_SPINCOUNT": "300000", "KMP_BLOCKTIME": "200"},  # what GNU's and Intel's OpenMP have by default
}


def steps(model: str, dataset: str, files: Sequence[str], options: dict, batches: int) -> tuple[Callable, int]:
    """A function that trains on the same batches each time, and how many interactions these hold."""
    config = Config(model, dataset, files, options)
    assembly = assemble(config)
    model, optimizer, train = assembly.trainer.model, assembly.trainer.optimizer, assembly.loaders.train
    kept = [batch.to(config["device"]) for batch in islice(train, batches)]

    def run() -> None:
        for batch in kept:
            optimizer.zero_grad()
            model.calculate_loss(batch).backward()
            optimizer.step()
        if config["device"].type == "cuda":
            torch.cuda.synchronize()

    return run, sum(int(batch[model.ITEM_SEQ_LEN].sum()) for batch in kept)


def worker(*arguments) -> Callable[[], tuple[float, int, int]]:
    """A function that trains as :func:`steps` says, and returns seconds on the wall, interactions and threads."""
    run, interactions = steps(*arguments)

    def timed() -> tuple[float, int, int]:
        with threads.chosen(threads.HELPFUL):
            start = perf_counter()
            run()
            return perf_counter() - start, interactions, torch.get_num_threads()

    return timed


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure what the command line asks for."""
    parser = _parser()
    given = parser.parse_args(arguments)
    try:
        options = _check(given)
        measure = _threads_in_turns if given.beside is None else _alone_and_beside
        rows = [row for model in given.models for row in measure(model, given, options)]
    except InputError as error:
        parser.error(str(error))
    options = {key: value for key, value in options.items() if key != "data_path"}
    measured = {"machine": machine(), "dataset": given.dataset, "config_files": given.config_files, "options": options}
    given.json.write_text(json.dumps({**measured, "beside": given.beside, "rows": rows}, indent=1))
    print(f"\nwritten to {given.json}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("models", nargs="+", metavar="MODEL")
    parser.add_argument("--dataset", default="ml-100k")
    parser.add_argument("--data_path")
    parser.add_argument("--config_files", nargs="+", default=[], metavar="FILE")
    parser.add_argument(
        "--set", type=key_value, nargs="+", default=[], metavar="KEY=VALUE", help="options of the models"
    )
    parser.add_argument("--threads", type=at_least_one, nargs="+", help="default: 1 2")
    parser.add_argument("--beside", type=at_least_one, metavar="N", help="processes that compute at the same time")
    parser.add_argument(
        "--batches", type=at_least_one, default=12, help="trained on in each round, if there are as many"
    )
    parser.add_argument("--rounds", type=at_least_one, default=7)
    parser.add_argument("--json", type=output_file, default="training.json")
    return parser


def _check(given: argparse.Namespace) -> dict:
    """The options of the models; InputError, before anything is run, where something that is given cannot be used."""
    options = {}
    for pair in given.set + ([f"data_path={given.data_path}"] if given.data_path else []):
        key, _, value = pair.partition("=")
        if key in options:
            raise InputError(f"{key} is given twice")
        try:
            options[key] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise InputError(f"--set {pair}: the value is no YAML") from error
    for name in ("models", "threads"):
        values = getattr(given, name) or []
        if len(set(values)) < len(values):
            raise InputError(f"{name} must be different ones, and not {' '.join(map(str, values))}")
    if given.beside and given.threads:
        raise InputError("--beside compares one thread with as many as the package chooses; leave --threads out")
    given.threads = given.threads or [1, 2]
    configs = [Config(model, given.dataset, given.config_files, options) for model in given.models]
    for config in configs:
        if config["MODEL_TYPE"] != ModelType.SEQUENTIAL:
            raise InputError(f"{config['model']} is no sequential model")
    create_dataset(configs[0], packed=configs[0].is_packed)  # which finds what is wrong with the data
    return options


def _threads_in_turns(model: str, given: argparse.Namespace, options: dict) -> list[dict]:
    """Rows of the table: a number of threads, and the speed."""
    run, interactions = steps(model, given.dataset, given.config_files, options, given.batches)
    seconds = take_turns(run, given.threads, given.rounds)
    print(f"\n{model:14}{'threads':>8}{'ktok/s':>10}{'x first':>9}")
    rows = []
    for count in given.threads:
        speed = interactions / statistics.median(seconds[count])
        ratio = median_ratio(seconds[given.threads[0]], seconds[count])
        rows.append({"model": model, "threads": count, "tokens_per_second": speed, "times_as_fast": ratio})
        print(f"{'':14}{count:>8}{speed / 1e3:>10.1f}{ratio:>9.2f}", flush=True)
    return rows


def take_turns(run: Callable[[], None], counts: list[int], rounds: int) -> dict[int, list[float]]:
    """Seconds on the wall of each round with each number of threads; a round before them warms up."""
    seconds: dict[int, list[float]] = {count: [] for count in counts}
    for round_ in range(rounds + 1):
        for count in counts:
            torch.set_num_threads(count)
            start = perf_counter()
            run()
            if round_:
                seconds[count].append(perf_counter() - start)
    return seconds


def _alone_and_beside(model: str, given: argparse.Namespace, options: dict) -> list[dict]:
    """Rows of the table: a way of waiting, and the speed alone and beside others, also in units of one thread's."""
    what = (model, given.dataset, given.config_files, options, given.batches)
    found = {(name, beside): [] for name in ENVIRONMENTS for beside in (0, given.beside)}
    with others(given.beside) as computing:
        workers = {name: Worker(environment, worker, *what) for name, environment in ENVIRONMENTS.items()}
        for round_ in range(given.rounds + 1):
            for beside in (0, given.beside):
                (computing.set if beside else computing.clear)()
                for name, run in workers.items():
                    measured = run()
                    if round_:  # the one before warms up
                        found[name, beside].append(measured)
    print(f"\n{model:14}{'threads':>8} | {'alone':^19} | {f'beside {given.beside}':^19}")
    print(f"{'':14}{'':8} |{'ktok/s':>10}{'x one':>9}  |{'ktok/s':>10}{'x one':>9}")
    seconds = {which: [second for second, _, _ in measured] for which, measured in found.items()}
    rows = []
    for name in ENVIRONMENTS:
        _, interactions, count = found[name, 0][0]
        row = {"model": model, "waiting": name, "threads": count}
        text = f"{name:14}{count:>8}"
        for beside in (0, given.beside):
            speed = interactions / statistics.median(seconds[name, beside])
            ratio = median_ratio(seconds[ONE, beside], seconds[name, beside])
            row["beside" if beside else "alone"] = {"tokens_per_second": speed, "times_one_thread": ratio}
            text += f" |{speed / 1e3:>10.1f}{ratio:>9.2f} "
        rows.append(row)
        print(text, flush=True)
    ratio = median_ratio(seconds[SPINNING, 0], seconds[AS_IT_COMES, 0])
    print(f"alone, as it comes is {ratio:.2f} times as fast as spinning")
    return rows


if __name__ == "__main__":
    main()
