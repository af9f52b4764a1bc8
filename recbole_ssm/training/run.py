"""From a configuration to a trained and tested model."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from logging import getLogger
from pathlib import Path
from statistics import median

from recbole.utils import ModelType, init_logger, init_seed, set_color
from torch import nn

from recbole_ssm.checkpoints.latest import check_configuration, find_latest
from recbole_ssm.config.config import Config
from recbole_ssm.data import check_topk, create_dataset, data_preparation
from recbole_ssm.errors import InputError
from recbole_ssm.ops.backend import describe_backends, use_backend
from recbole_ssm.system import threads
from recbole_ssm.system.atomic_write import check_writable
from recbole_ssm.system.distributed import broadcast, rank
from recbole_ssm.system.plain import plain
from recbole_ssm.system.resources import peak_memory_gib
from recbole_ssm.system.terminal import PrintableLog, console_log_held_back, recbole_warnings_hidden
from recbole_ssm.training import run_log
from recbole_ssm.training.distillation import load_teachers
from recbole_ssm.training.making import make_model
from recbole_ssm.training.trainer import create_trainer


def run(
    model=None,
    dataset: str | None = None,
    config_file_list: list[str] | None = None,
    config_dict: dict | None = None,
    saved: bool = True,
    command_line: Iterable[str] = (),
    resume: bool | str | Path = False,
    after_epoch: Callable[[object], None] | None = None,
    test: bool = True,
    watch: Callable[[float, str], None] | None = None,
) -> dict:
    """Train a model, keep the best epoch by the validation metric, and test it: RecBole's ``run_recbole``.

    Args:
        model: name of a model of this package or of RecBole, or a model class.
        dataset: name of a dataset in ``data_path``, or ``ml-100k``, which comes with RecBole.
        config_file_list: yaml files.
        config_dict: keys and values.
        saved: keep the best model in ``checkpoint_dir`` and test it; else the last one is tested.
        command_line: arguments ``--key=value``; nothing is read from ``sys.argv``.
        resume: go on with a training that was interrupted: the checkpoint, or True for the newest in
            ``checkpoint_dir`` of this model, dataset and configuration (if there is none of this model and dataset, it
            begins anew).
        after_epoch: is called with the trainer after each epoch that ``eval_step`` has validated, its checkpoint
            written.
        test: try the best model on the test data; else ``test_result`` is None.
        watch: is told before each batch what share of the training is done, at least, and that in words.

    Returns:
        RecBole's ``best_valid_score``, ``valid_score_bigger``, ``best_valid_result`` and ``test_result``, and
        ``epochs``, ``seconds_per_epoch`` (median, training only), ``best_epoch`` (from 1; the last one if none was
        validated), ``seconds_to_best`` (training and validation up to it), ``history`` (see
        :class:`recbole_ssm.training.trainer.HookedTrainer`), ``parameters``, ``parameters_without_item_embedding``,
        ``peak_memory_gib`` and ``checkpoint`` (None if not saved).

    Raises:
        InputError: what was given cannot be used; nothing has been trained.
        TrainingDiverged: the loss became NaN or infinite.
        CheckpointNotWritten: the disk is full, or the folder cannot be written to.
        Interrupted: SIGTERM or Ctrl-C, with the training saved.
    """
    config = Config(model, dataset, config_file_list, config_dict, command_line)
    for folder in ("log", "log_tensorboard"):
        check_writable(Path(folder), f"the folder {folder} of the run's logs", "start in another folder")
    init_seed(config["seed"], config["reproducibility"])
    most = threads.HELPFUL if config.is_packed else None
    with (
        _logging(config),
        threads.chosen(most) as threads_in_words,
        use_backend(config["ssm_backend"] or "auto"),
        recbole_warnings_hidden(),
        # An error of the data is not to be looked for below 120 lines of configuration:
        console_log_held_back(f"{config['model']} on {config['dataset']}: reading and checking the data") as tell,
    ):
        logger = getLogger()
        logger.info(str(config))
        logger.info(set_color("Threads", "pink") + f": {threads_in_words}")
        for note in config.notes:
            logger.warning(note)
        begun = _begun(config, resume)
        if saved:
            check_writable(Path(config["checkpoint_dir"]), f"checkpoint_dir {config['checkpoint_dir']!r}")
        if config.is_packed:
            logger.info(set_color("Backends", "pink") + f": {describe_backends(config['device'])}")

        train_data, valid_data, test_data = _loaders(config)
        recommender = _recommender(config, train_data._dataset)
        logger.info(recommender)
        tell()
        trainer = create_trainer(config, recommender, watch=watch)
        if rank() > 0:
            init_seed(config["seed"] + rank(), config["reproducibility"])  # dropout of its own, from the same weights
        if begun is not None:
            trainer.resume_checkpoint(begun)
        progress = config["show_progress"]
        told = {} if after_epoch is None else {"callback_fn": lambda epoch, score: after_epoch(trainer)}
        best_valid_score, best_valid_result = trainer.fit(
            train_data, valid_data, saved=saved, show_progress=progress, **told
        )
        test_result = trainer.evaluate(test_data, load_best_model=saved, show_progress=progress) if test else None

        found = {
            "best_valid_score": best_valid_score,
            "best_valid_result": best_valid_result,
            "test_result": test_result,
        }
        result = found | _measured(config, trainer) | {"checkpoint": trainer.saved_model_file if saved else None}
        _log_summary(config, result, tested=test)
        if test_result is not None:
            run_log.write({"test_result": {name: float(value) for name, value in test_result.items()}})
        if saved and rank() == 0:
            trainer.latest_file.unlink(missing_ok=True)
    return result


def _loaders(config: Config) -> tuple:
    """Of training, validation and test data."""
    data = create_dataset(config, packed=config.is_packed)
    check_topk(config, data)
    getLogger().info(str(data))
    _check_labels(config, data)
    return data_preparation(config, data)


def _recommender(config: Config, dataset) -> nn.Module:
    """The model that is to be trained, with its teachers; its weights follow from the seed alone."""
    teachers = load_teachers(config, dataset) if config.is_packed else None
    init_seed(config["seed"], config["reproducibility"])
    recommender = _make_model(config, dataset)
    if teachers is not None:
        recommender.teachers = teachers
    return recommender


def _measured(config: Config, trainer) -> dict:
    """What a training took, and what its model is."""
    total, body = count_parameters(trainer.model)
    history, best = trainer.history, trainer.best_epoch()
    return {
        "valid_score_bigger": config["valid_metric_bigger"],
        "epochs": len(history),
        "seconds_per_epoch": median(epoch["train_seconds"] for epoch in history) if history else None,
        "best_epoch": best,
        "seconds_to_best": sum(e["train_seconds"] + e.get("valid_seconds", 0.0) for e in history[:best]),
        "history": history,
        "parameters": total,
        "parameters_without_item_embedding": body,
        "peak_memory_gib": peak_memory_gib(config["device"]),
    }


def _check_labels(config, data) -> None:
    """Raise InputError, before the training, if labels are to be learned or judged by, and the data have none."""
    learns_them = config["MODEL_TYPE"] in (ModelType.CONTEXT, ModelType.DECISIONTREE)
    label, negatives = config["LABEL_FIELD"], config["train_neg_sample_args"]["distribution"]
    judges_by_them = "labeled" in config["eval_args"]["mode"].values()
    if label not in data.field2type and (judges_by_them or (learns_them and negatives == "none")):
        asks = f"{config['model']} learns labels" if learns_them else "eval_args: mode labeled judges by labels"
        raise InputError(
            f"{asks}, and the data have no column {label!r}; make it of another one, such as threshold: {{'rating': 3}}"
        )


def _make_model(config, dataset) -> nn.Module:
    try:
        return make_model(config, dataset)
    except InputError:
        raise
    except (KeyError, ValueError) as error:
        if config.is_packed:
            raise
        raise InputError(
            f"{config['model']} cannot be made for these data ({error}); if it needs a column that is not loaded, name "
            "the column in load_col"
        ) from error


def _begun(config, resume: bool | str | Path) -> str | Path | None:
    """The checkpoint to go on with, if it was begun with this configuration."""
    if not resume:
        return None
    if config["MODEL_TYPE"] == ModelType.DECISIONTREE:
        raise InputError(f"{config['model']} is trained at once, and there is nothing to resume")
    file, given = resume, plain(config.final_config_dict)
    if resume is True:  # as the first process sees it: it may be writing one before the others have looked
        file = broadcast(find_latest(config["checkpoint_dir"], config["model"], config["dataset"], given))
    if file is None:
        getLogger().warning(f"{config['checkpoint_dir']} holds nothing to resume: the training begins anew")
    else:
        check_configuration(file, given, trust=bool(config["trust_checkpoint"]))
    return file


def _log_summary(config, result: dict, *, tested: bool) -> None:
    seconds, body = result["seconds_per_epoch"], result["parameters_without_item_embedding"]
    lines = {
        "order, filter": f"time_order {config.order_of_histories}, {config.rule_of_seen}",
        "best valid": metrics_in_words(result["best_valid_result"]),
        **({"test result": metrics_in_words(result["test_result"])} if tested else {}),
        "epochs": f"{result['epochs']}" + ("" if seconds is None else f", {seconds:.2f} s of training each (median)"),
        "parameters": f"{result['parameters']:,}, without item embedding {body:,}",
        "peak memory": f"{result['peak_memory_gib']:.2f} GiB",
        "checkpoint": result["checkpoint"] or "not saved",
        "metrics": run_log.file(),
    }
    for name, text in lines.items():
        getLogger().info(f"{set_color(name, 'yellow')}: {text}")
    if 0 < result["best_epoch"] <= (config["causal_epochs"] or 0):
        getLogger().warning(
            f"the best epoch, {result['best_epoch']}, is one of the {config['causal_epochs']} causal_epochs: its model "
            "reads in both directions now, but was trained in one; train longer, or set fewer causal_epochs"
        )


def metrics_in_words(metrics: dict | None) -> str:
    """What was measured, for a line of text; None for a split without such data."""
    if metrics is None:
        return "there is no such data"
    return ", ".join(f"{name} {value}" for name, value in metrics.items())


def count_parameters(model: nn.Module) -> tuple[int, int]:
    """Trainable parameters of a model: all, and without the embedding of items."""
    if not isinstance(model, nn.Module):  # trees
        return 0, 0
    total = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    items = sum(
        module.weight.numel()
        for module in model.modules()
        if isinstance(module, nn.Embedding) and module.num_embeddings == getattr(model, "n_items", None)
    )
    return total, total - items


@contextmanager
def _logging(config) -> Iterator[None]:
    """RecBole's log file and console for the time of one run, so that the next one gets its own.

    Where the caller logs already, that takes the console's place. The file's name has the second and a hash of the
    configuration: a value that no other run has makes another of it for each run of a second.
    """
    root, values = logging.getLogger(), config.final_config_dict
    values["run"] = broadcast(f"{os.getpid()} {time.time_ns()}")
    before, level = list(root.handlers), root.level
    root.handlers = []  # with any, RecBole adds none
    try:
        init_logger(config)
        added = [handler for handler in root.handlers if not before or isinstance(handler, logging.FileHandler)]
    finally:
        root.handlers = before
        del values["run"]
    root.handlers = before + added
    for handler in added:
        handler.addFilter(PrintableLog())
    try:
        with run_log.beside(added):
            yield
    finally:
        for handler in added:
            root.removeHandler(handler)
            with suppress(OSError):  # the disk is full
                handler.close()
        root.setLevel(level)
