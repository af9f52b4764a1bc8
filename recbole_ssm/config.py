"""RecBole's configuration, with this package's models, keys and defaults, and checked before any work starts."""

from __future__ import annotations

import copy
import difflib
import inspect
import re
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import recbole.config
import yaml
from recbole.config import Config as RecBoleConfig
from recbole.evaluator.register import metrics_dict
from recbole.utils import ModelType

from recbole_ssm import registry
from recbole_ssm.errors import InputError
from recbole_ssm.ops.backend import check_backend
from recbole_ssm.options import FOR_ALL_MODELS, FOR_OUR_MODELS
from recbole_ssm.processes import join, rank, world_size

_AT_LEAST = {
    **{"train_batch_size": 1, "eval_batch_size": 1, "learning_rate": 0, "weight_decay": 0, "seed": 0, "worker": 0},
    **{"epochs": 0, "stopping_step": 0, "metric_decimal_place": 0},
}

LEARNERS = ("adam", "adamw", "sgd", "adagrad", "rmsprop", "sparse_adam")
"""Those that RecBole knows; any other word would be Adam to it."""


def properties_folder() -> Path:
    """Where the defaults are: inside the package once installed, beside it in a checkout."""
    package = Path(__file__).parent
    inside = package / "properties"
    return inside if inside.is_dir() else package.parent / "properties"


