"""Training, testing and checkpoints: what RecBole reports is what follows from the raw file."""

import os
from pathlib import Path

import numpy as np
import pytest
import recbole.trainer
import torch
from atomic import (
    ML_100K,
    histories,
    interactions,
    make_config,
    make_trainer,
    read_interactions,
    write_dataset,
)
from recbole.data.interaction import Interaction

from recbole_ssm.errors import InputError
from recbole_ssm.training.hooks.checkpointing import name_with_dataset
from recbole_ssm.training.hooks.divergence import TrainingDiverged
from recbole_ssm.training.optimisation import one_cycle


def metrics_at(k: int, scores: np.ndarray, targets: np.ndarray) -> dict[str, float]:
    """HR, NDCG and MRR by their definitions, with one target per row."""
    scores[:, 0] = -np.inf  # the padding is no item
    of_target = np.take_along_axis(scores, targets[:, None], axis=1)
    rank = 1 + (scores > of_target).sum(1)
    hit = rank <= k
    return {
        f"hit@{k}": hit.mean(),
        f"ndcg@{k}": np.where(hit, 1 / np.log2(rank + 1), 0).mean(),
        f"mrr@{k}": np.where(hit, 1 / rank, 0).mean(),
    }


@pytest.mark.parametrize(
    ("dataset", "name"),
    [
        ("ml-100k", "SASRec-ml-100k-Nov-27-2026_10-00-00.pth"),
        ("my data, 2", "SASRec-my_data__2-Nov-27-2026_10-00-00.pth"),
        ("é" * 200, f"SASRec-{'é' * 50}-Nov-27-2026_10-00-00.pth"),
    ],
)
def test_names_of_checkpoints_hold_the_dataset(dataset, name):
    assert name_with_dataset(Path("saved/SASRec-Nov-27-2026_10-00-00.pth"), "SASRec", dataset) == f"saved/{name}"


@pytest.mark.slow
@pytest.mark.parametrize("filter_seen", [False, True])
@torch.no_grad()
def test_metrics_equal_those_computed_by_hand_from_the_raw_file(filter_seen):
    config = make_config(
        "",
        dataset="ml-100k",
        hidden_size=16,
        d_state=8,
        time_order="exact",
        filter_seen=filter_seen,
        learning_rate=0.005,
        MAX_ITEM_LIST_LENGTH=40,
        topk=[5, 10],
        metrics=["Hit", "NDCG", "MRR"],
    )
    dataset, trainer, (train, valid, test) = make_trainer(config)
    with torch.enable_grad():
        trainer.fit(train, valid, saved=False, show_progress=False, verbose=False)
    result = trainer.evaluate(test, load_best_model=False)

    items_by_user = histories(read_interactions(ML_100K))
    items = [torch.from_numpy(dataset.token2id("item_id", words)) for words in items_by_user.values()]
    read = [user[:-1][-40:] for user in items]
    lengths = torch.tensor([len(history) for history in read])
    batch = Interaction({"user_id": torch.arange(len(read))})
    batch["item_id_list"] = torch.cat(read)
    batch["cu_seqlens"] = torch.cat([torch.zeros(1, dtype=torch.int32), lengths.cumsum(0).int()])
    scores = trainer.model.eval().full_sort_predict(batch).numpy()
    if filter_seen:
        for row, user in zip(scores, items, strict=True):
            row[user[:-1].numpy()] = -np.inf
    targets = np.array([user[-1] for user in items])
    expected = {**metrics_at(5, scores.copy(), targets), **metrics_at(10, scores, targets)}
    assert expected["hit@10"] > 0.03  # more than the 0.006 of chance: there is something to compare
    assert set(result) == set(expected)
    for name, value in expected.items():
        assert result[name] == pytest.approx(value, abs=6e-5), name


