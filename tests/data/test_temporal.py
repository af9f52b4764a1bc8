"""The global temporal split: the same parts as a split of the raw lines in plain Python, for models of every kind."""

import logging
from collections import Counter
from math import floor

import pandas as pd
import pytest
import torch
from atomic import interactions, make_config, make_loaders, make_splits, write_dataset
from hypothesis import given
from hypothesis import strategies as st

from recbole_ssm.data.recbole_types import Dataset
from recbole_ssm.errors import InputError

KINDS = ["2Mamba4Rec", "PCTM", "SASRec", "BPR", "MultiVAE"]
SEQUENTIAL = KINDS[:3]


def keys(**split) -> dict:
    """The keys of a temporal split."""
    return {"eval_args": {"split": {"temporal": split}, "order": "TO", "group_by": "user", "mode": "full"}}


def border(times: list[float], quantile: float) -> float:
    """The quantile of some times, between two of them where it has to be."""
    times = sorted(times)
    place = quantile * (len(times) - 1)
    low = times[floor(place)]
    return low + (times[min(floor(place) + 1, len(times) - 1)] - low) * (place - floor(place))


def by_hand(frame: pd.DataFrame, quantile=0.9, target="last", validation=0.9) -> tuple[list, list, list, float]:
    """The split of the lines of a file.

    Returns:
        The interactions that are trained on, as user, item; the samples of validation and of the test, as user, history
        and target; and the time up to which there is training.
    """
    lines = list(zip(frame["user_id"], frame["item_id"], frame["timestamp"], strict=True))
    test_from = border([time for *_, time in lines], quantile)
    trained_to = test_from
    if validation is not None:
        trained_to = border([time for *_, time in lines if time <= test_from], validation)
    parts: tuple[list, list, list] = [], [], []
    for user in sorted({user for user, *_ in lines}):
        own = sorted(((item, time) for name, item, time in lines if name == user), key=lambda pair: pair[1])
        items = [item for item, _ in own]
        parts[0].extend((user, item) for item, time in own if time <= trained_to)
        for part, begin, end in ((parts[1], trained_to, test_from), (parts[2], test_from, float("inf"))):
            places = [place for place, (_, time) in enumerate(own) if begin < time <= end]
            for place in places[-1:] if target == "last" else places:
                if place > 0:
                    part.append((user, tuple(items[:place]), items[place]))
    return *parts, trained_to


def times_of_all_sorts(seed: int = 0) -> pd.DataFrame:
    """Users before and after the border, some with a single item, ties at the border, and items seen twice."""
    frame = interactions(n_users=40, n_items=25, shortest=1, longest=15, seed=seed)
    frame["timestamp"] = frame["timestamp"].rank(method="first") // 9  # nine interactions at a time
    more = [("early", "i1", 0), ("early", "i2", 1), ("late", "new", 90), ("late", "i3", 91), ("late", "new", 92)]
    return pd.concat([frame, pd.DataFrame([*more, ("once", "i1", 93)], columns=list(frame))], ignore_index=True)


def samples_of(dataset: Dataset) -> list[tuple]:
    """User and target of each row of a part, and for a sequential model its history, by their names."""
    users, items = (dataset.inter_feat[field] for field in ("user_id", "item_id"))
    names = [dataset.id2token("user_id", users.numpy()), dataset.id2token("item_id", items.numpy())]
    if not hasattr(dataset, "item_list_length_field"):
        return list(zip(*map(list, names), strict=True))
    batch = dataset[torch.arange(len(users))]
    lengths, tokens = batch["item_length"], batch["item_id_list"]
    if tokens.dim() == 2:  # RecBole's, padded
        tokens = tokens[torch.arange(tokens.shape[1]) < lengths[:, None]]
    histories = tokens.split(lengths.tolist())
    words = [tuple(dataset.id2token("item_id", history.numpy())) for history in histories]
    return list(zip(names[0].tolist(), words, names[1].tolist(), strict=True))


@pytest.mark.sampled(6)
@pytest.mark.parametrize("model", KINDS)
@pytest.mark.parametrize(
    "split",
    [{}, {"target": "successive"}, {"quantile": 0.6, "validation": None}, {"quantile": 0.75, "validation": 0.5}],
    ids=str,
)
def test_the_parts_are_those_of_the_raw_lines(tmp_path, model, split):
    frame = times_of_all_sorts()
    write_dataset(tmp_path, frame)
    _, (train, valid, test) = make_splits(make_config(tmp_path, model, **keys(**split)))
    trained, *held_out, _ = by_hand(frame, **split)
    for part, expected in zip((valid, test), held_out, strict=True):
        if model not in SEQUENTIAL:
            expected = [(user, target) for user, _, target in expected]
        assert sorted(samples_of(part)) == sorted(expected)
    assert len(held_out[1]) > 8
    found = [(sample[0], sample[-1]) for sample in samples_of(train)]
    if model in SEQUENTIAL:  # the first item of each user is no target
        found += [(user, history[0]) for user, history, _ in samples_of(train) if len(history) == 1]
        trained = [pair for pair in trained if sum(user == pair[0] for user, _ in trained) > 1]
    assert sorted(found) == sorted(trained)


