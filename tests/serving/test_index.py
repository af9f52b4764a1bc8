"""Retrieving from an index of items gives what ranking all items gives."""

import pytest
import torch
from made import made_checkpoint
from model_cases import build
from torch.testing import assert_close

from recbole_ssm import InputError, Recommender
from recbole_ssm.serving.index import ItemIndex
from recbole_ssm.serving.nearest import Effort
from recbole_ssm.serving.vectors import item_vectors

pytest.importorskip("faiss", reason="pip install 'recbole-ssm[ann]'")
pytest.importorskip("safetensors", reason="pip install 'recbole-ssm[ann]'")

HISTORIES = [["i3", "i7", "i3", "i11"], ["i400"], ["i5", "i6"]]
ADDITIONS = {"item_bias": True, "repeat_bias": True, "transition_memory": True, "memory_items": 3}


def recommender_of(folder, model="2Mamba4Rec", n_items=500, filter_seen=False, **keys):
    return Recommender(made_checkpoint(folder / "made.pth", model, n_items, **keys), filter_seen=filter_seen)


@pytest.mark.sampled(3)
@pytest.mark.parametrize(
    ("kind", "filter_seen", "model", "keys"),
    [
        ("exact", True, "2Mamba4Rec", ADDITIONS),
        ("ivf_pq", False, "2Mamba4Rec", ADDITIONS),
        ("pq", True, "2Mamba4Rec", ADDITIONS),
        ("hnsw", True, "SSD4Rec", {}),
        ("ivf", True, "LRURec", {}),
    ],
)
def test_what_is_retrieved_has_exact_scores(tmp_path, kind, filter_seen, model, keys):
    recommender = recommender_of(tmp_path, model, filter_seen=filter_seen, **keys)
    index = ItemIndex.build(recommender, kind, histories=HISTORIES, target=1.0)
    assert index.exact == (kind == "exact")
    index.save(tmp_path / "items.index")
    index = ItemIndex.load(tmp_path / "items.index", recommender)
    exact = recommender.recommend(HISTORIES, 500)
    shared = 0
    for found, all_items in zip(index.recommend(HISTORIES, 8), exact, strict=True):
        assert len(found) == 8
        scores = dict(all_items)
        assert_close([score for _, score in found], [scores[name] for name, _ in found], rtol=1e-5, atol=1e-5)
        assert found == sorted(found, key=lambda each: -each[1])
        shared += len({name for name, _ in found} & {name for name, _ in all_items[:8]})
    assert shared >= 22 if kind != "exact" else shared == 24
    if kind == "exact":
        assert index.about.recall_at_10 == 1.0


def test_many_histories_are_searched_at_once(tmp_path):
    recommender = recommender_of(tmp_path, **ADDITIONS)
    index = ItemIndex.build(recommender)
    with recommender.computing():
        batch = recommender._batch([[3, 7, 3], [9]], {})
        hidden, added = recommender.model.represent(batch)
        scores, items = index.search(hidden, 6, exclude=[[], range(1, 499)], added=added)
        every = recommender.model.full_sort_predict(batch).clone()
        every[:, 0] = -torch.inf
        every[1, 1:499] = -torch.inf
    assert_close(scores[0], every[0].topk(6).values)
    assert sorted(items[1].tolist()) == [0, 0, 0, 0, 499, 500]
    assert scores[1, 2:].tolist() == [-torch.inf] * 4


def test_what_cannot_be_used_is_refused(tmp_path):
    recommender = recommender_of(tmp_path)
    with pytest.raises(InputError, match=r"one of auto, exact, pq, ivf, ivf_pq, hnsw, and not 'tree'"):
        ItemIndex.build(recommender, "tree")
    with pytest.raises(InputError, match="knows none of the items"):
        ItemIndex.build(recommender, histories=[["x"]])
    index = ItemIndex.build(recommender)
    index.save(tmp_path / "items.index")
    with pytest.raises(InputError, match="vectors of another model"):
        ItemIndex.load(tmp_path / "items.index", recommender_of(tmp_path, n_items=30))
    (tmp_path / "items.index").write_bytes(b"x" * 100)
    with pytest.raises(InputError, match="cannot be read as an index"):
        ItemIndex.load(tmp_path / "items.index", recommender)
    with pytest.raises(InputError, match="a history is empty"):
        index.recommend([[]])
    with pytest.raises(InputError, match="PCTM here has no vectors"):
        item_vectors(build("PCTM", 30))


def test_of_two_kinds_the_quicker_one_is_taken_that_finds_enough(tmp_path, monkeypatch):
    monkeypatch.setattr("recbole_ssm.serving.index._FEW_ITEMS", 100)
    found = {"pq": Effort(0, 100, 0.96, 2.0), "ivf": Effort(8, 100, 0.99, 3.0)}
    monkeypatch.setattr("recbole_ssm.serving.index.measure", lambda _, kind, *others: found[kind])
    recommender = recommender_of(tmp_path)
    assert ItemIndex.build(recommender).about.kind == "pq"
    assert ItemIndex.build(recommender, target=0.98).about.kind == "ivf"
