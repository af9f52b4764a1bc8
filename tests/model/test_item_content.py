"""``item_vectors`` and ``item_features``: what is known of items beside their ids, and items that nobody has had."""

import shutil

import numpy as np
import pandas as pd
import pytest
import torch
from atomic import make_trainer, small, write_dataset

from recbole_ssm import InputError, Recommender
from recbole_ssm.checkpoints import format as checkpoint
from recbole_ssm.config.config import Config
from recbole_ssm.testing.checkpoints import made_checkpoint
from recbole_ssm.training.run import run

N_CATEGORIES, PER_CATEGORY = 8, 8
COLD = [f"i{category}-0" for category in range(N_CATEGORIES)]
"""One item of each category that nobody has had."""
MODELS = ["2Mamba4Rec", "Mamba4Rec", "SSD4Rec", "Hydra4Rec", "LRURec", "PackedSASRec"]


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    """Whoever had an item of a category has one of the next category then; which one is chance."""
    folder, rng = tmp_path_factory.mktemp("shop"), np.random.default_rng(0)
    rows = []
    for user in range(60):
        begin = rng.integers(N_CATEGORIES)
        for place in range(12):
            category = (begin + place) % N_CATEGORIES
            rows.append((f"u{user}", f"i{category}-{rng.integers(1, PER_CATEGORY)}", 1e9 + 60 * place))
    write_dataset(folder, pd.DataFrame(rows, columns=["user_id", "item_id", "timestamp"]))
    items = [
        f"i{category}-{number}\tc{category} all\t{category}"
        for category in range(N_CATEGORIES)
        for number in range(PER_CATEGORY)
    ]
    (folder / "tiny" / "tiny.item").write_text("item_id:token\tkind:token_seq\tsize:float\n" + "\n".join(items) + "\n")
    names = [item.split("\t")[0] for item in items]
    vectors = np.random.default_rng(1).normal(size=(N_CATEGORIES, 6)).repeat(PER_CATEGORY, 0)
    np.save(folder / "vectors.npy", vectors)
    (folder / "vectors.txt").write_text("\n".join(names) + "\n")
    return folder


def keys_of(folder, **keys) -> dict:
    return {"data_path": str(folder), "use_gpu": False, "show_progress": False, "console": "none", **keys}


def config_of(folder, model="2Mamba4Rec", **keys) -> Config:
    return Config(model, "tiny", config_dict=keys_of(folder, **small(model), **keys))


@pytest.mark.slow
@pytest.mark.parametrize("content", ["item_features", "item_vectors"])
def test_items_that_nobody_has_had_are_ranked_by_what_is_known_of_them(shop, tmp_path, content):
    given = {"item_features": "kind"} if content == "item_features" else {"item_vectors": str(shop / "vectors.npy")}
    size = {"hidden_size": 32, "headdim": 16, "epochs": 12, "train_batch_tokens": 128, "learning_rate": 0.01}
    keys = keys_of(shop, checkpoint_dir=str(tmp_path), **size, **given)
    recommender = Recommender(run("2Mamba4Rec", "tiny", config_dict=keys)["checkpoint"])
    assert set(COLD) <= set(recommender.items)
    histories = [[f"i{(c - back) % N_CATEGORIES}-{1 + c % 7}" for back in (3, 2, 1)] for c in range(N_CATEGORIES)]
    best = recommender.recommend(histories, k=1, candidates=COLD)
    hits = sum(found[0][0] == COLD[c] for c, found in enumerate(best))
    assert hits >= 6  # chance, and popularity, which is 0 for all of them, have 1 of 8


@pytest.mark.sampled(3)
@pytest.mark.parametrize("model", MODELS)
def test_all_ways_of_scoring_agree_and_a_checkpoint_needs_no_file(shop, tmp_path, model):
    keys = {"item_features": "kind,size", "item_vectors": str(shop / "vectors.npy"), "item_bias": True}
    dataset, trainer, (_, valid, _) = make_trainer(config_of(shop, model, **keys))
    own = trainer.model.eval()
    (batch, *_), *_ = valid
    with torch.no_grad():
        scores = own.full_sort_predict(batch)
        batch.interaction[own.ITEM_ID] = torch.arange(len(scores)) + 1
        torch.testing.assert_close(own.predict(batch), scores[torch.arange(len(scores)), torch.arange(len(scores)) + 1])
        before = own.item_table().clone()
        own.content.projection.mul_(2)
        assert not torch.equal(own.item_table(), before)  # what is kept is not what it was
    names = [str(name) for name in dataset.field2id_token["item_id"]]
    file = made_checkpoint(tmp_path / "made.pth", names[1:], model, **small(model))
    state = {key: value for key, value in checkpoint.read(file).items() if not key.startswith("format")}
    state |= {"state_dict": own.state_dict()}
    state["config"] |= {**keys, "item_vectors": "gone.npy"}
    checkpoint.write(file, state)
    recommender = Recommender(file)
    with torch.no_grad():
        torch.testing.assert_close(recommender.model.item_table(), own.item_table())
    if own.streams:
        session = recommender.session(COLD[:3])
        assert [name for name, _ in session.recommend(5)] == [
            name for name, _ in recommender.recommend([COLD[:3]], 5)[0]
        ]


def test_gradients_reach_the_projection_and_an_unknown_item_is_its_content_alone(shop):
    dataset, trainer, (train, _, _) = make_trainer(config_of(shop, item_features="kind"))
    model = trainer.model.train()
    model.calculate_loss(next(iter(train))).backward()
    assert model.content.projection.grad.abs().sum() > 0
    names = [str(name) for name in dataset.field2id_token["item_id"]]
    cold = [names.index(name) for name in COLD]
    assert model.item_embedding.weight.grad[cold].abs().sum() == 0
    model.eval()
    content = model.content.values @ model.content.projection.T
    torch.testing.assert_close(model.item_table()[cold], content[cold])


