"""RecBole's trainers, with a schedule of the learning rate, a history, and checkpoints that hold data only."""

from __future__ import annotations

import re
from logging import getLogger
from pathlib import Path
from time import perf_counter

import torch
from recbole.evaluator import Evaluator
from recbole.trainer.trainer import AbstractTrainer
from recbole.utils import ModelType, WandbLogger, dict2str, get_trainer, set_color

from recbole_ssm.checkpoints import format as checkpoint
from recbole_ssm.checkpoints.fingerprint import fingerprint, item_vocabulary
from recbole_ssm.system.distributed import barrier, broadcast, rank
from recbole_ssm.system.plain import plain
from recbole_ssm.system.version import __version__
from recbole_ssm.training import run_log
from recbole_ssm.training.distributed import SharedTraining
from recbole_ssm.training.divergence import DivergenceChecks
from recbole_ssm.training.memory import WithinMemory
from recbole_ssm.training.optimisation import fused_adam, one_cycle, parameter_groups
from recbole_ssm.training.resume import Resumable
from recbole_ssm.training.time_budget import TimeBudget
from recbole_ssm.training.tree_training import TreeTraining
from recbole_ssm.training.watched import Watched


class ScheduledTraining:
    """Mixed into the trainer that RecBole has for a model: ``lr_schedule``, and for our models a faster optimiser."""

    schedule = None

    def _build_optimizer(self, **given):
        if self.config.is_packed and not given:
            scale = self.config["embedding_lr_scale"]  # None for a model of one's own that does not name it
            groups = parameter_groups(
                self.model, self.learning_rate, self.weight_decay, 1.0 if scale is None else scale
            )
            optimizer = fused_adam(self.learner, groups, self.learning_rate)
            return optimizer or super()._build_optimizer(params=groups)
        return super()._build_optimizer(**given)

    def fit(self, train_data, *args, **kwargs):
        if self.config["lr_schedule"] == "one_cycle" and self.schedule is None:
            epochs = self.epochs
            steps = train_data.total(epochs) if hasattr(train_data, "total") else epochs * len(train_data)
            self.schedule = one_cycle(self.optimizer, steps)
        return super().fit(train_data, *args, **kwargs)


class History:
    """Mixed into the trainer that RecBole has for a model: what each epoch gave, and how long it took.

    The last epoch is validated whatever ``eval_step`` is, so that a training leaves a model however it ends.

    RecBole's lines about epochs, which count them from 0 and sum the loss up over batches, are replaced: epochs are
    counted from 1, and the loss is the mean over targets, in the log, in the JSON lines and for TensorBoard.
    """

    verbose = True
    """Whether the log is told of each epoch."""

    def __init__(self, config, model):
        super().__init__(config, model)
        self.tensorboard = run_log.TensorBoard(self.tensorboard)
        self.seconds_before = 0.0
        """Of an epoch that was interrupted: how long it had taken until then."""
        self._epoch_begun = 0.0
        self.history: list[dict] = []
        """Of each epoch ``epoch`` (from 1), ``train_loss`` (mean over targets), ``train_seconds``, and where it was
        validated ``valid_seconds`` and ``valid_result``."""

    def best_epoch(self) -> int:
        """Whose model is kept: the best by validation, of equals the later one as in RecBole; without validation the
        last one. 0 before the first epoch."""
        metric, sign = self.config["valid_metric"].lower(), 1 if self.config["valid_metric_bigger"] else -1
        validated = [epoch for epoch in self.history if "valid_result" in epoch]
        scores = {epoch["epoch"]: sign * epoch["valid_result"][metric] for epoch in validated}
        return max(scores, key=lambda number: (scores[number], number), default=len(self.history))

    def fit(self, train_data, valid_data=None, verbose=True, saved=True, *args, **kwargs):
        self.verbose = verbose
        super().fit(train_data, valid_data, False, saved, *args, **kwargs)
        left_out = self.history and "valid_result" not in self.history[-1]
        pretrains = "pretrain" in getattr(self.model, "train_stage", "")  # RecBole's models, then without validation
        if valid_data and self.eval_step > 1 and left_out and not pretrains:
            score, result = self._valid_epoch(valid_data)
            best = self.best_valid_score
            if score >= best if self.valid_metric_bigger else score <= best:
                self.best_valid_score, self.best_valid_result = score, result
                if saved:
                    self._save_checkpoint(len(self.history) - 1)
        if verbose and self.cur_step > self.stopping_step:
            self.logger.info(f"Finished training, best eval result in epoch {self.best_epoch()}")
        return self.best_valid_score, self.best_valid_result

    def seconds_of_epoch(self) -> float:
        """How long the epoch has taken that is going on."""
        return self.seconds_before + perf_counter() - self._epoch_begun

    def _train_epoch(self, train_data, *args, **kwargs):
        batches = len(train_data)
        self._epoch_begun = perf_counter()
        loss = super()._train_epoch(train_data, *args, **kwargs)
        seconds = self.seconds_of_epoch()
        self.seconds_before = 0.0
        mean, number = self.mean_loss(), len(self.history) + 1
        self.history.append({"epoch": number, "train_loss": mean, "train_seconds": seconds})
        run_log.write(self.history[-1])
        if self.verbose:
            self.logger.info(self._generate_train_loss_output(number, 0.0, seconds, mean))
        return tuple(part / batches for part in loss) if isinstance(loss, tuple) else mean

    def _valid_epoch(self, *args, **kwargs):
        start = perf_counter()
        score, result = super()._valid_epoch(*args, **kwargs)
        found = {name: float(value) for name, value in result.items()}
        validated = {"valid_seconds": perf_counter() - start, "valid_result": found}
        self.history[-1] |= validated
        run_log.write({"epoch": len(self.history), **validated})
        if self.verbose:
            name, time = set_color(f"epoch {len(self.history)} evaluating", "green"), set_color("time", "blue")
            of_metric = set_color("valid_score", "blue") + f": {score:f}"
            self.logger.info(f"{name} [{time}: {validated['valid_seconds']:.2f}s, {of_metric}]")
            self.logger.info(set_color("valid result", "blue") + f": \n{dict2str(result)}")
        return score, result


