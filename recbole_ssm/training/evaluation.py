"""How good the model of a checkpoint is."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from itertools import chain
from pathlib import Path
from typing import Any

from recbole_ssm.checkpoints import format as checkpoint
from recbole_ssm.checkpoints.adapters import check_adapted, with_folder
from recbole_ssm.checkpoints.configuration import stored_config, understood
from recbole_ssm.checkpoints.ensemble import Ensemble
from recbole_ssm.checkpoints.fingerprint import fingerprint
from recbole_ssm.checkpoints.load import load_ensemble
from recbole_ssm.config.command_line import key_of
from recbole_ssm.config.keys import keys_of_shipped_models
from recbole_ssm.data import PackedDataset
from recbole_ssm.errors import InputError
from recbole_ssm.model.registry import MODELS, model_class
from recbole_ssm.system.progress_bar import bar
from recbole_ssm.system.terminal import Console
from recbole_ssm.training.assembly import Assembly, assemble_trained, computing
from recbole_ssm.training.hooks.progress import EvaluationProgress


def evaluate(
    file: str | Path,
    dataset: str | None = None,
    command_line: Iterable[str] = (),
    *,
    others: Sequence[str | Path] = (),
    update: bool = False,
    language_model: str | Path | None = None,
) -> dict[str, Any]:
    """Validate and test the model of a checkpoint, as it was configured but for what is given here.

    Args:
        file: the checkpoint.
        dataset: another dataset with the same items; None for the one that it was trained on.
        command_line: arguments ``--key=value``, for example ``--filter_seen=True`` or ``--topk=[5,20]``.
        others: checkpoints of more models of this package, trained on the same data: all of them rank together.
        update: before the test, let what the models count take in the validation items, without training.
        language_model: where the language model lies whose adapters (LoRA) are in a checkpoint; several folders are
            separated by commas. None where it lay in the training.

    Returns:
        ``valid_result`` and ``test_result``, None where the split leaves no such items; ``split`` in words,
        ``time_order`` and ``filter_seen``, under which they hold; whether the test knew the validation items by
        ``update`` (``updated``); and whether the training data are those that the model had, in the same order of rows
        (``same_training_data``).

    Raises:
        CheckpointError: the file cannot be read, or the dataset has other items.
        InputError: something else that is given cannot be used.
    """
    states = _read([file, *others], language_model)
    return evaluate_states(states, dataset, command_line, others=others, update=update)


def evaluate_states(
    states: Mapping[str | Path, dict[str, Any]],
    dataset: str | None = None,
    command_line: Iterable[str] = (),
    *,
    others: Sequence[str | Path] = (),
    update: bool = False,
) -> dict[str, Any]:
    """As :func:`evaluate`, where what is in the first checkpoint at least has been read.

    Args:
        states: by file.
        dataset: see there.
        command_line: see there.
        others: see there.
        update: see there.

    Returns:
        See there.
    """
    file, state = next(iter(states.items()))
    words = list(command_line)
    if others:
        _check_no_settings_of_models(state["config"]["model"], words)
    with _loaded(file, state, dataset, words) as (config, _, loaders, trainer):
        data = loaders.train._dataset
        if others:
            trainer.model = load_ensemble([file, *others], config, data, states)
        valid_result = _metrics(trainer, loaders.valid, "validating")
        if update:
            _update(trainer.model, loaders.valid)
        test_result = _metrics(trainer, loaders.test, "testing")
    return {
        "valid_result": valid_result,
        "test_result": test_result,
        "split": config.split_in_words,
        "time_order": config.order_of_histories,
        "filter_seen": config.filter_seen,
        "updated": update,
        "same_training_data": fingerprint(data) == state["dataset"],
    }


def _check_no_settings_of_models(first: str, command_line: Iterable[str]) -> None:
    """Raise InputError for a key of a model on the command line: of several, each has the settings of its training."""
    own = model_class(first).keys if first in MODELS else ()
    of_models = {key.name for key in chain(own, *keys_of_shipped_models().values())}
    for name in map(key_of, command_line):
        if name in of_models:
            raise InputError(
                f"--{name} does not apply to several checkpoints: each of their models has the settings of its "
                "training; leave it out"
            )


def _read(files: Sequence[str | Path], language_model: str | Path | None) -> dict[str | Path, dict[str, Any]]:
    """The first checkpoint, or all where a folder of a frozen model is given."""
    if language_model is None:
        state = checkpoint.read(files[0])
        check_adapted(state)
        return {files[0]: state}
    states = with_folder([checkpoint.read(file) for file in files], language_model)
    return dict(zip(files, states, strict=True))


def _metrics(trainer: Any, loader: Any, words: str) -> dict[str, float] | None:
    """The metrics of one part of the data, None without any, behind a bar that says these words."""
    with _progress_shown(trainer, words):
        found = trainer.evaluate(loader, load_best_model=False)
    return found and {name: float(value) for name, value in found.items()}


@contextmanager
def _progress_shown(trainer: Any, words: str) -> Iterator[None]:
    """A bar beside the results, for one evaluation."""
    far = 0.0, words

    def watch(share: float, told: str) -> None:
        nonlocal far
        far = share, told

    hooks = getattr(trainer, "hooks", ())  # trees have none
    trainer.hooks = (*hooks, EvaluationProgress(watch, words))
    with bar(Console(sys.stderr), lambda: far) if trainer.config.show_progress else nullcontext():
        yield
    trainer.hooks = hooks


def _update(model: Any, valid: Any) -> None:
    """Let a model, or each of an ensemble, count the transitions to the validation items."""
    if valid is None or not isinstance(valid._dataset, PackedDataset):
        raise InputError("--update=True needs validation items and a model of this package")
    members: list[Any] = list(model.models) if isinstance(model, Ensemble) else [model]
    for each in members:
        each.update(*valid._dataset.sequences_to_targets())


@contextmanager
def loaded(file: str | Path, dataset: str | None = None, command_line: Iterable[str] = ()) -> Iterator[Assembly]:
    """The model of a checkpoint with its data, for as long as the context lasts.

    Args:
        file: the checkpoint.
        dataset: another dataset with the same items; None for the one that it was trained on.
        command_line: arguments ``--key=value``.

    Yields:
        The configuration, the data, and a trainer that only evaluates.
    """
    with _loaded(file, _read([file], None)[file], dataset, command_line) as assembly:
        yield assembly


@contextmanager
def _loaded(
    file: str | Path, state: dict[str, Any], dataset: str | None, command_line: Iterable[str]
) -> Iterator[Assembly]:
    with understood(file):
        config = stored_config(state, dataset, command_line)
    with computing(config):
        with understood(file):
            assembly = assemble_trained(config, state, file)
        yield assembly
