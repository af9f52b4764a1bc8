"""From a configuration to data, model and trainer. They are put together here, and nowhere else."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from logging import getLogger
from pathlib import Path
from typing import Any, NamedTuple

import torch
from recbole.utils import ModelType, init_seed
from torch import Tensor, nn

from recbole_ssm.checkpoints.begin import Beginning, begin_with, read_beginning
from recbole_ssm.checkpoints.fingerprint import item_vocabulary
from recbole_ssm.checkpoints.load import check_fits, load_retriever, load_weights
from recbole_ssm.config.config import Config
from recbole_ssm.data import PackedDataset, check_topk, create_dataset, data_preparation
from recbole_ssm.data.recbole_datasets import renumber_items
from recbole_ssm.data.statistics import statistics_of
from recbole_ssm.errors import CheckpointError, InputError
from recbole_ssm.model.content import START
from recbole_ssm.model.llamarec import LlamaRec
from recbole_ssm.ops.backends import use_backend
from recbole_ssm.system import threads
from recbole_ssm.system.distributed import rank
from recbole_ssm.training.distillation import load_teachers
from recbole_ssm.training.hooks.progress import Watch
from recbole_ssm.training.make_model import make_model
from recbole_ssm.training.trainer import create_trainer


class Data(NamedTuple):
    """What a training is told before it has a model."""

    dataset: Any
    """Before the split."""
    begun: Beginning | None
    """The checkpoint that ``init_from`` names; None if it names none."""


class Loaders(NamedTuple):
    """RecBole's or this package's loaders; None where the split leaves no such samples."""

    train: Any
    valid: Any
    test: Any


class Assembly(NamedTuple):
    """What a configuration asks for, put together."""

    config: Config
    dataset: Any
    """The data before the split."""
    loaders: Loaders
    trainer: Any
    """RecBole's trainer of the model, which is ``trainer.model``."""


def set_seed(config: Config, *, process: int = 0) -> None:
    """Seed Python's, numpy's and torch's random numbers; each process may have its own."""
    init_seed(config.seed + process, config.reproducibility)


@contextmanager
def computing(config: Config) -> Iterator[str]:
    """Within this context ops compute on the backend ``ssm_backend``, with as many threads as help.

    Args:
        config: the configuration.

    Yields:
        The number of threads, and why, in words.
    """
    most = threads.HELPFUL if config.is_packed else None
    with threads.chosen(most) as in_words, use_backend(config.ssm_backend or "auto"):
        yield in_words


def read_data(config: Config) -> Data:
    """Read what a training needs. Settings that follow from the data are then those of the configuration.

    Args:
        config: the configuration.

    Returns:
        The dataset, and the checkpoint that the training begins with.

    Raises:
        InputError: the data cannot be used, or settings do not fit those that follow from them.
    """
    if config.is_packed:
        config.model_class.check_begin(config)
    set_seed(config)
    dataset = create_dataset(config, packed=config.is_packed)
    check_topk(config, dataset)
    _check_labels(config, dataset)
    if not config.is_packed:
        return Data(dataset, None)
    begun = read_beginning(config)
    config.settle(statistics_of(dataset), None if begun is None else begun.settings)
    return Data(dataset, begun)


def assemble(config: Config, data: Data | None = None, *, watch: Watch | None = None) -> Assembly:
    """Data, a new model and its trainer.

    The initial weights follow from the seed alone. Of several processes each then has its own random numbers, for
    dropout.

    Args:
        config: the configuration.
        data: from :func:`read_data`; None to read them here.
        watch: see :class:`recbole_ssm.training.hooks.progress.Progress`.

    Returns:
        All parts.

    Raises:
        InputError: the data or a teacher cannot be used, or the model cannot be made for these data.
    """
    dataset, begun = read_data(config) if data is None else data
    getLogger().info(str(dataset))
    loaders = Loaders(*data_preparation(config, dataset))
    model = _new_model(config, loaders.train._dataset, begun)
    getLogger().info(model)
    trainer = create_trainer(config, model, watch=watch)
    if rank() > 0:
        set_seed(config, process=rank())
    return Assembly(config, dataset, loaders, trainer)


