"""The samples that an epoch trains on, and their batches."""

from collections import Counter

import pytest
import torch
from atomic import histories, interactions, make_config, make_splits, read_interactions, write_dataset
from hypothesis import given, settings
from hypothesis import strategies as st

from recbole_ssm.data.training_samples import TrainingBatches, sample_prefixes
from recbole_ssm.errors import InputError

RATIO = {"split": {"RS": [0.8, 0.1, 0.1]}, "order": "TO", "mode": "full"}


@pytest.fixture(scope="module")
def train(tiny):
    """The training split of the tiny dataset."""
    _, splits = make_splits(make_config(tiny, MAX_ITEM_LIST_LENGTH=None))
    return splits[0]


def plan(dataset, train_samples="all_prefixes", **arguments) -> TrainingBatches:
    defaults = {"prefixes_per_user": None, "batch_size": None, "batch_tokens": None, "shuffle": True, "seed": 7}
    return TrainingBatches(dataset, train_samples=train_samples, **{**defaults, **arguments})


def epoch(batches: TrainingBatches) -> list[list[int]]:
    """Row numbers of each batch."""
    return [batch.rows.tolist() for batch in batches]


def rows_of(batches: list[list[int]]) -> list[int]:
    return [row for batch in batches for row in batch]


def users_of(dataset, rows: list[int]) -> list[int]:
    return dataset.inter_feat["user_id"][rows].tolist()


@pytest.mark.parametrize("shuffle", [True, False])
@pytest.mark.parametrize(
    "limit", [{"batch_size": 7}, {"batch_tokens": 50}, {"batch_size": 3, "batch_tokens": 50}], ids=str
)
def test_all_prefixes_covers_every_row_once_in_every_epoch(train, shuffle, limit):
    batches = plan(train, shuffle=shuffle, **limit)
    for _ in range(3):
        assert sorted(rows_of(epoch(batches))) == list(range(len(train)))


def test_batch_size_is_kept(train):
    sizes = [len(batch) for batch in epoch(plan(train, batch_size=7))]
    assert set(sizes[:-1]) == {7}
    assert 0 < sizes[-1] <= 7


def test_sampled_prefixes_takes_at_most_k_of_a_user_and_none_twice(train):
    available = Counter(train.inter_feat["user_id"].tolist())
    assert min(available.values()) < 4 < max(available.values())
    batches = plan(train, "sampled_prefixes", prefixes_per_user=4, batch_tokens=40)
    drawn = []
    for _ in range(5):
        rows = rows_of(epoch(batches))
        assert len(set(rows)) == len(rows)
        assert Counter(users_of(train, rows)) == {user: min(4, count) for user, count in available.items()}
        drawn.append(frozenset(rows))
    assert len(set(drawn)) == 5


def test_sampled_prefixes_reaches_every_row_equally_often(train):
    users = train.inter_feat["user_id"]
    counts = torch.zeros(len(users))
    generator = torch.Generator().manual_seed(0)
    for _ in range(2000):
        counts[sample_prefixes(users, 2, generator)] += 1
    available = users.bincount()[users]
    expected = 2000 * (2 / available).clamp(max=1)
    deviation = (counts - expected) / (expected * (1 - expected / 2000)).sqrt().clamp(min=1e-3)
    assert deviation.abs().max() < 5


@given(
    counts=st.lists(st.integers(1, 12), min_size=1, max_size=12),
    per_user=st.integers(1, 8),
    seed=st.integers(0, 2**31),
)
@settings(deadline=None)
def test_sample_prefixes_of_any_users(counts, per_user, seed):
    users = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
    rows = sample_prefixes(users, per_user, torch.Generator().manual_seed(seed))
    assert len(rows.unique()) == len(rows)
    assert users[rows].bincount(minlength=len(counts)).tolist() == [min(per_user, count) for count in counts]


@pytest.mark.parametrize(("per_user", "drawn"), [(0.3, {0: 7, 1: 3}), (1.7, {1: 3, 2: 7}), (0.01, {0: 9, 1: 1})])
def test_a_fraction_of_a_prefix_is_one_of_some_users(per_user, drawn):
    users = torch.arange(10).repeat_interleave(4)
    generator = torch.Generator().manual_seed(0)
    of_users = [users[sample_prefixes(users, per_user, generator)].bincount(minlength=10) for _ in range(200)]
    assert all(Counter(each.tolist()) == drawn for each in of_users)
    assert torch.stack(of_users).unique(dim=0).shape[0] > 5
    assert torch.stack(of_users).sum(0).min() > 200 * int(per_user)


def test_sampled_prefixes_of_a_split_that_mixes_users_takes_at_most_k_of_a_user(tiny):
    _, (train, _, _) = make_splits(make_config(tiny, eval_args={**RATIO, "group_by": "none"}))
    available = Counter(train.inter_feat["user_id"].tolist())
    rows = rows_of(epoch(plan(train, "sampled_prefixes", prefixes_per_user=2, batch_size=16)))
    assert Counter(users_of(train, rows)) == {user: min(2, count) for user, count in available.items()}


def test_whole_sequence_is_one_row_per_user_with_all_training_items(tiny, train):
    expected = histories(read_interactions(tiny / "tiny" / "tiny.inter"))
    rows = rows_of(epoch(plan(train, "whole_sequence", batch_tokens=60)))
    batch = train[torch.tensor(rows)]
    users = train.id2token("user_id", batch["user_id"].numpy())
    assert sorted(users) == sorted(expected)
    ends = batch["cu_seqlens"][1:-1].long()
    for user, items, target in zip(users, batch["item_id_list"].tensor_split(ends), batch["item_id"], strict=True):
        words = [*train.id2token("item_id", items.numpy()), train.id2token("item_id", target.item())]
        assert words == expected[user][:-2]


