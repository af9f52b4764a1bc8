"""``init_from``: a training begins with the weights of another, whose data had other items."""

import numpy as np
import pytest
import torch
from atomic import interactions, make_trainer, small, write_dataset

from recbole_ssm.checkpoints import format as checkpoint
from recbole_ssm.config.config import Config
from recbole_ssm.errors import CheckpointError, InputError
from recbole_ssm.testing.checkpoints import made_checkpoint
from recbole_ssm.training.assembly import read_data
from recbole_ssm.training.run import run

MODELS = ["2Mamba4Rec", "Mamba4Rec", "SSD4Rec", "Hydra4Rec", "LRURec", "PackedSASRec"]
BIASES = {"repeat_bias": True, "item_bias": True, "transition_memory": True}


@pytest.fixture(scope="module")
def grown(tmp_path_factory):
    """Data with items i0 to i39."""
    folder = tmp_path_factory.mktemp("grown")
    write_dataset(folder, interactions())
    return folder


def config_of(folder, model="2Mamba4Rec", **keys) -> Config:
    fixed = {"data_path": str(folder), "use_gpu": False, "show_progress": False, "console": "none"}
    return Config(model, "tiny", config_dict={**fixed, **keys})


@pytest.mark.sampled(3)
@pytest.mark.parametrize("model", MODELS)
def test_known_items_keep_their_weights_and_new_ones_get_the_mean(grown, tmp_path, model):
    names = [f"i{number}" for number in np.random.default_rng(0).permutation(50)[:30]]  # some are unknown here
    keys = {**small(model), **BIASES}
    file = made_checkpoint(tmp_path / "before.pth", names, model, **keys)
    config = config_of(grown, model, init_from=str(file), **keys)
    begun = make_trainer(config)[1].model.state_dict()
    fresh = make_trainer(config_of(grown, model, **keys))[1].model.state_dict()
    items = [str(name) for name in read_data(config).dataset.field2id_token["item_id"]][1:]
    old = checkpoint.read(file)["state_dict"]
    known = [names.index(item) + 1 for item in items if item in names]
    assert 0 < len(known) < min(len(items), len(names))
    for name, weight in begun.items():
        if name in ("item_embedding.weight", "item_bias"):
            new = old[name][known].mean(0) + fresh[name]
            rows = [
                old[name][names.index(item) + 1] if item in names else new[row] for row, item in enumerate(items, 1)
            ]
            torch.testing.assert_close(weight, torch.stack([old[name][0], *rows]))
        elif name.removeprefix("memory.") in ("start", "items", "counts", "pruned"):
            torch.testing.assert_close(weight, fresh[name])  # counted in these data
        else:
            torch.testing.assert_close(weight, old[name])


def test_settings_of_the_model_are_the_checkpoints_and_the_training_is_short(grown, tmp_path):
    file = made_checkpoint(tmp_path / "before.pth", [f"i{number}" for number in range(20)], **small("2Mamba4Rec"))
    config = config_of(grown, init_from=str(file))
    read_data(config)
    assert (config["hidden_size"], config["d_state"], config["num_layers"]) == (8, 4, 1)
    whole = config_of(grown)
    read_data(whole)
    assert config["epochs"] == max(2, whole["epochs"] // 4) < whole["epochs"]
    longer = config_of(grown, init_from=str(file), epochs=9)
    read_data(longer)
    assert longer["epochs"] == 9


@pytest.mark.slow
def test_a_training_that_goes_on_with_a_trained_model_begins_better(grown, tmp_path):
    keys = {"data_path": str(grown), "use_gpu": False, "show_progress": False, "console": "none"}
    keys |= {**small("2Mamba4Rec"), "checkpoint_dir": str(tmp_path), "train_batch_tokens": 32}
    before = run("2Mamba4Rec", "tiny", config_dict={**keys, "epochs": 8, "learning_rate": 0.03})
    after = run("2Mamba4Rec", "tiny", config_dict={**keys, "epochs": 1, "init_from": before["checkpoint"]})
    assert after["history"][0]["train_loss"] < before["history"][0]["train_loss"]


@pytest.mark.parametrize(
    ("model", "items", "keys", "error", "says"),
    [
        ("LRURec", 20, {}, CheckpointError, "is a LRURec, and a 2Mamba4Rec is trained"),
        ("2Mamba4Rec", ["other"], {}, CheckpointError, "knows none of the items"),
        ("2Mamba4Rec", 20, {"hidden_size": 16}, CheckpointError, "of another size; leave out the settings"),
        ("2Mamba4Rec", 20, {"item_bias": True}, CheckpointError, "has no weights item_bias; leave out"),
        (None, 0, {}, InputError, "there is no checkpoint"),
    ],
)
def test_what_a_training_cannot_begin_with(grown, tmp_path, model, items, keys, error, says):
    file = tmp_path / "before.pth"
    if model is not None:
        made_checkpoint(file, items, model, **small(model))
    with pytest.raises(error, match=says):
        make_trainer(config_of(grown, init_from=str(file), **{**small("2Mamba4Rec"), **keys}))


def test_it_does_nothing_for_a_model_that_counts_and_says_so(grown):
    assert "init_from" in config_of(grown, "PCTM", init_from="some.pth").passed_over
