"""How accurate the recipes are: trains them, keeps what each run gave, and writes the tables from that.

    python benchmarks/accuracy.py --data_path=/data 2Mamba4Rec-ml-1m Mamba4Rec-ml-1m --seeds 2020 2021 2022
    python benchmarks/accuracy.py --tables

A recipe is a file of ``properties/recipe/``, named MODEL-DATASET. ``memory/MODEL-DATASET`` is one with
``transition_memory``, ``wide/MODEL-DATASET`` one of twice the width, ``paper/MODEL-DATASET`` one of the published
settings; their runs are MODEL-DATASET-memory, MODEL-DATASET-wide and MODEL-DATASET-paper.
``default/MODEL-DATASET`` is no file: the settings follow from the data.

Each run is a process of its own and leaves ``results/runs/NAME-SEED.json``. The command can be repeated after an
interruption: a run whose file is there with these settings is not run again, and an interrupted one goes on from its
last epoch if commit and settings are the same. ``--set key=value`` changes the recipe, and then ``--name`` names the
runs. Afterwards, and with ``--tables`` at once, ``results/README.md`` is written from all files. The model of each run
is kept as ``results/checkpoints/NAME-SEED.pth``, outside git, to be a ``teacher`` for example:

    python benchmarks/accuracy.py 2Mamba4Rec-ml-1m --seeds 2021 --results=mine
    python benchmarks/accuracy.py 2Mamba4Rec-ml-1m --name 2Mamba4Rec-ml-1m-taught --results=mine \\
        --set teacher=mine/checkpoints/2Mamba4Rec-ml-1m-2021.pth

The model of the best epoch by the validation metric is tested with and without the items that a user has already had:
the same scores, ranked twice; with ``--one_filter`` once, as the recipe's ``filter_seen`` says, for models that take
long to rank. Where the validation items are trained on, too (``--with protocol/no_validation``), it is
the model of the last epoch.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shlex
import shutil
import subprocess
import sys
from hashlib import blake2b
from importlib.metadata import version
from pathlib import Path
from time import perf_counter, process_time

import leaderboard
from arguments import at_least_one, key_value
from measuring import machine

ROOT = Path(__file__).parent.parent


def command_of(recipe: str, seed: int, data_path: str | None, changes: list[str], files: list[str]) -> list[str]:
    """The arguments of run_recbole_ssm.py that train a recipe."""
    folder, _, name = recipe.rpartition("/")
    model, _, dataset = name.partition("-")
    given = [f"--data_path={data_path}"] if data_path else []
    files = [*([] if folder == "default" else [f"{folder or 'recipe'}/{name}"]), *files]
    return [
        f"--model={model}",
        f"--dataset={dataset}",
        *given,
        *(["--config_files=" + ",".join(files)] if files else []),
        f"--seed={seed}",
        *(f"--{change}" for change in changes),
    ]


def settings_of(arguments: list[str]) -> dict:
    """What recipe and command line give that decides what a training comes to, but for the seed.

    ``defaults`` is left out where it is ``paper``, as it was in all runs before there was another.
    """
    from recbole_ssm.checkpoints.latest import decisive
    from recbole_ssm.config.config import Config
    from recbole_ssm.system.plain import plain

    model, dataset, files, keys = divided(arguments)
    config = Config(model, dataset, files, command_line=keys, trains=False)
    given = {"defaults": config["defaults"]} | config.external_config_dict
    left_out = {"seed"} | ({"defaults"} if given["defaults"] != "data" else set())
    return {key: value for key, value in plain(decisive(given)).items() if key not in left_out}


def divided(arguments: list[str]) -> tuple[str, str, list[str], list[str]]:
    """Arguments of run_recbole_ssm.py: model, dataset, config files, the others."""
    values = dict(argument.removeprefix("--").split("=", 1) for argument in arguments)
    model, dataset, files = values.pop("model"), values.pop("dataset"), values.pop("config_files", "")
    return model, dataset, files.split(",") if files else [], [f"--{key}={value}" for key, value in values.items()]


def differing(one: dict, other: dict) -> str:
    """The keys in which two settings differ."""
    from recbole_ssm.checkpoints.latest import differences

    return ", ".join(differences(one, other))


def commit() -> str:
    """Of this checkout; ``+changes`` where the code or its settings are no longer those."""

    def git(*words: str) -> str:
        return subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=False).stdout.strip()

    return git("rev-parse", "HEAD") + ("+changes" if git("status", "--porcelain", "recbole_ssm", "properties") else "")


def circumstances_of(arguments: list[str], model: str) -> dict:
    """Command, commit, versions and hardware of a run in this process."""
    import torch

    from recbole_ssm import __version__
    from recbole_ssm.model.registry import MODELS
    from recbole_ssm.system.threads import HELPFUL, chosen

    with chosen(HELPFUL if model in MODELS else None):
        threads = torch.get_num_threads()
    return {
        "command": "python run_recbole_ssm.py " + shlex.join(a for a in arguments if not a.startswith("--data_path=")),
        "commit": commit(),
        "versions": {name: version(name) for name in ("torch", "recbole", "numpy")}
        | {"recbole_ssm": __version__, "python": platform.python_version()},
        "hardware": {"cpu": machine()["cpu"], "cores": os.cpu_count(), "threads": threads}
        | ({"gpu": torch.cuda.get_device_name()} if torch.cuda.is_available() else {}),
    }


def train_and_test(
    arguments: list[str], threads: int | None, training: Path, parent: int, *, one_filter: bool = False
) -> dict:
    """One run in this process: what it was, what it took and what it gave.

    Args:
        arguments: of run_recbole_ssm.py.
        threads: None for the package's own choice.
        training: folder of its checkpoints, from which a run goes on that was interrupted.
        parent: number of the process that asked for it, with which this one ends.
        one_filter: test as ``filter_seen`` says, and not the other way, too.
    """
    import torch

    if threads:
        os.environ["OMP_NUM_THREADS"] = str(threads)  # which holds
        torch.set_num_threads(threads)
    from recbole_ssm.checkpoints import format as checkpoint
    from recbole_ssm.checkpoints.latest import decisive
    from recbole_ssm.config.config import Config
    from recbole_ssm.studies.worker import OF_RUN, end_with_parent, train_once
    from recbole_ssm.training.evaluation import evaluate

    end_with_parent(parent)
    begun = perf_counter(), process_time()
    model, dataset, files, keys = divided(arguments)
    circumstances = circumstances_of(arguments, model)  # before hours of training, not after them
    settings = settings_of(arguments)
    of_this = json.dumps([circumstances["commit"], settings], sort_keys=True).encode()
    folder = training / blake2b(of_this, digest_size=8).hexdigest()
    keys += ["--topk=[10,20]", "--metrics=['Hit','NDCG','MRR']", "--show_progress=False", f"--checkpoint_dir={folder}"]
    asked = {"model": model, "dataset": dataset, "files": files, "keys": keys}
    result = train_once(asked, folder / "trained.json")
    asked_for = Config(model, dataset, files, command_line=keys, trains=False).external_config_dict
    state = checkpoint.read(result["checkpoint"])
    config, tested = state["config"], {}
    for kind, filter_seen in (("unfiltered", False), ("filtered", True)):
        if one_filter and filter_seen != config["filter_seen"]:
            continue
        found = evaluate(result["checkpoint"], command_line=[f"--filter_seen={filter_seen}"])
        tested[kind] = {"valid": found["valid_result"], "test": found["test_result"]}
    return {
        **circumstances,
        "settings": settings,
        "from_data": {key: value for key, value in decisive(state["given"]).items() if key not in asked_for},
        "model": model,
        "dataset": dataset,
        "time_order": config["time_order"],
        "split": config["eval_args"]["split"],
        "seed": config["seed"],
        "repeat_bias": bool(config.get("repeat_bias")),
        "metrics": tested,
        **{key: result[key] for key in OF_RUN},
        "processor_share": processor_share(begun, circumstances["hardware"]),
        "checkpoint": result["checkpoint"],
    }


def processor_share(begun: tuple[float, float], hardware: dict) -> float | None:
    """Which part of the time a run without a GPU has had its cores: less than 1 where other work ran beside it.

    Args:
        begun: ``perf_counter()`` and ``process_time()`` at its begin.
        hardware: of the run.
    """
    if "gpu" in hardware:
        return None
    wall, processor = perf_counter() - begun[0], process_time() - begun[1]
    return round(min(processor / wall / hardware["threads"], 1.0), 3)


def main() -> None:
    """Run what the command line asks for and has no result yet, then write the tables."""
    parser = _parser()
    options = parser.parse_args()
    if (options.set or options.files) and not options.name:
        parser.error("--set and --with need --name: what is no recipe any more has another name")
    for name in ("recipes", "seeds"):
        values = getattr(options, name)
        if len(set(values)) < len(values):
            parser.error(f"{name} must be different ones, and not {' '.join(map(str, values))}")
    if options.here:
        _run_here(options)
        return
    asked = [] if options.tables else [(recipe, seed) for seed in options.seeds for recipe in options.recipes]
    failed = [error for recipe, seed in asked if (error := _run(options, recipe, seed)) is not None]
    print(f"written: {leaderboard.write(options.results)}")
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("recipes", nargs="*", metavar="RECIPE")
    parser.add_argument("--seeds", type=int, nargs="+", default=[2020])
    parser.add_argument("--data_path")
    parser.add_argument("--threads", type=at_least_one, help="of each run; the package's own choice if not given")
    parser.add_argument(
        "--set", type=key_value, nargs="+", default=[], metavar="KEY=VALUE", help="what differs from the recipe"
    )
    parser.add_argument("--with", nargs="+", default=[], dest="files", metavar="FILE", help="to read after the recipe")
    parser.add_argument("--name", help="of the runs, in place of the recipe's")
    parser.add_argument("--results", type=Path, default=ROOT / "results", help="where runs and tables are kept")
    parser.add_argument(
        "--one_filter", action="store_true", help="test as filter_seen says, and not the other way, too"
    )
    parser.add_argument("--tables", action="store_true", help="only write the tables")
    parser.add_argument("--here", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--parent", type=int, help=argparse.SUPPRESS)
    return parser


def _arguments(options: argparse.Namespace, recipe: str, seed: int) -> list[str]:
    return command_of(recipe, seed, options.data_path, options.set, options.files)


def _run_here(options: argparse.Namespace) -> None:
    """The one run that is asked for, in this process; what it gave goes to the file ``--here``."""
    arguments = _arguments(options, options.recipes[0], options.seeds[0])
    training = options.here.with_suffix(".training")
    found = train_and_test(arguments, options.threads, training, options.parent, one_filter=options.one_filter)
    options.here.write_text(json.dumps(found, indent=1))


def _run(options: argparse.Namespace, recipe: str, seed: int) -> str | None:
    """A run in a process of its own, unless its file is there.

    Returns:
        None if the file is there in the end, with these settings; else the name of the run.
    """
    from recbole_ssm.studies.worker import start
    from recbole_ssm.system.atomic_write import write_json

    runs, checkpoints = options.results / "runs", options.results / "checkpoints"
    for made in (runs, checkpoints):
        made.mkdir(parents=True, exist_ok=True)
    folder, _, name = recipe.rpartition("/")
    target = runs / f"{options.name or '-'.join(filter(None, (name, folder)))}-{seed}.json"
    if target.exists():
        other = differing(leaderboard.read_run(target)["settings"], settings_of(_arguments(options, recipe, seed)))
        print(f"{target.name} is there" + (f", but its settings differ in {other}" if other else ""))
        return f"{target.stem} (remove it, or give --name)" if other else None
    unfinished = checkpoints / f"{target.stem}.part"
    child = [__file__, recipe, f"--seeds={seed}", f"--here={unfinished}"]
    child += [f"--data_path={options.data_path}"] if options.data_path else []
    child += [f"--threads={options.threads}"] if options.threads else []
    child += ["--name=x"] if options.name else []
    child += ["--one_filter"] if options.one_filter else []
    child += ["--set", *options.set] if options.set else []
    child += ["--with", *options.files] if options.files else []
    if start([*child, "--parent"]) is not None:
        return target.stem
    run = json.loads(unfinished.read_text(encoding="utf-8"))
    shutil.copyfile(run.pop("checkpoint"), checkpoints / f"{target.stem}.pth")
    write_json(target, run)
    unfinished.unlink()
    shutil.rmtree(unfinished.with_suffix(".training"))
    return None


if __name__ == "__main__":
    main()
