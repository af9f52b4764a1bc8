"""The help of ``train``: models, datasets and keys."""

from __future__ import annotations

import textwrap

from recbole_ssm.cli.parser import PROGRAM, WIDTH, wrapped
from recbole_ssm.cli.verbs import VERBS, all_verbs
from recbole_ssm.config.keys import sections
from recbole_ssm.config.shipped_files import properties_folder
from recbole_ssm.data.atomic_files import find_datasets
from recbole_ssm.model.recbole_models import recbole_models
from recbole_ssm.model.registry import MODELS

_USAGE = (
    f"{PROGRAM} --model=NAME --dataset=NAME [--config_files=FILE,FILE] [--resume[=FILE]] [--verbose] [--key=value ...]"
)


def help_text(data_path: str) -> str:
    """Models, datasets and this package's keys.

    Args:
        data_path: the folder whose datasets are listed.

    Returns:
        What ``--help`` prints.
    """
    shipped = sorted(
        str(file.relative_to(properties_folder()).with_suffix(""))
        for folder in ("recipe", "memory", "wide", "paper", "protocol")
        for file in properties_folder().glob(f"{folder}/*.yaml")
    )
    others = [verb for verb in all_verbs() if verb != VERBS[0]]
    lines = [
        *wrapped(f"usage: {_USAGE}"),
        "",
        "Train a model, keep the best epoch by the validation metric, and test it. Every key of RecBole is understood.",
        "--verbose (--console=verbose) prints all that goes to the log file; without it the console is short.",
        *wrapped(f"{PROGRAM} VERB does more: {', '.join(others)}; VERB --help explains each."),
        "",
        *wrapped(f"models: {', '.join(MODELS)}"),
        *wrapped(f"RecBole's models: {', '.join(recbole_models())}"),
        *wrapped(f"datasets in {data_path} (--data_path): {', '.join(sorted({'ml-100k', *find_datasets(data_path)}))}"),
        *wrapped(f"config files of the package: {', '.join(shipped)}"),
        "",
    ]
    margin = 4 + max(len(key.name) for _, keys in sections() for key, _ in keys)
    for title, keys in sections():
        lines.append(f"{title}:")
        for key, models in keys:
            text = f"{models}: {key.text}; {key.values}" if models else f"{key.text}; {key.values}"
            head = f"  {key.name:<{margin - 2}}"
            lines.extend(textwrap.wrap(text, WIDTH, initial_indent=head, subsequent_indent=" " * margin))
    return "\n".join(lines)
