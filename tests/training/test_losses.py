"""Losses that the hooks are told of some batches later, as on a GPU."""

import signal

import pytest
import torch
from atomic import make_config, make_trainer

from recbole_ssm.checkpoints import format as checkpoint
from recbole_ssm.training.hooks.divergence import TrainingDiverged
from recbole_ssm.training.hooks.stopping import Interrupted
from recbole_ssm.training.losses import BatchLoss, Losses


def test_losses_are_told_in_their_order_once_there_are_enough_or_they_are_asked_for():
    told: list[BatchLoss] = []
    losses = Losses(told.append, every=3)
    for number in range(5):
        loss = torch.tensor(number / 2, requires_grad=True)
        losses.add(loss[None] if number == 1 else loss, number, 2 * number)  # as RecBole's Pop has it
        assert len(told) == (number + 1) // 3 * 3
    losses.read()
    losses.read()
    assert told == [(number / 2, number, 2 * number) for number in range(5)]


def trained(folder, every: int | None, stop_at: int | None = None, begun=None, breaks_at: int | None = None):
    """A trainer after its training, which SIGTERM stops at a batch, or the loss of one batch is not finite."""
    config = make_config(folder, "2Mamba4Rec", train_batch_tokens=40, epochs=2, learning_rate=0.01)
    _, trainer, (train, valid, _) = make_trainer(config)
    if every is not None:
        trainer.losses = Losses(trainer._tell_loss, every)
    if begun is not None:
        trainer.resume_checkpoint(begun)
    loss_of, calls = trainer.model.calculate_loss, []

    def loss(batch):
        calls.append(1)
        if len(calls) == stop_at:
            signal.raise_signal(signal.SIGTERM)
        return loss_of(batch) * (float("nan") if len(calls) == breaks_at else 1)

    trainer.model.calculate_loss = loss
    try:
        trainer.fit(train, valid, verbose=False)
    except (Interrupted, TrainingDiverged) as error:
        return trainer, error, len(calls)
    return trainer, None, len(calls)


def history(trainer) -> list[dict]:
    return [{key: value for key, value in epoch.items() if "seconds" not in key} for epoch in trainer.history]


@pytest.mark.slow
def test_the_history_is_the_same_also_of_a_training_that_was_stopped(tiny):
    at_once, _, batches = trained(tiny, None)
    later, _, _ = trained(tiny, 1000)
    assert history(at_once) == history(later)
    stopped, error, done = trained(tiny, 1000, stop_at=5)
    assert isinstance(error, Interrupted)
    assert 5 <= done < batches
    assert checkpoint.read(stopped.latest_file)["training"]["loss"] > 0
    resumed, _, _ = trained(tiny, 1000, begun=stopped.latest_file)
    assert [epoch["valid_score"] for epoch in history(resumed)] == [epoch["valid_score"] for epoch in history(later)]
    assert [epoch["train_loss"] for epoch in resumed.history] == pytest.approx(
        [epoch["train_loss"] for epoch in later.history], rel=1e-6
    )


def test_a_loss_that_is_no_number_ends_the_training_at_the_end_of_the_epoch_at_last(tiny):
    _, error, at_once = trained(tiny, None, breaks_at=3)
    assert isinstance(error, TrainingDiverged)
    assert at_once == 3
    trainer, error, later = trained(tiny, 1000, breaks_at=3)
    assert "became nan in epoch 1" in str(error)
    assert later > 3
    assert trainer.history == []


def test_a_broken_training_is_not_written(tiny):
    trainer, error, _ = trained(tiny, 1000, breaks_at=3, stop_at=5)
    assert isinstance(error, TrainingDiverged)
    assert checkpoint.read(trainer.latest_file)["training"]["batches_done"] == 0
