"""No history touches another, and what holds no histories is refused. The contract of batches is in tests/testing."""

import io

import pytest
import torch
from model_cases import LENGTHS, N_ITEMS, each_model, evaluate, make, packed_batch, some_tokens
from packed_cases import assert_same_bits, borders, compiled, relative_error, slices
from recbole.data.interaction import Interaction

from recbole_ssm.ops import use_backend


@pytest.mark.sampled(7)
@each_model
def test_no_token_sees_another_sequence(name, dtype):
    """Not a bit of the outputs and gradients of the others moves when one history changes.

    But for Mamba-2 in PyTorch, whose scan lets rounding move: see ``scan_contract.check_isolation``.
    """
    model = make(name, dtype)
    tokens = some_tokens(sum(LENGTHS))
    before = evaluate(model, tokens, borders(LENGTHS))
    for part in slices(LENGTHS)[1:3]:
        changed = tokens.clone()
        changed[part] = changed[part] % (N_ITEMS - 1) + 1
        after = evaluate(model, changed, borders(LENGTHS))
        assert not torch.equal(after["hidden"], before["hidden"])
        kept, same = (
            {key: torch.cat([value[: part.start], value[part.stop :]]) for key, value in found.items()}
            for found in (before, after)
        )
        if name.startswith("Mamba4Rec") or compiled(dtype):
            assert_same_bits(same, kept)
        else:
            for key in kept:
                assert relative_error(same[key], kept[key]) < (1e-12 if dtype == torch.float64 else 1e-4)


def padded(rows, lengths):
    return Interaction({"item_id_list": torch.tensor(rows), "item_length": torch.tensor(lengths)})


def packed(tokens, cu_seqlens):
    return Interaction({"item_id_list": torch.tensor(tokens), "cu_seqlens": torch.tensor(cu_seqlens)})


WRONG_BATCHES = {
    "padded at its beginning": (padded([[7, 0, 0], [0, 0, 5]], [1, 3]), "history 1 of the batch has padding"),
    "padding in the middle": (padded([[7, 0, 5, 0]], [3]), "history 0 of the batch has padding"),
    "nothing but padding": (padded([[3, 4], [0, 0]], [2, 1]), "history 1 of the batch has padding"),
    "longer than its row": (padded([[5, 6, 7], [5, 6, 0]], [4, 2]), "lengths .* from 0 to 3, but has 4"),
    "a negative length": (padded([[5, 6, 7]], [-1]), "lengths .* from 0 to 3, but has -1"),
    "lengths of other rows": (padded([[5, 6, 7]], [3, 2]), "lengths must have shape"),
    "lengths that are no whole numbers": (padded([[5, 6, 7]], [2.0]), "lengths .* whole numbers"),
    "one row alone": (padded([5, 6, 7], [3, 3, 3]), "padded batch must have shape"),
    "empty": (padded([[1, 2], [0, 0], [3, 0]], [2, 0, 1]), "history 1 of the batch is empty"),
    "empty in a stream": (packed([5, 6, 7], [0, 1, 1, 3]), "history 1 of the batch is empty"),
    "borders that decrease": (packed([5, 6, 7], [0, 4, 2, 3]), "must not decrease"),
    "borders that decrease, many": (packed([5, 6, 7] * 30, [0, 80, 20, 90]), "must not decrease"),
    "borders that end early": (packed([5, 6, 7, 8], [0, 3]), "from 0 to the number of tokens, 4, but goes from 0 to 3"),
    "borders beyond the end": (packed([5, 6, 7], [0, 40]), "number of tokens, 3"),
    "borders that begin late": (packed([5, 6, 7], [1, 3]), "goes from 1 to 3"),
    "no borders": (packed([5, 6, 7], []), "cu_seqlens must be S \\+ 1 whole numbers"),
    "borders in fractions": (packed([5, 6, 7], [0.0, 3.0]), "cu_seqlens must be S \\+ 1 whole numbers"),
    "rows beside borders": (packed([[5, 6, 7]], [0, 1]), "item_id_list must have shape"),
    "an id that is too large": (
        packed([5, N_ITEMS, 7], [0, 3]),
        f"item_id_list must be from 0 to 49, but has {N_ITEMS}",
    ),
    "a negative id": (padded([[5, -1, 7]], [3]), "item_id_list must be from 0 to 49, but has -1"),
    "ids that are no whole numbers": (packed([5.0, 6.0], [0, 2]), "item_id_list must hold whole numbers"),
}


