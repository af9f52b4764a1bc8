"""Packed batches, and the loaders of training and of sampled evaluation."""

import numpy as np
import pytest
import torch
from atomic import interactions, make_config, make_loaders, write_dataset
from hypothesis import given, settings
from hypothesis import strategies as st
from recbole.data.interaction import Interaction

from recbole_ssm.data.collate import mask_items, pack_histories
from recbole_ssm.data.dataloader import PackedTrainDataLoader
from recbole_ssm.ops.packing import gather_ranges
from recbole_ssm.training.trainer import create_trainer

HISTORY = torch.tensor([11, 12, 13, 14, 15, 21, 22, 31])
RATIO = {"split": {"RS": [0.6, 0.2, 0.2]}, "group_by": "user", "order": "TO"}


def three_samples() -> Interaction:
    """Histories 11 12 13, 21 and 13 14 of targets 14, 22 and 15."""
    return Interaction(
        {
            "history_start": torch.tensor([0, 5, 2]),
            "history_end": torch.tensor([3, 6, 4]),
            "item_id": torch.tensor([14, 22, 15]),
        }
    )


def test_histories_are_packed_one_after_another():
    batch = pack_histories(three_samples(), HISTORY, "item_id_list")
    assert batch["item_id_list"].tolist() == [11, 12, 13, 21, 13, 14]
    assert batch["item_id_list"].dtype == torch.int64
    assert batch["cu_seqlens"].tolist() == [0, 3, 4, 6]
    assert batch["cu_seqlens"].dtype == torch.int32
    assert batch["seq_idx"].tolist() == [0, 0, 0, 1, 2, 2]
    assert batch["seq_idx"].dtype == torch.int32
    assert batch["item_id"].tolist() == [14, 22, 15]
    assert len(batch) == 3


def test_targets_of_whole_sequences_are_the_next_items():
    batch = pack_histories(three_samples(), HISTORY, "item_id_list", "item_id")
    assert batch["item_id"].tolist() == [12, 13, 14, 22, 14, 15]
    assert len(batch) == 3


@given(
    st.lists(st.tuples(st.integers(0, 80), st.integers(0, 20)), min_size=0, max_size=30),
    st.integers(100, 130),
)
@settings(deadline=None)
def test_any_ranges_are_gathered(ranges, size):
    history = torch.randperm(size, generator=torch.Generator().manual_seed(size))
    starts, lengths = (torch.tensor([pair[i] for pair in ranges], dtype=torch.int64) for i in (0, 1))
    index, cu_seqlens = gather_ranges(starts, lengths)
    expected = [history[start : start + length].tolist() for start, length in ranges]
    borders = cu_seqlens.tolist()
    assert borders == [0, *np.cumsum([length for _, length in ranges]).tolist()]
    assert [history[index][a:b].tolist() for a, b in zip(borders, borders[1:], strict=False)] == expected
    assert len(index) == borders[-1]


def test_masking_has_its_ratio_and_touches_nothing_else():
    items = torch.arange(1, 40_001)
    masked = mask_items(items, 0.15, torch.Generator().manual_seed(1))
    hidden = masked == 0
    assert abs(hidden.sum().item() - 6000) < 5 * (40_000 * 0.15 * 0.85) ** 0.5
    assert torch.equal(masked[~hidden], items[~hidden])
    # nowhere more than elsewhere, in particular the last item of a history is not spared
    for part in hidden.view(40, 1000).sum(1):
        assert abs(part.item() - 150) < 5 * (1000 * 0.15 * 0.85) ** 0.5


