"""Models with a memory of transitions: what is counted, and what their loss leaves out."""

from collections import defaultdict

import pytest
import torch
import torch.nn.functional as F
from atomic import interactions, make_config, make_loaders, small, write_dataset
from packed_cases import randomise

from recbole_ssm.model.memory import MEMORY_KEYS, make_memory
from recbole_ssm.ops.packing import last_tokens
from recbole_ssm.ops.transitions import count_transitions

MEMORY = {"transition_memory": True, "memory_items": 3, "memory_window": 4, "memory_strongest": 1000}
MEMORY |= {"memory_dropout": 0.0}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("memory")
    write_dataset(folder, interactions(n_users=20, n_items=40))
    return folder


def made(folder, model="2Mamba4Rec", **keys):
    config = make_config(folder, model, **{**small(model), **MEMORY, "dropout_prob": 0.0, **keys})
    _, (train, valid, test) = make_loaders(config)
    torch.manual_seed(0)
    model = config.model_class(config, train._dataset)
    randomise(model)
    return model, (train, valid, test)


def added_by(model, *arguments):
    """What is added to all scores, (R, n_items)."""
    found = model.added(*arguments)
    scores = torch.zeros(len(found[0].weight), model.n_items)
    for each in found:
        each.add_to(scores)
    return scores


@pytest.mark.parametrize("longest", [None, 3])
def test_it_counts_the_whole_training_sequences_and_no_more(folder, longest):
    """Cut nowhere, without the items of validation and test."""
    model, (train, valid, _) = made(folder, MAX_ITEM_LIST_LENGTH=longest)
    dataset = train._dataset
    users = dataset.history.tensor_split(dataset.user_start[2:])  # user 0 is padding
    kept = [history[:-2].tolist() for history in users]
    expected = torch.zeros(model.n_items, model.n_items)
    for sequence in kept:
        for place, before in enumerate(sequence):
            for distance, after in enumerate(sequence[place + 1 :][:4], 1):
                expected[before, after] += distance**-0.5
    memory = model.memory
    found = torch.zeros_like(expected)
    for before in range(model.n_items):
        row = slice(memory.start[before], memory.start[before + 1])
        found[before, memory.items[row].long()] = memory.counts[row]
    torch.testing.assert_close(found, expected)
    assert valid is not None


@pytest.mark.parametrize(
    ("model", "keys"),
    [
        ("2Mamba4Rec", {"train_samples": "whole_sequence"}),
        ("2Mamba4Rec", {"train_samples": "all_prefixes"}),
        ("SSD4Rec", {"train_samples": "prefix_lm"}),
        ("2Mamba4Rec", {"train_samples": "whole_sequence", "repeat_bias": True, "item_bias": True}),
    ],
    ids=str,
)
def test_training_leaves_out_what_a_sequence_has_counted_itself(folder, model, keys):
    model, (train, _, _) = made(folder, model, **keys)
    batch = next(iter(train))
    tokens, cu_seqlens, target = batch["item_id_list"], batch["cu_seqlens"], batch["item_id"]
    readout = batch.interaction.get("readout")
    if readout is None and len(target) < len(tokens):
        readout = last_tokens(cu_seqlens)
    options = {"cut": batch["cut"]} if "cut" in batch else {}
    hidden = model.encode(tokens, cu_seqlens, readout, **options)
    scores = hidden @ model.item_embedding.weight.T + (0 if model.item_bias is None else model.item_bias)
    losses = []
    for training, counted in ((True, target), (False, None)):
        loss = model.train(training).calculate_loss(batch)
        torch.testing.assert_close(
            loss, F.cross_entropy(scores + added_by(model, tokens, cu_seqlens, readout, counted), target)
        )
        losses.append(loss.item())
    assert losses[0] != pytest.approx(losses[1], abs=1e-3)


def test_what_a_session_keeps_is_enough(folder):
    model, (_, _, test) = made(folder, repeat_bias=True)
    batch = test.collate_fn([0, 1, 2, 3, 4])[0]
    tokens, cu_seqlens = model.eval().packed(batch)
    seen, latest = torch.zeros(5, model.n_items, dtype=torch.bool), torch.zeros(5, 3, dtype=torch.int64)
    for row, history in enumerate(tokens.split(cu_seqlens.diff().tolist())):
        seen[row, history] = True
        latest[row, : len(history)] = history.flip(0)[:3]
    with torch.no_grad():
        hidden = model.forward(batch)
        scores = model.score_all(hidden, model.added_after(seen, latest))
        torch.testing.assert_close(scores, model.full_sort_predict(batch))
    with pytest.raises(ValueError, match="transition_memory"):
        model.score_all(hidden)


def test_by_default_training_is_as_without_it(folder):
    model, (train, _, _) = made(folder, memory_dropout=1.0)
    batch = next(iter(train))
    loss = model.train().calculate_loss(batch)
    model.memory = None
    assert torch.equal(loss, model.calculate_loss(batch))


def test_dropout_and_scale_are_those_of_training_and_use(folder):
    model, (train, _, _) = made(folder, memory_dropout=0.5, memory_scale=3.0)
    batch = next(iter(train))
    tokens, cu_seqlens = batch["item_id_list"], batch["cu_seqlens"]
    (used,) = model.eval().added(tokens, cu_seqlens)
    whole, own = model.train().added(tokens, cu_seqlens, None, torch.ones_like(tokens))
    kept = whole.weight[:, 0] != 0
    assert 0.2 < kept.double().mean() < 0.8
    torch.testing.assert_close(3 * whole.weight[kept], used.weight[kept])
    assert torch.equal(whole.weight, own.weight)


def test_it_is_off_unless_it_is_asked_for(folder):
    model, _ = made(folder, transition_memory=False)
    assert model.memory is None
    assert model.n_recent == 0
    assert not any("memory" in name for name in model.state_dict())


def test_counts_that_are_kept_are_the_strongest(folder):
    model, (train, _, _) = made(folder, memory_strongest=2)
    counts = count_transitions(*train._dataset.whole_sequences(), torch.arange(1.0, 5) ** -0.5, model.n_items)
    assert model.memory.start.diff().max() == 2
    assert torch.equal(model.memory.counts, counts.strongest(2).values)


def test_a_checkpoint_of_before_rarity_has_none():
    """What a checkpoint's configuration does not name is None there."""
    stored = defaultdict(lambda: None, {key.name: key.default for key in MEMORY_KEYS if key.name != "memory_rarity"})
    assert make_memory(stored, object(), 5).counting.rarity == 0