def test_frozen_vectors_take_the_place_of_embeddings(shop):
    """So an item that nobody has had is known as all others are."""
    _, trainer, (train, _, _) = make_trainer(
        config_of(shop, item_vectors=str(shop / "vectors.npy"), item_vectors_as="frozen")
    )
    model = trainer.model.train()
    model.calculate_loss(next(iter(train))).backward()
    assert model.content.projection.grad.abs().sum() > 0 and not model.item_embedding.weight.grad.any()
    torch.testing.assert_close(model.item_table(), model.content.values @ model.content.projection.T)


@pytest.mark.parametrize("given", [{"item_features": "kind,size"}, {"item_vectors": "vectors.npy"}])
def test_items_that_the_item_file_lacks_keep_their_interactions(shop, tmp_path, given):
    folder = shutil.copytree(shop, tmp_path / "data")
    file = folder / "tiny" / "tiny.item"
    file.write_text("\n".join(line for line in file.read_text().splitlines() if not line.startswith("i3-")) + "\n")
    vectors = {"item_vectors": str(folder / "vectors.npy")} if "item_vectors" in given else given
    dataset, trainer, _ = make_trainer(config_of(folder, "LRURec", **vectors))
    assert dataset.inter_num == 60 * 11 and trainer.model.item_table().isfinite().all()
    assert "i3-1" in dataset.field2token_id["item_id"] and "i3-0" not in dataset.field2token_id["item_id"]


@pytest.mark.parametrize("width", [4, 8])
def test_vectors_to_start_with_keep_what_is_near(shop, width):
    """The first of their principal components are the initial embeddings, as far as there are any."""
    keys = {"item_vectors": str(shop / "vectors.npy"), "item_vectors_as": "start", "hidden_size": width}
    dataset, trainer, _ = make_trainer(Config("LRURec", "tiny", config_dict=keys_of(shop, **small("LRURec") | keys)))
    assert trainer.model.content is None
    own = trainer.model.item_embedding.weight.detach()[1:, :6]
    assert own.std() == pytest.approx(0.02, rel=0.05)
    names = [str(name).split("-")[0] for name in dataset.field2id_token["item_id"][1:]]
    places = {category: [row for row, name in enumerate(names) if name == category] for category in set(names)}
    for rows in places.values():
        assert torch.equal(own[rows], own[rows[:1]].expand(len(rows), -1))
    known = dataset.item_vectors_at_start(width)[1:, :6]
    assert known.mean(0).abs().max() < 1e-6 and torch.equal(known, own)


@pytest.mark.parametrize(
    ("array", "names", "says"),
    [
        (np.zeros((2, 3)), "a\nb\nc\n", "has 2 vectors, and .* 3 different names"),
        (np.zeros((2, 3)), "a\na\n", "1 different names"),
        (np.zeros(3), "a\nb\nc\n", r"must be an array \(n, d\)"),
        (np.zeros((2, 0)), "a\nb\n", r"must be an array \(n, d\)"),
        (np.array([[1.0, np.nan]]), "i1-1\n", "not finite"),
        (np.array([[1.0, 1e300]]), "i1-1\n", "not finite in float32"),
        (np.array([["a", "b"]]), "i1-1\n", "floating-point"),
        (np.array([[{}]]), "i1-1\n", "must be an array"),
        (np.ones((2, 3)), "x\ny\n", "knows no item of these data"),
        (np.ones((2, 3)), None, "must both be there"),
        (None, "a\n", "must be an array"),
    ],
)
def test_files_that_cannot_be_used(shop, tmp_path, array, names, says):
    file = tmp_path / "vectors.npy"
    file.write_bytes(b"no array")
    if array is not None:
        np.save(file, array, allow_pickle=True)
    if names is not None:
        file.with_suffix(".txt").write_text(names)
    with pytest.raises(InputError, match=says):
        make_trainer(config_of(shop, item_vectors=str(file)))


def test_a_column_that_is_not_there_is_named(shop):
    with pytest.raises(InputError, match="brand"):
        make_trainer(config_of(shop, item_features="brand"))


@pytest.mark.parametrize(("kind", "error"), [(torch.float32, 1e-6), (torch.float16, 1e-3), (torch.bfloat16, 1e-2)])
def test_safetensors_are_read_as_npy_is(shop, tmp_path, kind, error):
    save_file = pytest.importorskip("safetensors.torch", reason="safetensors is not installed").save_file
    save_file({"vectors": torch.from_numpy(np.load(shop / "vectors.npy")).to(kind)}, tmp_path / "v.safetensors")
    (tmp_path / "v.txt").write_text((shop / "vectors.txt").read_text())
    values = [
        make_trainer(config_of(shop, item_vectors=str(file)))[1].model.content.values
        for file in (shop / "vectors.npy", tmp_path / "v.safetensors")
    ]
    torch.testing.assert_close(*values, rtol=error, atol=error)


def test_numbers_of_a_column_keep_their_proportions(shop):
    dataset, trainer, _ = make_trainer(config_of(shop, item_features="size", normalize_all=False))
    names = [str(name) for name in dataset.field2id_token["item_id"]]
    values = trainer.model.content.values[1:, 0].tolist()
    assert values == pytest.approx([int(name[1 : name.index("-")]) / (N_CATEGORIES - 1) for name in names[1:]])
