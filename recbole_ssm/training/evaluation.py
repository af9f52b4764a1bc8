"""How good the model of a checkpoint is."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from recbole_ssm.checkpoints import format as checkpoint
from recbole_ssm.checkpoints.adapters import check_adapted, with_folder
from recbole_ssm.checkpoints.configuration import stored_config, understood
from recbole_ssm.checkpoints.ensemble import Ensemble
from recbole_ssm.checkpoints.fingerprint import fingerprint
from recbole_ssm.checkpoints.load import load_ensemble
from recbole_ssm.config.command_line import key_of
from recbole_ssm.data import PackedDataset
from recbole_ssm.errors import InputError
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
) -> dict[str, Any]:
    """Validate and test the model of a checkpoint, as it was configured but for what is given here.

    Args:
        file: the checkpoint.
        dataset: another dataset with the same items; None for the one that it was trained on.
        command_line: arguments ``--key=value``, for example ``--filter_seen=True`` or ``--topk=[5,20]``.
        others: checkpoints of more models of this package, trained on the same data: all of them rank together.
        update: before the test, let what the models count take in the validation items, without training.

    Returns:
        ``valid_result`` and ``test_result``, None where the split leaves no such items; ``split`` in words,
        ``time_order`` and ``filter_seen``, under which they hold; whether the test knew the validation items by
        ``update`` (``updated``); and whether the training data are those that the model had, in the same order of rows
        (``same_training_data``).

    Raises:
        CheckpointError: the file cannot be read, or the dataset has other items.
        InputError: something else that is given cannot be used.
    """
    states, command_line = _read([file, *others], command_line)
    state = states[file]
    with _loaded(file, state, dataset, command_line) as (config, _, loaders, trainer):
        data = loaders.train._dataset
        if others:
            trainer.model = load_ensemble([file, *others], config, data, states)
        with _progress_shown(trainer, "validating"):
            valid_result = trainer.evaluate(loaders.valid, load_best_model=False)
        if update:
            _update(trainer.model, loaders.valid)
        with _progress_shown(trainer, "testing"):
            results = valid_result, trainer.evaluate(loaders.test, load_best_model=False)
    valid_result, test_result = (found and {name: float(value) for name, value in found.items()} for found in results)
    return {
        "valid_result": valid_result,
        "test_result": test_result,
        "split": config.split_in_words,
        "time_order": config.order_of_histories,
        "filter_seen": config.filter_seen,
        "updated": update,
        "same_training_data": fingerprint(data) == state["dataset"],
    }


def _read(
    files: Sequence[str | Path], command_line: Iterable[str]
) -> tuple[dict[str | Path, dict[str, Any]], list[str]]:
    """The first checkpoint, or all where a folder of a frozen model is given; and the arguments without that."""
    words = list(command_line)
    folders = [word.partition("=")[2] for word in words if key_of(word) == "language_model"]
    if not folders:
        state = checkpoint.read(files[0])
        check_adapted(state)
        return {files[0]: state}, words
    states = with_folder([checkpoint.read(file) for file in files], folders[-1])
    return dict(zip(files, states, strict=True)), [word for word in words if key_of(word) != "language_model"]


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
    states, words = _read([file], command_line)
    with _loaded(file, states[file], dataset, words) as assembly:
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
