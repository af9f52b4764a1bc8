"""The command line: ``python run_recbole_ssm.py`` and ``python -m recbole_ssm``."""

from __future__ import annotations

import json
import shlex
import signal
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path

from recbole_ssm.checkpoint import CheckpointNotWritten
from recbole_ssm.config import properties_folder
from recbole_ssm.data.atomic_files import find_datasets
from recbole_ssm.errors import InputError
from recbole_ssm.inspection import describe, evaluate
from recbole_ssm.options import FOR_ALL_MODELS, FOR_OUR_MODELS
from recbole_ssm.quick_start import run
from recbole_ssm.registry import MODELS, recbole_models
from recbole_ssm.resume import Interrupted
from recbole_ssm.trainer import TrainingDiverged

_PROGRAM = "python -m recbole_ssm"
_USAGE = (
    "python run_recbole_ssm.py --model=NAME --dataset=NAME [--config_files=FILE,FILE] [--resume[=FILE]] "
    "[--key=value ...]"
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what the command line asks for.

    Args:
        arguments: without the program's name; by default those of this process. The first may be one of
            :data:`VERBS`; without one it is ``train``.

    Returns:
        Exit status: 0 done, 1 the training diverged or could not be saved, 2 something in the arguments or the data
        cannot be used, 128 + N signal N stopped the training.
    """
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    arguments = ["--trust_checkpoint=True" if argument == "--trust_checkpoint" else argument for argument in arguments]
    verb = arguments.pop(0) if arguments and arguments[0] in VERBS else "train"
    try:
        VERBS[verb](arguments)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except (TrainingDiverged, CheckpointNotWritten) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except Interrupted as error:
        print(error, file=sys.stderr)
        return 128 + error.signal_number
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    return 0


def train(arguments: Sequence[str]) -> None:
    """Train a model, keep the best epoch by the validation metric, and test it."""
    if {"-h", "--help"} & set(arguments):
        print(help_text(_value(arguments, "data_path") or "dataset"))
        return
    ours = ("--config_files=", "--model=", "--dataset=", "--resume=")
    files = _value(arguments, "config_files") or ""
    run(
        model=_value(arguments, "model"),
        dataset=_value(arguments, "dataset"),
        config_file_list=files.replace(",", " ").split(),
        command_line=[a for a in arguments if not a.startswith(ours) and a != "--resume"],
        resume=_value(arguments, "resume") or "--resume" in arguments,
    )


def evaluate_model(arguments: Sequence[str]) -> None:
    """Validate and test the model of a checkpoint, as it was configured but for what is given here."""
    if {"-h", "--help"} & set(arguments):
        print(
            f"usage: {_PROGRAM} evaluate --checkpoint=FILE [--dataset=NAME] [--filter_seen=True] [--topk=[5,20]] "
            f"[--key=value ...] [--json=FILE]\n\n{evaluate_model.__doc__}"
        )
        return
    ours = ("--checkpoint=", "--dataset=", "--json=")
    rest = [a for a in arguments if not a.startswith(ours)]
    _report(evaluate(_checkpoint(arguments), _value(arguments, "dataset"), rest), arguments)


def inspect(arguments: Sequence[str]) -> None:
    """Say what is in a checkpoint: what was trained, on what, and how well."""
    if {"-h", "--help"} & set(arguments):
        print(f"usage: {_PROGRAM} inspect --checkpoint=FILE [--json=FILE]\n\n{inspect.__doc__}")
        return
    unknown = [a for a in arguments if not a.startswith(("--checkpoint=", "--json="))]
    if unknown:
        raise InputError(f"inspect has no use for {unknown[0]!r}; it takes --checkpoint=FILE and --json=FILE")
    _report(describe(_checkpoint(arguments)), arguments)


def compare_models(arguments: Sequence[str]) -> None:
    """Train several models on the same data and test items, and report which is better, and what each costs.

    --models     names, of this package or of RecBole, separated by commas
    --baseline   the model that the others are tested against; default the first
    """
    if {"-h", "--help"} & set(arguments):
        print(_study_help("compare --models=NAME,NAME", compare_models))
        return
    from recbole_ssm.compare import Study, Variant, compare  # with matplotlib, which training does without

    given, keys = _study_arguments(arguments, "compare", ("models", "dataset"), ("baseline",))
    variants = [Variant(name, name) for name in _different(given, "models")]
    folder = given.pop("out") or Path("compare") / given["dataset"]
    study = Study(variants, folder=Path(folder), keys=keys, **_study_settings(given))
    compare(study, given["baseline"], f"{_PROGRAM} compare {shlex.join(arguments)}")


def sweep_values(arguments: Sequence[str]) -> None:
    """Train a model with several values of one configuration key, and plot the metrics over them.

    --model      name, of this package or of RecBole
    --param      the key
    --values     separated by commas, as they would stand on the command line; the first one is the baseline
    """
    if {"-h", "--help"} & set(arguments):
        print(_study_help("sweep --model=NAME --param=KEY --values=VALUE,VALUE", sweep_values))
        return
    from recbole_ssm.compare import Study, compare, values_of

    given, keys = _study_arguments(arguments, "sweep", ("model", "dataset", "param", "values"), ())
    variants = values_of(given["param"], _different(given, "values"), given["model"])
    folder = given.pop("out") or Path("sweep") / f"{given['model']}-{given['param']}-{given['dataset']}"
    study = Study(variants, folder=Path(folder), keys=keys, **_study_settings(given))
    compare(study, command=f"{_PROGRAM} sweep {shlex.join(arguments)}", parameter=given["param"])


def scaling_of_models(arguments: Sequence[str]) -> None:
    """Measure what models cost as histories get longer, and as catalogues get larger, on random histories.

    --models      sequential ones, of this package or of RecBole, by commas; default: all of this package, and SASRec
    --lengths     of histories, separated by commas, or none; default 50 to 10,000
    --catalogues  numbers of items, separated by commas, or none; default 1,000 to 1,000,000
    --threads     default 1, where processor time is measured, so that other programs do not count
    --out         folder for report.html (self-contained) and scaling.json; default scaling
    --key=value   for all models
    """
    if {"-h", "--help"} & set(arguments):
        print(
            f"usage: {_PROGRAM} scaling [--models=NAME,NAME] [--lengths=N,N] [--catalogues=N,N] [--threads=1] "
            f"[--out=FOLDER] [--key=value ...]\n\n{textwrap.dedent('    ' + scaling_of_models.__doc__)}"
        )
        return
    import torch

    from recbole_ssm.scaling import CATALOGUES, LENGTHS, scaling

    given, keys = _own_arguments(arguments, "scaling", (), ("models", "lengths", "catalogues", "threads", "out"))
    lengths = LENGTHS if given["lengths"] is None else _sizes(given, "lengths")
    catalogues = CATALOGUES if given["catalogues"] is None else _sizes(given, "catalogues")
    given["models"] = given["models"] or ",".join([*MODELS, "SASRec"])
    models = _different(given, "models")
    torch.set_num_threads(_sizes({"threads": given["threads"] or "1"}, "threads")[0])
    folder = Path(given["out"] or "scaling")
    scaling(models, folder, lengths, catalogues, keys, command=f"{_PROGRAM} scaling {shlex.join(arguments)}")


def _sizes(given: dict, key: str) -> list[int]:
    if given[key] == "none":
        return []
    try:
        sizes = [int(word) for word in given[key].split(",")]
    except ValueError:
        sizes = [0]
    if min(sizes) < (11 if key == "catalogues" else 1):
        raise InputError(f"--{key}={given[key]} must be whole numbers{' above 10' * (key == 'catalogues')}")
    return sizes


_STUDY_HELP = """
--dataset    name
--seeds      how many (2020, 2021, ...), or which, separated by commas; default 3
--budget     seconds of training of each run: the epoch that is then going on is its last
--out        folder for report.html (self-contained), table.md, table.csv, results.json and the log of each run
--key=value  for all runs; also --config_files=FILE,FILE

Each run is a process of its own. What is done is not done again, so that the same command goes on after an
interruption, also in the midst of a training; models, values and seeds may be added.
"""


def _study_help(usage: str, verb) -> str:
    heading, _, own = verb.__doc__.partition("\n\n")
    usage = f"usage: {_PROGRAM} {usage} --dataset=NAME [--seeds=3] [--budget=SECONDS] [--out=FOLDER] [--key=value ...]"
    return f"{usage}\n\n{heading}\n\n{textwrap.dedent(own).rstrip()}{_STUDY_HELP}"


def _study_arguments(arguments: Sequence[str], verb: str, needed: tuple, optional: tuple) -> tuple[dict, list[str]]:
    return _own_arguments(arguments, verb, needed, (*optional, "seeds", "budget", "out", "config_files"))


def _own_arguments(arguments: Sequence[str], verb: str, needed: tuple, optional: tuple) -> tuple[dict, list[str]]:
    """What is given of the verb's own arguments, None for the others, and the rest."""
    ours = (*needed, *optional)
    given = {key: _value(arguments, key) for key in ours}
    for key in needed:
        if not given[key]:
            raise InputError(f"{verb} needs --{key}=...; {verb} --help explains it")
    return given, [a for a in arguments if not a.startswith(tuple(f"--{key}=" for key in ours))]


def _study_settings(given: dict) -> dict:
    return {
        "dataset": given["dataset"],
        "seeds": _seeds(given["seeds"] or "3"),
        "files": (given["config_files"] or "").replace(",", " ").split(),
        "budget": _seconds(given["budget"]),
    }


def _different(given: dict, key: str) -> list[str]:
    words = given[key].split(",")
    twice = next((word for word in words if words.count(word) > 1), None)
    if twice is not None or "" in words:
        raise InputError(f"--{key}={given[key]} must name different ones, but has {twice or 'an empty one'!r} twice")
    return words


def _seeds(text: str) -> list[int]:
    try:
        numbers = [int(word) for word in text.split(",")]
    except ValueError:
        numbers = []
    if not numbers or min(numbers) < 0 or len(set(numbers)) < len(numbers) or numbers == [0]:
        raise InputError(f"--seeds={text} must be how many, or different whole numbers separated by commas")
    return numbers if len(numbers) > 1 else [2020 + number for number in range(numbers[0])]


def _seconds(text: str | None) -> float | None:
    try:
        seconds = None if text is None else float(text)
    except ValueError:
        seconds = 0.0
    if seconds is not None and not 0 < seconds < float("inf"):
        raise InputError(f"--budget={text} must be a number of seconds")
    return seconds


VERBS = {
    "train": train,
    "evaluate": evaluate_model,
    "inspect": inspect,
    "compare": compare_models,
    "sweep": sweep_values,
    "scaling": scaling_of_models,
}
"""What can be asked for, by the first word of the command line."""


def _checkpoint(arguments: Sequence[str]) -> str:
    file = _value(arguments, "checkpoint")
    if file is None:
        raise InputError("no checkpoint is given; say --checkpoint=FILE, for example one in saved/")
    return file


def _report(found: dict, arguments: Sequence[str]) -> None:
    """Print a table of two columns, and write it as JSON where that is asked for."""
    file = _value(arguments, "json")
    if file is not None:
        try:
            Path(file).write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
        except OSError as error:
            raise InputError(f"--json={file} cannot be written: {error}") from error
    for name, value in found.items():
        words = ", ".join(f"{key} {item}" for key, item in value.items()) if isinstance(value, dict) else str(value)
        print("\n".join(textwrap.wrap(f"{name:<20}{words}", 110, subsequent_indent=" " * 20)))


def _value(arguments: Sequence[str], key: str) -> str | None:
    """The value of ``--key=value``."""
    values = {a.partition("=")[2] for a in arguments if a.startswith(f"--{key}=")}
    if len(values) > 1:
        raise InputError(f"--{key} is given twice, as {' and as '.join(sorted(values))}")
    return next(iter(values), None)


def help_text(data_path: str) -> str:
    """Models, datasets and this package's keys."""
    shipped = sorted(
        str(file.relative_to(properties_folder()).with_suffix(""))
        for folder in ("recipe", "paper", "protocol")
        for file in properties_folder().glob(f"{folder}/*.yaml")
    )
    lines = [
        *textwrap.wrap(f"usage: {_USAGE}", 100, subsequent_indent="  ", break_on_hyphens=False),
        "",
        "Train a model, keep the best epoch by the validation metric, and test it. Every key of RecBole is understood.",
        f"{_PROGRAM} VERB does more: {', '.join(list(VERBS)[1:])}; VERB --help explains each.",
        "",
        *_wrapped("models", ", ".join(MODELS)),
        *_wrapped("RecBole's models", ", ".join(recbole_models())),
        *_wrapped(f"datasets in {data_path} (--data_path)", ", ".join(["ml-100k", *find_datasets(data_path)])),
        *_wrapped("config files of the package", ", ".join(shipped)),
        "",
    ]
    for title, options in (("keys for all models", FOR_ALL_MODELS), ("keys for the models above", FOR_OUR_MODELS)):
        lines.append(f"{title}:")
        for option in options:
            lines.extend(
                textwrap.wrap(
                    f"{option.text}; {option.values}",
                    100,
                    initial_indent=f"  {option.name:<22}",
                    subsequent_indent=" " * 24,
                )
            )
    return "\n".join(lines)


def _wrapped(title: str, text: str) -> list[str]:
    return textwrap.wrap(f"{title}: {text}", 100, subsequent_indent="  ", break_on_hyphens=False)
