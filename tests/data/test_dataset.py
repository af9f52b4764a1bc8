"""The packed dataset has RecBole's samples, in the order that ``time_order`` asks for."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from atomic import (
    LEAVE_ONE_OUT,
    ML_100K,
    REAL_DATA,
    histories,
    interactions,
    make_config,
    make_splits,
    read_interactions,
    write_dataset,
)

from recbole_ssm.data import PackedDataset, create_dataset
from recbole_ssm.data.order import lost_order

PARTS = ("train", "valid", "test")
FEW_USERS = {"user_inter_num_interval": "[0,40]", "MAX_ITEM_LIST_LENGTH": 10}
WITH_RATING = {"load_col": {"inter": ["user_id", "item_id", "rating", "timestamp"]}, "MAX_ITEM_LIST_LENGTH": 10}


def assert_same_samples(packed, padded, columns=("user_id", "item_id", "item_length", "rating", "timestamp")):
    """Same number and order of samples, same targets with the same columns, same histories."""
    assert len(packed) == len(padded)
    for column in columns:
        assert torch.equal(packed.inter_feat[column], padded.inter_feat[column]), column
    lengths = padded.inter_feat["item_length"]
    items = padded.inter_feat["item_id_list"]
    valid = torch.arange(items.shape[1]).expand(len(items), -1) < lengths[:, None]
    batch = packed[torch.arange(len(packed))]
    assert torch.equal(batch["item_id_list"], items[valid])
    assert torch.equal(batch["cu_seqlens"].diff().long(), lengths)


def history_words(dataset, split, row: int) -> list[str]:
    """The history of a sample, in the words of the file."""
    return list(dataset.id2token("item_id", split[torch.tensor([row])]["item_id_list"].numpy()))


def samples_in_words(dataset, split) -> list[tuple[str, list[str], str]]:
    """User, history and target of every sample, in the words of the file."""
    batch = split[torch.arange(len(split))]
    users = dataset.id2token("user_id", batch["user_id"].numpy())
    targets = dataset.id2token("item_id", batch["item_id"].numpy())
    items = dataset.id2token("item_id", batch["item_id_list"].numpy())
    ends = batch["cu_seqlens"][1:-1].numpy()
    return [(u, list(h), t) for u, h, t in zip(users, np.split(items, ends), targets, strict=True)]


def padded_samples_in_words(dataset, split) -> list[tuple[str, list[str], str]]:
    """The same of RecBole's own dataset."""
    feat = split.inter_feat
    users = dataset.id2token("user_id", feat["user_id"].numpy())
    targets = dataset.id2token("item_id", feat["item_id"].numpy())
    rows = [
        dataset.id2token("item_id", row[:n].numpy())
        for row, n in zip(feat["item_id_list"], feat["item_length"], strict=True)
    ]
    return [(u, list(h), t) for u, h, t in zip(users, rows, targets, strict=True)]


def leave_one_out_samples(items_by_user: dict[str, list[str]]) -> tuple[dict, dict, dict]:
    """Training, validation and test samples (user, length of history) -> (history, target), by the definition."""
    train, valid, test = {}, {}, {}
    for user, items in items_by_user.items():
        for n in range(1, len(items)):
            part = test if n == len(items) - 1 and n > 1 else valid if n == len(items) - 2 and n > 1 else train
            part[user, n] = items[:n], items[n]
    return train, valid, test


def assert_samples(found: list[tuple[str, list[str], str]], expected: dict) -> None:
    """The same samples, in any order, with whole histories."""
    assert len(found) == len(expected)
    assert {(user, len(history)): (history, target) for user, history, target in found} == expected


@pytest.fixture(scope="module")
def ml_100k():
    """Unsplit dataset and splits of ml-100k, packed and RecBole's own, with histories of at most 50."""
    config = {"load_col": {"inter": ["user_id", "item_id", "rating", "timestamp"]}, "MAX_ITEM_LIST_LENGTH": 50}
    config["time_order"] = "recbole"
    packed = make_splits(make_config(Path(), dataset="ml-100k", **config))
    padded = make_splits(make_config(Path(), "SASRec", dataset="ml-100k", **config))
    return packed, padded


@pytest.fixture(scope="module")
def part_of_ml_100k(tmp_path_factory):
    """A folder with a dataset ``part``: the users of ml-100k with at most 40 interactions, Unix times as they are."""
    folder = tmp_path_factory.mktemp("part")
    frame = read_interactions(ML_100K)
    write_dataset(folder, frame[frame.groupby("user_id")["item_id"].transform("size") <= 40], "part")
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("part", PARTS)
def test_ml_100k_has_the_samples_of_recboles_dataset(ml_100k, part):
    (_, packed), (_, padded) = ml_100k
    number = PARTS.index(part)
    assert len(padded[number]) == {"train": 97_171, "valid": 943, "test": 943}[part]
    assert_same_samples(packed[number], padded[number])


