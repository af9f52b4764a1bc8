"""Checks of the keys of this package's models."""

from __future__ import annotations

import inspect
from pathlib import Path

from recbole_ssm.config.settings import Settings, names_in
from recbole_ssm.errors import InputError
from recbole_ssm.model.content import START
from recbole_ssm.ops.backends import check_backend
from recbole_ssm.system.distributed import world_size


def check_our_model(config: Settings) -> None:
    """Raise :class:`InputError` for what a model of this package cannot be trained or used with."""
    if config.model_class.is_trained:
        _check_samples(config)
        _check_teacher(config)
        if config.trains and config.init_from and not Path(config.init_from).is_file():
            raise InputError(f"init_from: there is no checkpoint {config.init_from}")
        _check_content(config)
        _check_loss(config)
        _check_cuda_graph(config)
        _check_backend(config)
    elif config.trains:
        _note_training(config)
    check_together(config)
    _note_unused_columns(config)
    for key in ("save_dataloaders", "dataloaders_save_path", "transform"):
        if config[key]:
            raise InputError(f"{key} does not apply to packed batches; remove it")


def check_together(config: Settings) -> None:
    """Raise :class:`InputError` where settings do not fit one another, be they given or from the data."""
    config.model_class.check_config(config)
    if config["causal_epochs"] and config["causal_epochs"] >= config["epochs"]:
        raise InputError(
            f"causal_epochs {config['causal_epochs']} leaves none of {config['epochs']} epochs to train both directions"
        )


def _note_training(config: Settings) -> None:
    """Keys of RecBole's trainer that do nothing for a model that is not trained; it has one epoch."""
    for key in ("epochs", "learning_rate", "learner", "weight_decay", "clip_grad_norm", "train_batch_size"):
        if key in config.external_config_dict:
            config.pass_over(key, f"{config['model']} counts, and is not trained")
    config["epochs"] = 1


def _note_unused_columns(config: Settings) -> None:
    """Columns that are loaded because somebody names them, and are in no batch."""
    given = config.external_config_dict.get("load_col")
    if config["benchmark_filename"] is not None or not isinstance(given, dict):
        return
    used = {config[key] for key in ("USER_ID_FIELD", "ITEM_ID_FIELD", "TIME_FIELD", "LABEL_FIELD")}
    used |= {*(config["val_interval"] or ()), *(config["threshold"] or ())}
    used |= {column.field(config) for column in config.columns}
    used |= set(names_in(config.item_features))
    used |= {name for key in ("alias_of_user_id", "alias_of_item_id") for name in config[key] or ()}
    named = [name for columns in given.values() if isinstance(columns, list | tuple) for name in columns]
    unused = [name for name in dict.fromkeys(named) if name not in used]
    if unused:
        columns = "".join(f", {column.field(config)}" for column in config.columns)
        config.notes.append(
            f"load_col: {', '.join(map(str, unused))} will be read and not used: {config['model']} learns from items "
            f"and their order{columns} alone"
        )


def _check_samples(config: Settings) -> None:
    model, samples, given = config.model_class, config["train_samples"], config.external_config_dict
    if samples == "whole_sequence" and not model.causal:
        raise InputError(
            f"train_samples: whole_sequence trains a prediction at each item, but {config['model']} reads a history "
            "in both directions and would see the item that it has to predict, or reads it as one prompt; use "
            f"{'prefix_lm, or ' * _takes_cut(model)}all_prefixes or sampled_prefixes"
        )
    if samples == "prefix_lm" and model.causal:
        raise InputError(
            f"train_samples: prefix_lm is for models that read a history in both directions, and {config['model']} is "
            "causal; use whole_sequence"
        )
    if samples == "prefix_lm" and not _takes_cut(model):
        raise InputError(
            f"train_samples: prefix_lm needs a model whose encode takes cut, which {config['model']}'s does not; use "
            "all_prefixes or sampled_prefixes"
        )
    if config["causal_epochs"] and samples != "prefix_lm":
        raise InputError(f"causal_epochs belongs to train_samples: prefix_lm, which is {samples}")
    if samples == "sampled_prefixes" and config["prefixes_per_user"] is None:
        raise InputError("train_samples: sampled_prefixes needs prefixes_per_user")
    if samples != "sampled_prefixes" and "prefixes_per_user" in given:
        config.pass_over("prefixes_per_user", f"train_samples is {samples}")
    if config["train_batch_tokens"] is not None and "train_batch_size" in given:
        config.pass_over("train_batch_size", "train_batch_tokens is given")


def _takes_cut(model: type) -> bool:
    takes = inspect.signature(model.encode).parameters.values() if hasattr(model, "encode") else ()
    return any(each.name == "cut" or each.kind == each.VAR_KEYWORD for each in takes)


def _check_teacher(config: Settings) -> None:
    if not config["teacher"] and "teacher_share" in config.external_config_dict:
        config.pass_over("teacher_share", "there is no teacher")
    for file in config.teacher_files:
        if config.trains and not Path(file).is_file():
            raise InputError(f"teacher: there is no checkpoint {file}; train one with this package, or name another")
    if config["teacher"] and config["loss_type"] != "CE":
        raise InputError(f"teacher needs loss_type: CE, and it is {config['loss_type']}")


def _check_content(config: Settings) -> None:
    file = config.item_vectors
    if config.trains and file and not (Path(file).is_file() and Path(file).with_suffix(".txt").is_file()):
        raise InputError(
            f"item_vectors: {file} and {Path(file).with_suffix('.txt')} must both be there: the vectors, and the names "
            "of their items, a line each"
        )
    if not file and not config.item_features and "id_dropout" in config.external_config_dict:
        config.pass_over("id_dropout", "there are neither item_vectors nor item_features")
    if not file and config["item_vectors_as"] == START:
        config.pass_over("item_vectors_as", "there are no item_vectors to start with")


def _check_loss(config: Settings) -> None:
    if config["loss_type"] == "BPR" and config["train_neg_sample_args"]["distribution"] == "none":
        raise InputError("loss_type: BPR needs negatives; leave train_neg_sample_args at its default")
    if config["train_neg_sample_args"].get("dynamic"):
        raise InputError("train_neg_sample_args: dynamic is not available with packed batches; set it to False")


def _check_cuda_graph(config: Settings) -> None:
    """A graph has the same shapes each time, and nothing of it is told to the host."""
    if not config["cuda_graph"]:
        return
    hinder = {
        f"loss_type: {config['loss_type']}": config["loss_type"] != "CE",
        "a teacher": bool(config["teacher"]),
        "enable_scaler: True": bool(config["enable_scaler"]),
        "several processes": world_size() > 1,
    }
    if found := [name for name, there in hinder.items() if there]:
        raise InputError(f"cuda_graph cannot be used with {found[0]}; set it to False")


def _check_backend(config: Settings) -> None:
    try:
        check_backend(config["ssm_backend"] or "auto")
    except ValueError as error:
        raise InputError(f"ssm_backend: {error}") from error
    if config["ssm_backend"] in ("mamba_ssm", "triton") and config["device"].type != "cuda":
        raise InputError(
            f"ssm_backend: {config['ssm_backend']} computes on a GPU only, and none is used here; set auto"
        )
