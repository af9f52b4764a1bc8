"""What a caller gives of a configuration: models, datasets, files, dicts and the command line."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from copy import deepcopy
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml
from recbole.config import Config as RecBoleConfig

from recbole_ssm.config import numpy_names
from recbole_ssm.config.from_data import Group
from recbole_ssm.config.keys import FOR_ALL_MODELS
from recbole_ssm.config.shipped_files import find_config_file
from recbole_ssm.config.values import YamlLoader, in_python, literal, merged
from recbole_ssm.errors import InputError
from recbole_ssm.model import registry

_LONGEST_NAME = 200
"""Bytes of model and dataset together: 255 of a file's name, but for the time, number, process and kind beside them."""

_Settings = dict[str, Any]


class Given(RecBoleConfig):
    """RecBole's ``Config``, with other ways to read what is given.

    Args:
        model: a name, or a model class.
        dataset: a name.
        config_file_list: yaml files; one that does not exist is looked for in the package's ``properties/``. Or what
            stands in one, as a dict.
        config_dict: keys and values. A word that is a number, list or dict in Python is that, as in ``command_line``.
        command_line: arguments ``--key=value``.

    Attributes:
        trains: whether a training is to follow.
        recbole_defaults: the values that RecBole has for the model and the dataset.
        notes: what the user should be told, once there is a log.
        passed_over: keys that are given and do nothing, and which of the notes says so.
        above_the_data: keys whose defaults do not follow from the data: they stand in a file of the dataset, or of
            somebody's own model.
        from_data: the settings that follow from the data, once these are read.

    Raises:
        InputError: something in them cannot be read.
    """

    model_class: type[Any]
    trains = True

    def __init__(
        self,
        model: str | type[Any] | None = None,
        dataset: str | None = None,
        config_file_list: Sequence[str | Path | _Settings] | None = None,
        config_dict: _Settings | None = None,
        command_line: Iterable[str] = (),
    ):
        self._command_line = tuple(command_line)
        self.recbole_defaults: _Settings = {}
        self.notes: list[str] = []
        self.passed_over: dict[str, str] = {}
        self.parameters: dict[str, list[str]] = {}
        self.above_the_data: set[str] = set()
        self.from_data: list[Group] = []
        files = [file if isinstance(file, dict) else find_config_file(file) for file in config_file_list or ()]
        try:
            super().__init__(model, dataset, files, in_python(config_dict or {}))
        except InputError:
            raise
        except (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
            message = error.args[0] if isinstance(error, KeyError) else error
            raise InputError(f"the configuration cannot be used: {message}") from error

    def pass_over(self, key: str, why: str) -> None:
        """Note that a key is given and does nothing."""
        self.passed_over[key] = f"{key} is passed over: {why}"
        self.notes.append(self.passed_over[key])

    def overruled(self, keys: Iterable[str], verb: str) -> list[str]:
        """What config files give of these keys, and a verb sets to another value itself, in words."""
        given = self.file_config_dict
        return [
            f"{key}: the config files' {given[key]} is passed over; {verb} sets {self[key]} itself"
            for key in keys
            if key in given and given[key] != self[key]
        ]

    @property
    def is_packed(self) -> bool:
        """Whether the model takes packed batches: those of this package do."""
        return hasattr(self.model_class, "packed")

    # What follows replaces steps of RecBole's constructor, which calls them in this order.

    def compatibility_settings(self) -> None:
        """See :mod:`recbole_ssm.config.numpy_names`."""
        numpy_names.restore()

    def _init_parameters_category(self) -> None:
        super()._init_parameters_category()
        self.parameters = {category: list(keys) for category, keys in self.parameters.items()}
        self.parameters["State-space"] = [key.name for key in FOR_ALL_MODELS]

    def _convert_config_dict(self, config_dict: _Settings) -> _Settings:
        """What words of the command line and of ``config_dict`` stand for; RecBole runs them as Python."""
        return {key: literal(value) if isinstance(value, str) else value for key, value in config_dict.items()}

    def _build_yaml_loader(self) -> type[yaml.SafeLoader]:
        """A loader with RecBole's rule for numbers, taken once: RecBole's way adds it again with each configuration."""
        if "yaml_implicit_resolvers" not in vars(YamlLoader):
            YamlLoader.yaml_implicit_resolvers = super()._build_yaml_loader().yaml_implicit_resolvers
        return YamlLoader

    def _update_internal_config_dict(self, file: str | Path) -> _Settings:
        content = self._read(Path(file))
        self.internal_config_dict.update(content)
        return content

    def _load_config_files(self, file_list: Sequence[Path | _Settings]) -> _Settings:
        found: _Settings = {}
        for file in file_list:
            content = in_python(file) if isinstance(file, dict) else self._read(file)
            if "train_batch_size" in content:
                found.pop("train_batch_tokens", None)  # of a file before this one
            found = merged(found, content)
        return found

    def _read(self, file: Path) -> _Settings:
        try:
            content = deepcopy(_parsed(file.read_text(encoding="utf-8")))
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            reason = " ".join(str(error).split())
            raise InputError(f"the config file {file} cannot be read as yaml: {reason}") from error
        if not isinstance(content, dict | type(None)):
            raise InputError(f"the config file {file} must hold lines 'key: value', but holds {content!r}")
        return content or {}

    def _load_cmd_line(self) -> _Settings:
        given: dict[str, str] = {}
        for argument in self._command_line:
            key, equals, value = argument.removeprefix("--").partition("=")
            if not argument.startswith("--") or not equals or not key:
                raise InputError(f"argument {argument!r} is not understood; write --key=value")
            if given.setdefault(key, value) != value:
                raise InputError(f"--{key} is given twice, as {given[key]!r} and as {value!r}")
        return self._convert_config_dict({key: None if value == "~" else value for key, value in given.items()})

    def _merge_external_config_dict(self) -> None:
        given = merged(merged(self.file_config_dict, self.variable_config_dict), self.cmd_config_dict)
        self.external_config_dict: _Settings = given
        for key in ("metrics", "topk"):
            if given.get(key) == []:
                raise InputError(f"{key} must not be empty")
        metrics = given.get("metrics", [])
        if not all(isinstance(name, str) for name in (metrics if isinstance(metrics, list) else [metrics])):
            raise InputError(f"metrics must be a name or a list of names, such as ['NDCG', 'Hit'], but is {metrics!r}")
        topk = given.get("topk", 1)
        if any(isinstance(k, bool) or not isinstance(k, int) for k in (topk if isinstance(topk, list) else [topk])):
            raise InputError(f"topk must be a whole number or a list of them, but is {topk!r}")
        if not isinstance(given.get("valid_metric", ""), str):
            raise InputError(f"valid_metric must be like NDCG@10, but is {given['valid_metric']!r}")

    def _get_model_and_dataset(self, model: str | type[Any] | None, dataset: str | None) -> tuple[str, type[Any], str]:
        model = self.external_config_dict.get("model") if model is None else model
        if model is None:
            raise InputError(f"no model is given; say --model=NAME, for example {next(iter(registry.MODELS))}")
        dataset = self.external_config_dict.get("dataset") if dataset is None else dataset
        if dataset is None:
            raise InputError("no dataset is given; say --dataset=NAME, for example ml-100k")
        name = model if isinstance(model, str) else model.__name__
        self._check_names(name, dataset)
        found = registry.model_class(name) if isinstance(model, str) else model
        if hasattr(found, "packed"):
            registry.check_declarations(found, self.external_config_dict)
        return name, found, dataset

    def _check_names(self, model: str, dataset: str) -> None:
        """Raise InputError where model or dataset cannot be called so, or are given otherwise as well."""
        if dataset in ("", ".", "..") or Path(dataset).name != dataset:
            raise InputError(
                f"dataset {dataset!r} must be the name of a folder in data_path; set --data_path to another"
            )
        most = _LONGEST_NAME - len(model.encode())
        if len(dataset.encode()) > most:
            raise InputError(
                f"dataset {dataset[:12]}... has a name of {len(dataset.encode())} bytes; {most} are the most with "
                f"{model}, since logs and checkpoints are named by both; rename its folder and its files"
            )
        for key, value in (("model", model), ("dataset", dataset)):
            if self.cmd_config_dict.get(key, value) != value:
                raise InputError(f"--{key}={self.cmd_config_dict[key]} does not apply here: the {key} is {value}")
        if "config_files" in self.external_config_dict:
            raise InputError("config_files does not apply here; give what stands in them as keys and values")


@lru_cache(maxsize=64)
def _parsed(text: str) -> Any:
    """What stands in a yaml file; each configuration of a process reads the same ones."""
    return yaml.load(text, Loader=YamlLoader)
