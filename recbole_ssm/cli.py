"""The command line: ``python run_recbole_ssm.py`` and ``python -m recbole_ssm``."""

from __future__ import annotations

import os
import signal
import sys
import textwrap
from collections.abc import Sequence

import recbole_ssm
from recbole_ssm.arguments import PROGRAM, joined, read_files, value_of
from recbole_ssm.checkpoint import CheckpointNotWritten
from recbole_ssm.checkpoint_verbs import evaluate_model, inspect_checkpoint, recommend_items
from recbole_ssm.data.atomic_files import find_datasets
from recbole_ssm.divergence import TrainingDiverged
from recbole_ssm.errors import InputError, did_you_mean
from recbole_ssm.options import FOR_ALL_MODELS, FOR_OUR_MODELS
from recbole_ssm.property_files import properties_folder
from recbole_ssm.quick_start import run
from recbole_ssm.registry import MODELS, recbole_models
from recbole_ssm.resume import Interrupted
from recbole_ssm.studies import compare_models, scaling_of_models, sweep_values, tune_model
from recbole_ssm.system.terminal import printable, printable_warnings

_USAGE = f"{PROGRAM} --model=NAME --dataset=NAME [--config_files=FILE,FILE] [--resume[=FILE]] [--key=value ...]"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what the command line asks for.

    Args:
        arguments: without the program's name; by default those of this process. The first may be one of
            :data:`VERBS`; without one it is ``train``. None at all show the usage.

    Returns:
        Exit status: 0 done, 1 the training diverged or could not be saved, 2 something in the arguments or the data
        cannot be used, 128 + N signal N stopped the training.
    """
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    try:
        with printable_warnings():
            _do(joined(arguments, ("--trust_checkpoint", "--trust_dataset", "--skip_unknown")))
        sys.stdout.flush()
    except UnicodeEncodeError as error:
        print(f"error: {error.object!r} cannot be printed in {error.encoding}; set PYTHONUTF8=1", file=sys.stderr)
        return 2
    except BrokenPipeError:  # who reads has enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + 13  # SIGPIPE's number, which Windows' Python does not know
    except InputError as error:
        print(printable(f"error: {error}"), file=sys.stderr)
        return 2
    except (TrainingDiverged, CheckpointNotWritten) as error:
        print(printable(f"error: {error}"), file=sys.stderr)
        return 1
    except Interrupted as error:
        print(printable(error), file=sys.stderr)
        return 128 + error.signal_number
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    return 0


def _do(arguments: list[str]) -> None:
    if "--version" in arguments:
        print("recbole-ssm", recbole_ssm.__version__)
        return
    first = arguments[0] if arguments else "--help"
    if not first.startswith("-") and "=" not in first and first not in VERBS:
        hint = did_you_mean(first, VERBS) or "."
        raise InputError(f"there is no verb {first!r}{hint} Verbs: {', '.join(VERBS)}; arguments are --key=value")
    if first in VERBS:
        VERBS[first](arguments[1:])
    else:
        train(arguments or ["--help"])


def train(arguments: Sequence[str]) -> None:
    """Train a model, keep the best epoch by the validation metric, and test it."""
    if {"-h", "--help"} & set(arguments):
        print(printable(help_text(value_of(arguments, "data_path") or "dataset")))
        return
    ours = ("--config_files=", "--model=", "--dataset=", "--resume=")
    run(
        model=value_of(arguments, "model"),
        dataset=value_of(arguments, "dataset"),
        config_file_list=read_files(value_of(arguments, "config_files")),
        command_line=[a for a in arguments if not a.startswith(ours) and a != "--resume"],
        resume=value_of(arguments, "resume") or "--resume" in arguments,
    )


VERBS = {
    "train": train,
    "evaluate": evaluate_model,
    "inspect": inspect_checkpoint,
    "recommend": recommend_items,
    "compare": compare_models,
    "sweep": sweep_values,
    "tune": tune_model,
    "scaling": scaling_of_models,
}
"""What can be asked for, by the first word of the command line."""


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
        *_wrapped(f"datasets in {data_path} (--data_path)", ", ".join(sorted({"ml-100k", *find_datasets(data_path)}))),
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