def test_all_kinds_of_models_are_tested_on_the_same_rows_in_the_same_order(tmp_path):
    write_dataset(tmp_path, times_of_all_sorts())
    found = []
    for model in KINDS:
        _, parts = make_splits(make_config(tmp_path, model, **keys(target="successive")))
        found.append([[(sample[0], sample[-1]) for sample in samples_of(part)] for part in parts[1:]])
    assert all(each == found[0] for each in found)


@pytest.mark.sampled(2)
@pytest.mark.parametrize("filter_seen", [True, False])
def test_each_target_is_ranked_alone_against_its_own_candidates(tmp_path, filter_seen):
    """RecBole would rank all targets of a user, each after another history, together."""
    frame = times_of_all_sorts()
    write_dataset(tmp_path, frame)
    expected = by_hand(frame, target="successive")[2]
    found = []
    for model in KINDS[:4] if filter_seen else SEQUENTIAL:  # else RecBole draws otherwise for BPR
        given = keys(target="successive")
        given["eval_args"]["mode"] = "uni3"
        dataset, (_, _, test) = make_loaders(make_config(tmp_path, model, filter_seen=filter_seen, **given))
        ranked = []
        for batch, row, positive_u, positive_i in test:
            assert positive_u.tolist() == list(range(len(positive_i)))
            items = dataset.id2token("item_id", batch["item_id"].numpy())
            targets = dataset.id2token("item_id", positive_i.numpy())
            ranked += [(target, tuple(items[(row == each).numpy()])) for each, target in enumerate(targets)]
        found.append(ranked)
        assert all(len(items) == 4 and items[0] not in items[1:] for _, items in ranked)
        assert Counter(items[0] for _, items in ranked) == Counter(item for *_, item in expected)
        seen = Counter(item for _, history, item in expected if item in history)
        missed = Counter(items[0] for target, items in ranked if target == "[PAD]")
        assert missed == (seen if filter_seen else Counter())
    assert all(each == found[0] for each in found)


@pytest.mark.sampled(3)
@pytest.mark.parametrize("model", KINDS)
@pytest.mark.parametrize("target", ["last", "successive"])
@pytest.mark.parametrize("filter_seen", [True, False])
def test_what_a_user_had_before_is_filtered_whatever_part_it_is_in(tmp_path, model, target, filter_seen):
    frame = times_of_all_sorts()
    write_dataset(tmp_path, frame)
    config = make_config(tmp_path, model, filter_seen=filter_seen, MAX_ITEM_LIST_LENGTH=3, **keys(target=target))
    dataset, loaders = make_loaders(config)
    held_out = by_hand(frame, target=target)[1:3]
    for loader, samples in zip(loaders[1:], held_out, strict=True):
        found = []
        for interaction, history, positive_u, positive_i in loader:
            assert positive_u.tolist() == list(range(len(positive_i)))
            users = dataset.id2token("user_id", interaction["user_id"].numpy())
            for row, (user, item) in enumerate(zip(users, positive_i.tolist(), strict=True)):
                seen = [] if history is None else history[1][history[0] == row].tolist()
                found.append((user, frozenset(dataset.id2token("item_id", seen)), dataset.id2token("item_id", item)))
        expected = [(user, frozenset(history), item) for user, history, item in samples]
        if not filter_seen:  # as RecBole has it
            general = model not in SEQUENTIAL
            expected = [(user, seen - {item} if general else frozenset(), item) for user, seen, item in expected]
        assert Counter(found) == Counter(expected)
        assert loader.share_repeated is None or any(item in seen for _, seen, item in samples) == (
            loader.share_repeated > 0
        )


@st.composite
def lines(draw) -> pd.DataFrame:
    """Interactions of a few users at few points in time, each with an item of its own, which tells its line."""
    n = draw(st.integers(20, 60))
    users = draw(st.lists(st.integers(0, 8), min_size=n, max_size=n))
    times = draw(st.lists(st.integers(0, 12), min_size=n, max_size=n))
    items = [f"i{line}" for line in range(n)]
    return pd.DataFrame({"user_id": [f"u{u}" for u in users], "item_id": items, "timestamp": [float(t) for t in times]})


@pytest.mark.sampled(5)
@pytest.mark.parametrize(
    ("model", "samples"),
    [
        ("2Mamba4Rec", {"train_samples": "whole_sequence"}),
        ("2Mamba4Rec", {"train_samples": "all_prefixes"}),
        ("SSD4Rec", {"train_samples": "prefix_lm"}),
        ("GRU4Rec", {}),
        ("BPR", {}),
    ],
    ids=str,
)
@given(lines(), st.floats(0.3, 0.95), st.sampled_from([None, 0.5, 0.9]))
def test_nothing_after_the_border_is_in_a_training_batch(tmp_path_factory, model, samples, frame, quantile, validation):
    folder = tmp_path_factory.mktemp("data")
    write_dataset(folder, frame)
    split = {"quantile": quantile, "validation": validation}
    try:
        dataset, (train, *_) = make_loaders(make_config(folder, model, **samples, **keys(**split)))
    except InputError as error:
        assert "leaves no" in str(error)
        return
    *_, trained_to = by_hand(frame, **split)
    time_of = dict(zip(frame["item_id"], frame["timestamp"], strict=True))
    n = 0
    for batch in train:
        tokens = [batch[name].flatten() for name in ("item_id", "item_id_list") if name in batch]
        for item in dataset.id2token("item_id", torch.cat(tokens).unique().numpy()):
            if item != "[PAD]":
                assert time_of[item] <= trained_to
                n += 1
    assert n > 0


