"""What every model of packed histories promises, as checks that raise AssertionError."""

from __future__ import annotations

import inspect
import tempfile
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from recbole.data.interaction import Interaction
from torch import Tensor

from recbole_ssm.system import state_file
from recbole_ssm.testing.subject import Subject

_TOLERANCE = {torch.float64: 1e-7, torch.float32: 1e-4}
"""Relative and absolute, of two ways to compute the same numbers."""


def check_model(
    model: type | str,
    settings: Mapping[str, Any] | None = None,
    *,
    dataset: Any = None,
    column_values: Mapping[str, Sequence[float]] | None = None,
    dtype: torch.dtype = torch.float32,
) -> None:
    """Check that a model keeps what trainer, evaluation and serving rely on.

    Scores and loss do not depend on how histories are batched; the loss is the one that ``loss_type`` names; what the
    model reads fits ``causal``; steps give what whole histories give; gradients are finite; weights come back from a
    file. Choose small settings: the checks run some hundred batches.

    Args:
        model: the class of the model, or a registered name.
        settings: keys of the configuration; the others have their defaults.
        dataset: what the model is built from; by default an object that knows only the number of items, 50.
        column_values: values that a column of the model may have, by the column's name. Columns that are not named
            here get increasing Unix times, not evenly.
        dtype: number type of the weights, float32 or float64. float64 finds smaller errors, if the model computes
            everything in it.

    Raises:
        AssertionError: the model breaks a promise; the message begins with the model and the check.
    """
    subject = Subject(model, settings or {}, dataset=dataset, column_values=column_values, dtype=dtype)
    name = model if isinstance(model, str) else model.__name__
    for check in CHECKS:
        try:
            check(subject)
        except Exception as error:
            words = check.__name__.replace("_", " ")
            raise AssertionError(f"{name}: {words}: {error}") from error


def evaluation_is_deterministic(subject: Subject) -> None:
    """Two calls in evaluation mode give the same bits: dropout is off, and no call leaves anything behind."""
    batch = subject.together(subject.histories())
    with torch.no_grad():
        first, second = (subject.model.full_sort_predict(batch) for _ in range(2))
    assert torch.equal(first, second), (
        "two calls in evaluation mode differ; use nn.Dropout, and keep nothing of a batch"
    )
    assert torch.isfinite(first).all(), "scores are not finite"
    assert first.shape == (len(subject.lengths), subject.n_items), f"scores have shape {tuple(first.shape)}"


def a_packed_batch_gives_what_each_history_gives_alone(subject: Subject) -> None:
    """Scores of a history are the same alone and in a packed batch."""
    histories = subject.histories()
    with torch.no_grad():
        together = subject.model.full_sort_predict(subject.together(histories))
        for row, history in enumerate(histories):
            _same(together[row], subject.model.full_sort_predict(history)[0], f"scores of history {row}")


def a_padded_batch_gives_what_a_packed_one_gives(subject: Subject) -> None:
    """Scores and loss are the same for RecBole's padded batches, however wide."""
    histories = subject.histories()
    longest = max(subject.lengths)
    functions = [subject.model.full_sort_predict, subject.model.predict]
    if subject.model.loss_type == "CE":
        functions.append(subject.model.calculate_loss)
    with torch.no_grad():
        for function in functions:
            expected = function(subject.together(histories))
            for width in (longest, longest + 7):
                _same(function(subject.padded(histories, width)), expected, f"{function.__name__}, width {width}")


def no_history_reads_another(subject: Subject) -> None:
    """Outputs of the other histories stay when one changes, and have no gradient at its items."""
    histories = subject.histories()
    batch = subject.together(histories)
    row = batch["seq_idx"].long()
    reads = subject.influence(batch, row)
    leaks = (reads & (torch.arange(len(histories))[:, None] != row)).nonzero()
    assert not len(leaks), f"history {leaks[0, 0]} reads token {leaks[0, 1]}, which is of another history"
    with torch.no_grad():
        before = subject.encode(batch)
        for changed in range(len(histories)):
            others = [*histories[:changed], subject.with_other_items(histories[changed]), *histories[changed + 1 :]]
            after = subject.encode(subject.together(others))
            _same(after[row != changed], before[row != changed], f"outputs when history {changed} changes")
            assert not torch.equal(after[row == changed], before[row == changed]), f"history {changed} is not read"


