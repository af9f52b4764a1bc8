"""The memory of transitions: what it adds, and that training data tell nothing of their own targets."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from recbole_ssm.layers.transition_memory import Counting, TransitionMemory
from recbole_ssm.ops.packing import cumulative_lengths, last_tokens

N_ITEMS = 9


def sequences_of(seed, n=30, longest=9, n_items=N_ITEMS):
    """Random lists of items, which come more than once in a sequence."""
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(2, longest + 1, (n,), generator=generator).tolist()
    return [torch.randint(1, n_items, (length,), generator=generator).tolist() for length in lengths]


def flat(lists):
    return torch.tensor([item for each in lists for item in each])


def packed(sequences):
    return flat(sequences), cumulative_lengths(torch.tensor([len(each) for each in sequences]))


def counted(sequences, counting):
    """C by its definition."""
    C = torch.zeros(N_ITEMS, N_ITEMS, dtype=torch.float64)
    for sequence in sequences:
        for place, before in enumerate(sequence):
            for distance, after in enumerate(sequence[place + 1 :][: counting.window], 1):
                C[before, after] += distance**-counting.power
    return C


def rarity_of(C, counting):
    """What the counts of each item are multiplied by."""
    often = C.sum(0)
    mean = often.sum() / max(int((often > 0).sum()), 1)
    return torch.tensor([(each / mean) ** -counting.rarity if each else 1.0 for each in often], dtype=torch.float64)


def evidence_of(counts, counting):
    return torch.log(1 + counts / counting.smoothing) / math.log(1 + 1 / counting.smoothing)


def memory_of(sequences, counting, n_recent=3):
    memory = TransitionMemory(N_ITEMS, n_recent, counting)
    memory.learn(*packed(sequences))
    with torch.no_grad():
        memory.parameter.copy_(torch.linspace(0.2, -0.1, n_recent))
    return memory


def added(memory, *arguments):
    """What it adds to all scores, (R, N_ITEMS)."""
    found = memory(*arguments)
    scores = torch.zeros(len(found[0].weight), N_ITEMS)
    for each in found:
        each.add_to(scores)
    return scores.detach().double()


def expected_after(history, rows_of, memory):
    """What it must add after a history, where ``rows_of(b)`` is the row of C after item b."""
    latest = history[::-1][: memory.n_recent]
    evidence = [evidence_of(rows_of(before), memory.counting) for before in latest]
    return sum(weight * each for weight, each in zip(memory.theta().detach().double(), evidence, strict=False))


@pytest.mark.slow
@settings(deadline=None, max_examples=20)
@given(st.integers(0, 1000), st.sampled_from([1, 3, 12]), st.sampled_from([1, 4]), st.sampled_from([0.0, 0.7]))
def test_it_adds_the_evidence_of_the_latest_items(seed, window, n_recent, rarity):
    counting = Counting(window, 0.5, 0.3, 100, rarity)
    sequences = sequences_of(seed)
    memory, C = memory_of(sequences, counting, n_recent), counted(sequences, counting)
    others = sequences_of(seed + 1, n=4)
    tokens, cu_seqlens = packed(others)
    found = added(memory, tokens, cu_seqlens, last_tokens(cu_seqlens))
    for row, history in zip(found, others, strict=True):
        expected = expected_after(history, lambda b: C[b] * rarity_of(C, counting), memory)
        torch.testing.assert_close(row, expected, atol=1e-5, rtol=1e-5)


def left_out(memory, sequence, place, known):
    """What it must add after a place of a sequence whose items at the places ``known`` are known to be counted."""
    counting, total = memory.counting, torch.zeros(N_ITEMS, dtype=torch.float64)
    for age, weight in enumerate(memory.theta().tolist()[: place + 1]):
        before, own = sequence[place - age], torch.zeros(N_ITEMS, dtype=torch.float64)
        for later in known:
            earlier = range(max(later - counting.window, 0), later)
            own[sequence[later]] += sum((later - p) ** -counting.power for p in earlier if sequence[p] == before)
        to_come = {sequence[k] for k in known if place < k <= place - age + counting.window}
        own = own.where(torch.tensor([item in to_come for item in range(N_ITEMS)]), 0)
        left = (memory.dense[before] - own).clamp(min=0)
        total += weight * evidence_of(left * rarity_of(memory.dense, counting), counting)
    return total


@pytest.mark.slow
@settings(deadline=None, max_examples=20)
@given(st.integers(0, 1000), st.sampled_from([1, 3, 12]), st.sampled_from([1, 4]), st.booleans())
def test_training_leaves_out_what_the_sequence_itself_has_counted(seed, window, n_recent, whole):
    """Of all items that are to come, as far as the batch has them as targets."""
    counting, sequences = Counting(window, 0.5, 0.3, 100, 0.7), sequences_of(seed)
    memory = memory_of(sequences, counting, n_recent)
    memory.dense = counted(sequences, counting)
    some = sequences[:4]
    tokens, cu_seqlens = packed([each[:-1] for each in some])
    targets = flat(each[1:] for each in some)
    readout = torch.arange(len(tokens))
    if not whole:
        readout = torch.randperm(len(tokens), generator=torch.Generator().manual_seed(seed))[: len(tokens) // 2]
    found = iter(added(memory, tokens, cu_seqlens, None if whole else readout, targets[readout]))
    places = [(sequence, place) for sequence in range(len(some)) for place in range(len(some[sequence]) - 1)]
    read = [places[token] for token in readout.tolist()]
    for number, place in read:
        known = [after + 1 for sequence, after in read if sequence == number]
        expected = left_out(memory, some[number], place, known)
        torch.testing.assert_close(next(found), expected, atol=2e-5, rtol=1e-5)


def test_evidence_of_the_own_sequence_alone_is_none():
    """A target that nobody else has after these items gets nothing, at whatever distance; other sequences stay."""
    counting = Counting(4, 0.5, 1e-6, 100)
    sequences = [[1, 2, 3, 4], [5, 6, 7]]
    memory = memory_of(sequences, counting)
    found = added(memory, torch.tensor([1, 2, 3]), torch.tensor([0, 3]), None, torch.tensor([2, 3, 4]))
    for row, target in enumerate([2, 3, 4]):
        assert abs(found[row, target]) < 1e-6
    assert not found[2, 5:].any()
    assert added(memory, torch.tensor([1, 2, 3]), torch.tensor([0, 3]))[0, 2] > 0.5


def test_items_that_are_hidden_or_ignored_have_no_evidence():
    memory = memory_of(sequences_of(0), Counting(4, 0.5, 0.3, 100))
    tokens, cu_seqlens = torch.tensor([0, 0, 0]), torch.tensor([0, 3])
    assert not added(memory, tokens, cu_seqlens, None, torch.tensor([2, -100, 3])).any()
    tokens = torch.tensor([4, 2, 7])
    found = added(memory, tokens, cu_seqlens, None, torch.full((3,), -100))
    torch.testing.assert_close(found, added(memory, tokens, cu_seqlens))


def test_only_the_strongest_are_kept_and_the_border_tells_nothing():
    """What is left of an entry must be more than what the row has lost, else the entry would not be there."""
    counting = Counting(1, 0.5, 1.0, 2)
    sequences = [[1, 2]] * 3 + [[1, 3]] * 2 + [[1, 4]] * 2 + [[1, 5]]
    memory = memory_of(sequences, counting, 1)
    assert memory.items.tolist() == [2, 3]
    assert memory.pruned.tolist() == [0, 2, 0, 0, 0, 0, 0, 0, 0]
    tokens, cu_seqlens = torch.tensor([1]), torch.tensor([0, 1])
    plain = added(memory, tokens, cu_seqlens)[0]
    for target, left in ((2, 0.0), (3, 0.0), (4, 0.0), (5, 0.0)):
        found = added(memory, tokens, cu_seqlens, None, torch.tensor([target]))[0]
        assert abs(found[target] - left) < 1e-6
        found[target] = plain[target]
        torch.testing.assert_close(found, plain)


@pytest.mark.slow
def test_random_data_give_no_training_loss_below_chance():
    """Sequences without any order: whatever the weights are, they do not predict the targets that were counted."""
    n_items, chance = 80, torch.log(torch.tensor(79.0))
    sequences = sequences_of(3, n=400, longest=12, n_items=n_items)
    memory = TransitionMemory(n_items, 3, Counting(10, 0.5, 0.1, 30))
    memory.learn(*packed(sequences))
    (tokens, cu_seqlens), targets = packed([each[:-1] for each in sequences]), flat(each[1:] for each in sequences)

    def best_loss(*what):
        optimizer = torch.optim.Adam(memory.parameters(), lr=0.02)
        for _ in range(25):
            optimizer.zero_grad()
            scores = torch.zeros(len(tokens), n_items).index_fill(1, torch.tensor([0]), -torch.inf)
            for each in memory(tokens, cu_seqlens, None, *what):
                each.add_to(scores)
            loss = torch.nn.functional.cross_entropy(scores, targets)
            loss.backward()
            optimizer.step()
        return loss

    assert chance - 0.005 < best_loss(targets) < chance + 0.03
    assert best_loss() < chance - 0.05  # with what the sequences themselves have counted


def test_a_memory_that_is_brought_up_to_date_has_counted_all():
    counting, sequences = Counting(4, 0.5, 0.3, 100), sequences_of(0)
    memory = memory_of([each[:-2] for each in sequences if len(each) > 3], counting)
    grown = [each for each in sequences if len(each) > 3]
    new = [k >= len(each) - 2 for each in grown for k in range(len(each))]
    memory.update(*packed(grown), torch.tensor(new))
    expected = memory_of(grown, counting)
    assert torch.equal(memory.items, expected.items)
    torch.testing.assert_close(memory.counts, expected.counts)
    tokens, cu_seqlens = packed(sequences_of(5, n=3))
    found, wanted = (added(each, tokens, cu_seqlens) for each in (memory, expected))
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-5)


def test_counts_come_back_from_a_state_dict():
    counting = Counting(4, 0.5, 0.3, 100)
    memory = memory_of(sequences_of(0), counting)
    other = memory_of(sequences_of(1, n=3), counting)
    assert len(other.items) < len(memory.items)
    other.load_state_dict(memory.state_dict())
    tokens, cu_seqlens = packed(sequences_of(5, n=3))
    assert torch.equal(added(other, tokens, cu_seqlens), added(memory, tokens, cu_seqlens))
    broken = memory.state_dict() | {"items": memory.items + N_ITEMS}
    with pytest.raises(ValueError, match="columns"):
        other.load_state_dict(broken)


def test_it_needs_no_value_of_a_gpu():
    """All shapes follow from those of its arguments: torch's ``meta`` has no values."""
    memory = memory_of(sequences_of(0), Counting(4, 0.5, 0.3, 100)).to("meta")
    tokens = torch.zeros(7, dtype=torch.int64, device="meta")
    cu_seqlens = torch.tensor([0, 3, 7], device="meta")
    found = memory(tokens, cu_seqlens, None, tokens)
    assert [each.weight.shape for each in found] == [(7, 3), (7, 3)]
