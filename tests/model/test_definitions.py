"""The models are those of the papers: parameters, initial weights, residuals, mask, dropout."""

import pytest
import torch
import torch.nn.functional as F
from model_cases import MODELS, build, each_model, make, packed_batch
from packed_cases import alone

from recbole_ssm.training.summary import count_parameters


@pytest.mark.parametrize(
    ("name", "layers", "depends"), [("Mamba4Rec", 1, False), ("Mamba4Rec", 2, True), ("LRURec", 1, True)]
)
def test_a_single_layer_of_mamba4rec_has_no_residual_around_its_mixer(name, layers, depends):
    """With mixers that say nothing, a history is visible through the residual alone."""
    model = make(name, num_layers=layers)
    for layer in model.layers:
        torch.nn.init.zeros_(layer.mixer.out_proj.weight)
    hidden = model(packed_batch())
    assert torch.allclose(hidden[0], hidden[1]) != depends


@pytest.mark.parametrize(("name", "trained"), [("SSD4Rec", True), ("Mamba4Rec", False), ("Hydra4Rec", False)])
def test_item_zero_is_learned_where_it_is_the_mask(name, trained):
    """Row 0 is SSD4Rec's vector of a masked item; elsewhere it is padding, and no history trains it."""
    model = make(name)
    model.encode(torch.tensor([3, 0, 5]), alone(3)).square().sum().backward()
    assert model.item_embedding.weight.grad[3].any()
    assert model.item_embedding.weight.grad[0].any() == trained


@pytest.mark.sampled(5)
@each_model
def test_every_dropout_is_in_use_and_for_training_only(name):
    """Without any the output is always the same; a single one in training mode changes it."""
    model = make(name)
    batch = packed_batch()
    still = model(batch)
    assert torch.equal(model(batch), still)
    dropouts = {key: module for key, module in model.named_modules() if isinstance(module, torch.nn.Dropout)}
    assert ("dropout" in dropouts) == (name != "SSD4Rec, raw embedding")
    for key, dropout in dropouts.items():
        assert dropout.p == 0.2
        dropout.train()
        assert not torch.allclose(model(batch), still), key
        dropout.eval()


@each_model
def test_initial_weights(name):
    """Normal with ``initializer_range``, without biases, but for those that set step sizes between 0.001 and 0.1."""
    model, sizes = MODELS[name]
    torch.manual_seed(0)
    model = build(model, **sizes | {"initializer_range": 0.05})
    assert model.item_embedding.weight.std().item() == pytest.approx(0.05, rel=0.1)
    steps = 0
    for key, parameter in model.named_parameters():
        if key.endswith(("dt_bias", "dt_proj.bias")):
            steps += 1
            dt = F.softplus(parameter)
            assert ((dt > 0.99e-3) & (dt < 0.101)).all(), key
        elif key.endswith(("w_1.bias", "w_2.bias")):
            assert not parameter.any(), key
        elif key.endswith(("w_1.weight", "w_2.weight", "in_proj.weight", "out_proj.weight")):
            assert parameter.std().item() == pytest.approx(0.05, rel=0.15), key
    assert steps == (0 if name in ("LRURec", "PackedSASRec") else len(model.layers))


@pytest.mark.parametrize(("model", "body"), [("Mamba4Rec", 72_256), ("2Mamba4Rec", 78_624)])
def test_parameters_without_embedding_are_the_papers(model, body):
    total, without_items = count_parameters(build(model, n_items=3417))
    assert without_items == body
    assert total == body + 3417 * 64


def test_parameters_of_ssd4rec_are_those_of_the_released_code():
    sizes = {"hidden_size": 256, "d_state": 64, "headdim": 16, "num_layers": 2, "norm_embedding": True}
    assert count_parameters(build("SSD4Rec", n_items=3417, **sizes))[0] == 2_804_416