def test_training_goes_on_with_other_samples_in_every_epoch(tiny):
    sampled = {"train_samples": "sampled_prefixes", "prefixes_per_user": 2}
    config = make_config(tiny, "SSD4Rec", epochs=3, train_batch_tokens=100, **sampled)
    _, trainer, (train, valid, _) = make_trainer(config)
    seen = []
    original = trainer.model.calculate_loss

    def remember(interaction):
        seen.append(tuple(interaction["history_end"].tolist()))
        return original(interaction)

    trainer.model.calculate_loss = remember
    batches = len(train)
    trainer.fit(train, valid, saved=False, show_progress=False, verbose=False)
    assert len(trainer.history) == 3
    assert len(set(seen)) == len(seen) > 2 * batches


@pytest.mark.slow
def test_training_lowers_the_loss_and_beats_chance(tmp_path):
    """Every item is followed by the next one in a circle, which the model has to find out."""
    frame = interactions(n_users=40, n_items=20, shortest=12, longest=12)
    frame = frame.sort_values(["user_id", "timestamp"], ignore_index=True)
    start = np.repeat(np.random.default_rng(1).integers(0, 20, 40), 12)
    frame["item_id"] = [f"i{item}" for item in (start + np.arange(len(frame)) % 12) % 20]
    write_dataset(tmp_path, frame)
    keys = {"learning_rate": 0.03, "dropout_prob": 0.0, "hidden_size": 16, "valid_metric": "MRR@10"}
    for model, more in (
        ("2Mamba4Rec", {"epochs": 20, "train_batch_tokens": 128}),
        ("SSD4Rec", {"epochs": 20, "train_batch_tokens": 128, "mask_ratio": 0.0}),
    ):
        _, trainer, (train, valid, test) = make_trainer(make_config(tmp_path, model, **keys, **more))
        trainer.fit(train, valid, show_progress=False, verbose=False)
        losses = list(trainer.train_loss_dict.values())
        assert losses[-1] < 0.3 * losses[0]
        assert trainer.evaluate(test)["mrr@10"] > 0.9


@pytest.mark.sampled(3)
@pytest.mark.parametrize(
    ("model", "keys"),
    [
        ("2Mamba4Rec", {"train_batch_tokens": 70}),
        ("2Mamba4Rec", {"train_samples": "all_prefixes", "train_batch_tokens": 70}),
        ("SSD4Rec", {"train_batch_tokens": 70}),
        ("SASRec", {"train_batch_size": 100}),
        ("BPR", {"train_batch_size": 100}),
    ],
)
def test_the_loss_of_an_epoch_is_the_mean_over_targets_whatever_the_batches(tmp_path, model, keys):
    write_dataset(tmp_path, interactions(n_users=30, n_items=20, shortest=4, longest=12))
    keys = {"learning_rate": 0.0, "epochs": 1} | keys  # so that batches do not learn from one another
    _, trainer, (train, valid, _) = make_trainer(make_config(tmp_path, model, **keys))
    batches, loss_of = [], trainer.model.calculate_loss

    def watched(batch):
        loss = loss_of(batch)
        batches.append((len(batch["item_id"]), loss.item()))
        return loss

    trainer.model.calculate_loss = watched
    trainer.fit(train, valid, saved=False, show_progress=False, verbose=False)
    sizes, losses = np.array(batches).T
    assert len(set(sizes)) > 1
    assert trainer.history[0]["train_loss"] == pytest.approx((sizes * losses).sum() / sizes.sum())
    assert trainer.history[0]["train_loss"] != pytest.approx(losses.mean(), rel=1e-9)


def plain(value) -> bool:
    """Whether a value is made of numbers, words, tensors, and lists and dicts of them, and nothing else."""
    if isinstance(value, dict):
        return all(type(key) in (str, int) and plain(item) for key, item in value.items())
    if isinstance(value, list | tuple):
        return all(plain(item) for item in value)
    return value is None or type(value) in (bool, int, float, str, torch.Tensor)