class SafeCheckpoints:
    """Mixed into the trainer that RecBole has for a model: checkpoints of :mod:`recbole_ssm.checkpoints.format`.

    RecBole pickles its whole configuration into a checkpoint, which torch >= 2.6 rightly refuses to load, and writes
    it in place. Here the configuration is stored as plain values, beside the names of all items and what it was on.
    """

    def __init__(self, config, model):
        super().__init__(config, model)
        self.saved_model_file = broadcast(
            _with_dataset(Path(self.saved_model_file), config["model"], config["dataset"])
        )
        self.trained_on: dict = {}
        """What checkpoints say of the data."""

    def fit(self, train_data, *args, **kwargs):
        dataset = train_data._dataset
        self.trained_on = {"dataset": fingerprint(dataset), "item_vocabulary": item_vocabulary(dataset)}
        return super().fit(train_data, *args, **kwargs)

    def _save_checkpoint(self, epoch, verbose=True, **kwargs):
        self._write_and_tell(kwargs.pop("saved_model_file", self.saved_model_file), epoch)

    def _write_and_tell(self, file, epoch: int) -> None:
        self._write(file, self._checkpoint(epoch))
        if self.verbose:
            self.logger.info(f"Saving current: {file}")

    def save_pretrained_model(self, epoch, saved_model_file):
        """As RecBole has it for S3Rec and RaCT, which read it with ``pre_model_path``."""
        self.latest_file.unlink(missing_ok=True)  # which will have the new name, too
        self.saved_model_file = saved_model_file
        self._write_and_tell(saved_model_file, epoch)

    def _write(self, file, state: dict) -> None:
        """Of several processes the first writes."""
        if rank() == 0:
            checkpoint.write(file, state)

    def _checkpoint(self, epoch: int) -> dict:
        """RecBole's keys, and what else a reader may want to know; ``given`` is the configuration without defaults."""
        return {
            "versions": {"recbole_ssm": __version__, "torch": str(torch.__version__)},
            "config": plain(self.config.final_config_dict),
            "given": plain(self.config.external_config_dict),
            **self.trained_on,
            "epoch": epoch,
            "cur_step": self.cur_step,
            "best_valid_score": float(self.best_valid_score),
            "history": plain(self.history[: epoch + 1]),
            "state_dict": self.model.state_dict(),
            "other_parameter": self._plain_other_parameters(),
            "optimizer": self.optimizer.state_dict(),
            "training": self.training_state(),
        }

    def _plain_other_parameters(self) -> dict:
        """What a model keeps beside its parameters, if it can be stored as data; modules are in state_dict anyway."""
        kept = self.model.other_parameter()
        plain = {key: value for key, value in kept.items() if isinstance(value, torch.Tensor | int | float | str)}
        left_out = [key for key, value in kept.items() if key not in plain and not isinstance(value, torch.nn.Module)]
        if left_out:
            self.logger.warning(f"not in the checkpoint, since it holds data only: {', '.join(left_out)}")
        return plain

    def evaluate(self, eval_data, load_best_model=True, model_file=None, show_progress=False):
        if eval_data and load_best_model:
            file = model_file or self.saved_model_file
            barrier()  # the first process has written it by now
            state = checkpoint.read(file, self.device, trust=bool(self.config["trust_checkpoint"]))
            self.model.load_state_dict(state["state_dict"])
            self.model.load_other_parameter(state.get("other_parameter"))
            self.logger.info(f"Loading model structure and parameters from {file}")
        return super().evaluate(eval_data, load_best_model=False, show_progress=show_progress)


def _with_dataset(file: Path, model: str, dataset: str) -> str:
    """RecBole's ``MODEL-DATE.pth`` as ``MODEL-DATASET-DATE.pth``, a long name cut short."""
    short = re.sub(r"[^\w.-]", "_", dataset).encode()[:100].decode(errors="ignore")
    return str(file.with_name(f"{model}-{short}-{file.name.removeprefix(f'{model}-')}"))


class EvaluationOnly:
    """Mixed into RecBole's trainer in place of what trains: neither optimiser nor folder nor log is made."""

    def __init__(self, config, model):
        AbstractTrainer.__init__(self, config, model)
        self.logger, self.wandblogger = getLogger(), WandbLogger(config)
        self.device, self.test_batch_size = config["device"], config["eval_batch_size"]
        self.gpu_available = self.device.type == "cuda"
        self.evaluator = Evaluator(config)
        self.item_tensor = self.tot_item_num = None


def create_trainer(config, model, *, trains: bool = True):
    """The trainer that RecBole has for the model, with what is added here; without ``trains`` it evaluates only."""
    base = get_trainer(config["MODEL_TYPE"], config["model"])
    if config["MODEL_TYPE"] == ModelType.DECISIONTREE:
        return type(base.__name__, (TreeTraining, History, base), {})(config, model)
    added = (WithinMemory, SafeCheckpoints, History, TimeBudget, ScheduledTraining, Watched, Resumable)
    added += (DivergenceChecks, SharedTraining)
    if not trains:
        added = (WithinMemory, DivergenceChecks, SharedTraining, EvaluationOnly)
    return type(base.__name__, (*added, base), {})(config, model)
