"""How far a training is, for whoever watches it."""

from __future__ import annotations

from collections.abc import Callable


class Watched:
    """Mixed into the trainer that RecBole has for a model, above what makes it stop between two batches."""

    watch: Callable[[float, str], None] | None = None
    """Is told before each batch what share of the training is done, at least, and that in words."""

    _share = 0.0

    def _stop_if_told(self, batches_done: int) -> None:
        super()._stop_if_told(batches_done)
        if self.watch is not None:
            epoch = min(batches_done / max(len(self._train_data), 1), 1.0)
            share, budget = (self._epoch + epoch) / self.epochs, self.config["time_budget"]
            if budget is not None:
                spent = sum(each["train_seconds"] + each.get("valid_seconds", 0.0) for each in self.history)
                share = max(share, spent / budget)
            self._share = max(self._share, min(share, 1.0))  # also asked behind the last epoch
            self.watch(self._share, f"epoch {min(self._epoch + 1, self.epochs)}/{self.epochs}")
