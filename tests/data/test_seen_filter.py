"""``filter_seen``: no model recommends an item that the user has had before, with any loader."""

import numpy as np
import pandas as pd
import pytest
import torch
from atomic import ML_100K, histories, interactions, make_config, make_loaders, read_interactions, write_dataset
from recbole.evaluator import Evaluator

from recbole_ssm.model.packed_input import SEEN_ITEMS, SEEN_ROWS
from recbole_ssm.training.collector import EvaluationCollector
from recbole_ssm.training.trainer import create_trainer

INF = float("inf")
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


@pytest.mark.sampled(3)
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


def test_only_a_model_that_reads_them_is_told_the_seen_items(tmp_path):
    write_dataset(tmp_path, interactions(n_users=6, n_items=20, shortest=5, longest=9))
    lines = ["item_id:token\ttitle:token_seq", *(f"i{number}\tNumber {number}" for number in range(20))]
    (tmp_path / "tiny" / "tiny.item").write_text("\n".join(lines), encoding="utf-8")
    given = {"filter_seen": True, "MAX_ITEM_LIST_LENGTH": 3}
    for model, told in (("2Mamba4Rec", {}), ("MamRec", {}), ("MamRec", {"item_scores": "titles"})):
        _, loaders = make_loaders(make_config(tmp_path, model, **given, **told))
        for interaction, (rows, items), _, _ in (*loaders[1], *loaders[2]):
            assert len(items) > 0 and (SEEN_ROWS in interaction) == bool(told)
            if told:
                assert torch.equal(interaction[SEEN_ROWS], rows) and torch.equal(interaction[SEEN_ITEMS], items)


@pytest.mark.slow
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


@pytest.mark.sampled(3)
@pytest.mark.parametrize("model", ["2Mamba4Rec", "SASRec", "GRU4Rec", "BPR"])
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
            eval_args=LEAVE_ONE_OUT,
            repeatable=True,
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


@pytest.mark.parametrize("n_items", [30, 12, 10])
@torch.no_grad()
def test_a_target_that_was_seen_before_is_a_miss(tmp_path, n_items):
    """Also where fewer than ten items are left to be recommended."""
    frame = interactions(n_users=12, n_items=n_items, shortest=8, longest=12)
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


@pytest.mark.parametrize(
    ("rows", "targets"),
    [
        ([[5, 4, 3, 2]], [[1]]),  # ranked above all but one
        ([[5, -INF, 3, 2], [1, 2, 3, 4]], [[2], [1]]),  # the first target is filtered
        ([[2, -INF, -INF, 7, 1, -INF]], [[1, 2, 5]]),  # of three targets two are filtered
        ([[3, 3, -INF, 1], [-INF, 2, 2, -INF]], [[1, 3], [1, 4]]),  # equal scores
    ],
)
def test_a_filtered_target_is_below_all_others_in_gauc(tmp_path, rows, targets):
    config = make_config(tmp_path, metrics=["GAUC"], valid_metric="GAUC", metric_decimal_place=9)
    collector = EvaluationCollector(config)
    scores = torch.tensor([[-INF, *row] for row in rows], dtype=torch.float64)
    pairs = [(row, item) for row, items in enumerate(targets) for item in items]
    collector.eval_batch_collect(scores, None, *map(torch.tensor, zip(*pairs, strict=True)))
    found = Evaluator(config).evaluate(collector.get_data_struct())["gauc"]

    won = []
    for row, item in pairs:
        others = [score for n, score in enumerate(rows[row], 1) if n not in targets[row] and score > -INF]
        target = rows[row][item - 1]
        won.append(np.mean([(target > other) + (target == other) / 2 for other in others]))
    assert found == pytest.approx(np.mean(won), abs=1e-6)


def loyal_customers() -> pd.DataFrame:
    """Users of 2 to 12 items, most of which they have had before; no two items are equally popular."""
    rng = np.random.default_rng(4)
    rows = []
    for user in range(60):
        own = rng.choice(12, 4, replace=False, p=2.0 ** -np.arange(12) / sum(2.0 ** -np.arange(12)))
        rows += [(f"u{user}", f"i{item}") for item in rng.choice(own, 2 + user % 11)]
    frame = pd.DataFrame(rows, columns=["user_id", "item_id"])
    frame["timestamp"] = 1e9 + 3600.0 * np.arange(len(frame))
    return frame


def counted(scores: dict[str, float], history: list[str], target: str, *, strict: bool) -> float:
    """1 / log2(rank + 1) of a target among the first three of all items that may be recommended."""
    allowed = {item: score for item, score in scores.items() if item not in history or (item == target and not strict)}
    first = sorted(allowed, key=allowed.get, reverse=True)[:3]
    return 1 / np.log2(first.index(target) + 2) if target in first else 0.0


