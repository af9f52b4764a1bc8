"""RecBole's configuration with this package's models, keys and defaults, not yet checked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from recbole.utils import EvaluatorType, InputType, ModelType

from recbole_ssm.config.defaults import ABOVE_THE_DATA, BELOW_THE_DATA, Layer, Run
from recbole_ssm.config.given import Given
from recbole_ssm.config.keys import keys_of
from recbole_ssm.config.splits import TEMPORAL, TemporalSplit, split_in_words, temporal_split
from recbole_ssm.errors import InputError
from recbole_ssm.model.declarations import Column, Configuration
from recbole_ssm.model.recbole_models import COUNTS_PER_BATCH, recbole_properties
from recbole_ssm.system.distributed import init_process_group, rank, world_size
from recbole_ssm.system.environment import parse_gpu_id, show_gpus, visible_gpus

_Settings = dict[str, Any]


class Settings(Given):
    """The keys and values of a run, with their defaults, and what follows from them.

    The keys that this package reads have their types here, and are read as attributes; one that nobody gave is None.
    RecBole, and models, which RecBole may be given too, read ``config["key"]``.
    """

    model: str
    model_class: type[Any]
    MODEL_TYPE: ModelType
    MODEL_INPUT_TYPE: InputType

    # the data
    dataset: str
    data_path: str
    dataset_cache: str | None
    dataset_save_path: str | None
    save_dataset: bool
    save_dataloaders: bool
    trust_dataset: bool
    benchmark_filename: list[str] | None
    encoding: str | None
    field_separator: str
    seq_separator: str
    load_col: _Settings | None
    unload_col: _Settings | None
    additional_feat_suffix: list[str] | None
    numerical_features: list[str]
    normalize_field: list[str] | None
    normalize_all: bool
    seq_len: dict[str, int] | None
    ITEM_ID_FIELD: str
    TIME_FIELD: str
    LABEL_FIELD: str
    LIST_SUFFIX: str
    NEG_PREFIX: str
    MAX_ITEM_LIST_LENGTH: int | None
    time_order: str

    # the training
    seed: int
    reproducibility: bool
    worker: int
    shuffle: bool
    epochs: int
    eval_step: int
    learning_rate: float
    embedding_lr_scale: float | None
    lr_schedule: str | None
    loss_type: str | None
    train_batch_size: int
    train_batch_tokens: int | None
    train_samples: str | None
    prefixes_per_user: float | None
    causal_epochs: int | None
    mask_ratio: float | None
    train_neg_sample_args: _Settings
    init_from: str | None
    retriever: str | None
    item_vectors: str | None
    item_vectors_as: str | None
    item_features: str | None
    teacher: str | None
    teacher_share: float | None
    time_budget: float | None
    num_layers: int | None

    # the evaluation
    eval_args: _Settings
    eval_batch_size: int
    eval_users: int | None
    cold_items: float
    eval_type: EvaluatorType
    metrics: list[str]
    topk: list[int]
    valid_metric: str
    valid_metric_bigger: bool
    metric_decimal_place: int
    loss_decimal_place: int
    filter_seen: bool
    repeatable: bool

    # the run
    device: torch.device
    use_gpu: bool
    ssm_backend: str | None
    cuda_graph: bool | None
    checkpoint_dir: str
    trust_checkpoint: bool
    show_progress: bool
    console: str

    def __getattr__(self, name: str) -> Any:
        """The value of a key; of one with a type above that nobody gave, None."""
        if name in Settings.__annotations__ and "final_config_dict" in self.__dict__:
            return self[name]
        return super().__getattr__(name)

    @property
    def given(self) -> _Settings:
        """What a training has beside the published defaults: what is given, and what follows from the data."""
        found = {key: value for group in self.from_data for key, value in group.settings.items()}
        return found | self.external_config_dict

    @property
    def columns(self) -> tuple[Column, ...]:
        """What the model reads of each interaction beside the item; of RecBole's models it is not known."""
        return self._columns_read(self)

    def _columns_read(self, given: Configuration) -> tuple[Column, ...]:
        declared: tuple[Column, ...] = self.model_class.columns if self.is_packed else ()
        return tuple(column for column in declared if column.is_read(given))

    @property
    def counts_per_batch(self) -> bool:
        """Whether the model, one of RecBole's, would count an item once for each batch that holds it."""
        draws = self.train_neg_sample_args["distribution"] != "none"
        return self.model in COUNTS_PER_BATCH and not draws

    @property
    def temporal(self) -> TemporalSplit | None:
        """The global temporal split that is asked for, if one is."""
        return None if self.benchmark_filename is not None else temporal_split(self.eval_args["split"])

    @property
    def split_in_words(self) -> str:
        """The split in words, what targets are ranked against if not all items, and ``eval_users``.

        See ``config.splits``, and :mod:`recbole_ssm.data.cold_items`.
        """
        args, mode = self.eval_args, self.eval_args["mode"]["test"]
        words = "the files' own split; validation items not trained on"
        if self.benchmark_filename is None:
            words = split_in_words(args["split"], args["group_by"])
        if self.cold_items:
            words += f"; only cold items are tested, {self.cold_items:g} of all"
        how = {"uni": "", "pop": " by popularity"}.get(mode[:3])
        against = "" if how is None else f"; ranked against {mode[3:]} items drawn{how}"
        some = "" if self.eval_users is None else f"; {self.eval_users:,} users at most, drawn, are evaluated"
        return words + against + some

    @property
    def held_out(self) -> tuple[bool, bool]:
        """Whether there are items for validation and for the test, as far as the split says so before it is made."""
        if self.benchmark_filename is not None:
            return True, True
        if self.temporal is not None:
            return self.temporal.validation is not None, True
        kind, value = next(iter(self.eval_args["split"].items()))
        if kind == "LS":
            return value != "test_only", value != "valid_only"
        return value[1] > 0, value[2] > 0

    @property
    def order_of_histories(self) -> str:
        """``time_order``, as results name it: pre-split files have an order of their own, and random splits none."""
        if self.benchmark_filename is not None:
            return "of the files"
        return self.time_order if self.eval_args["order"] == "TO" else "none, a random split"

    @property
    def teacher_files(self) -> list[str]:
        """The checkpoints that ``teacher`` names."""
        return names_in(self.teacher)

    @property
    def excludes_seen(self) -> bool:
        """Whether items of the history are left out of the ranking, if there is one."""
        labelled = "labeled" in self.eval_args["mode"].values()
        return not labelled and bool(self.filter_seen or not self.repeatable)

    @property
    def rule_of_seen(self) -> str:
        """In words, how the items are ranked that a user has had before."""
        if "labeled" in self.eval_args["mode"].values():
            return "filter_seen False: nothing is ranked, each interaction has a label"
        if self.filter_seen:
            return "filter_seen True: items of the history are not ranked, and a target that is one of them is a miss"
        if self.excludes_seen:
            return (
                f"filter_seen False: RecBole leaves the history out of {self['model']}'s ranking, but no target; only "
                "with filter_seen True is it ranked as sequential models are"
            )
        return "filter_seen False: items of the history are ranked like all others"

    # What follows replaces steps of RecBole's constructor.

    def _load_internal_config_dict(self, model: str, model_class: type[Any], dataset: str) -> None:
        super()._load_internal_config_dict(model, model_class, dataset)
        if model_class.type == ModelType.DECISIONTREE:  # RecBole's files have other names than its models
            self._update_internal_config_dict(recbole_properties(model))
        self.recbole_defaults = dict(self.internal_config_dict)
        self._load_fields(model_class, dataset)
        run = Run(model, model_class, dataset, self.is_packed)
        for layer in BELOW_THE_DATA:
            self.internal_config_dict.update(self._content(layer, run))
        for layer in ABOVE_THE_DATA:
            content = self._content(layer, run)
            self.internal_config_dict.update(content)
            self.above_the_data |= content.keys()
        if self.is_packed:
            self.parameters["State-space"] = [key.name for key in keys_of(model_class)]
        self._follow(model_class)

    def _content(self, layer: Layer, run: Run) -> _Settings:
        content = layer(run)
        return self._read(content) if isinstance(content, Path) else content or {}

    def _load_fields(self, model_class: type[Any], dataset: str) -> None:
        """Users, items and times of a dataset that RecBole does not know, for a sequential model."""
        given = self.internal_config_dict | self.external_config_dict
        if model_class.type == ModelType.SEQUENTIAL and dataset != "ml-100k":
            fields = [given[key] for key in ("USER_ID_FIELD", "ITEM_ID_FIELD", "TIME_FIELD")]
            self.internal_config_dict["load_col"] = {"inter": fields}

    def _follow(self, model_class: type[Any]) -> None:
        """Defaults that follow from what is given."""
        internal, external = self.internal_config_dict, self.external_config_dict
        sequential = model_class.type == ModelType.SEQUENTIAL
        if sequential and isinstance(external.get("eval_args"), dict):
            external["eval_args"] = {**internal["eval_args"], **external["eval_args"]}
        self._choose_batches()
        self._take_samples_of_files()
        self._load_columns()
        self._choose_metrics()
        if external.get("loss_type", internal.get("loss_type")) == "CE" and sequential:
            internal["train_neg_sample_args"] = None

    def _choose_metrics(self) -> None:
        """Where each sample has one target, Recall and Hit are the same: by default the one that validates, or Hit."""
        internal, external = self.internal_config_dict, self.external_config_dict
        split = internal["eval_args"].get("split")
        if isinstance(external.get("eval_args"), dict):
            split = external["eval_args"].get("split", split)
        if isinstance(split, dict) and not split.keys().isdisjoint(("LS", TEMPORAL)):
            validates = str(external.get("valid_metric", internal["valid_metric"])).lower()
            other = "Hit" if validates.startswith("recall") else "Recall"
            internal["metrics"] = [name for name in internal["metrics"] if name != other]

    def _load_columns(self) -> None:
        """The times of a model that orders by them although it is not sequential, and the columns of one's own.

        Also what is known of items beside their ids; an item of the ``.item`` file needs no interactions then. One that
        this file lacks keeps those that it has.
        """
        internal, external = self.internal_config_dict, self.external_config_dict
        given = internal | external
        eval_args, columns = external.get("eval_args"), internal.get("load_col")
        wanted = [column.field(given) for column in self._columns_read(given)]
        if wanted:
            internal["normalize_all"] = False  # RecBole's ml-100k.yaml has True; the model reads values of the file
        if isinstance(eval_args, dict) and eval_args.get("order") == "TO":
            wanted = [given["TIME_FIELD"], *wanted]
        if wanted and isinstance(columns, dict):
            internal["load_col"] = {**columns, "inter": list(dict.fromkeys([*columns.get("inter", []), *wanted]))}
        if self.is_packed and isinstance(columns, dict) and (given.get("item_vectors") or given.get("item_features")):
            of_items = [given["ITEM_ID_FIELD"], *names_in(given.get("item_features"))]
            internal |= {"load_col": {**internal["load_col"], "item": of_items}, "filter_inter_by_user_or_item": False}

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
                    self.pass_over("train_batch_tokens", "train_batch_size is given with higher priority")
                return

    def _take_samples_of_files(self) -> None:
        """With ``benchmark_filename`` the samples are the lines: what chooses other ones does nothing."""
        external, why = self.external_config_dict, "with benchmark_filename the samples are those of the files"
        if external.get("benchmark_filename") is None:
            return
        for key in ("train_samples", "prefixes_per_user", "causal_epochs"):
            if external.pop(key, None) is not None:
                self.pass_over(key, why)
        given = [
            given.get("eval_args") for given in (self.file_config_dict, self.variable_config_dict, self.cmd_config_dict)
        ]
        for key in ("split", "group_by", "order"):
            if any(isinstance(each, dict) and key in each for each in given):
                self.pass_over(f"eval_args: {key}", why)
        if "train_samples" in self.internal_config_dict:
            self.internal_config_dict |= {"train_samples": "all_prefixes", "causal_epochs": None}

    def _init_device(self) -> None:
        """RecBole's own way sets ``CUDA_VISIBLE_DEVICES`` to the default of ``gpu_id`` whatever it was."""
        settings = self.final_config_dict
        if "local_rank" in settings:
            raise InputError("local_rank is not a key here; start several processes with torchrun --nproc_per_node=N")
        gpu_id = self.external_config_dict.get("gpu_id")
        if gpu_id is not None and not settings["use_gpu"]:
            self.pass_over("gpu_id", "use_gpu is False")
        elif gpu_id is not None:
            note = show_gpus(parse_gpu_id(gpu_id))
            self.notes += [] if note is None else [note]
        settings["gpu_id"] = visible_gpus() if settings["use_gpu"] else ""
        gpu = settings["use_gpu"] and torch.cuda.is_available()
        # To RecBole each process is the only one: its own way divides batches and metrics otherwise.
        settings |= {"single_spec": True, "local_rank": rank(), "device": torch.device("cuda" if gpu else "cpu")}
        if world_size() > 1:
            settings["device"] = init_process_group(settings["use_gpu"])
            if rank() > 0:
                settings |= {"state": "error", "show_progress": False}


def names_in(words: Any) -> list[str]:
    """Names that are separated by commas; none of None."""
    return [name.strip() for name in str(words or "").split(",") if name.strip()]