@each_model
@torch.no_grad()
def test_a_batch_that_holds_no_histories_is_refused(name):
    model = make(name)
    for batch, words in WRONG_BATCHES.values():
        with pytest.raises(ValueError, match=words):
            model.full_sort_predict(batch)


@pytest.mark.slow
@torch.no_grad()
def test_it_is_refused_in_half_precision_and_once_compiled():
    half = make("PackedSASRec", torch.bfloat16)
    compiled = torch.compile(make("PackedSASRec", num_layers=1), backend="eager")
    for batch, words in list(WRONG_BATCHES.values())[::4]:
        for read in (half, compiled):
            with pytest.raises(ValueError, match=words):
                read(batch)


@pytest.mark.parametrize("name", ["Mamba4Rec", "2Mamba4Rec", "LRURec"])
def test_it_is_refused_where_a_session_begins(name):
    model = make(name)
    for batch, words in WRONG_BATCHES.values():
        if "cu_seqlens" in batch:
            with pytest.raises(ValueError, match=words):
                model.prefill(batch["item_id_list"], batch["cu_seqlens"])


@pytest.mark.parametrize(
    ("candidates", "words"),
    [
        ({"item_id": torch.tensor([1, 2, 3, N_ITEMS])}, "item_id must be from 0 to 49"),
        ({"item_id": torch.tensor([1, 2, 3, -1])}, "item_id must be from 0 to 49"),
        ({"item_id": torch.tensor([1, 2, 3, 4]), "candidate_seq_idx": torch.tensor([0, 1, 2, 4])}, "from 0 to 3"),
        (
            {"item_id": torch.tensor([1, 2]), "candidate_seq_idx": torch.tensor([0, 1, 2])},
            "candidate_seq_idx must have",
        ),
        ({"item_id": torch.tensor([1, 2, 3, 4, 5])}, "from 0 to 3"),
    ],
)
@torch.no_grad()
def test_candidates_that_are_none_are_refused(candidates, words):
    with pytest.raises(ValueError, match=words):
        make("PackedSASRec").predict(packed_batch(**candidates))


@pytest.mark.parametrize("wrong", [N_ITEMS, -1])
@pytest.mark.parametrize("backend", ["torch", "auto"])
def test_targets_that_are_none_are_refused(backend, wrong):
    with use_backend(backend), pytest.raises(ValueError, match=f"target must be from 0 to 49, but has {wrong}"):
        make("2Mamba4Rec", torch.float32).calculate_loss(packed_batch(item_id=torch.tensor([1, 2, 3, wrong])))


class OfTensors(torch.nn.Module):
    """A model as somebody would wrap it who wants a graph of it."""

    def __init__(self, model, form):
        super().__init__()
        self.model, self.form = model, form

    def forward(self, ids, borders):
        if self.form == "encode":
            return self.model.encode(ids, borders)
        return self.model.full_sort_predict(Interaction({"item_id_list": ids, self.form: borders}))


EXPORTS = (
    torch.jit.trace,
    torch.export.export,
    lambda model, given: torch.onnx.export(model, given, io.BytesIO(), dynamo=False),
)


@pytest.mark.slow
@pytest.mark.parametrize("form", ["cu_seqlens", "item_length", "encode"])
@pytest.mark.parametrize("name", ["Mamba4Rec", "2Mamba4Rec", "SSD4Rec", "Hydra4Rec", "LRURec", "PackedSASRec"])
@pytest.mark.filterwarnings("ignore")
@torch.no_grad()
def test_a_graph_that_would_hold_the_example_is_refused(name, form):
    """A traced one would give the scores of the example's lengths to histories of others."""
    model = OfTensors(make(name, torch.float32), form)
    given = torch.tensor([5, 6, 7]), torch.tensor([0, 3])
    if form == "item_length":
        given = given[0][None], given[1][1:]
    for export in EXPORTS:
        with pytest.raises(Exception, match="models on packed histories cannot be traced"):
            export(model, given)