def test_counting_models_count_nothing_after_the_border(tmp_path):
    frame = times_of_all_sorts()
    write_dataset(tmp_path, frame)
    config = make_config(tmp_path, "PCTM", **keys())
    dataset, (train, *_) = make_splits(config)
    model = config.model_class(config, train)
    trained = by_hand(frame)[0]
    trained = [item for user, item in trained if sum(user == other for other, _ in trained) > 1]
    names = dataset.id2token("item_id", torch.arange(dataset.item_num).numpy())
    assert dict(zip(names, model.frequency.tolist(), strict=True)) == {name: trained.count(name) for name in names}


def test_the_log_says_where_the_borders_are_and_what_no_model_can_know(tmp_path, caplog):
    frame = times_of_all_sorts()
    write_dataset(tmp_path, frame)
    caplog.set_level(logging.INFO)
    make_splits(make_config(tmp_path, **keys()))
    trained, valid, test, trained_to = by_hand(frame)
    said = " ".join(caplog.messages)
    assert f"trained on {len(trained)} interactions up to timestamp {trained_to:.12g}" in said
    assert f"validated on {len(valid)} items" in said
    assert f"tested on {len(test)} items of {len(test)} users" in said
    items, users = ({pair[column] for pair in trained} for column in (1, 0))
    cold = sum(item not in items for _, _, item in test)
    assert cold > 0 and f"{cold} test items are not in the training, and so are misses" in said
    assert f"{sum(user not in users for user, _, _ in test)} test users are not;" in said
    after = set(frame["user_id"][frame["timestamp"] > border(list(frame["timestamp"]), 0.9)])
    assert f"{len(after) - len(test)} users are not tested" in said
    assert len(after) > len(test)
    assert "have the same timestamp: their order" in said


def test_times_that_are_no_points_in_time_are_refused(tmp_path):
    frame = interactions(n_users=30, shortest=5)
    frame = frame.sort_values(["user_id", "timestamp"], ignore_index=True)
    per_user = frame.assign(timestamp=frame.groupby("user_id").cumcount() + 1)
    by_line = frame.assign(timestamp=range(len(frame)))
    for number, (wrong, said) in enumerate(
        ((per_user, "30 of 30 users begin at the same timestamp"), (by_line, "each user begins after the one before"))
    ):
        write_dataset(tmp_path, wrong.astype({"timestamp": float}), f"wrong{number}")
        for model in ("2Mamba4Rec", "BPR"):
            with pytest.raises(InputError, match=said):
                make_splits(make_config(tmp_path, model, f"wrong{number}", **keys()))


def test_a_part_without_samples_is_refused(tmp_path):
    frame = interactions(n_users=5)
    write_dataset(tmp_path, frame.assign(timestamp=1.0))
    with pytest.raises(InputError, match="leaves no sample for validation"):
        make_splits(make_config(tmp_path, **keys()))
    with pytest.raises(InputError, match="leaves no sample for test"):
        make_splits(make_config(tmp_path, **keys(validation=None)))


def test_data_without_times_are_refused(tmp_path):
    write_dataset(tmp_path, interactions().drop(columns="timestamp"))
    for model in ("2Mamba4Rec", "BPR"):
        with pytest.raises(InputError, match="has no column timestamp:float, which gives the order"):
            make_splits(make_config(tmp_path, model, **keys()))


@pytest.mark.parametrize(
    ("split", "said"),
    [
        ("last", "temporal must be like"),
        ({"quantil": 0.8}, "unknown name 'quantil'. Did you mean quantile"),
        ({"quantile": 1}, "quantile must be a number between 0 and 1, but is 1"),
        ({"quantile": "most"}, "quantile must be a number between 0 and 1"),
        ({"validation": 0}, "validation must be a number between 0 and 1, or None"),
        ({"target": "first"}, "target must be last or successive"),
    ],
    ids=str,
)
def test_what_cannot_be_used_is_said(tmp_path, split, said):
    with pytest.raises(InputError, match=said):
        make_config(tmp_path, eval_args={"split": {"temporal": split}})


def test_other_orders_are_refused(tmp_path):
    with pytest.raises(InputError, match="needs order: TO"):
        make_config(tmp_path, "BPR", eval_args={"split": {"temporal": {}}, "order": "RO"})
    with pytest.raises(InputError, match="set --time_order=exact"):
        make_config(tmp_path, time_order="recbole", **keys())