@pytest.mark.parametrize("group_by", ["user", "none"])
def test_whole_sequence_of_a_split_by_ratio_has_as_many_targets_as_all_prefixes(tiny, group_by):
    _, (train, _, _) = make_splits(make_config(tiny, eval_args={**RATIO, "group_by": group_by}))
    rows = train.last_samples()
    assert len(rows) == len(train.inter_feat["user_id"].unique())
    assert train.inter_feat["item_length"][rows].sum() == len(train)


def test_prefix_lm_has_the_rows_of_whole_sequence(train):
    limit = {"batch_tokens": 60}
    cut, whole = plan(train, "prefix_lm", causal_epochs=1, **limit), plan(train, "whole_sequence", **limit)
    total = cut.total(2)
    epochs = [list(cut), list(cut)]
    assert total == pytest.approx(sum(map(len, epochs)), abs=2)
    assert [[batch.rows.tolist() for batch in batches] for batches in epochs] == [epoch(whole), epoch(whole)]
    assert [{batch.one_way for batch in batches} for batches in epochs] == [{True}, {False}]


def test_whole_sequence_refuses_a_split_with_gaps(train):
    without = train.copy(train.inter_feat[torch.arange(len(train)) != 1])
    assert without.inter_feat["user_id"][0] == without.inter_feat["user_id"][1]  # the second of three or more is gone
    with pytest.raises(InputError, match="all_prefixes"):
        without.last_samples()


@given(batch_tokens=st.integers(1, 120), seed=st.integers(0, 10), shuffle=st.booleans(), prefixes=st.booleans())
@settings(deadline=None, max_examples=50)
def test_token_budget_is_kept_and_full(train, batch_tokens, seed, shuffle, prefixes):
    kind = "all_prefixes" if prefixes else "whole_sequence"
    batches = plan(train, kind, batch_tokens=batch_tokens, seed=seed, shuffle=shuffle)
    lengths = train.inter_feat["item_length"]
    assert lengths.min() == 1
    assert lengths.max() > 12
    length = len(batches)
    found = epoch(batches)
    tokens = [int(lengths[rows].sum()) for rows in found]
    assert all(count <= batch_tokens or len(rows) == 1 for count, rows in zip(tokens, found, strict=True))
    following = [int(lengths[rows[0]]) for rows in found[1:]]
    assert all(count + more > batch_tokens for count, more in zip(tokens, following, strict=False))
    assert sorted(rows_of(found)) == (list(range(len(train))) if prefixes else sorted(train.last_samples().tolist()))
    assert length == len(found)


def test_length_is_that_of_the_epoch_to_come(train):
    batches = plan(train, "sampled_prefixes", prefixes_per_user=3, batch_tokens=40)
    lengths = [(len(batches), len(epoch(batches))) for _ in range(30)]
    assert all(announced == yielded for announced, yielded in lengths)
    assert len({yielded for _, yielded in lengths}) > 1


@pytest.mark.parametrize(("kind", "k"), [("all_prefixes", None), ("sampled_prefixes", 3), ("whole_sequence", None)])
def test_a_seed_is_a_plan_and_every_epoch_has_another(train, kind, k):
    arguments = {"train_samples": kind, "prefixes_per_user": k, "batch_tokens": 40}
    one, same, other = plan(train, **arguments), plan(train, **arguments), plan(train, **arguments, seed=8)
    epochs = [epoch(one) for _ in range(3)]
    torch.manual_seed(99)  # nothing global is involved
    assert [epoch(same) for _ in range(3)] == epochs
    assert epochs[0] != epochs[1] != epochs[2] != epochs[0]
    assert epoch(other) not in epochs


def test_seeds_for_the_collate_function_differ_between_batches_and_epochs(train):
    batches = plan(train, batch_size=10)
    seeds = [batch.seed for _ in range(3) for batch in batches]
    assert len(set(seeds)) == len(seeds) > 30
    again = plan(train, batch_size=10)
    assert [batch.seed for _ in range(3) for batch in again] == seeds


def test_without_shuffle_rows_come_in_order_in_every_epoch(train):
    batches = plan(train, batch_tokens=30, shuffle=False)
    first = epoch(batches)
    assert rows_of(first) == list(range(len(train)))
    assert epoch(batches) == first


def test_set_epoch_continues_where_another_run_stopped(train):
    batches = plan(train, "sampled_prefixes", prefixes_per_user=2, batch_size=9)
    epochs = [epoch(batches) for _ in range(5)]
    resumed = plan(train, "sampled_prefixes", prefixes_per_user=2, batch_size=9)
    resumed.set_epoch(3)
    assert [epoch(resumed), epoch(resumed)] == epochs[3:]
    resumed.set_epoch(1)
    assert epoch(resumed) == epochs[1]


def test_a_look_at_the_length_changes_nothing(train):
    one, other = plan(train, batch_tokens=30), plan(train, batch_tokens=30)
    for _ in range(3):
        len(one)
        assert epoch(one) == epoch(other)


def test_users_without_a_training_sample_are_left_out(tmp_path):
    frame = interactions(n_users=10, shortest=1, longest=3, seed=11)
    assert set(frame["user_id"].value_counts()) == {1, 2, 3}
    write_dataset(tmp_path, frame)
    _, (train, _, _) = make_splits(make_config(tmp_path))
    users = train.id2token("user_id", train.inter_feat["user_id"][train.last_samples()].numpy())
    assert set(users) == {user for user, items in histories(frame).items() if len(items) > 1}
