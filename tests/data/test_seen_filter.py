"""``filter_seen``: what a user has had before is not recommended, whatever the model and its loader."""

import numpy as np
import pandas as pd
import pytest
import torch
from atomic import ML_100K, histories, interactions, make_config, make_loaders, read_interactions, write_dataset

from recbole_ssm.trainer import create_trainer

LEAVE_ONE_OUT = {"split": {"LS": "valid_and_test"}, "group_by": "user", "order": "TO", "mode": "full"}
SPLITS = {
    "valid_and_test": LEAVE_ONE_OUT,
    "test_only": {**LEAVE_ONE_OUT, "split": {"LS": "test_only"}},
    "valid_only": {**LEAVE_ONE_OUT, "split": {"LS": "valid_only"}},
    "ratio": {**LEAVE_ONE_OUT, "split": {"RS": [0.6, 0.2, 0.2]}},
    "ratio_of_all": {**LEAVE_ONE_OUT, "split": {"RS": [0.6, 0.2, 0.2]}, "group_by": "none"},
}


def close_times() -> pd.DataFrame:
    """Users of 1 to 25 items, seconds apart, some bought twice; the order depends on how times are rounded."""
    frame = interactions(n_users=40, n_items=60, shortest=1, longest=25, seed=8)
    frame["timestamp"] = 978_300_000.0 + np.random.default_rng(9).integers(0, 200, len(frame))
    return frame


def filtered(loader) -> list[tuple[int, int, set[int]]]:
    """User, target and filtered items of every sample of a loader."""
    found = []
    for interaction, (rows, items), positive_u, positive_i in loader:
        assert torch.equal(positive_u, torch.arange(len(positive_i)))
        assert len(rows) == len(items)
        for s, (user, target) in enumerate(zip(interaction["user_id"].tolist(), positive_i.tolist(), strict=True)):
            found.append((user, target, set(items[rows == s].tolist())))
    return found


@pytest.mark.parametrize("model", ["2Mamba4Rec", "SASRec"])
@pytest.mark.parametrize("split", SPLITS)
def test_the_whole_history_is_filtered_though_the_model_reads_three_items(tmp_path, model, split):
    frame = close_times()
    write_dataset(tmp_path, frame)
    for time_order, kind in (("recbole", np.float32), ("exact", np.float64)):
        dataset, loaders = make_loaders(
            make_config(
                tmp_path,
                model,
                filter_seen=True,
                MAX_ITEM_LIST_LENGTH=3,
                **({"train_samples": "all_prefixes"} if model == "2Mamba4Rec" else {}),
                eval_args=SPLITS[split],
                eval_batch_size=16,
                time_order=time_order,
            )
        )
        expected = {}
        for word, words in histories(frame, kind).items():
            user, items = dataset.token2id("user_id", word), dataset.token2id("item_id", words).tolist()
            for n in range(1, len(items)):
                expected.setdefault((user, items[n]), []).append(set(items[:n]))
        found = filtered(loaders[1]) + filtered(loaders[2])
        assert len(found) == sum(len(loader._dataset) for loader in loaders[1:]) > 20
        assert max(len(seen) for _, _, seen in found) > 10
        for user, target, seen in found:
            assert seen in expected[user, target]


def test_each_users_last_sample_filters_all_that_came_before(tmp_path):
    frame = close_times()
    write_dataset(tmp_path, frame)
    dataset, (_, valid, test) = make_loaders(make_config(tmp_path, filter_seen=True))
    items = {dataset.token2id("user_id", user): words for user, words in histories(frame).items()}
    for loader, last in ((valid, -2), (test, -1)):
        for user, target, seen in filtered(loader):
            assert target == dataset.token2id("item_id", items[user][last])
            assert seen == set(dataset.token2id("item_id", items[user][:last]).tolist())


def test_ml_100k_filters_what_the_raw_file_says():
    config = make_config(
        "", "SASRec", "ml-100k", filter_seen=True, time_order="exact", user_inter_num_interval="[0,60]"
    )
    dataset, (_, _, test) = make_loaders(config)
    frame = read_interactions(ML_100K)
    items = {user: words for user, words in histories(frame).items() if len(words) <= 60}
    found = filtered(test)
    assert len(found) == len(items) > 300
    for user, target, seen in found:
        words = items[dataset.id2token("user_id", user)]
        assert (words[-1], set(words[:-1])) == (
            dataset.id2token("item_id", target),
            set(dataset.id2token("item_id", list(seen))),
        )


@pytest.mark.parametrize("model", ["2Mamba4Rec", "SASRec", "GRU4Rec"])
@torch.no_grad()
def test_recommended_lists_hold_no_seen_item(tmp_path, monkeypatch, model):
    frame = interactions(n_users=20, n_items=60, shortest=15, longest=30)
    write_dataset(tmp_path, frame)
    lists = {}
    for switch in (True, False):
        config = make_config(
            tmp_path,
            model,
            filter_seen=switch,
            metrics=["Hit", "ItemCoverage"],
            valid_metric="Hit@10",
            MAX_ITEM_LIST_LENGTH=4,
        )
        dataset, (train, _, test) = make_loaders(config)
        torch.manual_seed(0)
        trainer = create_trainer(config, config.model_class(config, train._dataset))
        monkeypatch.setattr(trainer.evaluator, "evaluate", lambda struct: struct.get("rec.items"))
        lists[switch] = trainer.evaluate(test, load_best_model=False).tolist()
        users = dataset.id2token("user_id", test._dataset.inter_feat["user_id"].numpy())
        seen_items = {u: set(dataset.token2id("item_id", words[:-1]).tolist()) for u, words in histories(frame).items()}
    assert len(users) == 20
    overlap = {
        switch: sum(len(set(row) & seen_items[user]) for row, user in zip(rows, users, strict=True))
        for switch, rows in lists.items()
    }
    assert overlap[True] == 0
    assert overlap[False] > 20


@torch.no_grad()
def test_a_target_that_was_seen_before_is_a_miss(tmp_path):
    frame = interactions(n_users=12, n_items=30, shortest=8, longest=12)
    # everyone's last item is what they began with
    times = frame.groupby("user_id")["timestamp"]
    first = frame.loc[times.idxmin()].set_index("user_id")["item_id"]
    last = times.idxmax()
    frame.loc[last, "item_id"] = first[frame.loc[last, "user_id"]].to_numpy()
    write_dataset(tmp_path, frame)
    hits = {}
    for switch in (True, False):
        config = make_config(tmp_path, filter_seen=switch, topk=[10], valid_metric="Hit@10")
        _, (train, _, test) = make_loaders(config)
        torch.manual_seed(1)
        trainer = create_trainer(config, config.model_class(config, train._dataset))
        hits[switch] = trainer.evaluate(test, load_best_model=False)["hit@10"]
    assert hits[True] == 0 < hits[False]


def test_without_the_switch_nothing_is_filtered(tiny):
    for model in ("2Mamba4Rec", "SASRec"):
        _, loaders = make_loaders(make_config(tiny, model))
        assert all(history is None for loader in loaders[1:] for _, history, _, _ in loader)