@pytest.mark.slow
def test_interactions_are_held_once(ml_100k):
    (dataset, splits), _ = ml_100k
    assert len(dataset.history) == 100_000
    assert all(split.history is dataset.history for split in splits)
    assert all(column.dim() == 1 for split in splits for column in split.inter_feat.interaction.values())


@pytest.mark.slow
@pytest.mark.parametrize("row", [0, -1, slice(3, 9), [4, 2, 2], np.array([5, 1]), torch.tensor([7, 0])], ids=str)
def test_indexing_takes_whatever_recboles_loaders_pass(ml_100k, row):
    (_, packed), (_, padded) = ml_100k
    batch = packed[2][[row] if isinstance(row, int) else row]
    feat = padded[2][[row] if isinstance(row, int) else row]
    assert torch.equal(batch["item_id"], feat["item_id"])
    expected = torch.cat([items[:n] for items, n in zip(feat["item_id_list"], feat["item_length"], strict=True)])
    assert torch.equal(batch["item_id_list"], expected)


@pytest.mark.slow
def test_matrix_of_interactions_equals_recboles(ml_100k):
    (_, packed), (_, padded) = ml_100k
    difference = packed[0].inter_matrix("csr") - padded[0].inter_matrix("csr")
    assert packed[0].inter_matrix().nnz == padded[0].inter_matrix().nnz == 97_171 + 943
    assert abs(difference).sum() == 0


@pytest.mark.slow
@pytest.mark.parametrize(
    "eval_args",
    [
        LEAVE_ONE_OUT,
        {"split": {"LS": "valid_only"}, "group_by": "user", "order": "TO", "mode": "full"},
        {"split": {"LS": "test_only"}, "group_by": "user", "order": "TO", "mode": "full"},
        {"split": {"RS": [0.8, 0.1, 0.1]}, "group_by": "user", "order": "TO", "mode": "full"},
        {"split": {"RS": [0.8, 0.1, 0.1]}, "group_by": "none", "order": "TO", "mode": "full"},
    ],
    ids=["valid_and_test", "valid_only", "test_only", "ratio", "ratio_of_all"],
)
def test_every_split_has_the_samples_of_recboles_dataset(part_of_ml_100k, eval_args):
    keys = {**WITH_RATING, "eval_args": eval_args}
    _, packed = make_splits(make_config(part_of_ml_100k, dataset="part", **keys))
    _, padded = make_splits(make_config(part_of_ml_100k, "SASRec", dataset="part", **keys))
    assert sum(len(split) for split in padded) > 5000
    for one, other in zip(packed, padded, strict=True):
        assert_same_samples(one, other)


@pytest.mark.parametrize("parts", ["valid_and_test", "valid_only", "test_only"])
def test_users_with_hardly_any_sample_are_split_as_in_recbole(tmp_path, parts):
    write_dataset(tmp_path, interactions(n_users=60, shortest=2, longest=5, seed=1))
    keys = {"eval_args": LEAVE_ONE_OUT | {"split": {"LS": parts}}, "MAX_ITEM_LIST_LENGTH": 50}
    _, packed = make_splits(make_config(tmp_path, **keys))
    _, padded = make_splits(make_config(tmp_path, "SASRec", **keys))
    for one, other in zip(packed, padded, strict=True):
        if len(other):
            assert_same_samples(one, other, ("user_id", "item_id", "item_length", "timestamp"))
        assert len(one) == len(other)


@pytest.mark.slow
def test_features_of_users_and_items_are_joined_as_in_recbole():
    columns = {
        "inter": ["user_id", "item_id", "timestamp"],
        "user": ["user_id", "age", "gender"],
        "item": ["item_id", "class"],
    }
    _, packed = make_splits(make_config(Path(), dataset="ml-100k", load_col=columns, **FEW_USERS))
    _, padded = make_splits(make_config(Path(), "SASRec", dataset="ml-100k", load_col=columns, **FEW_USERS))
    rows = torch.tensor([3, 200, 17])
    one, other = packed[0][rows], padded[0][rows]
    assert len(other["age"].unique()) > 1
    for field in ("age", "gender", "class"):
        assert torch.equal(one[field], other[field]), field


