"""Sampled evaluation ranks against the same candidates each time, for models of every kind."""

import numpy as np
import pytest
import torch
from atomic import LEAVE_ONE_OUT, histories, interactions, make_config, make_loaders, write_dataset

import recbole_ssm
from recbole_ssm.data.candidates import FixedCandidates
from recbole_ssm.errors import InputError
from recbole_ssm.training.evaluation import evaluate

MODELS = ["2Mamba4Rec", "SSD4Rec", "SASRec", "Pop", "BPR"]


def sampled(mode: str, **split) -> dict:
    return {"eval_args": {**LEAVE_ONE_OUT, "mode": mode, **split}}


def candidates(loader) -> dict[str, tuple[list, list]]:
    """Of each user, the names of all candidates and of the targets among them that count."""
    found, dataset = {}, loader._dataset
    for index in torch.arange(len(loader.uid_list)).split(7):
        interaction, row, positive_u, positive_i = loader.collate_fn(index.numpy())
        for number, own in enumerate(loader.uid_list[index.numpy()]):
            user = dataset.inter_feat["user_id"][loader.uid2index[own].start]
            items = interaction["item_id"][row == number].numpy()
            targets = positive_i[positive_u == number].numpy()
            names = dataset.id2token("item_id", items).tolist(), dataset.id2token("item_id", targets).tolist()
            found[str(dataset.id2token("user_id", int(user)))] = names
    return found


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["uni10", "pop5", "uni40"])
def test_the_candidates_are_the_same_for_all_models_and_whatever_was_drawn_before(tiny, mode):
    found = {}
    for model in MODELS:
        config = make_config(tiny, model, filter_seen=True, **sampled(mode))
        _, loaders = make_loaders(config)
        for number, loader in enumerate(loaders[1:]):
            first = candidates(loader)
            np.random.seed(hash(model) % 1000)
            assert candidates(loader) == first
            found.setdefault(number, first)
            assert first == found[number]
    assert len(found[1]) == 30
    assert found[0] != found[1]
    other = make_loaders(make_config(tiny, seed=3, filter_seen=True, **sampled(mode)))[1][2]
    assert candidates(other) != found[1]


@pytest.mark.sampled(4)
@pytest.mark.parametrize(("filter_seen", "mode"), [(True, "uni30"), (True, "pop30"), (False, "uni30")])
@pytest.mark.parametrize("model", ["2Mamba4Rec", "SASRec", "Pop"])
def test_what_a_user_has_had_is_no_candidate_if_it_is_filtered(tiny, model, filter_seen, mode):
    _, (_, _, test) = make_loaders(make_config(tiny, model, filter_seen=filter_seen, repeatable=True, **sampled(mode)))
    before = {user: words for user, words in histories(interactions(), np.float32).items()}
    overlap, misses = 0, 0
    for user, (names, targets) in candidates(test).items():
        *seen, target = before[user]
        assert names[0] == target and target not in names[1:] and len(names) == 31
        overlap += len(set(names[1:]) & set(seen))
        misses += targets == ["[PAD]"]
        assert (targets == ["[PAD]"]) == (filter_seen and target in seen)
    assert (overlap == 0) == filter_seen
    assert (misses > 2) == filter_seen


def test_popular_items_are_drawn_as_often_as_they_are_used():
    weights = np.array([0, 5, 0, 3, 2, 10])
    drawn = FixedCandidates(1, 0, weights, lambda user: np.array([5])).sample_by_user_ids([1], [4], 20_000)
    share = np.bincount(drawn.numpy(), minlength=6) / len(drawn)
    np.testing.assert_allclose(share, [0, 5 / 8, 0, 3 / 8, 0, 0], atol=0.01)


@pytest.mark.slow
@pytest.mark.parametrize("model", ["2Mamba4Rec", "SASRec", "BPR"])
def test_evaluations_agree_before_and_after_training_and_from_the_checkpoint(tiny, model):
    """Without learning the model stays as it is, and what is drawn for its training must not matter."""
    keys = {
        "data_path": str(tiny),
        "use_gpu": False,
        "show_progress": False,
        "learning_rate": 0.0,
        "train_batch_size": 64,
    }
    keys |= {"hidden_size": 8, "weight_decay": 0.0, **sampled("uni10")}
    results = [recbole_ssm.run(model, "tiny", config_dict={**keys, "epochs": epochs}) for epochs in (1, 3)]
    assert len({str(epoch["valid_result"]) for result in results for epoch in result["history"]}) == 1
    assert results[0]["test_result"] == results[1]["test_result"]
    assert evaluate(results[1]["checkpoint"])["test_result"] == results[0]["test_result"]


@pytest.mark.parametrize(("n_items", "mode"), [(1, "uni5"), (1, "pop1")])
@pytest.mark.parametrize("model", ["2Mamba4Rec", "SASRec", "Pop"])
def test_a_catalogue_too_small_to_draw_from_is_refused(tmp_path, model, n_items, mode):
    write_dataset(tmp_path, interactions(n_users=8, n_items=n_items))
    with pytest.raises(InputError, match=r"has a single item|a user has had all items"):
        make_loaders(make_config(tmp_path, model, topk=1, valid_metric="NDCG@1", **sampled(mode)))


def test_users_who_have_had_everything_have_no_candidates(tmp_path):
    write_dataset(tmp_path, interactions(n_users=8, n_items=3, shortest=30, longest=30))
    for model in ("2Mamba4Rec", "SASRec"):
        config = make_config(tmp_path, model, topk=1, valid_metric="NDCG@1", filter_seen=True, **sampled("uni2"))
        with pytest.raises(InputError, match="no item is left to draw for a user who has had all"):
            make_loaders(config)
    with pytest.raises(InputError, match="dataset 'tiny': a user has had all items in the training data"):
        make_loaders(make_config(tmp_path, "BPR", topk=1, valid_metric="NDCG@1"))
