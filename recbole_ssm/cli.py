"""The command line: ``python run_recbole_ssm.py`` and ``python -m recbole_ssm``."""

from __future__ import annotations

import json
import signal
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path

from recbole.utils.argument_list import dataset_arguments

from recbole_ssm.arguments import key_of, own_arguments, read_count, read_names, value_of
from recbole_ssm.checkpoint import CheckpointNotWritten
from recbole_ssm.data.atomic_files import find_datasets
from recbole_ssm.errors import InputError
from recbole_ssm.files import replacing
from recbole_ssm.inspection import describe, evaluate
from recbole_ssm.options import FOR_ALL_MODELS, FOR_OUR_MODELS
from recbole_ssm.property_files import properties_folder
from recbole_ssm.quick_start import run
from recbole_ssm.recommender import Recommender
from recbole_ssm.registry import MODELS, recbole_models
from recbole_ssm.resume import Interrupted
from recbole_ssm.studies import PROGRAM, compare_models, scaling_of_models, sweep_values, tune_model
from recbole_ssm.trainer import TrainingDiverged

_USAGE = f"{PROGRAM} --model=NAME --dataset=NAME [--config_files=FILE,FILE] [--resume[=FILE]] [--key=value ...]"


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
        print(help_text(value_of(arguments, "data_path") or "dataset"))
        return
    ours = ("--config_files=", "--model=", "--dataset=", "--resume=")
    files = value_of(arguments, "config_files") or ""
    run(
        model=value_of(arguments, "model"),
        dataset=value_of(arguments, "dataset"),
        config_file_list=files.replace(",", " ").split(),
        command_line=[a for a in arguments if not a.startswith(ours) and a != "--resume"],
        resume=value_of(arguments, "resume") or "--resume" in arguments,
    )


def evaluate_model(arguments: Sequence[str]) -> None:
    """Validate and test the model of a checkpoint, as it was configured but for what is given here.

    Models of this package in several checkpoints, trained on the same data, rank together: by the mean of their scores.
    """
    if {"-h", "--help"} & set(arguments):
        print(
            f"usage: {PROGRAM} evaluate --checkpoint=FILE[,FILE...] [--dataset=NAME] [--filter_seen=True] "
            f"[--topk=[5,20]] [--key=value ...] [--json=FILE]\n\n{evaluate_model.__doc__}"
        )
        return
    ours = ("--checkpoint=", "--dataset=", "--json=")
    rest = [a for a in arguments if not a.startswith(ours)]
    file, *others = _checkpoint(arguments).split(",")
    _report(evaluate(file, value_of(arguments, "dataset"), rest, others=others), arguments)


def inspect(arguments: Sequence[str]) -> None:
    """Say what is in a checkpoint: what was trained, on what, and how well."""
    if {"-h", "--help"} & set(arguments):
        print(f"usage: {PROGRAM} inspect --checkpoint=FILE [--json=FILE]\n\n{inspect.__doc__}")
        return
    unknown = [a for a in arguments if not a.startswith(("--checkpoint=", "--json="))]
    if unknown:
        raise InputError(f"inspect has no use for {unknown[0]!r}; it takes --checkpoint=FILE and --json=FILE")
    _report(describe(_checkpoint(arguments)), arguments)