@pytest.mark.sampled(2)
@pytest.mark.parametrize("model", ["2Mamba4Rec", "SASRec"])
def test_a_checkpoint_holds_plain_values_only_and_all_of_the_model(tiny, model):
    config = make_config(tiny, model, learning_rate=0.003)
    _, trainer, (train, valid, test) = make_trainer(config)
    trainer.fit(train, valid, show_progress=False, verbose=False)
    result = trainer.evaluate(test)
    checkpoint = torch.load(trainer.saved_model_file, weights_only=True)
    assert set(checkpoint) >= {"config", "epoch", "cur_step", "best_valid_score", "state_dict", "optimizer"}
    assert checkpoint["epoch"] == 0
    for key, value in checkpoint.items():
        assert plain(dict(value) if key == "state_dict" else value), key
    assert checkpoint["config"]["model"] == model
    assert checkpoint["config"]["dataset"] == "tiny"
    assert checkpoint["config"]["learning_rate"] == 0.003
    assert checkpoint["config"]["eval_args"]["mode"] == {"valid": "full", "test": "full"}
    assert checkpoint["best_valid_score"] == pytest.approx(float(trainer.best_valid_score))

    _, another, (_, _, test) = make_trainer(make_config(tiny, model, seed=77))
    assert another.evaluate(test, load_best_model=False) != result
    assert another.evaluate(test, model_file=trainer.saved_model_file) == result


def test_the_best_epoch_is_kept(tiny):
    config = make_config(tiny, epochs=6, learning_rate=0.05)
    _, trainer, (train, valid, _) = make_trainer(config)
    scores = []
    trainer.fit(train, valid, show_progress=False, verbose=False, callback_fn=lambda _, score: scores.append(score))
    assert len(set(scores)) > 2
    checkpoint = torch.load(trainer.saved_model_file, weights_only=True)
    assert scores[checkpoint["epoch"]] == max(scores) == checkpoint["best_valid_score"]
    trainer.model.load_state_dict(checkpoint["state_dict"])
    assert trainer.evaluate(valid, load_best_model=False)["ndcg@10"] == max(scores)


def test_training_can_be_resumed_from_a_checkpoint(tiny):
    keys = {"dropout_prob": 0.0, "learning_rate": 0.01, "train_batch_tokens": 100, "stopping_step": 100}
    _, first, (train, valid, _) = make_trainer(make_config(tiny, epochs=2, **keys))
    first.fit(train, valid, show_progress=False, verbose=False)
    first._save_checkpoint(1, verbose=False)
    _, second, (train, valid, _) = make_trainer(make_config(tiny, epochs=3, **keys))
    second.resume_checkpoint(first.saved_model_file)
    for name, value in first.model.state_dict().items():
        assert torch.equal(second.model.state_dict()[name], value)
    second.fit(train, valid, show_progress=False, verbose=False)
    assert list(second.train_loss_dict) == [2]
    assert second.train_loss_dict[2] < first.train_loss_dict[0]  # the same batches, two epochs later


def test_early_stopping_is_recboles(tiny):
    config = make_config(tiny, epochs=50, stopping_step=2, learning_rate=0.0)
    _, trainer, (train, valid, _) = make_trainer(config)
    scores = iter([0.3, 0.5, 0.4, 0.4, 0.4, 0.9])
    trainer._valid_epoch = lambda *_, **__: (next(scores), {})
    trainer.fit(train, valid, show_progress=False, verbose=False)
    assert len(trainer.history) == 5
    assert trainer.best_valid_score == 0.5


@pytest.mark.parametrize("loss", [float("nan"), float("inf")])
@pytest.mark.parametrize("model", ["2Mamba4Rec", "SASRec"])
def test_a_loss_that_is_no_number_stops_the_training_and_leaves_the_model_alone(tiny, model, loss):
    config = make_config(tiny, model, learning_rate=0.25)
    _, trainer, (train, valid, _) = make_trainer(config)
    before = {name: value.clone() for name, value in trainer.model.state_dict().items()}
    parameter = next(trainer.model.parameters())
    trainer.model.calculate_loss = lambda _: parameter.sum() * loss
    with pytest.raises(TrainingDiverged, match=r"nan|inf") as error:
        trainer.fit(train, valid, show_progress=False, verbose=False)
    assert "learning_rate (0.25)" in str(error.value)
    assert "\n" not in str(error.value)
    assert all(torch.equal(trainer.model.state_dict()[name], value) for name, value in before.items())
    assert not os.path.exists(trainer.saved_model_file)