def outputs_read_only_what_they_may(subject: Subject) -> None:
    """With ``causal``, nothing after a token; else the last output reads all, and ``cut`` keeps what follows unread."""
    history = subject.histories([9])[0]
    place = torch.arange(9)
    past = place <= place[:, None]
    reads = subject.influence(history, place)
    assert reads[-1].any(), "the last output does not depend on the history"
    if subject.model.causal:
        early = (reads & ~past).nonzero()
        assert not len(early), f"causal is True, but the output at {early[0, 0]} reads the item at {early[0, 1]}"
        with torch.no_grad():
            before = subject.encode(history)
            for changed in range(1, 9):
                other = subject.with_other_items(history, slice(changed, None))
                after = subject.encode(other)
                _same(after[:changed], before[:changed], f"outputs before item {changed} when it changes")
    elif "cut" in inspect.signature(subject.model.encode).parameters:
        for cut in (1, 4, 8):
            allowed = past | ((place < cut) & (place[:, None] < cut))
            early = (subject.influence(history, place, cut=torch.tensor([cut])) & ~allowed).nonzero()
            assert not len(early), f"with cut={cut} the output at {early[0, 0]} reads the item at {early[0, 1]}"


def a_readout_gives_the_same_tokens_of_the_whole_output(subject: Subject) -> None:
    """Outputs and gradients are those of the whole output, also for tokens that are named twice."""
    batch = subject.together(subject.histories())
    readout = torch.tensor([3, 0, 0, len(batch["seq_idx"]) - 1])
    parameters = [each for each in subject.model.parameters() if each.requires_grad]
    found = []
    for hidden in (subject.encode(batch, readout), subject.encode(batch)[readout]):
        weights = torch.linspace(-1, 1, hidden.numel(), dtype=hidden.dtype).view_as(hidden)
        gradients = torch.autograd.grad((hidden * weights).sum(), parameters, allow_unused=True)
        found.append((hidden.detach(), gradients))
    _same(found[0][0], found[1][0], "outputs")
    for actual, expected in zip(found[0][1], found[1][1], strict=True):
        assert (actual is None) == (expected is None), "a parameter has a gradient in one of the two ways only"
        if actual is not None:
            _same(actual, expected, "gradients")


def candidates_get_their_scores_of_the_full_ranking(subject: Subject) -> None:
    """``predict`` gives scores of ``full_sort_predict``, of one item for each history or of any candidates."""
    histories = subject.histories()
    batch = subject.together(histories)
    rows, items = torch.tensor([2, 0, 2, 3, 1, 0]), subject.items(6, seed=3)
    chosen = Interaction({**batch.interaction, subject.model.ITEM_ID: items, "candidate_seq_idx": rows})
    with torch.no_grad():
        scores = subject.model.full_sort_predict(batch)
        targets = batch[subject.model.ITEM_ID]
        _same(subject.model.predict(batch), scores[torch.arange(len(targets)), targets], "one item for each history")
        _same(subject.model.predict(chosen), scores[rows, items], "candidates with candidate_seq_idx")


def the_loss_is_what_loss_type_says(subject: Subject) -> None:
    """Cross-entropy of all scores, or BPR. Gradients are the same and finite."""
    model, batch = subject.model, subject.together(subject.histories())
    target = batch[model.ITEM_ID]
    scores = model.full_sort_predict(batch)
    if model.loss_type == "CE":
        expected = F.cross_entropy(scores, target)
    else:
        negatives = subject.items(2 * len(target), seed=2)
        batch = Interaction({**batch.interaction, model.NEG_ITEM_ID: negatives})
        row = torch.arange(len(target))
        difference = scores[row, target] - scores[row, negatives.view(2, -1)]
        expected = -(1e-10 + difference.sigmoid()).log().mean()
    loss = model.calculate_loss(batch)
    _same(loss, expected, "loss")
    parameters = {key: each for key, each in model.named_parameters() if each.requires_grad}
    found, wanted = (_gradients(value, parameters) for value in (loss, expected))
    for key, gradient in found.items():
        assert torch.isfinite(gradient).all(), f"the gradient of {key} is not finite"
        _same(gradient, wanted[key], f"gradient of {key}")


def every_token_can_be_trained_to_predict(subject: Subject) -> None:
    """A causal model takes a target for each token: the loss is that of all beginnings of the histories."""
    model, histories = subject.model, subject.histories()
    batch = subject.together(histories)
    if not model.causal or model.loss_type != "CE":
        return
    targets = subject.items(len(batch["seq_idx"]), seed=4)
    with torch.no_grad():
        loss = model.calculate_loss(Interaction({**batch.interaction, model.ITEM_ID: targets}))
        beginnings = [subject.cut(one, end) for one in histories for end in range(1, int(one["item_length"]) + 1)]
        every = subject.together(beginnings)
        expected = model.calculate_loss(Interaction({**every.interaction, model.ITEM_ID: targets}))
    _same(loss, expected, "loss")


