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
        by_tokens = self._config.is_packed and self._config.train_batch_tokens is not None
        return self._explained("a step of the training", "train_batch_tokens" if by_tokens else "train_batch_size")

    def around_evaluation(self, batches: int) -> AbstractContextManager[None]:
        return self._explained("a batch of the evaluation", "eval_batch_size")

    def _explained(self, what: str, key: str) -> AbstractContextManager[None]:
        remedy, longest = f"lower {key} ({self._config[key]})", self._config.MAX_ITEM_LIST_LENGTH
        if self._config.MODEL_TYPE == ModelType.SEQUENTIAL:
            remedy += " or set MAX_ITEM_LIST_LENGTH" if longest is None else f" or MAX_ITEM_LIST_LENGTH ({longest})"
        return fits_memory(f"{what} does not fit into memory; {remedy}")