def test_a_huge_learning_rate_diverges_and_says_so(tiny):
    config = make_config(tiny, learning_rate=1e30, learner="sgd", train_batch_tokens=60, epochs=20)
    _, trainer, (train, valid, _) = make_trainer(config)
    with pytest.raises(TrainingDiverged):
        trainer.fit(train, valid, show_progress=False, verbose=False)


@pytest.mark.parametrize(
    ("model", "name"), [("2Mamba4Rec", "Trainer"), ("SASRec", "Trainer"), ("Pop", "TraditionalTrainer")]
)
def test_the_trainer_is_the_one_that_recbole_has_for_the_model(tiny, model, name):
    _, trainer, _ = make_trainer(make_config(tiny, model))
    assert isinstance(trainer, getattr(recbole.trainer, name))


@pytest.mark.slow
def test_one_cycle_rises_for_a_tenth_of_the_training_and_falls_to_nothing(tiny):
    config = make_config(
        tiny, "2Mamba4Rec", lr_schedule="one_cycle", learning_rate=0.01, epochs=5, train_batch_tokens=40
    )
    _, trainer, (train, valid, _) = make_trainer(config)
    rates = []
    trainer.optimizer.register_step_post_hook(lambda optimizer, *_: rates.append(optimizer.param_groups[0]["lr"]))
    trainer.fit(train, valid, saved=False, verbose=False)
    steps = 5 * len(train)
    assert abs(len(rates) - steps) <= 5  # batches of so many tokens are not exactly as many in every epoch
    assert max(rates) == pytest.approx(0.01, rel=0.05)
    assert rates.index(max(rates)) == pytest.approx(steps / 10, abs=2)
    assert rates[0] < 0.005
    assert min(rates) == rates[-1] < 1e-6


@pytest.mark.parametrize("steps", [1, 2, 9, 10, 11, 40])
def test_one_cycle_of_any_number_of_steps(steps):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.5)
    one_cycle(optimizer, steps)
    rates = [optimizer.param_groups[0]["lr"]]
    for _ in range(steps):
        optimizer.step()
        rates.append(optimizer.param_groups[0]["lr"])
    assert max(rates) <= 0.5 + 1e-9
    assert max(rates) > 0.2 or steps < 3
    assert rates[-1] < 1e-4


def test_a_constant_rate_stays(tiny):
    _, trainer, (train, valid, _) = make_trainer(make_config(tiny, "2Mamba4Rec", learning_rate=0.01, epochs=2))
    trainer.fit(train, valid, saved=False, verbose=False)
    assert {group["lr"] for group in trainer.optimizer.param_groups} == {0.01}


def test_recbole_models_can_have_the_schedule_too(tiny):
    config = make_config(tiny, "GRU4Rec", lr_schedule="one_cycle", epochs=2)
    _, trainer, (train, valid, _) = make_trainer(config)
    trainer.fit(train, valid, saved=False, verbose=False)
    assert trainer.optimizer.param_groups[0]["lr"] < 1e-6


@pytest.mark.parametrize("learner", ["adam", "sgd"])
@pytest.mark.parametrize("model", ["SSD4Rec", "PackedSASRec"])
def test_embeddings_may_learn_faster(tiny, model, learner):
    keys = {"learner": learner, "learning_rate": 0.01, "embedding_lr_scale": 3, "lr_schedule": "one_cycle"}
    _, trainer, (train, *_) = make_trainer(make_config(tiny, model, epochs=2, **keys))
    highest: dict[str, float] = {}
    names = {id(parameter): name for name, parameter in trainer.model.named_parameters()}

    def note(optimizer, *_):
        for group in optimizer.param_groups:
            for name in (names[id(parameter)] for parameter in group["params"]):
                highest[name] = max(highest.get(name, 0.0), group["lr"])

    trainer.optimizer.register_step_post_hook(note)
    trainer.fit(train, saved=False, verbose=False)
    assert set(highest) == set(names.values())
    top = next(rate for name, rate in highest.items() if name.endswith("w_1.weight"))
    for name, rate in highest.items():
        assert rate == pytest.approx(top * (3 if name.endswith("embedding.weight") else 1)), name
    assert 0.005 < top <= 0.01


