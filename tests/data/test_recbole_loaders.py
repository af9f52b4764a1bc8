"""Loaders of RecBole's models: a user with all items is refused only where a negative item is drawn for that user."""

from __future__ import annotations

import pandas as pd
import pytest
from atomic import interactions, small, write_dataset

import recbole_ssm
from recbole_ssm.data import recbole_loaders
from recbole_ssm.errors import InputError

COLUMNS = ["user_id", "item_id", "timestamp"]
ITEMS = 10
FIXED = {"use_gpu": False, "show_progress": False, "epochs": 1, "data_path": "."}


@pytest.fixture
def user_with_all(tmp_path):
    """A dataset in which one user has had all items, and the others some."""
    everything = pd.DataFrame([("all", f"i{item}", float(item)) for item in range(ITEMS)], columns=COLUMNS)
    write_dataset(tmp_path, pd.concat([interactions(n_users=12, n_items=ITEMS), everything]))


@pytest.fixture
def only_such_users(tmp_path):
    rows = [(f"u{user}", f"i{item}", float(item)) for user in range(6) for item in range(4)]
    write_dataset(tmp_path, pd.DataFrame(rows, columns=COLUMNS))


def run(model: str, **keys) -> dict:
    return recbole_ssm.run(model, "tiny", config_dict=FIXED | small(model) | keys)["test_result"]


@pytest.mark.sampled(3)
@pytest.mark.parametrize("model", ["Pop", "BPR", "MultiVAE", "ItemKNN"])
@pytest.mark.parametrize("filter_seen", [False, True])
def test_a_user_with_all_items_is_ranked(user_with_all, model, filter_seen):
    assert 0 < run(model, filter_seen=filter_seen)["hit@10"] <= 1


@pytest.mark.sampled(2)
@pytest.mark.parametrize("model", ["Pop", "BPR"])
def test_where_no_user_has_all_items_both_ways_are_the_same(tmp_path, monkeypatch, model):
    write_dataset(tmp_path, interactions())
    expected = run(model)
    monkeypatch.setattr(recbole_loaders, "_refused_by_recbole", lambda config, dataset: True)
    assert run(model) == expected


def test_no_candidate_can_be_drawn_for_who_has_all_items(user_with_all):
    with pytest.raises(InputError, match="no item is left to draw for a user who has had all"):
        run("Pop", eval_args={"mode": "uni5"})


@pytest.mark.parametrize("model", ["Pop", "SASRec", "2Mamba4Rec"])
def test_gauc_without_any_negative_is_refused(only_such_users, model):
    keys = {"metrics": ["GAUC"], "valid_metric": "GAUC", "topk": [1], "filter_seen": True}
    with pytest.raises(InputError, match=r"metrics: GAUC ranks .* no such item is left; remove GAUC"):
        run(model, **keys)


def test_gauc_with_a_few_negatives_is_a_number(user_with_all):
    keys = {"metrics": ["GAUC"], "valid_metric": "GAUC", "topk": [1], "filter_seen": True}
    assert 0 <= run("2Mamba4Rec", **keys)["gauc"] <= 1
