"""Training steps in few shapes, as they are recorded on a GPU. Here the CPU computes them directly."""

import pytest
import torch
from atomic import make_config, make_trainer
from hypothesis import given
from hypothesis import strategies as st
from recbole.data.interaction import Interaction
from torch.testing import assert_close

from recbole_ssm.errors import InputError
from recbole_ssm.ops.packing import gather_ranges
from recbole_ssm.training import recording
from recbole_ssm.training.recording import FilledBatch, Shape, filled_up

PREFIXES = {"train_samples": "sampled_prefixes", "prefixes_per_user": 2}
MODELS = {
    "a target for each token": ("2Mamba4Rec", {"repeat_bias": True, "item_bias": True}),
    "a target for each history": ("SSD4Rec", {**PREFIXES, "mask_ratio": 0.2}),
    "cut histories": ("SSD4Rec", {"train_samples": "prefix_lm", "causal_epochs": 1}),
    "cut histories, aligned": ("Hydra4Rec", {"train_samples": "prefix_lm"}),
    "clipped": ("LRURec", {"clip_grad_norm": {"max_norm": 0.01}}),
}
NO_DROPOUT = {"dropout_prob": 0.0, "train_batch_tokens": 60, "learning_rate": 0.01, "epochs": 2}


@given(st.integers(1, 5000), st.integers(1, 300), st.sampled_from(["token", "sequence", "cut"]), st.floats(0, 1))
def test_shapes_are_few_and_have_room(n_tokens, n_sequences, targets, share):
    n_tokens = max(n_tokens, n_sequences)
    n_targets = {"token": n_tokens, "sequence": n_sequences}.get(targets)
    if n_targets is None:
        n_targets = n_sequences + int(share * (n_tokens - n_sequences))
    shape = filled_up(n_tokens, n_sequences, n_targets, cut=targets == "cut")
    assert n_sequences < shape.sequences <= max(2 * n_sequences, 8)
    added = shape.sequences - n_sequences
    assert 0 <= shape.tokens - n_tokens - added < (512 if targets == "cut" else 256)
    assert shape.tokens % 256 == 0
    if targets == "cut":
        assert 0 <= shape.targets - n_targets - added < 256
        assert shape.targets - n_targets <= shape.tokens - n_tokens
    else:
        assert shape.targets == (shape.tokens if n_targets == n_tokens else shape.sequences)


def test_what_is_added_has_no_targets():
    batch = Interaction(
        {
            "items": torch.tensor([4, 5, 6, 7, 8]),
            "cu_seqlens": torch.tensor([0, 2, 5], dtype=torch.int32),
            "target": torch.tensor([5, 9, 7, 8, 9]),
        }
    )
    filled = FilledBatch(Shape(12, 5, 12), batch, ("items",), "target")
    for _ in range(2):
        filled.fill(batch)
        assert filled.batch["cu_seqlens"].tolist() == [0, 2, 5, 6, 7, 12]
        assert filled.batch["items"][:5].tolist() == [4, 5, 6, 7, 8]
        assert filled.batch["target"].tolist() == [5, 9, 7, 8, 9, *[-100] * 7]
    batch["target"] = torch.tensor([3, 4])  # one of each history
    filled = FilledBatch(Shape(12, 5, 5), batch, ("items",), "target")
    filled.fill(batch)
    assert filled.batch["target"].tolist() == [3, 4, -100, -100, -100]


