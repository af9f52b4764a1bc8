"""CUDA graphs of training steps and of sessions, and a whole epoch that never waits for the GPU."""

import copy
import warnings

import pytest
import torch

from recbole_ssm import Recommender, run
from recbole_ssm.config.config import Config
from recbole_ssm.training.assembly import assemble, computing

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU here"),
]

SMALL = {"hidden_size": 16, "show_progress": False, "train_batch_tokens": 40, "learning_rate": 0.01}
MAMBA2 = {"d_state": 16, "headdim": 16}
PREFIXES = {"train_samples": "sampled_prefixes", "prefixes_per_user": 4}
RECORDED = {
    "2Mamba4Rec": {**MAMBA2, "repeat_bias": True, "item_bias": True, "clip_grad_norm": {"max_norm": 1.0}},
    "Mamba4Rec": {"repeat_bias": True, "lr_schedule": "one_cycle", "num_layers": 2},
    "LRURec": {},
    "PackedSASRec": {},
    "SSD4Rec": {**MAMBA2, **PREFIXES, "mask_ratio": 0.2},
    "Hydra4Rec": {**MAMBA2, "train_samples": "prefix_lm"},
}
STREAMING = ("2Mamba4Rec", "Mamba4Rec", "LRURec")


def assembled(tiny, model, **keys):
    config = Config(model, "tiny", config_dict={"data_path": str(tiny), **SMALL, **RECORDED[model], **keys})
    return config, assemble(config)


def losses(tiny, model, **keys) -> list[float]:
    config, assembly = assembled(tiny, model, epochs=3, **keys)
    with computing(config):
        assembly.trainer.fit(assembly.loaders.train, None, verbose=False, saved=False)
    if keys.get("cuda_graph"):
        replays = [step._replay for step in assembly.trainer.recorded._steps.values()]
        assert any(replay is not None for replay in replays)
    return [epoch["train_loss"] for epoch in assembly.trainer.history]


@pytest.mark.parametrize("model", RECORDED)
def test_recorded_steps_train_as_others_do(tiny, model):
    given = {"dropout_prob": 0.0}
    assert losses(tiny, model, cuda_graph=True, **given) == pytest.approx(losses(tiny, model, **given), rel=1e-3)


@pytest.mark.parametrize("model", ["2Mamba4Rec", "SSD4Rec"])
def test_recorded_steps_drop_other_numbers_each_time(tiny, model):
    config, assembly = assembled(tiny, model, dropout_prob=0.5, cuda_graph=True)
    assembly.trainer.model.train()
    with computing(config):
        batch = next(iter(assembly.loaders.train))
        found = [assembly.trainer.recorded(batch).item() for _ in range(10)]
    assert len(set(found)) == 10


@pytest.mark.parametrize("cuda_graph", [False, True])
@pytest.mark.parametrize("model", ["2Mamba4Rec", "SSD4Rec"])
def test_an_epoch_waits_for_the_gpu_only_at_its_end(tiny, model, cuda_graph):
    config, assembly = assembled(tiny, model, dropout_prob=0.1, cuda_graph=cuda_graph)
    trainer, train = assembly.trainer, assembly.loaders.train
    with computing(config), warnings.catch_warnings(record=True) as noted:
        for epoch in range(3):  # the first ones compile and record
            warnings.simplefilter("always")
            noted.clear()
            torch.cuda.set_sync_debug_mode("warn")
            try:
                trainer._train_epoch(train, epoch)
            finally:
                torch.cuda.set_sync_debug_mode("default")
    waits = [str(warning.message) for warning in noted if "synchroniz" in str(warning.message)]
    assert len(train) > 5
    assert len(waits) <= 2, waits


@pytest.mark.parametrize("model", STREAMING)
def test_sessions_are_as_those_without_graphs(tiny, model):
    keys = {"data_path": str(tiny), **SMALL, **RECORDED[model], "epochs": 1}
    file = run(model, "tiny", config_dict=keys)["checkpoint"]
    recorded, direct, cpu = (
        Recommender(file, device=device, filter_seen=True, cuda_graph=graph)
        for device, graph in (("cuda", True), ("cuda", False), ("cpu", False))
    )
    sessions = [[each.session(each.items[1:4]), each.session()] for each in (recorded, direct, cpu)]
    for place in range(8):
        for number, item in enumerate((recorded.items[4 + place], recorded.items[12 - place])):
            for of in sessions:
                of[number].add(item)
            found, expected, on_cpu = (dict(of[number].recommend(10)) for of in sessions)
            assert found == pytest.approx(expected, rel=1e-4, abs=1e-5)
            assert found == pytest.approx(on_cpu, rel=1e-3, abs=1e-4)
    branch = copy.copy(sessions[0][0])
    branch.add(recorded.items[20])
    assert dict(sessions[0][0].recommend(5)) == pytest.approx(dict(sessions[1][0].recommend(5)), rel=1e-4, abs=1e-5)
    assert all(function.__name__ == "replay" for function, _ in recorded._stepper()._recorded.values())
