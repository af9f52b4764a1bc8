"""What a configuration is checked for before any work starts."""

from __future__ import annotations

import inspect
from pathlib import Path

from recbole.evaluator.register import metrics_dict
from recbole.trainer import NCLTrainer, Trainer
from recbole.utils import ModelType, get_trainer

from recbole_ssm.config.keys import FOR_ALL_MODELS, keys_of, names_for_our_models
from recbole_ssm.config.model_checks import check_our_model
from recbole_ssm.config.recbole_checks import check_recbole_values
from recbole_ssm.config.recbole_keys import KNOWN, passed_over, reads
from recbole_ssm.config.settings import Settings
from recbole_ssm.config.shipped_files import keys_of_model, keys_of_models
from recbole_ssm.errors import InputError, did_you_mean
from recbole_ssm.model.recbole_models import check_packages, recboles_own
from recbole_ssm.system.distributed import world_size


def check(config: Settings) -> None:
    """Raise :class:`InputError` for what cannot be used; what is passed over is noted in ``config.notes``."""
    _check_unknown_keys(config)
    for key in keys_of(config.model_class) if config.is_packed else FOR_ALL_MODELS:
        key.check(config[key.name])
    data_path = config.external_config_dict.get("data_path")
    if config["dataset"] == "ml-100k" and isinstance(data_path, str) and (Path(data_path) / "ml-100k").is_dir():
        config.pass_over("data_path", "ml-100k is the one that comes with RecBole; give yours another name")
    check_recbole_values(config)
    if not config.held_out[0]:
        config.notes.append("there is no validation: all epochs are trained, and the model of the last one is kept")
    if config.trains:
        if recboles_own(config.model_class, config["model"]):
            check_packages(config["model"])
        _check_valid_metric(config)
    if config.trains and world_size() > 1:
        _check_processes(config)
    if config.is_packed:
        check_our_model(config)
    else:
        _check_network_of_teacher(config)
    _note_missing_gpu(config)


def _note_missing_gpu(config: Settings) -> None:
    """Only for who named a GPU or set ``use_gpu``, which is on by RecBole's default."""
    given = config.external_config_dict
    asked = given.get("use_gpu") or given.get("gpu_id") is not None or config["gpu_id"]
    if asked and config["use_gpu"] and config["device"].type == "cpu":
        shown = f" that CUDA_VISIBLE_DEVICES={config['gpu_id']} shows" if config["gpu_id"] else ""
        config.notes.append(f"use_gpu is on, but there is no GPU here{shown}: running on the CPU")


def _check_network_of_teacher(config: Settings) -> None:
    """RecBole runs KD_DAGFM's ``teacher`` as Python: it must be the name of a network that stands beside the model."""
    model = recboles_own(config.model_class, "KD_DAGFM")
    if model is None:
        return
    beside = inspect.getmembers(inspect.getmodule(model), inspect.isclass)
    beside = [(name, kind) for name, kind in beside if kind.__module__ == model.__module__ and kind is not model]
    networks = [name for name, kind in beside if list(inspect.signature(kind).parameters) == ["config"]]
    if config["teacher"] not in networks:
        raise InputError(f"teacher must be one of {', '.join(networks)} for KD_DAGFM, but is {config['teacher']!r}")


def _check_processes(config: Settings) -> None:
    """Several processes share out each batch, which takes a loss that RecBole's trainer of the model lets us divide."""
    trainer = get_trainer(config["MODEL_TYPE"], config["model"])
    if config["MODEL_TYPE"] in (ModelType.TRADITIONAL, ModelType.DECISIONTREE) or not (
        trainer._train_epoch is Trainer._train_epoch or trainer is NCLTrainer
    ):
        raise InputError(f"{config['model']} cannot be trained by several processes; start it without torchrun")


def _check_unknown_keys(config: Settings) -> None:
    """Refuse keys that nobody reads, or for models of RecBole pass over them; note keys that do nothing."""
    for key, why in passed_over(config):
        config.pass_over(key, why)
    ours, model, given = names_for_our_models(), config["model"], config.external_config_dict
    of_all = {key.name for key in FOR_ALL_MODELS}
    own = {key.name for key in keys_of(config.model_class)} if config.is_packed else keys_of_model(model)
    known = {*KNOWN, *of_all, "model", "dataset", "config_files"}
    for key in sorted(given.keys() - known):
        if reads(config, key):
            continue
        if key in ours:
            why = f"it does not apply to {model}" if config.is_packed else _not_ours(model)
            if given[key] is not None or not config.is_packed:
                config.pass_over(key, why)
        elif key in own:
            config.pass_over(key, f"{model} reads it nowhere, though it is in RecBole's file of it")
        elif key in keys_of_models():
            config.pass_over(key, f"it is a key of other models than {model}")
        else:
            declare = f"; a key of your own model must stand in {model}.keys" if _is_own(config) else ""
            message = f"unknown key {key!r}" + (did_you_mean(key, known | own) or "; --help lists the keys") + declare
            if config.is_packed:
                raise InputError(message)
            config.pass_over(key, message)


def _not_ours(model: str) -> str:
    return f"it is for the models of this package, and {model} is none"


def _is_own(config: Settings) -> bool:
    """Whether the model is somebody's own, on packed histories."""
    return config.is_packed and config.model_class.__module__.partition(".")[0] != "recbole_ssm"


def _check_valid_metric(config: Settings) -> None:
    metrics = {name: metrics_dict[name.lower()](config) for name in config["metrics"]}
    computed = [
        name if k is None else f"{name}@{k}"
        for name, metric in metrics.items()
        for k in (config["topk"] if hasattr(metric, "topk") else [None])
    ]
    if str(config["valid_metric"]).lower() not in [name.lower() for name in computed]:
        raise InputError(
            f"valid_metric {config['valid_metric']!r} is not computed; metrics with topk {config['topk']} give "
            + f"{', '.join(computed)}. Name one of these, or change metrics or topk"
        )