def test_masking_is_a_matter_of_the_seed():
    items = torch.arange(1, 2001)
    one, same, other = (mask_items(items, 0.5, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
    assert items.min() == 1  # not in place


@pytest.mark.parametrize(("ratio", "expected"), [(0.0, 2000), (1.0, 0)])
def test_masking_nothing_and_everything(ratio, expected):
    masked = mask_items(torch.arange(1, 2001), ratio, torch.Generator().manual_seed(1))
    assert masked.count_nonzero() == expected


def train_loader(folder, **keys) -> PackedTrainDataLoader:
    _, (train, _, _) = make_loaders(make_config(folder, **keys))
    assert isinstance(train, PackedTrainDataLoader)
    return train


@pytest.mark.parametrize("keys", [{"train_batch_size": 32}, {"train_batch_tokens": 70}], ids=str)
def test_training_batches_hold_the_samples_of_the_dataset(tiny, keys):
    loader = train_loader(tiny, train_samples="all_prefixes", MAX_ITEM_LIST_LENGTH=5, **keys)
    samples = {}
    whole = loader._dataset[torch.arange(len(loader._dataset))]
    histories = whole["item_id_list"].tensor_split(whole["cu_seqlens"][1:-1].long())
    for user, history, target, end in zip(
        whole["user_id"], histories, whole["item_id"], whole["history_end"], strict=True
    ):
        samples[int(end)] = int(user), history.tolist(), int(target)
    found = {}
    number = 0
    for batch in loader:
        number += 1
        borders = batch["cu_seqlens"].tolist()
        assert len(batch["item_id_list"]) == borders[-1]
        assert len(batch["item_id"]) == len(batch["user_id"]) == len(batch) == len(borders) - 1
        for s, end in enumerate(batch["history_end"].tolist()):
            history = batch["item_id_list"][borders[s] : borders[s + 1]].tolist()
            found[end] = int(batch["user_id"][s]), history, int(batch["item_id"][s])
            assert (batch["seq_idx"][borders[s] : borders[s + 1]] == s).all()
    assert found == samples
    assert number == len(loader)


def test_whole_sequences_have_every_training_target_once(tiny):
    loader = train_loader(tiny, train_samples="whole_sequence", train_batch_tokens=64)
    pairs = []
    for batch in loader:
        assert len(batch["item_id"]) == len(batch["item_id_list"])
        assert len(batch) == len(batch["user_id"]) == len(batch["cu_seqlens"]) - 1
        users = batch["user_id"][batch["seq_idx"].long()]
        pairs.extend(zip(users.tolist(), batch["item_id"].tolist(), strict=True))
    feat = loader._dataset.inter_feat
    assert sorted(pairs) == sorted(zip(feat["user_id"].tolist(), feat["item_id"].tolist(), strict=True))


def test_cut_histories_have_the_targets_from_the_cut_on(tiny):
    """Those of whole sequences; after the causal epochs a cut may be after any item, another one in each epoch."""
    keys = {"train_batch_tokens": 64, "mask_ratio": 0.0}
    whole = train_loader(tiny, train_samples="whole_sequence", **keys)
    keys |= {"model": "SSD4Rec", "train_samples": "prefix_lm", "causal_epochs": 1, "epochs": 2}
    loader = train_loader(tiny, **keys)
    for batch, every in zip(loader, whole, strict=True):
        assert (batch["cut"] == 1).all()
        assert torch.equal(batch["item_id"], every["item_id"])
    places, epochs = set(), []
    for _ in range(40):
        epochs.append([])
        for batch, every in zip(loader, whole, strict=True):
            assert torch.equal(batch["item_id_list"], every["item_id_list"])
            expected = [
                t
                for start, end, cut in zip(batch["cu_seqlens"], batch["cu_seqlens"][1:], batch["cut"], strict=False)
                for t in range(start + cut - 1, end)
            ]
            assert batch["readout"].tolist() == expected
            assert torch.equal(batch["item_id"], every["item_id"][batch["readout"]])
            lengths = batch["cu_seqlens"].diff()
            assert ((batch["cut"] >= 1) & (batch["cut"] <= lengths)).all()
            places |= set(zip(lengths.tolist(), batch["cut"].tolist(), strict=True))
            epochs[-1] += batch["cut"].tolist()
    assert len({tuple(cuts) for cuts in epochs}) == 40
    assert {cut for length, cut in places if length == 5} == {1, 2, 3, 4, 5}


@pytest.mark.parametrize("model", ["2Mamba4Rec", "SSD4Rec"])
def test_the_loader_masks_where_the_model_asks_for_it(tiny, model):
    keys = {"mask_ratio": 0.3} if model == "SSD4Rec" else {}
    loader = train_loader(tiny, model=model, train_samples="all_prefixes", **keys)
    tokens = torch.cat([batch["item_id_list"] for _ in range(3) for batch in loader])
    hidden = (tokens == 0).sum().item()
    expected = len(tokens) * keys.get("mask_ratio", 0)
    assert abs(hidden - expected) <= 5 * (len(tokens) * 0.3 * 0.7) ** 0.5 * bool(keys)
    again = torch.cat([batch["item_id_list"] for batch in loader])  # masks anew, and does not touch the dataset
    assert loader._dataset.history.min() > 0
    assert len(again) * 3 == len(tokens)


BPR = {"loss_type": "BPR", "train_neg_sample_args": {"distribution": "uniform", "sample_num": 2}}


@pytest.mark.parametrize("train_samples", ["all_prefixes", "whole_sequence"])
@pytest.mark.parametrize("distribution", ["uniform", "popularity"])
def test_negatives_are_k_for_each_target_and_never_the_target(tmp_path, train_samples, distribution):
    frame = interactions(n_items=4)  # a careless draw would hit the target often
    write_dataset(tmp_path, frame)
    negatives = {"distribution": distribution, "sample_num": 3}
    keys = {**BPR, "train_neg_sample_args": negatives, "train_samples": train_samples}
    loader = train_loader(tmp_path, **keys)
    drawn = []
    for batch in loader:
        targets = batch["item_id"]
        assert batch["neg_item_id"].shape == (3 * len(targets),)
        rows = batch["neg_item_id"].view(3, len(targets))
        assert (rows != targets).all()
        drawn.append(rows.flatten())
    assert sorted(torch.cat(drawn).unique().tolist()) == [1, 2, 3, 4]


def test_negatives_are_other_ones_in_every_epoch(tiny):
    loader = train_loader(tiny, **BPR, train_samples="all_prefixes", shuffle=False)
    first, second = (torch.cat([batch["neg_item_id"] for batch in loader]) for _ in range(2))
    assert (first != second).float().mean() > 0.8


def test_cross_entropy_draws_no_negatives(tiny):
    assert all("neg_item_id" not in batch for batch in train_loader(tiny))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "keys"),
    [
        ("SSD4Rec", {"mask_ratio": 0.4, "train_samples": "sampled_prefixes", "prefixes_per_user": 3}),
        ("SSD4Rec", {"mask_ratio": 0.4, "train_samples": "all_prefixes", **BPR}),
        ("2Mamba4Rec", {"train_samples": "whole_sequence", **BPR}),
    ],
    ids=["mask", "mask_and_negatives", "negatives"],
)
def test_batches_do_not_depend_on_worker_processes(tiny, model, keys):
    epochs = []
    for workers in (0, 2):
        loader = train_loader(tiny, model=model, train_batch_tokens=60, worker=workers, **keys)
        assert len(loader) > 2
        epochs.append([batch for _ in range(2) for batch in loader])
        np.random.seed(workers)
        torch.manual_seed(workers)
    assert len(epochs[0]) == len(epochs[1])
    for one, other in zip(*epochs, strict=True):
        assert one.interaction.keys() == other.interaction.keys()
        assert all(torch.equal(one[field], other[field]) for field in one.interaction)