@pytest.mark.slow
def test_unlimited_histories_are_whole():
    config = make_config(Path(), dataset="ml-100k", MAX_ITEM_LIST_LENGTH=None, time_order="recbole")
    dataset, splits = make_splits(config)
    frame = read_interactions(ML_100K)
    # ml-100k's timestamps are scaled to 0..1 by RecBole's properties before they become float32
    frame["timestamp"] = (frame["timestamp"] - frame["timestamp"].min()) / np.ptp(frame["timestamp"])
    expected = leave_one_out_samples(histories(frame, np.float32))
    for split, samples in zip(splits[1:], expected[1:], strict=True):
        assert_samples(samples_in_words(dataset, split), samples)
    assert max(len(history) for history, _ in expected[2].values()) == 736
    # of the training samples (8 million items) each user's longest and a few others
    lengths = splits[0].inter_feat["item_length"]
    assert len(lengths) == len(expected[0])
    for row in [*lengths.argsort(descending=True)[:50].tolist(), *range(0, len(lengths), 997)]:
        user = dataset.id2token("user_id", splits[0].inter_feat["user_id"][row].item())
        assert history_words(dataset, splits[0], row) == expected[0][user, lengths[row].item()][0]


@pytest.mark.slow
def test_exact_order_on_ml_100k_follows_the_raw_file():
    dataset, splits = make_splits(make_config(Path(), dataset="ml-100k", time_order="exact"))
    frame = read_interactions(ML_100K)
    expected = leave_one_out_samples(histories(frame))
    for split, samples in zip(splits[1:], expected[1:], strict=True):
        assert_samples(samples_in_words(dataset, split), samples)
    targets = splits[0].inter_feat["item_id"]
    users = dataset.id2token("user_id", splits[0].inter_feat["user_id"].numpy())
    lengths = splits[0].inter_feat["item_length"].tolist()
    words = [expected[0][user, n][1] for user, n in zip(users, lengths, strict=True)]
    assert list(dataset.id2token("item_id", targets.numpy())) == words


def seconds_apart() -> pd.DataFrame:
    """Unix times a few seconds apart, some equal, lines in no order: float32 cannot tell most of them apart."""
    frame = interactions(n_users=25, n_items=60, shortest=5, longest=25, seed=3, step=1)
    rng = np.random.default_rng(4)
    frame["timestamp"] = 978_300_000.0 + rng.integers(0, 150, len(frame))
    return frame.sample(frac=1, random_state=5).reset_index(drop=True)


def test_the_times_of_this_file_test_something():
    frame = seconds_apart()
    exact, rounded = histories(frame), histories(frame, np.float32)
    assert sum(exact[user] != rounded[user] for user in exact) > 20
    assert sum(exact[user][-1] != rounded[user][-1] for user in exact) > 5
    assert frame.duplicated(["user_id", "timestamp"]).sum() > 10
    assert len(np.unique(frame["timestamp"].astype(np.float32))) > 2


@pytest.mark.parametrize("model", ["2Mamba4Rec", "SASRec"])
@pytest.mark.parametrize(("time_order", "kind"), [("recbole", np.float32), ("exact", np.float64)])
def test_time_order_holds_for_packed_and_for_recboles_own_datasets(tmp_path, model, time_order, kind):
    frame = seconds_apart()
    write_dataset(tmp_path, frame)
    dataset, splits = make_splits(make_config(tmp_path, model, time_order=time_order, MAX_ITEM_LIST_LENGTH=50))
    assert isinstance(dataset, PackedDataset) == (model == "2Mamba4Rec")
    in_words = samples_in_words if model == "2Mamba4Rec" else padded_samples_in_words
    for split, expected in zip(splits, leave_one_out_samples(histories(frame, kind)), strict=True):
        assert_samples(in_words(dataset, split), expected)


SECONDS = 1_700_000_000.0  # a float32 step is 128 seconds there


@pytest.mark.parametrize(
    ("times", "expected"),
    [
        ([0, 1, 2], (2, 2, 0)),  # in the right order, as the lines are
        ([2, 1, 0], (2, 2, 1)),
        ([0, 0, 500], (2, 0, 0)),  # nothing is lost of what is equal, or far apart
        ([500, 0, 1], (2, 1, 0)),
        ([500, 1, 0], (2, 1, 1)),
    ],
    ids=str,
)
def test_what_float32_loses_of_the_order_is_counted(times, expected):
    """Of two users, the second of whom has another time for each interaction, far apart."""
    users = np.array([1] * len(times) + [2] * 3)
    assert lost_order(users, SECONDS + np.array([*times, 9000, 0, 4000.0])) == (expected[0] + 2, *expected[1:])


@pytest.mark.parametrize("model", ["2Mamba4Rec", "SASRec"])
@pytest.mark.parametrize("time_order", ["recbole", "exact"])
def test_an_order_that_float32_loses_is_said(tmp_path, caplog, model, time_order):
    frame = interactions(n_users=3, shortest=5, longest=5, step=1)
    frame["timestamp"] += SECONDS - frame["timestamp"].min()
    write_dataset(tmp_path, frame.sort_values("timestamp", ascending=False))
    make_splits(make_config(tmp_path, model, time_order=time_order))
    said = [record.getMessage() for record in caplog.records if "float32" in record.getMessage()]
    if time_order == "exact":
        assert said == []
    else:
        (line,) = said
        assert "12 of 12 neighbouring interactions" in line
        assert "3 of 3 users have another history" in line
        assert "time_order: exact" in line


