"""``train``, the verb that need not be said: one model, trained and tested."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from recbole_ssm.cli.arguments import PROGRAM, VERBS, read_files, value_of
from recbole_ssm.config.keys import FOR_ALL_MODELS, FOR_OUR_MODELS
from recbole_ssm.config.shipped_files import properties_folder
from recbole_ssm.data.atomic_files import find_datasets
from recbole_ssm.model.registry import MODELS, recbole_models
from recbole_ssm.system.terminal import printable
from recbole_ssm.training.run import run

_USAGE = f"{PROGRAM} --model=NAME --dataset=NAME [--config_files=FILE,FILE] [--resume[=FILE]] [--key=value ...]"


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
        *_wrapped(f"{PROGRAM} VERB does more", f"{', '.join(VERBS[1:])}; VERB --help explains each."),
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