def test_loading_a_batch_leaves_numpys_random_numbers_alone(tiny):
    loader = train_loader(tiny, **BPR)
    np.random.seed(5)
    expected = np.random.random()
    np.random.seed(5)
    list(loader)
    assert np.random.random() == expected


@pytest.mark.parametrize("kind", ["valid", "test"])
@pytest.mark.parametrize("model", ["2Mamba4Rec", "SASRec"])
def test_full_ranking_covers_every_sample_in_order(tiny, model, kind):
    _, loaders = make_loaders(make_config(tiny, model, eval_batch_size=8))
    loader = loaders[("train", "valid", "test").index(kind)]
    batches = list(loader)
    positives = torch.cat([positive_i for _, _, _, positive_i in batches])
    assert torch.equal(positives, loader._dataset.inter_feat["item_id"])
    assert len(batches) == 4  # of 30 users
    for interaction, history, positive_u, positive_i in batches:
        assert history is None
        assert torch.equal(positive_u, torch.arange(len(positive_i)))
        assert torch.equal(positive_i, interaction["item_id"])


def trained(folder, model="2Mamba4Rec", **keys):
    """A model with scores that are not nearly equal, its trainer and its loaders."""
    config = make_config(folder, model, **keys)
    _, loaders = make_loaders(config)
    torch.manual_seed(0)
    recommender = config.model_class(config, loaders[0]._dataset)
    torch.nn.init.normal_(recommender.item_embedding.weight, std=1.0)
    return config, recommender.eval(), create_trainer(config, recommender), loaders


LEAVE_ONE_OUT = {"split": {"LS": "valid_and_test"}, "group_by": "user", "order": "TO"}

sampled = pytest.mark.parametrize(
    ("mode", "eval_args", "batch_size"),
    [
        ("uni50", LEAVE_ONE_OUT, 256),
        ("pop50", LEAVE_ONE_OUT, 256),
        ("uni50", RATIO, 700),
        ("uni50", RATIO, 2),
    ],
    ids=["uniform", "popularity", "several_targets", "batches_smaller_than_a_user"],
)