@pytest.mark.sampled(3)
@pytest.mark.parametrize("model", ["Pop", "2Mamba4Rec", "SASRec", "ItemKNN"])
@pytest.mark.parametrize("filter_seen", [True, False])
@torch.no_grad()
def test_models_of_every_kind_are_ranked_by_one_rule_where_people_repeat(tmp_path, caplog, model, filter_seen):
    frame = loyal_customers()
    write_dataset(tmp_path, frame)
    keys = {"filter_seen": filter_seen, "topk": [3], "valid_metric": "NDCG@3", "eval_args": LEAVE_ONE_OUT}
    keys |= {"metric_decimal_place": 12}
    if model == "Pop":
        keys |= {"train_neg_sample_args": None}
    config = make_config(tmp_path, model, **keys)
    dataset, (train, _, test) = make_loaders(config)
    torch.manual_seed(0)
    trainer = create_trainer(config, config.model_class(config, train._dataset))
    if model == "Pop":
        for batch in train:
            trainer.model.calculate_loss(batch)
    found = trainer.evaluate(test, load_best_model=False)["ndcg@3"]

    names = list(dataset.field2id_token["item_id"])
    tested = {user: items for user, items in histories(frame, np.float32).items() if len(items) > 2}
    scores = {}
    for batch, *_ in test:
        rows = trainer.model.full_sort_predict(batch).view(len(batch["user_id"]), -1).tolist()
        for user, row in zip(dataset.id2token("user_id", batch["user_id"].numpy()), rows, strict=True):
            scores[user] = dict(zip(names[1:], row[1:], strict=True))
    assert scores.keys() == tested.keys()  # for all kinds the same users, who have three items at least
    repeats = np.mean([items[-1] in items[:-1] for items in tested.values()])
    assert 0.5 < repeats < 0.95
    if model == "Pop":
        used = pd.Series([item for items in tested.values() for item in items[: max(len(items) - 2, 2)]])
        used = pd.concat([used, frame[~frame["user_id"].isin(list(tested))]["item_id"]]).value_counts()
        assert {item: n / used.max() for item, n in used.items()} == pytest.approx(
            {item: score for item, score in scores["u1"].items() if score}
        )
    general = model in ("Pop", "ItemKNN")
    expected = [
        counted(scores[user], items[:-1] if filter_seen or general else [], items[-1], strict=filter_seen)
        for user, items in tested.items()
    ]
    if model != "ItemKNN":  # whose scores are the same for many items
        assert found == pytest.approx(np.mean(expected), abs=1e-9)
    if filter_seen:
        assert found <= 1 - repeats
    warned = f"{repeats:.1%} of the test targets are items that their users have had before"
    assert (warned in caplog.text) == (filter_seen or general)


@pytest.mark.sampled(3)
@pytest.mark.parametrize("split", ["valid_and_test", "test_only", "valid_only"])
def test_the_same_users_are_held_out_for_models_of_every_kind(tmp_path, split):
    """Those with two interactions, too, whose second one a sequential model trains on."""
    frame = pd.concat([interactions(n_users=20, shortest=1, longest=6), loyal_customers()])
    write_dataset(tmp_path, frame)
    found = {}
    for model in ("2Mamba4Rec", "SASRec", "Pop", "BPR", "CKE"):
        if model == "CKE":
            items = sorted(set(frame["item_id"]))
            triples, links = (
                "".join(f"{i}e\tr\t{j}e\n" for i, j in zip(items, items[1:], strict=False)),
                "".join(f"{i}\t{i}e\n" for i in items),
            )
            (tmp_path / "tiny" / "tiny.kg").write_text(f"head_id:token\trelation_id:token\ttail_id:token\n{triples}")
            (tmp_path / "tiny" / "tiny.link").write_text(f"item_id:token\tentity_id:token\n{links}")
        evaluation = {**LEAVE_ONE_OUT, "split": {"LS": split}}
        _, loaders = make_loaders(make_config(tmp_path, model, eval_args=evaluation))
        held_out = []
        for loader in loaders[1:]:
            users, items = (loader._dataset.inter_feat[field] for field in ("user_id", "item_id"))
            names = (
                loader._dataset.id2token("user_id", users.numpy()),
                loader._dataset.id2token("item_id", items.numpy()),
            )
            held_out.append(sorted(zip(*names, strict=True)))
        found[model] = held_out
    assert len(found["Pop"][split != "valid_only"]) > 40
    assert all(held_out == found["Pop"] for held_out in found.values())


def test_without_the_switch_nothing_is_filtered(tiny):
    for model in ("2Mamba4Rec", "SASRec"):
        _, loaders = make_loaders(make_config(tiny, model))
        assert all(history is None for loader in loaders[1:] for _, history, _, _ in loader)
