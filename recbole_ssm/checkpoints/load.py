"""Models from checkpoints: one alone, or several for the same data."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from recbole_ssm.checkpoints import format as checkpoint
from recbole_ssm.checkpoints.ensemble import Ensemble
from recbole_ssm.checkpoints.fingerprint import fingerprint
from recbole_ssm.checkpoints.within import kept_of, state_within
from recbole_ssm.config.config import Config
from recbole_ssm.config.keys import keys_of
from recbole_ssm.errors import CheckpointError, FolderMissing
from recbole_ssm.layers import TransitionMemory
from recbole_ssm.model.base import PackedSequentialRecommender
from recbole_ssm.model.catalogue import Catalogue
from recbole_ssm.model.llamarec import LlamaRec
from recbole_ssm.model.registry import MODELS, model_class


def load_weights(model: nn.Module, state: Mapping[str, Any]) -> None:
    """Give a model the weights of a checkpoint, and what it keeps beside them.

    Args:
        model: is changed in place.
        state: what is in the checkpoint.

    Raises:
        RuntimeError: the weights are of another model.
    """
    model.load_state_dict(state["state_dict"])
    model.load_other_parameter(state.get("other_parameter"))  # type: ignore[operator]  # RecBole's method
    if isinstance(model, LlamaRec) and not model.has_retriever:
        within = state_within(state["other_parameter"])
        if within is None:
            raise ValueError("it has no retriever")
        give_retriever(model, within, "the retriever in it")


@contextmanager
def in_its_place(key: str) -> Iterator[None]:
    """Where a key of a training names a checkpoint, ``language_model`` says nothing of that: its folder must be there.

    Args:
        key: of the configuration.

    Yields:
        Nothing.

    Raises:
        CheckpointError: it is not.
    """
    try:
        yield
    except FolderMissing as error:
        raise CheckpointError(f"{key}: {error.what}; put that folder there") from error


def load_retriever(model: LlamaRec, config: Config, dataset: Any) -> None:
    """Give a new model the retriever that ``retriever`` names.

    Args:
        model: is changed in place.
        config: of its training.
        dataset: its training split.

    Raises:
        CheckpointError: the file cannot be read, its model is not of this package or reads columns, or it was trained
            on other data, which may hold what is tested here.
    """
    assert config.retriever is not None
    state = checkpoint.read(config.retriever, trust=bool(config.trust_checkpoint))
    _check_data(config.retriever, state, fingerprint(dataset))
    with in_its_place("retriever"):
        give_retriever(model, state, config.retriever)


def give_retriever(model: LlamaRec, state: dict[str, Any], file: str | Path) -> None:
    """Give a model the retriever that a checkpoint holds.

    Args:
        model: is changed in place.
        state: what is in the checkpoint.
        file: its name.

    Raises:
        CheckpointError: the retriever cannot be used.
    """
    retriever = stored_model(state, model.letters.device, file)
    if retriever.columns:
        raise CheckpointError(
            f"retriever: {file} reads the column {retriever.columns[0].name}, which LlamaRec does not; name a model "
            "that reads items alone"
        )
    model.take_retriever(retriever, state["config"].get("MAX_ITEM_LIST_LENGTH"), kept_of(state))


def load_ensemble(
    files: Sequence[str | Path], config: Config, dataset: Any, read: Mapping[str | Path, dict[str, Any]] | None = None
) -> Ensemble:
    """The models of this package that checkpoints hold, for the same data.

    Args:
        files: the checkpoints.
        config: of the run that they are for: its device, and whether checkpoints are trusted.
        dataset: its training split.
        read: the content of those files that have been read before.

    Returns:
        The models as one.

    Raises:
        CheckpointError: a file cannot be read, its model is not of this package, it reads histories of another length
            or other columns, or it was trained on other data, which may hold what is tested here.
    """
    data, known, trust = fingerprint(dataset), read or {}, bool(config.trust_checkpoint)
    states = ((file, known[file] if file in known else checkpoint.read(file, trust=trust)) for file in files)
    return Ensemble([_member(file, state, config, data) for file, state in states])


def _member(
    file: str | Path, state: dict[str, Any], config: Config, data: dict[str, Any]
) -> PackedSequentialRecommender:
    model = stored_model(state, config.device, file)
    _check_data(file, state, data)
    longest, here = (each["MAX_ITEM_LIST_LENGTH"] or "all" for each in (_Stored(state["config"]), config))
    if longest != here:
        raise CheckpointError(
            f"{file} reads {longest} items of a history (MAX_ITEM_LIST_LENGTH), and here it would be {here}; name "
            "models that were trained with the same"
        )
    if missing := [column.name for column in model.columns if column not in config.columns]:
        raise CheckpointError(
            f"{file} reads the column {missing[0]}, which {config.model} does not; name models that read the "
            "same columns"
        )
    return model


def _check_data(file: str | Path, state: dict[str, Any], data: dict[str, Any]) -> None:
    """Raise :class:`CheckpointError` unless a checkpoint is of a training on data with this fingerprint."""
    if state["dataset"]["hash"] != data["hash"]:
        raise CheckpointError(
            f"{file} was trained on other data ({_in_words(state['dataset'])}) than these ({_in_words(data)}), and may "
            "know what is tested; name one that was trained with the same data, time_order and split"
        )


def _in_words(data: dict[str, Any]) -> str:
    return f"{data['name']}: {data['samples']:,} interactions to train on"


def stored_model(state: dict[str, Any], device: torch.device | str, file: str | Path) -> PackedSequentialRecommender:
    """The model of this package that a checkpoint holds, in evaluation mode. It needs no data.

    Args:
        state: what is in the checkpoint.
        device: where the model goes.
        file: the checkpoint's name.

    Returns:
        The model on its device.

    Raises:
        CheckpointError: it holds another model, or one of another version of this package.
    """
    name = state["config"]["model"]
    if name not in MODELS:
        raise CheckpointError(f"{file} is a {name}; it must be one of {', '.join(MODELS)}")
    config = _Stored(state["config"] | {"device": device})
    catalogue = Catalogue(len(state["item_vocabulary"]), state.get("other_parameter"))
    try:
        with torch.random.fork_rng(devices=[]):  # initial weights are drawn, and then replaced
            _check_sizes(config, catalogue, state["state_dict"])
            model = model_class(name)(config, catalogue)
        load_weights(model, state)
    except CheckpointError:
        raise
    except (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
        raise CheckpointError(
            f"{file} has weights that do not fit {name}; use the version of this package that wrote it "
            f"({state['versions']['recbole_ssm']})"
        ) from error
    return model.to(device).eval()


def _check_sizes(config: Config | _Stored, catalogue: Any, weights: dict[str, Tensor]) -> None:
    """Raise ValueError if a model of this package has other weights than these, before memory is taken for them.

    Args:
        config: of the model, or in a checkpoint.
        catalogue: a dataset, or what stands for it.
        weights: by name.
    """
    for key in keys_of(model_class(config["model"])):
        # The backend may be one that is not installed here, and says nothing of sizes.
        if config[key.name] is not None and key.name != "ssm_backend":
            key.check(config[key.name])
    if (config["num_layers"] or 0) > len(weights):
        raise ValueError("it has more layers than weights")
    with torch.device("meta"):
        made = model_class(config["model"])(config, catalogue).state_dict()
    if _shapes(made) != _shapes(weights):
        raise ValueError("it has other weights")


def _shapes(weights: Mapping[str, Tensor]) -> dict[str, torch.Size | None]:
    """The shape of each weight; None for what is as large as there are data."""
    of_data = {*(f"memory.{name}" for name in TransitionMemory.OF_DATA), "content.values", "content.projection"}
    return {name: None if name in of_data else weight.shape for name, weight in weights.items()}


def check_fits(config: Config, dataset: Any, weights: dict[str, Tensor]) -> None:
    """Raise ValueError if a model cannot have these weights, as far as can be told before memory is taken for it.

    RecBole's models cannot be made without their data. For them only numbers in the configuration are checked, which
    cannot be much larger than the weights.

    Args:
        config: of the model.
        dataset: the training split.
        weights: by name.
    """
    if config.model in MODELS:
        _check_sizes(config, dataset, weights)
        return
    general = {key for kind, keys in config.parameters.items() if kind != "State-space" for key in keys}
    largest = max(1000, sum(weight.numel() for weight in weights.values()))
    for key in config.external_config_dict.keys() - general:
        most = max(64, len(weights)) if "layer" in key or "block" in key else largest
        if isinstance(config[key], int) and config[key] > most:
            raise ValueError(f"{key} {config[key]} is too large for these weights")


class _Stored(dict[str, Any]):
    """The configuration in a checkpoint. As in RecBole's, a missing key has the value None."""

    def __missing__(self, key: str) -> None:
        return None
