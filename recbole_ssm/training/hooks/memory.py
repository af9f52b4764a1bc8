"""Where memory ends, an error names the keys that need less."""

from __future__ import annotations

from contextlib import AbstractContextManager

from recbole.utils import ModelType

from recbole_ssm.config.config import Config
from recbole_ssm.system.resources import fits_memory
from recbole_ssm.training.hooks.hook import Epoch, Hook


class Memory(Hook):
    """Turns "out of memory" into one sentence that names the keys to lower."""

    def __init__(self, config: Config):
        self._config = config

    def around_epoch(self, epoch: Epoch) -> AbstractContextManager[None]:
        keys = ["train_batch_size"] if self._config["train_batch_tokens"] is None else []
        keys += ["train_batch_tokens"] if self._config.is_packed else []
        return fits_memory(self._remedy("a step of the training", *keys))

    def around_evaluation(self) -> AbstractContextManager[None]:
        return fits_memory(self._remedy("a batch of the evaluation", "eval_batch_size"))

    def _remedy(self, what: str, *keys: str) -> str:
        if self._config["MODEL_TYPE"] == ModelType.SEQUENTIAL:
            keys += ("MAX_ITEM_LIST_LENGTH",)
        *others, last = (f"{key} ({self._config[key]})" for key in keys)
        given = " or ".join([*([", ".join(others)] if others else []), last])
        return f"{what} does not fit into memory; lower {given}"