@sampled
def test_sampled_evaluation_gives_each_history_its_target_and_negatives(tiny, mode, eval_args, batch_size):
    keys = {"eval_args": {**eval_args, "mode": mode}, "eval_batch_size": batch_size}
    _, (_, _, test) = make_loaders(make_config(tiny, **keys))
    feat = test._dataset.inter_feat
    target = dict(zip(feat["history_end"].tolist(), feat["item_id"].tolist(), strict=True))
    user = dict(zip(feat["history_end"].tolist(), feat["user_id"].tolist(), strict=True))
    found = []
    for batch, row, positive_u, positive_i in test:
        history, candidates = batch["candidate_seq_idx"], batch["item_id"]
        assert len(batch["cu_seqlens"]) - 1 == len(positive_i)  # every history once
        assert len(history) == len(candidates) == len(row) == 51 * len(positive_i)
        ends = batch["history_end"][history].tolist()
        found.extend(batch["history_end"].tolist())
        positive = batch["label"].bool()
        is_target = candidates == torch.tensor([target[end] for end in ends])
        assert torch.equal(is_target, positive)
        assert (history.bincount() == 51).all()
        # the evaluator ranks the candidates of a row in one list: those of a user, positives first
        for r in range(int(row.max()) + 1):
            in_row = row == r
            assert len({user[end] for end, here in zip(ends, in_row.tolist(), strict=True) if here}) == 1
            n = int((positive_u == r).sum())
            assert positive[in_row].tolist() == [True] * n + [False] * (50 * n)
            assert torch.equal(candidates[in_row][:n], positive_i[positive_u == r])
    assert sorted(found) == sorted(target)


@pytest.mark.sampled(4)
@sampled
def test_sampled_evaluation_has_as_many_batches_and_candidates_as_recboles(tiny, mode, eval_args, batch_size):
    keys = {"eval_args": {**eval_args, "mode": mode}, "eval_batch_size": batch_size}
    sizes = []
    for model in ("2Mamba4Rec", "SASRec"):
        _, (_, valid, test) = make_loaders(make_config(tiny, model, **keys))
        sizes.append([[len(candidates["item_id"]) for candidates, *_ in loader] for loader in (valid, test)])
    assert sizes[0] == sizes[1]


@pytest.mark.sampled(4)
@sampled
@torch.no_grad()
def test_sampled_evaluation_ranks_by_the_scores_of_a_full_ranking(tiny, mode, eval_args, batch_size):
    keys = {"eval_args": {**eval_args, "mode": mode}, "eval_batch_size": batch_size, "topk": [5]}
    _, model, trainer, (_, _, test) = trained(tiny, valid_metric="Hit@5", **keys)
    packed = model.packed

    def packed_and_checked(interaction):
        tokens, cu_seqlens = packed(interaction)
        assert cu_seqlens[0] == 0
        assert cu_seqlens[-1] == len(tokens), "a batch was cut through its histories"
        return tokens, cu_seqlens

    model.packed = packed_and_checked
    np.random.seed(3)  # candidates are drawn when a batch is loaded
    hits, reciprocal = [], []
    for batch, row, positive_u, positive_i in test:
        history, candidates = batch["candidate_seq_idx"], batch["item_id"]
        scores = model.full_sort_predict(batch)[history, candidates]
        for r in range(int(row.max()) + 1):
            own = dict(zip(candidates[row == r].tolist(), scores[row == r].tolist(), strict=True))
            best = sorted(own, key=own.get, reverse=True)[:5]
            wanted = set(positive_i[positive_u == r].tolist())
            places = [place for place, item in enumerate(best, 1) if item in wanted]
            hits.append(bool(places))
            reciprocal.append(1 / places[0] if places else 0)
    np.random.seed(3)
    result = trainer.evaluate(test, load_best_model=False)
    assert 0.02 < np.mean(hits) < 0.98
    assert result["hit@5"] == pytest.approx(np.mean(hits), abs=6e-5)
    assert result["mrr@5"] == pytest.approx(np.mean(reciprocal), abs=6e-5)


@torch.no_grad()
def test_labeled_evaluation_scores_each_row_for_its_own_history(tmp_path):
    frame = interactions(n_users=60)
    frame["label"] = np.random.default_rng(1).integers(0, 2, len(frame)).astype(float)
    write_dataset(tmp_path, frame)
    labeled = {
        "load_col": {"inter": ["user_id", "item_id", "timestamp", "label"]},
        "eval_args": {**LEAVE_ONE_OUT, "mode": "labeled"},
        "metrics": ["AUC"],
        "valid_metric": "AUC",
        "eval_batch_size": 16,
    }
    _, model, trainer, (_, _, test) = trained(tmp_path, **labeled)
    whole = test._dataset[torch.arange(len(test._dataset))]
    scores = model.full_sort_predict(whole).gather(1, whole["item_id"][:, None]).squeeze(1)
    liked = whole["label"].bool()
    assert 10 < liked.sum() < 50
    above = (scores[liked][:, None] > scores[~liked]).float().mean().item()
    assert trainer.evaluate(test, load_best_model=False)["auc"] == pytest.approx(above, abs=6e-5)