@pytest.mark.parametrize("learner", ["adam", "adamw", "sgd"])
def test_weights_decay_but_no_biases_norms_and_step_sizes(tiny, learner):
    """Each parameter is in one group, with RecBole's learner in its fastest form."""
    config = make_config(tiny, "Mamba4Rec", learner=learner, weight_decay=0.1, learning_rate=0.02)
    _, trainer, _ = make_trainer(config)
    assert type(trainer.optimizer).__name__.lower() == learner
    assert {group["lr"] for group in trainer.optimizer.param_groups} == {0.02}
    decay = {id(p): group["weight_decay"] for group in trainer.optimizer.param_groups for p in group["params"]}
    assert len(decay) == len(list(trainer.model.parameters()))
    weights = ("item_embedding.weight", "proj.weight", "w_1.weight", "w_2.weight", "conv1d.weight")
    for name, parameter in trainer.model.named_parameters():
        assert decay[id(parameter)] == (0.1 if name.endswith(weights) else 0.0), name


OUT_OF_MEMORY = {
    "of the CPU": RuntimeError(
        "[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory: you tried"
    ),
    "of the GPU": torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
    "of numpy": MemoryError("Unable to allocate 3.00 GiB for an array with shape (4, 5)"),
    "of Python": MemoryError(),
    "of C": RuntimeError("std::bad_alloc"),
}


@pytest.mark.sampled(3)
@pytest.mark.parametrize("error", OUT_OF_MEMORY.values(), ids=OUT_OF_MEMORY)
@pytest.mark.parametrize(
    ("model", "keys", "words"),
    [
        ("2Mamba4Rec", {}, r"train_batch_tokens \(2048\) or set MAX_ITEM_LIST_LENGTH$"),
        ("SSD4Rec", {"train_batch_size": 9}, r"train_batch_size \(9\) or set MAX"),
        ("SASRec", {"train_batch_size": 9}, r"train_batch_size \(9\) or MAX_ITEM_LIST_LENGTH \(50\)"),
        ("BPR", {"load_col": {"inter": ["user_id", "item_id"]}}, r"train_batch_size \(\d+\)$"),
    ],
)
def test_where_memory_ends_the_keys_that_ask_for_less_are_named(tiny, monkeypatch, error, model, keys, words):
    _, trainer, (train, valid, _) = make_trainer(make_config(tiny, model, epochs=1, **keys))

    def full(*args, **kwargs):
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(trainer.model, "calculate_loss", full)
        with pytest.raises(InputError, match="a step of the training does not fit into memory; lower " + words):
            trainer.fit(train, valid, saved=False, show_progress=False)
    monkeypatch.setattr(trainer.model, "full_sort_predict", full)
    monkeypatch.setattr(trainer.model, "predict", full)
    rest = r"$" if model == "BPR" else r" or (set )?MAX_ITEM_LIST_LENGTH"
    with pytest.raises(InputError, match=r"a batch of the evaluation .* eval_batch_size \(\d+\)" + rest):
        trainer.evaluate(valid, load_best_model=False)


def test_another_error_is_not_taken_for_it(tiny, monkeypatch):
    _, trainer, (train, valid, _) = make_trainer(make_config(tiny, epochs=1))
    monkeypatch.setattr(trainer.model, "calculate_loss", lambda batch: batch["item_id"].view(-7, 3))
    with pytest.raises(RuntimeError, match="shape"):
        trainer.fit(train, valid, saved=False, show_progress=False)