def assemble_trained(config: Config, state: dict[str, Any], file: str | Path) -> Assembly:
    """Data, the model of a checkpoint, and a trainer that only evaluates.

    Args:
        config: the configuration that the model is evaluated with.
        state: what is in the checkpoint.
        file: the checkpoint's name.

    Returns:
        All parts.

    Raises:
        CheckpointError: the data have other items than the checkpoint, or its weights do not fit.
        InputError: the data cannot be used.
    """
    set_seed(config)
    dataset = create_dataset(config, packed=config.is_packed)
    check_topk(config, dataset)
    _check_items(config, dataset, state, file)
    loaders = Loaders(*data_preparation(config, dataset))
    if config.is_packed:
        loaders.train._dataset.kept = state.get("other_parameter")
    try:
        check_fits(config, loaders.train._dataset, state["state_dict"])
        model = make_model(config, loaders.train._dataset)
        load_weights(model, state)
    except (RuntimeError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise CheckpointError(
            f"{file} is of a {config.model} of another size; evaluate it with the settings and on the data that "
            "it was trained with"
        ) from error
    trainer = create_trainer(config, model, trains=False)
    trainer.eval_collector.data_collect(loaders.train)
    return Assembly(config, dataset, loaders, trainer)


def _new_model(config: Config, dataset: Any, begun: Beginning | None) -> nn.Module:
    """A model with its teachers. Loading these makes no difference to its weights."""
    teachers = load_teachers(config, dataset) if config.is_packed else None
    set_seed(config)
    if begun is not None:
        dataset.kept = begun.kept
    try:
        model = make_model(config, dataset)
    except InputError:
        raise
    except (KeyError, ValueError) as error:
        if config.is_packed:
            raise
        raise InputError(
            f"{config.model} cannot be made for these data ({error}); if it needs a column that is not loaded, name "
            "the column in load_col"
        ) from error
    if isinstance(model, LlamaRec):
        load_retriever(model, config, dataset)
    if config.is_packed and config["item_vectors"] and config["item_vectors_as"] == START:
        _start_with(model, dataset.item_vectors_at_start(model.hidden_size))
    if begun is not None:
        begin_with(model, begun, item_vocabulary(dataset))  # type: ignore[arg-type]
    if teachers is not None:
        model.teachers = teachers  # type: ignore[assignment]  # it is no module, and so no part of the model
    return model


def _start_with(model: Any, vectors: Tensor) -> None:
    """Give items their vectors (n_items, hidden_size) as initial embeddings; what is NaN stays drawn at random."""
    with torch.no_grad():
        own = model.item_embedding.weight
        vectors = vectors.to(own)
        own.copy_(torch.where(vectors.isnan(), own, vectors))


def _check_labels(config: Config, dataset: Any) -> None:
    """Raise InputError, before the training, if labels are learned or evaluated by, and the data have none."""
    learns_them = config.MODEL_TYPE in (ModelType.CONTEXT, ModelType.DECISIONTREE)
    label, negatives = config.LABEL_FIELD, config.train_neg_sample_args["distribution"]
    judges_by_them = "labeled" in config.eval_args["mode"].values()
    if label not in dataset.field2type and (judges_by_them or (learns_them and negatives == "none")):
        asks = f"{config.model} learns labels" if learns_them else "eval_args: mode labeled evaluates by labels"
        raise InputError(
            f"{asks}, and the data have no column {label!r}; make it of another one, such as threshold: {{'rating': 3}}"
        )


def _check_items(config: Config, dataset: Any, state: dict[str, Any], file: str | Path) -> None:
    """Give the items of a dataset the numbers that they have in a checkpoint, or raise CheckpointError."""
    known, here = state["item_vocabulary"], item_vocabulary(dataset)
    if isinstance(dataset, PackedDataset) and known[:1] == here[:1] and sorted(known) == sorted(here):
        renumber_items(dataset, known)  # rows in another order number them otherwise
        here = known
    if known != here:
        new, lacking = len(set(here) - set(known)), len(set(known) - set(here))
        raise CheckpointError(
            f"{file} knows the items of {state['dataset']['name']!r}, and dataset {config.dataset!r} has "
            + (
                f"{new} other items and lacks {lacking} of these"
                if new or lacking
                else "them in another order, in which a model of RecBole may know users, too"
            )
            + "; evaluate it on the data that it was trained on"
        )
