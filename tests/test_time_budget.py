"""``time_budget`` ends a training by the clock, and refuses to begin one that cannot end in time."""

from time import sleep

import pytest
from atomic import interactions, isolate, make_config, make_trainer, write_dataset

from recbole_ssm.errors import InputError


@pytest.fixture
def tiny(tmp_path, monkeypatch):
    isolate(monkeypatch, tmp_path)
    write_dataset(tmp_path, interactions())
    return tmp_path


def train(folder, seconds_per_batch: float, **keys) -> list[dict]:
    """The history of a training whose batches take so long."""
    _, trainer, (train_data, valid_data, _) = make_trainer(make_config(folder, train_batch_size=10, **keys))
    calculate_loss = trainer.model.calculate_loss

    def slow(interaction):
        sleep(seconds_per_batch)
        return calculate_loss(interaction)

    trainer.model.calculate_loss = slow
    trainer.fit(train_data, valid_data, saved=True)
    assert trainer.best_valid_result is not None
    return trainer.history


@pytest.mark.parametrize("model", ["2Mamba4Rec", "GRU4Rec"])
def test_no_epoch_begins_once_the_time_is_spent(tiny, model):
    history = train(tiny, 0.02, model=model, epochs=1000, stopping_step=1000, time_budget=1.5)
    spent = [epoch["train_seconds"] + epoch["valid_seconds"] for epoch in history]
    assert 1 < len(history) < 100
    assert sum(spent[:-1]) < 1.5 <= sum(spent)


def test_a_training_that_ends_before_is_not_touched(tiny):
    assert len(train(tiny, 0, epochs=3, stopping_step=10, time_budget=1000)) == 3


def test_too_few_seconds_for_an_epoch_are_an_error_long_before_its_end(tiny):
    with pytest.raises(InputError, match=r"time_budget: 0.5 seconds are too few for one epoch, which takes about \d+"):
        train(tiny, 0.3, model="2Mamba4Rec", epochs=5, time_budget=0.5)
