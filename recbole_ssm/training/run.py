"""From a configuration to a trained and tested model."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from logging import getLogger
from pathlib import Path
from typing import Any

import torch
from recbole.utils import ModelType, set_color

from recbole_ssm.checkpoints.fingerprint import item_vocabulary
from recbole_ssm.checkpoints.latest import check_configuration, find_latest
from recbole_ssm.config.config import Config
from recbole_ssm.errors import InputError
from recbole_ssm.ops.backends import backends_of
from recbole_ssm.system.atomic_write import check_writable
from recbole_ssm.system.console_log import console_log_held_back, library_warnings_logged, tell
from recbole_ssm.system.distributed import broadcast, rank
from recbole_ssm.system.plain import plain
from recbole_ssm.system.progress_bar import bar
from recbole_ssm.training import json_log
from recbole_ssm.training.assembly import Assembly, assemble, computing, read_data
from recbole_ssm.training.console_text import data_in_words, model_in_words, result_in_words, settings_in_words
from recbole_ssm.training.hooks.progress import Watch
from recbole_ssm.training.hooks.stopping import Interrupted
from recbole_ssm.training.log_files import run_logs
from recbole_ssm.training.summary import log_summary, measured


@dataclass(frozen=True)
class RunOptions:
    """How a training is run, whatever it trains; see :func:`run`."""

    saved: bool = True
    resume: bool | str | Path = False
    after_epoch: Callable[[Any], None] | None = None
    test: bool = True
    watch: Watch | None = None


def run(
    model: str | type | None = None,
    dataset: str | None = None,
    config_file_list: list[str] | None = None,
    config_dict: dict[str, Any] | None = None,
    saved: bool = True,
    command_line: Iterable[str] = (),
    resume: bool | str | Path = False,
    after_epoch: Callable[[Any], None] | None = None,
    test: bool = True,
    watch: Watch | None = None,
) -> dict[str, Any]:
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
        test: test the best model; else ``test_result`` is None.
        watch: is told before each batch what share of the training is done, at least, and that in words.

    Returns:
        RecBole's ``best_valid_score``, ``valid_score_bigger``, ``best_valid_result`` and ``test_result``. Also
        ``epochs``, ``seconds_per_epoch`` (median, training only), ``best_epoch`` (from 1; the last one if none was
        validated), ``seconds_to_best`` (training and validation up to it); ``history`` (see
        :class:`recbole_ssm.training.trainer.HookedTrainer`), ``parameters``, ``parameters_without_item_embedding``,
        ``peak_memory_gib`` and ``checkpoint`` (None if not saved).

    Raises:
        InputError: what was given cannot be used; nothing has been trained.
        TrainingDiverged: the loss became NaN or infinite.
        CheckpointNotWritten: the disk is full, or the folder cannot be written to.
        Interrupted: SIGTERM or Ctrl-C, with the training saved.
    """
    config = Config(model, dataset, config_file_list, config_dict, command_line)
    return run_config(config, RunOptions(saved, resume, after_epoch, test, watch))


def run_config(config: Config, options: RunOptions) -> dict[str, Any]:
    """Train and test what a configuration asks for.

    Args:
        config: the configuration.
        options: how it is run.

    Returns:
        See :func:`run`.
    """
    for folder in ("log", "log_tensorboard"):
        check_writable(Path(folder), f"the folder {folder} of the run's logs", "start in another folder")
    far = _HowFar(options.watch)
    with (
        run_logs(config) as console,
        library_warnings_logged(),
        computing(config) as threads,
        bar(console, far.look) if config.show_progress else nullcontext(),
        # An error of the data would be hard to find below 120 lines of configuration, where they are shown:
        console_log_held_back(f"{config.model} on {config.dataset}: reading and checking the data") as show,
    ):
        if options.saved:
            check_writable(Path(config.checkpoint_dir), f"checkpoint_dir {config.checkpoint_dir!r}")
        try:
            data = read_data(config)
        finally:
            _log_settings(config, threads)
        begun = _begun(config, options.resume)
        tell(data_in_words(config, data.dataset))
        if config.from_data:
            tell(settings_in_words(config))
        assembly = assemble(config, data, watch=far)
        del data  # the weights that it began with are in the model
        tell(model_in_words(config, assembly.trainer.model, torch.get_num_threads()) + "\n")
        show()
        if begun is not None:
            assembly.trainer.resume_checkpoint(begun)
        with _resumable(assembly.trainer, options.saved):
            return _train_and_test(assembly, options, far)


