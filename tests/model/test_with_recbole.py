"""The models in RecBole's hands: its samples, its count of operations, its case study."""

import logging

import numpy as np
import pytest
import torch
from atomic import interactions, make_config, make_loaders, write_dataset
from model_cases import BIASES, MODELS, config_of
from packed_cases import randomise, relative_error
from recbole.data import create_dataset as create_padded_dataset
from recbole.data import data_preparation as prepare_padded_data
from recbole.data.transform import construct_transform
from recbole.utils import get_flops
from recbole.utils.case_study import full_sort_scores, full_sort_topk

from recbole_ssm.data import create_dataset, data_preparation


@pytest.fixture(scope="module")
def three_users(tmp_path_factory):
    """A folder with a dataset of three users."""
    folder = tmp_path_factory.mktemp("three_users")
    write_dataset(folder, interactions(n_users=3, n_items=12, shortest=5, longest=9))
    return folder


@pytest.mark.sampled(12)
@pytest.mark.parametrize("biases", [{}, BIASES], ids=["no biases", "biases"])
@pytest.mark.parametrize(
    ("model", "loss_type"),
    [("Mamba4Rec", "CE"), ("2Mamba4Rec", "CE"), ("2Mamba4Rec", "BPR"), ("LRURec", "CE"), ("PackedSASRec", "CE")],
)
def test_whole_sequences_train_as_all_prefixes_do(three_users, model, loss_type, biases, monkeypatch):
    """The same sum of losses over an epoch, and the same gradient of every parameter: the same targets."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    results = {}
    for train_samples in ("all_prefixes", "whole_sequence"):
        keys = {"train_samples": train_samples, "dropout_prob": 0.0, "train_batch_size": 2, "loss_type": loss_type}
        keys |= biases
        config = make_config(three_users, model, **keys)
        _, (train, *_) = make_loaders(config)
        torch.manual_seed(0)
        recommender = randomise(config.model_class(config, train._dataset)).double()
        total, count = 0.0, 0
        for batch in train:
            if loss_type == "BPR":  # a negative that follows from the target, for both to have the same
                batch["neg_item_id"] = batch["item_id"] % (recommender.n_items - 1) + 1
            targets = len(batch["item_id"])
            loss = recommender.calculate_loss(batch) * targets
            loss.backward()
            total, count = total + loss.item(), count + targets
        gradients = {key: parameter.grad for key, parameter in recommender.named_parameters()}
        results[train_samples] = total, count, gradients
    loss, count, gradients = results["all_prefixes"]
    assert results["whole_sequence"][1] == count > 6
    assert results["whole_sequence"][0] == pytest.approx(loss, rel=1e-12)
    for key, expected in gradients.items():
        assert relative_error(results["whole_sequence"][2][key], expected, floor=1e-6) < 1e-10, key


FEW_USERS = {"user_inter_num_interval": "[0,40]", "MAX_ITEM_LIST_LENGTH": 20}


@pytest.fixture(scope="module")
def ml_100k():
    """Loaders of ml-100k, those of this package and those of RecBole: the same samples, packed and padded."""
    config = config_of("2Mamba4Rec", **FEW_USERS)
    packed = data_preparation(config, create_dataset(config, packed=True))
    padded = prepare_padded_data(config, create_padded_dataset(config))
    return packed, padded


@pytest.mark.slow
@pytest.mark.parametrize("name", ["Mamba4Rec", "2Mamba4Rec", "SSD4Rec", "Hydra4Rec"])
def test_get_flops_counts_the_tokens_that_exist(name, ml_100k):
    """RecBole's counter works on packed and on padded samples, and finds no work for padding."""
    (train, *_), (padded_train, *_) = ml_100k
    model, sizes = MODELS[name]
    config = config_of(model, **sizes)
    recommender = config.model_class(config, train._dataset)
    transform, logger = construct_transform(config), logging.getLogger()
    packed, padded = (
        get_flops(recommender, loader._dataset, torch.device("cpu"), logger, transform)
        for loader in (train, padded_train)
    )
    assert packed == padded
    tokens = train._dataset[torch.tensor([1])]["item_length"].item()
    weights = [layer.weight.numel() for layer in recommender.modules() if isinstance(layer, torch.nn.Linear)]
    in_projections = sum(layer.mixer.in_proj.weight.numel() for layer in recommender.layers)
    assert tokens * in_projections < packed < 2 * tokens * sum(weights)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["Mamba4Rec", "2Mamba4Rec", "SSD4Rec", "Hydra4Rec"])
def test_case_study_scores_packed_and_padded_histories_alike(name, ml_100k):
    """RecBole's ``case_study`` gives each user the scores of the history before the test item."""
    (*_, test), (*_, padded_test) = ml_100k
    model, sizes = MODELS[name]
    config = config_of(model, **sizes)
    torch.manual_seed(0)
    recommender = randomise(config.model_class(config, test.dataset))
    users = test.dataset.inter_feat["user_id"][[5, 0, 17]].numpy()
    scores = full_sort_scores(users, recommender, test)
    assert scores.shape == (3, test.dataset.item_num)
    torch.testing.assert_close(scores, full_sort_scores(users, recommender, padded_test))
    assert np.isneginf(scores[:, 0]).all()

    rows = [(test.dataset.inter_feat["user_id"] == user).nonzero().item() for user in users]
    single = torch.cat([recommender.full_sort_predict(test.dataset[torch.tensor([row])]) for row in rows])
    torch.testing.assert_close(scores[:, 1:], single[:, 1:].detach())
    _, items = full_sort_topk(users, recommender, test, k=3)
    assert torch.equal(items, single[:, 1:].topk(3).indices + 1)
