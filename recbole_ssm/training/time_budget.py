"""``time_budget``: trainings that end by the clock, so that models can be compared at equal cost."""

from __future__ import annotations

from time import perf_counter

from recbole_ssm.errors import InputError
from recbole_ssm.system.distributed import all_reduce_max, broadcast


class _BudgetSpent(Exception):
    """No further epoch is begun."""


class TimeBudget:
    """Mixed into the trainer that RecBole has for a model, below its history.

    The first epoch that ends after ``time_budget`` seconds of training and validation is the last one. A budget that
    is too small for one epoch is an error, as soon as that can be told. Of several processes, each with a clock of its
    own, all end together.
    """

    def fit(self, *args, **kwargs):
        try:
            return super().fit(*args, **kwargs)
        except _BudgetSpent:
            self.logger.info(f"time_budget: {self.config['time_budget']} seconds are spent")
            return self.best_valid_score, self.best_valid_result

    def _train_epoch(self, train_data, epoch_idx, loss_func=None, *args, **kwargs):
        budget = self.config["time_budget"]
        if budget is not None and self.history:
            spent = sum(epoch["train_seconds"] + epoch.get("valid_seconds", 0.0) for epoch in self.history)
            if broadcast(spent >= budget):
                raise _BudgetSpent
        elif budget is not None:
            loss_func = _watched(loss_func or self.loss_of_batch, len(train_data), budget)
        return super()._train_epoch(train_data, epoch_idx, loss_func, *args, **kwargs)


def _watched(loss_func, batches: int, budget: float):
    """The loss of each batch of the first epoch, or an error where the epoch will clearly not end in time."""
    begun: list[float] = []

    def watched(interaction):
        begun.append(perf_counter())
        spent, done = begun[-1] - begun[0], len(begun) - 1
        # The first batch takes longer than the others.
        needed = batches * (begun[-1] - begun[min(done, 1)]) / max(done - 1, 1)
        too_few = spent > budget or (done > 3 and spent > budget / 10 and needed > 2 * budget)
        if all_reduce_max(int(too_few)):
            raise InputError(
                f"time_budget: {budget} seconds are too few for one epoch, which takes about {max(needed, spent):.0f}"
            )
        return loss_func(interaction)

    return watched
