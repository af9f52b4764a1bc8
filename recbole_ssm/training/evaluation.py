"""How good the model of a checkpoint is."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from recbole.utils import init_seed

from recbole_ssm.checkpoints import format as checkpoint
from recbole_ssm.checkpoints.configuration import stored_config, understood
from recbole_ssm.checkpoints.fingerprint import fingerprint, item_vocabulary
from recbole_ssm.checkpoints.load import Together, check_fits, trained_models
from recbole_ssm.config.config import Config
from recbole_ssm.data import PackedDataset, check_topk, create_dataset, data_preparation
from recbole_ssm.data.dataset import renumber_items
from recbole_ssm.errors import CheckpointError, InputError
from recbole_ssm.ops.backend import use_backend
from recbole_ssm.system import threads
from recbole_ssm.training.making import make_model
from recbole_ssm.training.trainer import create_trainer


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