def test_a_random_split_of_a_general_model_does_not_depend_on_times(tmp_path):
    write_dataset(tmp_path, seconds_apart())
    keys = {"load_col": {"inter": ["user_id", "item_id", "timestamp"]}}
    configs = [make_config(tmp_path, "BPR", time_order=order, **keys) for order in ("recbole", "exact")]
    one, other = (create_dataset(config, packed=False).inter_feat["timestamp"] for config in configs)
    assert one.equals(other)


def test_equal_times_keep_the_order_of_the_file(tmp_path):
    items = [f"i{number}" for number in (5, 3, 9, 1, 7, 2)]
    frame = pd.DataFrame({"user_id": "u", "item_id": items, "timestamp": [9e8, 9e8, 1e8, 9e8, 1e8, 9e8]})
    other = frame.assign(user_id="v", timestamp=9e8)
    write_dataset(tmp_path, pd.concat([other, frame]))
    for time_order in ("recbole", "exact"):
        dataset, (_, _, test) = make_splits(make_config(tmp_path, time_order=time_order))
        found = {user: [*history, target] for user, history, target in samples_in_words(dataset, test)}
        assert found == {"u": ["i9", "i7", "i5", "i3", "i1", "i2"], "v": items}


def test_truncation_keeps_the_latest_items(tmp_path):
    frame = interactions()
    write_dataset(tmp_path, frame)
    dataset, (_, _, test) = make_splits(make_config(tmp_path, MAX_ITEM_LIST_LENGTH=3))
    expected = histories(frame)
    for user, history, target in samples_in_words(dataset, test):
        assert [*history, target] == expected[user][-4:]


@pytest.mark.parametrize("time_order", ["recbole", "exact"])
def test_filters_are_recboles(tmp_path, time_order):
    frame = interactions(n_users=40, n_items=60, shortest=2, longest=12)
    write_dataset(tmp_path, frame)
    kept = {"user_inter_num_interval": "[5,inf)", "item_inter_num_interval": "[3,inf)", "MAX_ITEM_LIST_LENGTH": 50}
    packed = make_splits(make_config(tmp_path, time_order=time_order, **kept))
    padded = make_splits(make_config(tmp_path, "SASRec", time_order=time_order, **kept))
    assert 0 < len(packed[0].history) < len(frame)
    for one, other in zip(packed[1], padded[1], strict=True):
        assert_same_samples(one, other, ("user_id", "item_id", "item_length", "timestamp"))


@pytest.mark.skipif(not REAL_DATA, reason="RECBOLE_SSM_DATA_PATH does not name a folder with ml-1m")
@pytest.mark.parametrize("time_order", ["recbole", "exact"])
def test_ml_1m_leaves_the_last_items_of_the_raw_file_out(time_order):
    config = make_config(Path(REAL_DATA), dataset="ml-1m", time_order=time_order, MAX_ITEM_LIST_LENGTH=None)
    dataset, splits = make_splits(config)
    frame = read_interactions(Path(REAL_DATA) / "ml-1m" / "ml-1m.inter")
    expected = histories(frame, np.float64 if time_order == "exact" else np.float32)
    assert sum(len(split) for split in splits) == sum(len(items) - 1 for items in expected.values())
    found = {user: [*history, target] for user, history, target in samples_in_words(dataset, splits[2])}
    assert found == expected


@pytest.mark.sampled(3)
@pytest.mark.parametrize("model", ["2Mamba4Rec", "SASRec", "BPR"])
@pytest.mark.parametrize(
    ("start", "step", "warned"),
    [
        (1_700_000_000_000_000_000, 20, True),  # nanoseconds that float64 does not tell apart
        (2**53, 1, True),
        (-(2**60), 3, True),
        (1_700_000_000_000_000_000, 1_000_000_000, False),  # seconds, written as nanoseconds
        (1_700_000_000_000, 1, False),  # milliseconds
        (1_700_000_000, 0, False),  # all in one second
    ],
)
def test_times_so_large_that_their_order_is_lost_are_named(tmp_path, caplog, model, start, step, warned):
    rows = [(f"u{user}", f"i{n}", start + step * n) for user in range(3) for n in range(5)]
    file = write_dataset(tmp_path, pd.DataFrame(rows, columns=["user_id", "item_id", "timestamp"], dtype=object))
    file.write_text(file.read_text().replace("timestamp:token", "timestamp:float"))
    columns = {"load_col": {"inter": ["user_id", "item_id", "timestamp"]}, "eval_args": LEAVE_ONE_OUT}
    make_splits(make_config(tmp_path, model, time_order="exact", **columns))
    assert ("if they differ in the file, their order is lost" in caplog.text) == warned