def recommend(arguments: Sequence[str]) -> None:
    """The best items for a history, or for all users of a dataset, or some of them: after all that they have had.

    --history      names of items, the latest last, separated by commas; no data are read then
    --dataset      whose users, in --data_path; default the one of the training
    --users        names, separated by commas; default all
    --device       where it computes, cuda for example; default cpu
    --k            how many items for each; default 10
    --filter_seen  whether the items of the history are left out; default as in the training
    --out          file to write, in RecBole's atomic format; default the screen
    """
    if {"-h", "--help"} & set(arguments):
        print(
            f"usage: {PROGRAM} recommend --checkpoint=FILE (--history=ITEM,ITEM | [--users=NAME,NAME] "
            f"[--dataset=NAME] [--data_path=FOLDER]) [--k=N] [--filter_seen=True] [--device=NAME] [--out=FILE]\n\n"
            + textwrap.dedent(f"    {recommend.__doc__}")
        )
        return
    optional = ("history", "users", "dataset", "k", "filter_seen", "device", "out")
    given, rest = own_arguments(arguments, "recommend", ("checkpoint",), optional)
    for argument in rest:
        if "=" not in argument or key_of(argument) not in _OF_DATA:
            raise InputError(
                f"recommend has no use for {argument!r}; it takes --key=value, where keys are its own (recommend "
                "--help) or about the data, such as data_path"
            )
    if given["filter_seen"] not in (None, "True", "False"):
        raise InputError(f"--filter_seen={given['filter_seen']} must be True or False")
    out = None if given["out"] is None else Path(given["out"]).absolute()
    if out is not None and (out.is_dir() or not out.parent.is_dir()):
        raise InputError(f"--out={given['out']} must be a file in a folder that there is")
    k, filter_seen = read_count(given, "k", 10), given["filter_seen"] and given["filter_seen"] == "True"
    recommender = Recommender(given["checkpoint"], given["device"] or "cpu", filter_seen=filter_seen)
    if given["history"] is not None:
        if others := [*rest, *(f"--{key}" for key in ("users", "dataset") if given[key] is not None)]:
            raise InputError(f"{others[0].partition('=')[0]} does not apply to --history, for which no data are read")
        best = recommender.recommend([given["history"].split(",")], k)[0]
        columns = ["item_id:token", "score:float"]
    else:
        histories = recommender.histories(given["dataset"], rest)
        users = read_names(given, "users") if given["users"] is not None else list(histories)
        for user in users:
            if user not in histories:
                raise InputError(f"the dataset has no user {user!r}; it may have too few interactions for its filters")
        _tell_unknown(recommender, [histories[user] for user in users])
        found = recommender.recommend([histories[user] for user in users], k, skip_unknown=True)
        best = [(user, *item) for user, items in zip(users, found, strict=True) for item in items]
        columns = ["user_id:token", "item_id:token", "score:float"]
    rows = ["\t".join(columns), *("\t".join((*names, f"{score:.6g}")) for *names, score in best)]
    lines = "\n".join(rows) + "\n"
    if out is None:
        print(lines, end="")
        return
    try:
        with replacing(out) as file:
            file.write(lines.encode())
    except OSError as error:
        raise InputError(f"--out={given['out']} cannot be written: {error}") from error
    print(f"{len(best)} recommendations are in {given['out']}")


_OF_DATA = {"data_path", "dataset_cache", "time_order", *dataset_arguments} - {
    *("MAX_ITEM_LIST_LENGTH", "ITEM_LIST_LENGTH_FIELD", "LIST_SUFFIX", "POSITION_FIELD", "benchmark_filename"),
}
"""Keys that decide what the histories are that ``recommend`` reads."""


def _tell_unknown(recommender: Recommender, histories: Sequence[Sequence[str]]) -> None:
    """Say how much the model does not know of histories; it must know something."""
    known = [sum(item in recommender for item in history) for history in histories]
    everything = sum(map(len, histories))
    if not sum(known):
        raise InputError("the model knows none of the items; name a dataset with items of those that it was trained on")
    if sum(known) < everything:
        print(
            f"{everything - sum(known)} of {everything} interactions are of items that the model does not know, and "
            f"are passed over; {known.count(0)} of {len(known)} users have no others, and get none",
            file=sys.stderr,
        )


VERBS = {
    "train": train,
    "evaluate": evaluate_model,
    "inspect": inspect,
    "recommend": recommend,
    "compare": compare_models,
    "sweep": sweep_values,
    "tune": tune_model,
    "scaling": scaling_of_models,
}
"""What can be asked for, by the first word of the command line."""


def _checkpoint(arguments: Sequence[str]) -> str:
    file = value_of(arguments, "checkpoint")
    if file is None:
        raise InputError("no checkpoint is given; say --checkpoint=FILE, for example one in saved/")
    return file


def _report(found: dict, arguments: Sequence[str]) -> None:
    """Print a table of two columns, and write it as JSON where that is asked for."""
    for name, value in found.items():
        words = ", ".join(f"{key} {item}" for key, item in value.items()) if isinstance(value, dict) else str(value)
        print("\n".join(textwrap.wrap(f"{name:<20}{words}", 110, subsequent_indent=" " * 20)))
    file = value_of(arguments, "json")
    if file is not None:
        try:
            Path(file).write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
        except OSError as error:
            raise InputError(f"--json={file} cannot be written: {error}") from error


def help_text(data_path: str) -> str:
    """Models, datasets and this package's keys."""
    shipped = sorted(
        str(file.relative_to(properties_folder()).with_suffix(""))
        for folder in ("recipe", "wide", "paper", "protocol")
        for file in properties_folder().glob(f"{folder}/*.yaml")
    )
    lines = [
        *textwrap.wrap(f"usage: {_USAGE}", 100, subsequent_indent="  ", break_on_hyphens=False),
        "",
        "Train a model, keep the best epoch by the validation metric, and test it. Every key of RecBole is understood.",
        *_wrapped(f"{PROGRAM} VERB does more", f"{', '.join(list(VERBS)[1:])}; VERB --help explains each."),
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
