"""What a checkpoint holds, and how good the model in it is."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from logging import getLogger
from pathlib import Path
from typing import NamedTuple

from recbole.utils import init_seed

from recbole_ssm import checkpoint
from recbole_ssm.checkpoint import CheckpointError, time_order
from recbole_ssm.config import Config
from recbole_ssm.data import PackedDataset, check_topk, create_dataset, data_preparation
from recbole_ssm.data.dataset import renumber_items
from recbole_ssm.data.fingerprint import fingerprint, item_vocabulary
from recbole_ssm.errors import InputError
from recbole_ssm.making import make_model
from recbole_ssm.ops.backend import use_backend
from recbole_ssm.registry import MODELS
from recbole_ssm.system import threads
from recbole_ssm.trained_models import Together, check_fits, trained_models
from recbole_ssm.trainer import create_trainer

_OF_TRAINING = {
    *("model", "dataset", "log_wandb", "causal_epochs", "worker"),
    *("checkpoint_dir", "dataset_cache", "dataset_save_path", "save_dataset"),
    *("dataloaders_save_path", "save_dataloaders", "trust_checkpoint", "trust_dataset", "gpu_id"),
}
"""Keys that a checkpoint was given and that do not hold when it is tried: of the training, of where it was, or of what
is trusted, which a checkpoint, not trusted itself, cannot say."""


def describe(file: str | Path) -> dict:
    """What was trained, on what, and how well.

    Args:
        file: a checkpoint, of the best model or of a training as it stood.

    Returns:
        ``model``, ``dataset`` (name, sizes and hash of the training data), ``given`` (what differed from the
        defaults), ``epoch`` (from 1), ``valid_result`` of that epoch (None where it was not validated, or another is
        under way), ``parameters``, ``versions``.

    Raises:
        CheckpointError: the file cannot be read.
    """
    state = checkpoint.read(file)
    return {
        "model": state["config"]["model"],
        "dataset": state["dataset"],
        "given": state["given"],
        "epoch": state["epoch"] + 1,
        "valid_result": _valid_result(state),
        "parameters": sum(tensor.numel() for tensor in state["state_dict"].values()),
        "versions": state["versions"],
    }


def _valid_result(state: dict) -> dict | None:
    under_way = state["training"].get("batches_done", 0) > 0
    return None if under_way or not state["history"] else state["history"][-1].get("valid_result")


def evaluate(
    file: str | Path, dataset: str | None = None, command_line: Iterable[str] = (), *, others: Sequence[str | Path] = ()
) -> dict:
    """Validate and test the model of a checkpoint, as it was configured but for what is given here.

    Args:
        file: the checkpoint.
        dataset: another dataset with the same items; None for the one that it was trained on.
        command_line: arguments ``--key=value``, for example ``--filter_seen=True`` or ``--topk=[5,20]``.
        others: checkpoints of more models of this package, trained on the same data: all of them rank together.

    Returns:
        ``valid_result`` and ``test_result``, None where the split leaves no such items; ``time_order`` and
        ``filter_seen``, under which they hold; and whether the training data are those that the model had, in the same
        order of rows (``same_training_data``).

    Raises:
        CheckpointError: the file cannot be read, or the dataset has other items.
        InputError: something else that is given cannot be used.
    """
    with loaded(file, dataset, command_line) as (config, trainer, (train, valid, test), trained_on):
        if others:
            models = trained_models([file, *others], config, train._dataset)
            trainer.model = Together(models)
        results = [trainer.evaluate(loader, load_best_model=False) for loader in (valid, test)]
    valid_result, test_result = (found and {name: float(value) for name, value in found.items()} for found in results)
    return {
        "valid_result": valid_result,
        "test_result": test_result,
        "time_order": config.order_of_histories,
        "filter_seen": config["filter_seen"],
        "same_training_data": fingerprint(train._dataset) == trained_on,
    }


class Loaded(NamedTuple):
    """A trained model, and what it takes to try it."""

    config: Config
    trainer: object
    """RecBole's trainer of the model, which is ``trainer.model``."""
    loaders: tuple
    """Of training, validation and test data."""
    trained_on: dict
    """Fingerprint of the data that the model was trained on."""


def stored_config(state: dict, dataset: str | None, command_line: Iterable[str], **changes) -> Config:
    """The configuration that a checkpoint's training had, but for what decides only that.

    Args:
        state: what is in the checkpoint.
        dataset: another dataset, or None.
        command_line: arguments ``--key=value`` of more importance.
        changes: keys and values of more importance than those of the training.
    """
    dataset = dataset or state["config"]["dataset"]
    left_out = _OF_TRAINING | ({"teacher"} if state["config"]["model"] in MODELS else set())  # else a part of the model
    given = {key: value for key, value in state["given"].items() if key not in left_out}
    given["time_order"] = time_order(state["config"])  # whatever is the default now
    config = Config(state["config"]["model"], dataset, [given | changes], command_line=command_line, trains=False)
    for key in config.cmd_config_dict.keys() & config.passed_over.keys():
        getLogger().warning(config.passed_over[key])
    return config


@contextmanager
def understood(file: str | Path) -> Iterator[None]:
    """Whatever goes wrong within, for a checkpoint's settings may say anything, is said in a sentence.

    Raises:
        CheckpointError: something was not as it should be.
    """
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        reason = (str(error).splitlines() or [""])[0] or type(error).__name__
        raise CheckpointError(
            f"{file} cannot be used with these data: its settings or weights do not fit ({reason}); evaluate it with "
            "the settings and on the data that it was trained with"
        ) from error


@contextmanager
def loaded(file: str | Path, dataset: str | None = None, command_line: Iterable[str] = ()) -> Iterator[Loaded]:
    """The model of a checkpoint with its data, for as long as the context lasts; arguments as in :func:`evaluate`."""
    state = checkpoint.read(file)
    with understood(file):
        config = stored_config(state, dataset, command_line)
    init_seed(config["seed"], config["reproducibility"])
    most = threads.HELPFUL if config.is_packed else None
    with threads.chosen(most), use_backend(config["ssm_backend"] or "auto"):
        with understood(file):
            loaded = _load(file, state, config)
        yield loaded


def _load(file: str | Path, state: dict, config: Config) -> Loaded:
    data = create_dataset(config, packed=config.is_packed)
    check_topk(config, data)
    known, here = state["item_vocabulary"], item_vocabulary(data)
    if isinstance(data, PackedDataset) and known[:1] == here[:1] and sorted(known) == sorted(here):
        renumber_items(data, known)  # rows in another order number them otherwise
        here = known
    if known != here:
        other = len(set(here) ^ set(known))
        raise CheckpointError(
            f"{file} knows the items of {state['dataset']['name']!r}, and dataset {config['dataset']!r} has "
            + (f"{other} others" if other else "them in another order, in which a model of RecBole may know users, too")
            + "; evaluate it on the data that it was trained on"
        )
    train, valid, test = data_preparation(config, data)
    try:
        check_fits(config, train._dataset, state["state_dict"])
        model = make_model(config, train._dataset)
        model.load_state_dict(state["state_dict"])
    except (RuntimeError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise CheckpointError(
            f"{file} is of a {config['model']} of another size; evaluate it with the settings and on the data that "
            "it was trained with"
        ) from error
    model.load_other_parameter(state["other_parameter"])
    trainer = create_trainer(config, model, trains=False)
    trainer.eval_collector.data_collect(train)
    return Loaded(config, trainer, (train, valid, test), state["dataset"])