def test_the_last_sequence_is_cut_so_that_there_are_as_many_targets_as_wanted():
    batch = Interaction(
        {
            "items": torch.tensor([4, 5, 6, 7, 8]),
            "cu_seqlens": torch.tensor([0, 2, 5], dtype=torch.int32),
            "cut": torch.tensor([1, 2]),
            "readout": torch.tensor([0, 1, 3, 4]),
            "target": torch.tensor([5, 9, 8, 9]),
        }
    )
    filled = FilledBatch(Shape(12, 5, 9), batch, ("items",), "target")
    for _ in range(2):
        filled.fill(batch)
        assert filled.batch["cu_seqlens"].tolist() == [0, 2, 5, 6, 7, 12]
        assert filled.batch["cut"].tolist() == [1, 2, 1, 1, 3]
        assert filled.batch["readout"].tolist() == [0, 1, 3, 4, 5, 6, 9, 10, 11]
        assert filled.batch["target"].tolist() == [5, 9, 8, 9, *[-100] * 5]
        index, _ = gather_ranges(
            filled.batch["cu_seqlens"][:-1] + filled.batch["cut"] - 1,
            filled.batch["cu_seqlens"].diff() - filled.batch["cut"] + 1,
        )
        assert torch.equal(index, filled.batch["readout"])


@pytest.mark.sampled(5)
@pytest.mark.parametrize(("model", "keys"), MODELS.values(), ids=MODELS)
def test_loss_and_gradients_are_those_of_the_batch_alone(tiny, model, keys):
    keys = {key: value for key, value in keys.items() if key != "clip_grad_norm"}
    _, trainer, (train, _, _) = make_trainer(make_config(tiny, model, **NO_DROPOUT, **keys, cuda_graph=True))
    trainer.model.train()
    for parameter in trainer.model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    for batch in [*train, *train]:  # the second epoch of prefix_lm has cuts
        trainer.optimizer.zero_grad()
        expected = trainer.model.calculate_loss(batch)
        expected.backward()
        gradients = [parameter.grad for parameter in trainer.model.parameters()]
        assert_close(trainer.recorded(batch), expected.detach(), rtol=1e-4, atol=1e-5)
        for parameter, gradient in zip(trainer.model.parameters(), gradients, strict=True):
            assert_close(parameter.grad, gradient, rtol=1e-3, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize(("model", "keys"), MODELS.values(), ids=MODELS)
def test_trainings_come_to_the_same(tiny, model, keys):
    histories = []
    for cuda_graph in (False, True):
        config = make_config(tiny, model, **NO_DROPOUT, **keys, cuda_graph=cuda_graph)
        _, trainer, (train, valid, _) = make_trainer(config)
        trainer.fit(train, valid, verbose=False, saved=False)
        histories.append([epoch["train_loss"] for epoch in trainer.history])
    assert histories[0] == pytest.approx(histories[1], rel=1e-4)
    assert histories[0] != [histories[0][0]] * 2


def test_a_shape_is_recorded_once_and_then_replayed(tiny, monkeypatch):
    """What a GPU does, with a replay that does not call the model's Python again."""
    _, trainer, (train, _, _) = make_trainer(make_config(tiny, **NO_DROPOUT, cuda_graph=True))
    recordings, replays = [], []

    def record(function, _device, *, calls_before, pool):
        assert (calls_before, pool) == (0, None)
        recordings.append(function)

        def replay():
            replays.append(len(recordings))
            function()

        return replay

    monkeypatch.setattr(recording, "recorded", record)
    batch = next(iter(train))
    losses = [trainer.recorded(batch).item() for _ in range(6)]
    assert len(recordings) == 1
    assert replays == [1, 1, 1]
    assert losses == [losses[0]] * 6
    assert all(parameter.grad is not None for parameter in trainer.model.parameters())


@pytest.mark.parametrize(
    ("model", "keys", "words"),
    [
        ("2Mamba4Rec", {"loss_type": "BPR"}, "loss_type: BPR"),
        ("2Mamba4Rec", {"enable_scaler": True}, "enable_scaler: True"),
    ],
    ids=str,
)
def test_what_cannot_be_recorded_is_refused(tiny, model, keys, words):
    negatives = {"train_neg_sample_args": {"distribution": "uniform", "sample_num": 1}} if "loss_type" in keys else {}
    with pytest.raises(InputError, match=words):
        make_config(tiny, model, cuda_graph=True, **keys, **negatives)
