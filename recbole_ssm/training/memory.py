"""Where a training runs out of memory, the keys that make it need less."""

from __future__ import annotations

from typing import Any

from recbole.utils import ModelType

from recbole_ssm.system.resources import fits_memory


class WithinMemory:
    """Mixed into the trainer that RecBole has for a model: where memory runs out, its error names the keys to lower."""

    config: Any

    def _train_epoch(self, *args, **kwargs):
        keys = ["train_batch_size"] if self.config["train_batch_tokens"] is None else []
        keys += ["train_batch_tokens"] if self.config.is_packed else []
        with fits_memory(self._less("a step of the training", *keys)):
            return super()._train_epoch(*args, **kwargs)

    def evaluate(self, *args, **kwargs):
        with fits_memory(self._less("a batch of the evaluation", "eval_batch_size")):
            return super().evaluate(*args, **kwargs)

    def _less(self, what: str, *keys: str) -> str:
        if self.config["MODEL_TYPE"] == ModelType.SEQUENTIAL:
            keys += ("MAX_ITEM_LIST_LENGTH",)
        *others, last = (f"{key} ({self.config[key]})" for key in keys)
        given = " or ".join([*([", ".join(others)] if others else []), last])
        return f"{what} does not fit into memory; lower {given}"