@contextmanager
def _resumable(trainer: Any, saved: bool) -> Iterator[None]:
    """Ctrl-C where no hook listens to it, such as in the test: the file that keeps the training stays until the end."""
    try:
        yield
    except KeyboardInterrupt as stop:
        if saved and trainer.latest_file.is_file() and trainer.latest_file.stat().st_size:
            raise Interrupted(signal.SIGINT, trainer.latest_file) from stop
        raise


class _HowFar:
    """How far a run is, for a bar and for whoever watches it."""

    def __init__(self, watch: Watch | None):
        self._watch = watch
        self.share, self.words = 0.0, "reading the data"

    def __call__(self, share: float, words: str) -> None:
        self.share, self.words = share, words
        if self._watch is not None:
            self._watch(share, words)

    def look(self) -> tuple[float, str]:
        return self.share, self.words


def _log_settings(config: Config, threads: str) -> None:
    getLogger().info(str(config))
    getLogger().info(set_color("Threads", "pink") + f": {threads}")
    if config.is_packed and config.model_class.is_trained:
        backends = ", ".join(f"{op} {name}" for op, name in backends_of(config.device).items())
        getLogger().info(set_color("Backends", "pink") + f": {backends}")
    for note in config.notes:
        getLogger().warning(note)


def _train_and_test(assembly: Assembly, options: RunOptions, far: _HowFar) -> dict[str, Any]:
    config, dataset, loaders, trainer = assembly
    after_epoch, saved = options.after_epoch, options.saved
    told = {} if after_epoch is None else {"callback_fn": lambda epoch, score: after_epoch(trainer)}
    score, valid_result = trainer.fit(loaders.train, loaders.valid, saved=saved, **told)
    test_result = None
    if options.test:
        far.share, far.words = 1.0, "testing"
        test_result = trainer.evaluate(loaders.test, load_best_model=saved)
    result = {
        "best_valid_score": score,
        "best_valid_result": valid_result,
        "test_result": test_result,
        **measured(config, trainer),
        "checkpoint": trainer.saved_model_file if saved else None,
    }
    log_summary(config, result, tested=options.test)
    tell(result_in_words(config, result, json_log.file(), item_vocabulary(dataset)[1:4]))
    if test_result is not None:
        json_log.write({"test_result": {name: float(value) for name, value in test_result.items()}})
    if saved and rank() == 0:
        trainer.latest_file.unlink(missing_ok=True)
    return result


def _begun(config: Config, resume: bool | str | Path) -> str | Path | None:
    """The checkpoint to go on with, if it was begun with this configuration."""
    if not resume:
        return None
    if config.MODEL_TYPE == ModelType.DECISIONTREE:
        raise InputError(f"{config.model} is trained at once, and there is nothing to resume")
    given = plain(config.final_config_dict)
    file: str | Path | None = None if resume is True else resume
    if resume is True:  # the first process looks: it may write one before the others have looked
        file = broadcast(find_latest(config.checkpoint_dir, config.model, config.dataset, given))
    if file is None:
        getLogger().warning(f"{config.checkpoint_dir} holds nothing to resume: the training begins anew")
    else:
        from_data = {key for group in config.from_data for key in group.settings}
        check_configuration(file, given, from_data=from_data, trust=bool(config.trust_checkpoint))
    return file
