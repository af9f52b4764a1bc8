"""Training on a GPU: each model, what a step waits for, and the same weights on the CPU."""

import pytest
import torch

import recbole_ssm
from recbole_ssm.config.config import Config
from recbole_ssm.training.assembly import assemble, computing

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU here"),
]

TRAINED = ("SSD4Rec", "Mamba4Rec", "2Mamba4Rec", "Hydra4Rec", "LRURec", "PackedSASRec")
MAMBA2 = ("SSD4Rec", "2Mamba4Rec", "Hydra4Rec")


def keys(model, **more):
    """A model that trains in no time."""
    sizes = {"hidden_size": 16} | ({"d_state": 16, "headdim": 16} if model in MAMBA2 else {})
    return {"show_progress": False, "epochs": 2, "dropout_prob": 0.0, **sizes, **more}


@pytest.mark.parametrize("amp", [False, True], ids=["float32", "amp"])
@pytest.mark.parametrize("model", TRAINED)
def test_a_model_trains_as_on_the_cpu(model, amp, tiny):
    history = {}
    for gpu in (True, False):
        given = keys(model, data_path=str(tiny), use_gpu=gpu, enable_amp=amp and gpu)
        result = recbole_ssm.run(model, "tiny", config_dict=given)
        history[gpu] = [epoch["train_loss"] for epoch in result["history"]]
    assert history[True] == pytest.approx(history[False], rel=1e-2 if amp else 1e-4)


@pytest.mark.parametrize("model", TRAINED)
def test_a_checkpoint_of_the_gpu_recommends_the_same_on_the_cpu(model, tiny):
    file = recbole_ssm.run(model, "tiny", config_dict=keys(model, data_path=str(tiny), use_gpu=True))["checkpoint"]
    found = []
    for device in ("cuda", "cpu"):
        recommender = recbole_ssm.Recommender(file, device=device)
        found.append(dict(recommender.recommend([recommender.items[1:9]], k=40)[0]))
    assert found[0] == pytest.approx(found[1], rel=1e-4, abs=1e-4)


@pytest.mark.parametrize("model", TRAINED)
def test_a_step_does_not_wait_for_the_gpu(model, tiny):
    """All steps after those that compile: torch raises an error where the host waits."""
    config = Config(model, "tiny", config_dict=keys(model, data_path=str(tiny), train_batch_tokens=64))
    assembly = assemble(config)
    trainer, train = assembly.trainer, assembly.loaders.train
    with computing(config):
        trainer._train_epoch(train, 0)
        batches = list(train)
        torch.cuda.synchronize()
        torch.cuda.set_sync_debug_mode("error")
        try:
            for batch in batches:
                trainer.optimizer.zero_grad()
                trainer.model.calculate_loss(batch).backward()
                trainer.optimizer.step()
        finally:
            torch.cuda.set_sync_debug_mode("default")
