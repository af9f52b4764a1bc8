"""What a training tells a person of the data, of the model, and of what it came to; of epochs the history tells."""

from __future__ import annotations

import os
import shlex
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from recbole_ssm.config.config import Config
from recbole_ssm.config.from_data import in_words
from recbole_ssm.ops.backends import backends_of
from recbole_ssm.system.terminal import printable
from recbole_ssm.training.hooks.history import duration, seconds_of
from recbole_ssm.training.summary import count_parameters

PROGRAM = "python -m recbole_ssm"

_MARGIN = 12
"""Characters before the text that follows a name."""

_WIDTHS = ("hidden_size", "embedding_size")
_DEPTHS = ("num_layers", "n_layers")
"""Keys by which models of this package and of RecBole name their width and their number of layers."""


def data_in_words(config: Config, dataset: Any) -> str:
    """The data in one line: how many, how they are split, and under which rules they are ranked."""
    counts = (dataset.user_num - 1, "users"), (dataset.item_num - 1, "items"), (dataset.inter_num, "interactions")
    words = ", ".join(f"{number:,} {name}" for number, name in counts)
    rules = f"time_order {config.order_of_histories}, filter_seen {config.filter_seen}"
    return _row("data", f"{config.dataset}: {words}; {config.split_in_words}; {rules}")


def settings_in_words(config: Config) -> str:
    """Settings that follow from the data, with their reasons."""
    lines = (_row("", line.strip()) for line in in_words(config.from_data).splitlines())
    return "\n".join([_row("settings", "from the data (--defaults=paper has the published ones)"), *lines])


def model_in_words(config: Config, model: Any, threads: int) -> str:
    """The model in one line, and in a second one what it reads of titles, which decides how long it takes.

    Args:
        config: the configuration.
        model: the model.
        threads: how many compute.

    Returns:
        Its name, size, and what computes it.
    """
    language = getattr(model, "language", None)
    line = _model_line(config, count_parameters(model), _size(config, language), threads)
    return line if language is None else f"{line}\n{_row('titles', language.titles_in_words())}"


def _size(config: Config, language: Any) -> list[str]:
    """Width and number of layers: of a language model its own, whatever the keys say."""
    if language is not None:
        return [f"width {language.width}", _number(language.model.config.num_hidden_layers, "layer")]
    words = [f"width {config[key]}" for key in _WIDTHS if config[key]][:1]
    return words + [_number(config[key], "layer") for key in _DEPTHS if isinstance(config[key], int)][:1]


def _model_line(config: Config, parameters: tuple[int, int], size: list[str], threads: int) -> str:
    total, body = parameters
    words = [f"{total:,} parameters ({body:,} without the item embedding)"] if total else []
    words += size
    if config.is_packed and config.model_class.is_trained:
        backends = Counter(backends_of(config.device).values())
        words.append(f"{backends.most_common(1)[0][0]} kernels")
    words += [str(config.device), _number(threads, "thread")]
    return _row("model", f"{config.model}: {', '.join(words)}")


def result_in_words(config: Config, result: Mapping[str, Any], log: Path | None, history: list[str]) -> str:
    """What a training came to, as a table.

    Args:
        config: the configuration.
        result: of :func:`recbole_ssm.training.run.run`.
        log: the log file, or the one beside it; None if there is none.
        history: names of some items, for an example of a command.

    Returns:
        Some lines: the metrics of validation and test, the cost, the files, and what to type next.
    """
    columns = {
        name: result[key]
        for name, key in (("validation", "best_valid_result"), ("test", "test_result"))
        if result[key] is not None
    }
    places = config.metric_decimal_place
    lines = ["", _row("", "".join(f"{name:>12}" for name in columns))] if columns else [""]
    for metric in next(iter(columns.values()), ()):
        lines.append(_row(metric, "".join(f"{values[metric]:>12.{places}f}" for values in columns.values())))
    took = f"{_number(result['epochs'], 'epoch')} in {duration(seconds_of(result['history']))}"
    best = f", the best is {result['best_epoch']}" if result["best_valid_result"] is not None else ""
    rows = {
        "training": f"{took}{best}; {result['peak_memory_gib']:.2f} GiB of memory at most",
        "checkpoint": result["checkpoint"] or "not saved",
        "log": "" if log is None else os.path.relpath(log.with_suffix(".log")),
    }
    lines += ["", *(_row(name, str(text)) for name, text in rows.items() if text)]
    return "\n".join(lines + _next(config, result["checkpoint"], history))


def _next(config: Config, checkpoint: str | None, history: list[str]) -> list[str]:
    """Commands that go on from here."""
    if checkpoint is None or not checkpoint.endswith(".pth"):
        return []
    file = shlex.quote(f"--checkpoint={checkpoint}")
    words = [f"evaluate {file}"]
    if config.is_packed:
        plain = history and not config.columns and not any("," in name or printable(name) != name for name in history)
        what = shlex.quote(f"--history={','.join(history)}") if plain else "--out=recommendations.csv"
        words.insert(0, f"recommend {file} {what}")
    return [_row("next" if not number else "", f"{PROGRAM} {each}") for number, each in enumerate(words)]


def _row(name: str, text: str) -> str:
    return f"{name:<{_MARGIN}} {text}".rstrip()


def _number(number: int, name: str) -> str:
    return f"{number} {name}{'s' * (number != 1)}"
