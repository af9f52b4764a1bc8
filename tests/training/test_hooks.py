"""The moments at which a trainer calls its hooks, in their order."""

from contextlib import contextmanager

import pytest
from atomic import make_config, make_trainer

from recbole_ssm.training.hooks.hook import Hook
from recbole_ssm.training.hooks.progress import EvaluationProgress, Progress


class Recorder(Hook):
    """Writes down each moment, under its name."""

    def __init__(self, name: str, moments: list[str]):
        self.name, self.moments = name, moments

    def note(self, moment: str) -> None:
        self.moments.append(f"{self.name} {moment}")

    @contextmanager
    def around(self, moment: str):
        self.note(f"{moment}(")
        try:
            yield
        finally:
            self.note(f"){moment}")

    def around_fit(self, fit):
        return self.around("fit")

    def around_epoch(self, epoch):
        return self.around("epoch")

    def around_validation(self, validation):
        return self.around("validation")

    def around_evaluation(self, batches):
        return self.around("evaluation")

    def between_batches(self, done):
        self.note(f"{done} done")

    def after_loss(self, loss):
        self.note("loss")

    def after_scoring(self, scored):
        self.note("scores")


def recorded(folder, **keys):
    """A trainer with a recorder before all its hooks and one after them, what they note, and the loaders."""
    _, trainer, loaders = make_trainer(make_config(folder, "2Mamba4Rec", train_batch_tokens=200, **keys))
    moments: list[str] = []
    trainer.hooks = (Recorder("first", moments), *trainer.hooks, Recorder("last", moments))
    return trainer, moments, loaders


def test_hooks_are_entered_in_their_order_and_left_in_reverse(tiny):
    trainer, moments, (train, valid, _) = recorded(tiny, eval_batch_size=1000)
    trainer.fit(train, valid, verbose=False)
    steps = [moment for step in range(len(train)) for moment in (f"{step} done", "loss")]
    assert steps
    epoch = ["epoch(", *steps, ")epoch", "validation(", f"{len(train)} done", "evaluation(", "scores"]
    assert [moment for moment in moments if moment.startswith("first")] == [
        *(f"first {moment}" for moment in ("fit(", *epoch)),
        *(f"first {moment}" for moment in (")evaluation", ")validation", "0 done", ")fit")),
    ]
    for moment in ("fit", "epoch", "validation", "evaluation"):
        around = [each for each in moments if each.endswith((f" {moment}(", f" ){moment}"))]
        assert around == [f"first {moment}(", f"last {moment}(", f"last ){moment}", f"first ){moment}"]


def test_the_first_hook_is_left_last_by_an_error_too(tiny):
    trainer, moments, (train, valid, _) = recorded(tiny)

    def fail(_batch):
        raise RuntimeError("in a batch")

    trainer.model.calculate_loss = fail
    with pytest.raises(RuntimeError, match="in a batch"):
        trainer.fit(train, valid, verbose=False)
    assert moments[-4:] == ["last )epoch", "first )epoch", "last )fit", "first )fit"]


def test_no_two_hooks_keep_a_state_under_the_same_key(tiny):
    trainer, _, (train, valid, _) = recorded(tiny, lr_schedule="one_cycle", time_budget=1000)
    trainer.fit(train, valid, verbose=False)
    keys = [key for hook in trainer.hooks for key in hook.state(0)]
    assert len(set(keys)) == len(keys) > 0


def test_an_evaluation_tells_batch_by_batch_how_far_it_is(tiny):
    told: list[tuple[float, str]] = []
    trainer, _, (train, valid, test) = recorded(tiny, eval_batch_size=8)
    batches = len(valid)
    trainer.hooks = (*trainer.hooks, Progress(trainer, lambda *far: told.append(far)))
    trainer.fit(train, valid, verbose=False, saved=False)
    validating = [words for _, words in told if "validating, batch" in words]
    assert [words.split(" left")[0].rpartition(", ")[0] for words in validating] == [
        f"epoch 1/1, validating, batch {number} of {batches}" for number in range(2, batches + 1)
    ]
    told.clear()
    trainer.evaluate(test, load_best_model=False)
    assert [words.partition(" of")[0] for _, words in told] == [
        f"testing, batch {number}" for number in range(2, len(test) + 1)
    ]
    alone = EvaluationProgress(lambda *far: told.append(far), "measuring")
    told.clear()
    with alone.around_evaluation(4):
        assert all(alone.scores_batch() for _ in range(4))
    assert [share for share, _ in told] == [0.25, 0.5, 0.75]
