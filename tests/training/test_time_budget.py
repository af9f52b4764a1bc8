"""``time_budget`` ends a training by the clock, and refuses to begin one that cannot end in time; long ones say so."""

from pathlib import Path

import pytest
from atomic import make_config, make_trainer

from recbole_ssm.errors import InputError


class Clock:
    """One that goes on only where it is told to."""

    seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    for module in ("history", "time_budget", "forecast"):
        monkeypatch.setattr(f"recbole_ssm.training.hooks.{module}.perf_counter", clock)
    return clock


def train(folder, clock, seconds_per_batch: float, **keys) -> list[dict]:
    """The history of a training whose batches take so long, and whose validations take none."""
    _, trainer, (train_data, valid_data, _) = make_trainer(make_config(folder, **{"train_batch_size": 100, **keys}))
    calculate_loss = trainer.model.calculate_loss

    def slow(interaction):
        clock.seconds += seconds_per_batch
        return calculate_loss(interaction)

    trainer.model.calculate_loss = slow
    trainer.fit(train_data, valid_data, saved=True)
    assert trainer.best_valid_result is not None
    return trainer.history


@pytest.mark.slow
@pytest.mark.parametrize("model", ["2Mamba4Rec", "GRU4Rec"])
def test_no_epoch_begins_once_the_time_is_spent(tiny, clock, model):
    history = train(tiny, clock, 10, model=model, epochs=1000, stopping_step=1000, time_budget=95)
    spent = [epoch["train_seconds"] for epoch in history]
    assert len(history) > 1
    assert sum(spent[:-1]) < 95 <= sum(spent)


@pytest.mark.slow
def test_a_training_leaves_a_model_though_no_epoch_was_to_be_validated_yet(tiny, clock):
    history = train(tiny, clock, 10, epochs=1000, stopping_step=1000, time_budget=95, eval_step=500)
    assert ["valid_result" in epoch for epoch in history] == [False] * (len(history) - 1) + [True]
    assert list(Path("saved").glob("*.pth"))


def test_a_training_that_ends_before_is_not_touched(tiny, clock):
    assert len(train(tiny, clock, 1, epochs=3, stopping_step=10, time_budget=1000)) == 3


def test_too_few_seconds_for_an_epoch_are_an_error_long_before_its_end(tiny, clock):
    with pytest.raises(InputError, match=r"100 seconds are too few for one epoch, which takes about \d+; give more"):
        train(tiny, clock, 10, model="GRU4Rec", epochs=5, time_budget=100, train_batch_size=5)
    assert clock.seconds == 40  # of a first batch, which tells nothing, and three others
    assert not list(Path("saved").glob("*.latest.pth"))


@pytest.mark.sampled(2)
@pytest.mark.parametrize(("schedule", "told"), [("one_cycle", True), ("constant", False)])
def test_a_cycle_that_does_not_end_is_told(tiny, clock, caplog, schedule, told):
    train(tiny, clock, 10, epochs=1000, stopping_step=1000, time_budget=35, lr_schedule=schedule)
    assert ("the training ends after 4 of 1000 epochs, before its learning rate has fallen" in caplog.text) == told


@pytest.mark.parametrize(
    ("seconds", "budget", "told"),
    [
        (100, None, ["an epoch takes about 10 min 0 s, all 2 take 20 min 0 s"]),
        (100, 900, ["an epoch takes about 10 min 0 s; time_budget ends the training after 15 min 0 s"]),
        (25, None, []),
    ],
)
def test_a_long_training_says_within_its_first_epoch_how_long_it_takes(tiny, clock, caplog, seconds, budget, told):
    caplog.set_level("INFO")
    history = train(tiny, clock, seconds, epochs=2, stopping_step=2, train_batch_size=5, time_budget=budget)
    assert len(history) == 2
    found = [line for line in caplog.messages if line.startswith("an epoch takes about")]
    assert [line.partition(", and validations")[0] for line in found] == told