class Config(RecBoleConfig):
    """A RecBole ``Config``: same keys, same files, same priorities (command line > dict > files > defaults).

    What differs: the models of this package are known by name; the command line is what the caller passes, not
    ``sys.argv``; values and keys are checked; ``loss_type: CE`` needs no ``train_neg_sample_args: ~`` beside it;
    a sequential model loads the time column of a dataset that RecBole does not know.

    Args:
        model: a name, or a model class.
        dataset: a name.
        config_file_list: yaml files; one that does not exist is looked for in the package's ``properties/``.
        config_dict: keys and values.
        command_line: arguments ``--key=value``.

    Raises:
        InputError: something in them cannot be used.
    """

    def __init__(self, model=None, dataset=None, config_file_list=None, config_dict=None, command_line=()):
        self._command_line = tuple(command_line)
        self.notes: list[str] = []
        """What the user should be told, once there is a log."""
        files = [_find_config_file(file) for file in config_file_list or ()]
        try:
            super().__init__(model, dataset, files, copy.deepcopy(config_dict or {}))
        except InputError:
            raise
        except (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
            message = error.args[0] if isinstance(error, KeyError) else error
            raise InputError(f"the configuration cannot be used: {message}") from error
        _check(self)

    @property
    def is_packed(self) -> bool:
        """Whether the model takes packed batches: those of this package do."""
        return hasattr(self.model_class, "packed")

    @property
    def held_out(self) -> tuple[bool, bool]:
        """Whether there are items for validation and for the test, as far as the split says so before it is made."""
        kind, value = next(iter(self["eval_args"]["split"].items()))
        if kind == "LS":
            return value != "test_only", value != "valid_only"
        return value[1] > 0, value[2] > 0

    @property
    def excludes_seen(self) -> bool:
        """Whether items of the history are left out of a full ranking; with general models RecBole decides that."""
        return bool(self["filter_seen"]) if self["MODEL_TYPE"] == ModelType.SEQUENTIAL else not self["repeatable"]

    def compatibility_settings(self) -> None:
        """The aliases that RecBole looks up in numpy; its own version of this fails on numpy 2."""
        for alias, kind in {
            "bool": np.bool_,
            "int": np.int_,
            "float": np.float64,
            "complex": np.complex128,
            "object": np.object_,
            "str": np.str_,
            "long": np.int_,
            "unicode": np.str_,
        }.items():
            setattr(np, alias, kind)

    def _init_parameters_category(self) -> None:
        super()._init_parameters_category()
        self.parameters = {category: list(keys) for category, keys in self.parameters.items()}
        self.parameters["State-space"] = [option.name for option in FOR_ALL_MODELS + FOR_OUR_MODELS]

    def _convert_config_dict(self, config_dict) -> dict:
        for key, value in config_dict.items():
            try:
                config_dict[key] = super()._convert_config_dict({key: value})[key]
            except Exception as error:  # RecBole evaluates words as Python, which may raise anything
                raise InputError(f"{key}={value} cannot be understood: {error}") from error
        return config_dict

    def _load_config_files(self, file_list) -> dict:
        merged = {}
        for file in file_list:
            try:
                content = yaml.load(Path(file).read_text(encoding="utf-8"), Loader=self.yaml_loader)
            except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
                reason = " ".join(str(error).split())
                raise InputError(f"the config file {file} cannot be read as yaml: {reason}") from error
            if not isinstance(content, dict | type(None)):
                raise InputError(f"the config file {file} must hold lines 'key: value', but holds {content!r}")
            if "train_batch_size" in (content or {}):
                merged.pop("train_batch_tokens", None)  # of a file before this one
            merged.update(content or {})
        return merged

    def _load_cmd_line(self) -> dict:
        given = {}
        for argument in self._command_line:
            key, equals, value = argument.removeprefix("--").partition("=")
            if not argument.startswith("--") or not equals or not key:
                raise InputError(f"argument {argument!r} is not understood; write --key=value")
            if given.setdefault(key, value) != value:
                raise InputError(f"--{key} is given twice, as {given[key]!r} and as {value!r}")
        return self._convert_config_dict(given)

    def _get_model_and_dataset(self, model, dataset):
        model = self.external_config_dict.get("model") if model is None else model
        if model is None:
            raise InputError(f"no model is given; say --model=NAME, for example {next(iter(registry.MODELS))}")
        if dataset is None and "dataset" not in self.external_config_dict:
            raise InputError("no dataset is given; say --dataset=NAME, for example ml-100k")
        dataset = dataset if dataset is not None else self.external_config_dict["dataset"]
        if dataset in ("", ".", "..") or Path(dataset).name != dataset:
            raise InputError(
                f"dataset {dataset!r} must be the name of a folder in data_path; set --data_path to another"
            )
        name = model if isinstance(model, str) else model.__name__
        found = registry.model_class(name) if isinstance(model, str) else model
        return name, found, dataset

    def _merge_external_config_dict(self):
        super()._merge_external_config_dict()
        given = self.external_config_dict
        for key in ("metrics", "topk"):
            if given.get(key) == []:
                raise InputError(f"{key} must not be empty")
        if not isinstance(given.get("valid_metric", ""), str):
            raise InputError(f"valid_metric must be like NDCG@10, but is {given['valid_metric']!r}")

    def _load_internal_config_dict(self, model, model_class, dataset) -> None:
        super()._load_internal_config_dict(model, model_class, dataset)
        internal, external = self.internal_config_dict, self.external_config_dict
        self._internal_recbole_types = dict(internal)
        if model_class.type == ModelType.SEQUENTIAL and dataset != "ml-100k":
            fields = (external.get(key, internal[key]) for key in ("USER_ID_FIELD", "ITEM_ID_FIELD", "TIME_FIELD"))
            internal["load_col"] = {"inter": list(fields)}
        for file in ("overall.yaml", f"model/{model}.yaml", f"dataset/{dataset}.yaml"):
            path = properties_folder() / file
            if path.is_file():
                self._update_internal_config_dict(path)
        if model_class.type == ModelType.SEQUENTIAL and isinstance(external.get("eval_args"), dict):
            external["eval_args"] = {**internal["eval_args"], **external["eval_args"]}
        self._choose_batches()
        self._load_times()
        if external.get("loss_type", internal.get("loss_type")) == "CE" and model_class.type == ModelType.SEQUENTIAL:
            internal["train_neg_sample_args"] = None

    def _load_times(self) -> None:
        """The column of times for a model that orders by it although it is not sequential."""
        internal, external = self.internal_config_dict, self.external_config_dict
        eval_args, columns = external.get("eval_args"), internal.get("load_col")
        if isinstance(eval_args, dict) and eval_args.get("order") == "TO" and isinstance(columns, dict):
            time = external.get("TIME_FIELD", internal["TIME_FIELD"])
            internal["load_col"] = {**columns, "inter": list(dict.fromkeys([*columns.get("inter", []), time]))}

    def _choose_batches(self) -> None:
        """``train_batch_size``, where it is given, replaces ``train_batch_tokens`` of lower priority."""
        if "train_batch_tokens" not in self.internal_config_dict:
            return
        for given in (self.cmd_config_dict, self.variable_config_dict, self.file_config_dict):
            if "train_batch_tokens" in given:
                return
            if "train_batch_size" in given:
                self.internal_config_dict["train_batch_tokens"] = None
                if self.external_config_dict.pop("train_batch_tokens", None) is not None:
                    self.notes.append(
                        "train_batch_tokens is passed over: train_batch_size is given with higher priority"
                    )
                return

    def _init_device(self) -> None:
        if not self.final_config_dict["use_gpu"]:
            self.final_config_dict["gpu_id"] = ""
        if "local_rank" in self.final_config_dict:
            raise InputError("local_rank is not a key here; start several processes with torchrun --nproc_per_node=N")
        super()._init_device()
        if world_size() > 1:
            # To RecBole each process is the only one: its own way divides batches and metrics otherwise.
            self.final_config_dict["device"] = join(self.final_config_dict["use_gpu"])
            self.final_config_dict["local_rank"] = rank()
            if rank() > 0:
                self.final_config_dict |= {"state": "error", "show_progress": False}


def teacher_files(config) -> list[str]:
    """The checkpoints that ``teacher`` names."""
    return [file.strip() for file in config["teacher"].split(",")] if config["teacher"] else []


def _find_config_file(file: str | Path) -> Path:
    for candidate in (Path(file), properties_folder() / file, properties_folder() / f"{file}.yaml"):
        if candidate.is_file():
            return candidate
    shipped = sorted(str(path.relative_to(properties_folder())) for path in properties_folder().rglob("*/*.yaml"))
    raise InputError(
        f"there is no config file {file}, neither here nor among those of the package: {', '.join(shipped)}"
    )


def _check(config: Config) -> None:
    _check_unknown_keys(config)
    applicable = _keys_of_model(config["model"]) if config.is_packed else None
    for option in FOR_ALL_MODELS + (FOR_OUR_MODELS if config.is_packed else ()):
        if option.some_models and applicable and option.name not in applicable:
            if config[option.name] is not None:
                config.notes.append(f"{option.name} does not apply to {config['model']} and is passed over")
        elif option.name in config:
            option.check(config[option.name])
    if not config.is_packed:
        of_ours = {option.name for option in FOR_OUR_MODELS} - config._internal_recbole_types.keys()
        for key in sorted(of_ours & config.external_config_dict.keys()):
            config.notes.append(f"{key} is for the models of this package: {config['model']} passes it over")
    _check_recbole_types(config)
    _check_split(config)
    _check_fields(config)
    _check_intervals(config)
    _check_valid_metric(config)
    if config.is_packed:
        _check_our_model(config)
    if config["filter_seen"] and set(config["eval_args"]["mode"].values()) != {"full"}:
        raise InputError("filter_seen needs a full ranking; set eval_args: {'mode': 'full'} or filter_seen: False")
    if config["use_gpu"] and config["device"].type == "cpu":
        config.notes.append("use_gpu is on, but there is no GPU here: running on the CPU")


def _keys_of_model(model: str) -> frozenset[str]:
    """Keys with a default for a model; none for a model that has no file of defaults."""
    file = properties_folder() / "model" / f"{model}.yaml"
    return frozenset(yaml.safe_load(file.read_text(encoding="utf-8"))) if file.is_file() else frozenset()


@lru_cache(maxsize=1)
def _keys_of_properties() -> frozenset[str]:
    """Every key in a yaml of RecBole or of this package."""
    recbole_properties = Path(recbole.config.__file__).parent.parent / "properties"
    keys: set[str] = set()
    for file in (*recbole_properties.rglob("*.yaml"), *properties_folder().rglob("*.yaml")):
        keys |= set(yaml.load(file.read_text(encoding="utf-8"), Loader=yaml.BaseLoader) or ())
    return frozenset(keys)


def _check_unknown_keys(config: Config) -> None:
    known = {key for keys in config.parameters.values() for key in keys} | _keys_of_properties()
    known |= {"model", "dataset", "config_files", "encoding"}
    known |= {"local_rank", "world_size", "nproc", "ip", "port", "offset"}
    for key in config.external_config_dict:
        if key in known:
            continue
        close = difflib.get_close_matches(key, known, n=1)
        message = f"unknown key {key!r}" + (f"; did you mean {close[0]}?" if close else "; --help lists the keys")
        if config.is_packed:
            raise InputError(message)
        config.notes.append(message)


def _check_recbole_types(config: Config) -> None:
    """Numbers and switches of RecBole must stay numbers and switches: it finds out deep in the training."""
    for key, default in config._internal_recbole_types.items():
        value = config[key]
        if isinstance(default, bool):
            fits, kind = isinstance(value, bool), "True or False"
        elif isinstance(default, int | float):
            fits, kind = isinstance(value, int | float) and not isinstance(value, bool), "a number"
            if isinstance(default, int) and key != "MAX_ITEM_LIST_LENGTH":
                fits, kind = fits and isinstance(value, int), "a whole number"
        else:
            continue
        if key == "MAX_ITEM_LIST_LENGTH" and config.is_packed:
            continue
        if not fits:
            raise InputError(f"{key} must be {kind}, but is {value!r}")
        if key in _AT_LEAST and value < _AT_LEAST[key]:
            raise InputError(f"{key} must be {_AT_LEAST[key]} or more, but is {value!r}")
    if str(config["learner"]).lower() not in LEARNERS:
        raise InputError(f"learner must be one of {', '.join(LEARNERS)}, but is {config['learner']!r}")
    if not isinstance(config["field_separator"], str) or not config["field_separator"]:
        raise InputError("field_separator must not be empty; between the columns of a file stands, for example, a tab")
    if config["log_wandb"] and getattr(find_spec("wandb"), "origin", None) is None:  # its logs' folder is none either
        raise InputError("log_wandb needs wandb, which is not installed; pip install wandb, or set log_wandb: False")
    if not config["checkpoint_dir"]:
        raise InputError("checkpoint_dir must not be empty")
    if config["seed"] >= 2**32:
        raise InputError(f"seed must be less than 2**32, but is {config['seed']}")
    if config["clip_grad_norm"] is not None and not isinstance(config["clip_grad_norm"], dict):
        raise InputError(f"clip_grad_norm must be like {{'max_norm': 1.0}}, but is {config['clip_grad_norm']!r}")
    samples = config["train_neg_sample_args"]["sample_num"]
    if samples != "none" and not (isinstance(samples, int) and samples > 0):
        raise InputError(f"train_neg_sample_args: sample_num must be 1 or more, but is {samples!r}")


def _check_split(config: Config) -> None:
    """What RecBole refuses only once it has read the data."""
    order, split = config["eval_args"]["order"], config["eval_args"]["split"]
    orders = ("TO",) if config["MODEL_TYPE"] == ModelType.SEQUENTIAL else ("TO", "RO")
    if order not in orders:
        raise InputError(f"eval_args: order must be {' or '.join(orders)} for {config['model']}, but is {order!r}")
    kind, value = next(iter(split.items())) if isinstance(split, dict) and len(split) == 1 else (None, None)
    parts = ("valid_and_test", "valid_only", "test_only")
    shares = isinstance(value, list) and len(value) == 3 and all(isinstance(v, int | float) and v >= 0 for v in value)
    if not ((kind == "LS" and value in parts) or (kind in ("RS", "TS") and shares and value[0] > 0)):
        raise InputError(
            f"eval_args: split must be {{'LS': one of {', '.join(parts)}}}, or {{'RS': [0.8, 0.1, 0.1]}}, "
            f"or TS likewise, but is {split!r}"
        )
    group_by = config["eval_args"]["group_by"]
    if kind == "RS" and str(group_by).lower() not in ("none", "user"):
        raise InputError(f"eval_args: group_by must be user or none, but is {group_by!r}")
    if not config.held_out[0] and config["benchmark_filename"] is None:
        config.notes.append(
            f"there is no validation: all {config['epochs']} epochs are trained, and the model of the last one is kept"
        )


def _check_fields(config: Config) -> None:
    names = [config[key] for key in ("USER_ID_FIELD", "ITEM_ID_FIELD", "TIME_FIELD")]
    if len(set(names)) < 3:
        raise InputError(f"USER_ID_FIELD, ITEM_ID_FIELD and TIME_FIELD must be three columns, but are {names}")


def _check_intervals(config: Config) -> None:
    """RecBole passes over what it does not understand in them."""
    number = r"\s*-?(\d+(\.\d*)?|inf)\s*"
    for key in ("user_inter_num_interval", "item_inter_num_interval"):
        value = config[key]
        if value is not None and not re.fullmatch(rf"\s*[\[(]{number},{number}[\])]\s*", str(value)):
            raise InputError(f"{key} must be like '[5,inf)', but is {value!r}")


def _check_valid_metric(config: Config) -> None:
    metrics = {name: metrics_dict[name.lower()](config) for name in config["metrics"]}
    computed = [
        name if k is None else f"{name}@{k}"
        for name, metric in metrics.items()
        for k in (config["topk"] if hasattr(metric, "topk") else [None])
    ]
    if str(config["valid_metric"]).lower() not in [name.lower() for name in computed]:
        raise InputError(
            f"valid_metric {config['valid_metric']!r} is not computed; metrics with topk {config['topk']} give "
            + ", ".join(computed)
        )


def _check_our_model(config: Config) -> None:
    if config["train_samples"] == "whole_sequence" and not config.model_class.causal:
        raise InputError(
            f"train_samples: whole_sequence trains a prediction at each item, but {config['model']} reads a history "
            "in both directions and would see the item that it has to predict; use prefix_lm, or all_prefixes or "
            "sampled_prefixes"
        )
    if config["train_samples"] == "prefix_lm" and config.model_class.causal:
        raise InputError(
            f"train_samples: prefix_lm is for models that read a history in both directions, and {config['model']} is "
            "causal; use whole_sequence"
        )
    takes = inspect.signature(config.model_class.encode).parameters.values()
    if config["train_samples"] == "prefix_lm" and not any(p.name == "cut" or p.kind == p.VAR_KEYWORD for p in takes):
        raise InputError(
            f"train_samples: prefix_lm needs a model whose encode takes cut, which {config['model']}'s does not; use "
            "all_prefixes or sampled_prefixes"
        )
    if config["causal_epochs"] and config["train_samples"] != "prefix_lm":
        raise InputError(f"causal_epochs belongs to train_samples: prefix_lm, which is {config['train_samples']}")
    if config["causal_epochs"] and config["causal_epochs"] >= config["epochs"]:
        raise InputError(
            f"causal_epochs {config['causal_epochs']} leaves none of {config['epochs']} epochs to train both directions"
        )
    if config["train_samples"] == "sampled_prefixes" and config["prefixes_per_user"] is None:
        raise InputError("train_samples: sampled_prefixes needs prefixes_per_user")
    benchmark, given = config["benchmark_filename"] is not None, config.external_config_dict
    if config["train_batch_tokens"] is not None and "train_batch_size" in given and not benchmark:
        config.notes.append("train_batch_tokens is given: train_batch_size is passed over")
    if not config["teacher"] and "teacher_share" in config.external_config_dict:
        config.notes.append("there is no teacher: teacher_share is passed over")
    if config["train_samples"] != "sampled_prefixes" and "prefixes_per_user" in config.external_config_dict:
        config.notes.append(f"train_samples is {config['train_samples']}: prefixes_per_user is passed over")
    for file in teacher_files(config):
        if not Path(file).is_file():
            raise InputError(f"teacher: there is no checkpoint {file}; train one with this package, or name another")
    if config["teacher"] and config["loss_type"] != "CE":
        raise InputError(f"teacher needs loss_type: CE, and it is {config['loss_type']}")
    if config["loss_type"] == "BPR" and config["train_neg_sample_args"]["distribution"] == "none":
        raise InputError("loss_type: BPR needs negatives; leave train_neg_sample_args at its default")
    if config["train_neg_sample_args"].get("dynamic"):
        raise InputError("train_neg_sample_args: dynamic is not available with packed batches; set it to False")
    try:
        check_backend(config["ssm_backend"] or "auto")
    except ValueError as error:
        raise InputError(f"ssm_backend: {error}") from error
    if config["ssm_backend"] in ("mamba_ssm", "triton") and config["device"].type != "cuda":
        raise InputError(
            f"ssm_backend: {config['ssm_backend']} computes on a GPU only, and none is used here; set auto"
        )
    if benchmark and (config["filter_seen"] or config["teacher"]):
        raise InputError("benchmark_filename: filter_seen and teacher need whole histories, which such files have not")
    for key in ("train_samples", "mask_ratio", "train_batch_tokens") if benchmark else ():
        if key in given:
            config.notes.append(f"benchmark_filename: the samples are those of the files, and {key} is passed over")
    for key in ("save_dataloaders", "dataloaders_save_path", "transform"):
        if config[key]:
            raise InputError(f"{key} does not apply to packed batches; remove it")
    inner = (config["expand"] or 1) * config["hidden_size"]
    if config["headdim"] is not None and inner % config["headdim"]:
        raise InputError(f"headdim {config['headdim']} does not divide expand * hidden_size = {inner}")
    if config["n_heads"] is not None and config["hidden_size"] % config["n_heads"]:
        raise InputError(f"n_heads {config['n_heads']} does not divide hidden_size {config['hidden_size']}")
    if config["model"] == "Hydra4Rec" and config["d_conv"] % 2 == 0:
        raise InputError(
            f"d_conv must be odd for Hydra4Rec, since its convolution is centred, but is {config['d_conv']}"
        )