def steps_give_what_the_whole_history_gives(subject: Subject) -> None:
    """With ``streams``, ``step`` and ``prefill`` give what ``encode`` gives; without, they refuse."""
    model, begun, longest = subject.model, (5, 1, 8), 9
    histories = subject.histories([longest] * len(begun))
    batch = subject.together(histories)
    items, cu_seqlens = model.packed(batch)
    columns = subject.columns(batch)
    if not model.streams:
        first = _at(columns, torch.tensor([0]))
        _refuses(lambda: model.step(items[:1], None, **first), "streams is False, but step does not refuse")
        _refuses(lambda: model.prefill(items, cu_seqlens, **columns), "streams is False, but prefill does not refuse")
        return
    rows = longest * torch.arange(len(begun))
    with torch.no_grad():
        whole, state = subject.encode(batch), None
        for place in range(longest):
            hidden, state = model.step(items[rows + place], state, **_at(columns, rows + place))
            _same(hidden, whole[rows + place], f"step {place}")
        beginnings = subject.together([subject.cut(one, end) for one, end in zip(histories, begun, strict=True)])
        hidden, state = model.prefill(*model.packed(beginnings), **subject.columns(beginnings))
        following = rows + torch.tensor(begun)
        _same(hidden, whole[following - 1], f"prefill of {begun} items")
        hidden, _ = model.step(items[following], state, **_at(columns, following))
        _same(hidden, whole[following], f"the step after a prefill of {begun} items")


def weights_come_back_from_a_file(subject: Subject) -> None:
    """A new model with the weights of a file gives the same scores, to the last bit."""
    batch = subject.together(subject.histories())
    other = subject.build(seed=1)
    with tempfile.TemporaryDirectory() as folder, torch.no_grad():
        file = Path(folder) / "weights.pth"
        state_file.write(file, {"state_dict": subject.model.state_dict()}, format="recbole-ssm contract test")
        stored = state_file.read(file, format="recbole-ssm contract test")
        before = other.full_sort_predict(batch)
        other.load_state_dict(stored["state_dict"])
        after, expected = other.full_sort_predict(batch), subject.model.full_sort_predict(batch)
    assert not torch.equal(before, expected), "the weights do not matter to the scores"
    assert torch.equal(after, expected), "scores differ: something that they depend on is not in state_dict()"


def a_small_step_against_the_gradient_lowers_the_loss(subject: Subject) -> None:
    """The gradient fits the loss, dropout aside."""
    model, batch = subject.build(), subject.together(subject.histories())
    if model.loss_type != "CE":
        return
    loss = model.calculate_loss(batch)
    loss.backward()
    with torch.no_grad():
        square = sum(float(each.grad.double().square().sum()) for each in model.parameters() if each.grad is not None)
        assert square > 0, "no parameter has a gradient"
        rate = 1e-3 * float(loss) / square
        for parameter in model.parameters():
            if parameter.grad is not None:
                parameter -= rate * parameter.grad
        lower = model.calculate_loss(batch)
    assert lower < loss, f"the loss goes from {float(loss):.6f} to {float(lower):.6f}"


def items_outside_the_catalogue_are_refused(subject: Subject) -> None:
    """An id that no item has is an error, and not the score of another item."""
    history = subject.histories([3])[0]
    for wrong in (-1, subject.n_items):
        other = Interaction(dict(history.interaction))
        other.interaction[subject.model.ITEM_SEQ] = torch.tensor([1, wrong, 2])
        _refuses(partial(subject.model.full_sort_predict, other), f"item {wrong} is not refused")


CHECKS: tuple[Callable[[Subject], None], ...] = (
    evaluation_is_deterministic,
    a_packed_batch_gives_what_each_history_gives_alone,
    a_padded_batch_gives_what_a_packed_one_gives,
    no_history_reads_another,
    outputs_read_only_what_they_may,
    a_readout_gives_the_same_tokens_of_the_whole_output,
    candidates_get_their_scores_of_the_full_ranking,
    the_loss_is_what_loss_type_says,
    every_token_can_be_trained_to_predict,
    steps_give_what_the_whole_history_gives,
    weights_come_back_from_a_file,
    a_small_step_against_the_gradient_lowers_the_loss,
    items_outside_the_catalogue_are_refused,
)
"""The checks of :func:`check_model`, in their order. Each takes a :class:`recbole_ssm.testing.subject.Subject`."""


def _same(actual: Tensor, expected: Tensor, what: str) -> None:
    """Equal up to rounding."""
    tolerance = _TOLERANCE[expected.dtype]
    torch.testing.assert_close(
        actual, expected, rtol=tolerance, atol=tolerance, msg=lambda text: f"{what} differ: {text}"
    )


def _refuses(call: Callable[[], object], otherwise: str) -> None:
    try:
        call()
    except (IndexError, NotImplementedError, ValueError):
        return
    raise AssertionError(otherwise)


def _gradients(loss: Tensor, parameters: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The gradient of each parameter; 0 where it has none."""
    found = torch.autograd.grad(loss, list(parameters.values()), retain_graph=True, allow_unused=True)
    return {
        key: torch.zeros_like(each) if gradient is None else gradient
        for (key, each), gradient in zip(parameters.items(), found, strict=True)
    }


def _at(columns: Mapping[str, Tensor], tokens: Tensor) -> dict[str, Tensor]:
    """The values of columns at some tokens."""
    return {name: values[tokens] for name, values in columns.items()}
