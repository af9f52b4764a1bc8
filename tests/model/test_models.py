"""The models: what they promise of packing, causality and training, and that RecBole's tools work with them."""

import logging
from copy import copy
from functools import cache

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from atomic import interactions, make_config, make_loaders, write_dataset
from packed_cases import (
    alone,
    assert_same_bits,
    borders,
    compiled,
    randn,
    randomise,
    relative_error,
    slices,
)
from recbole.data import create_dataset as create_padded_dataset
from recbole.data import data_preparation as prepare_padded_data
from recbole.data.interaction import Interaction
from recbole.data.transform import construct_transform
from recbole.utils import get_flops
from recbole.utils.case_study import full_sort_scores, full_sort_topk

from recbole_ssm.config import Config
from recbole_ssm.data import create_dataset, data_preparation
from recbole_ssm.ops.packing import sequence_index
from recbole_ssm.quick_start import count_parameters

N_ITEMS = 50
LENGTHS = (5, 1, 24, 3)
SMALL = {"hidden_size": 16, "d_state": 4, "num_layers": 2}
HEADS = {"headdim": 8}
BIASES = {"item_bias": True, "repeat_bias": True}

MODELS = {
    "Mamba4Rec": ("Mamba4Rec", SMALL),
    "Mamba4Rec, 1 layer": ("Mamba4Rec", SMALL | {"num_layers": 1}),
    "2Mamba4Rec": ("2Mamba4Rec", SMALL | HEADS),
    "SSD4Rec": ("SSD4Rec", SMALL | HEADS | {"beta": 0.5}),
    "SSD4Rec, aligned": ("SSD4Rec", SMALL | HEADS | {"beta": 0.5, "align_backward": True}),
    "SSD4Rec, raw embedding": ("SSD4Rec", SMALL | HEADS | {"norm_embedding": False}),
    "Hydra4Rec": ("Hydra4Rec", SMALL | HEADS),
    "LRURec": ("LRURec", {"hidden_size": 16, "num_layers": 2, "item_bias": False}),
    "PackedSASRec": ("PackedSASRec", {"hidden_size": 16, "num_layers": 2, "max_positions": 20}),
    "2Mamba4Rec, biases": ("2Mamba4Rec", SMALL | HEADS | BIASES),
    "SSD4Rec, biases": ("SSD4Rec", SMALL | HEADS | BIASES),
}
CAUSAL = ["Mamba4Rec", "Mamba4Rec, 1 layer", "2Mamba4Rec", "LRURec", "PackedSASRec"]
BIDIRECTIONAL = ["SSD4Rec", "SSD4Rec, aligned", "SSD4Rec, raw embedding", "Hydra4Rec"]

each_model = pytest.mark.parametrize("name", MODELS)


class Catalogue:
    """As much of a dataset as a model asks for."""

    def __init__(self, n_items=N_ITEMS):
        self.n_items = n_items

    def num(self, field):
        assert field == "item_id"
        return self.n_items


@cache
def default_config(model):
    """The configuration of a model on ml-100k. RecBole hides the GPU for the rest of the process: that is undone."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CUDA_VISIBLE_DEVICES", "")
        return Config(model, "ml-100k", config_dict={"use_gpu": False})


def config_of(model, **keys):
    """The configuration of a model, with other values of some keys."""
    config = copy(default_config(model))
    config.final_config_dict = config.final_config_dict | keys
    return config


def build(model, n_items=N_ITEMS, **keys):
    """A model as it comes."""
    config = config_of(model, **keys)
    return config.model_class(config, Catalogue(n_items))


def make(name, dtype=torch.float64, **keys):
    """A small model in which everything matters, in evaluation mode."""
    model, sizes = MODELS[name]
    torch.manual_seed(0)
    return randomise(build(model, **{**sizes, **keys})).to(dtype).eval()


def some_tokens(n_tokens, seed=0):
    return torch.randint(1, N_ITEMS, (n_tokens,), generator=torch.Generator().manual_seed(seed))


def packed_batch(lengths=LENGTHS, **columns):
    """A batch as this package's loaders make it."""
    batch = {
        "item_id_list": some_tokens(sum(lengths)),
        "item_length": torch.tensor(lengths),
        "cu_seqlens": borders(lengths),
        "seq_idx": sequence_index(borders(lengths), sum(lengths)),
        "item_id": some_tokens(len(lengths), seed=1),
    }
    return Interaction(batch | columns)


def padded_batch(lengths=LENGTHS, width=40, **columns):
    """The same batch as RecBole's loaders make it."""
    tokens = some_tokens(sum(lengths))
    rows = [F.pad(tokens[part], (0, width - length)) for part, length in zip(slices(lengths), lengths, strict=True)]
    batch = {
        "item_id_list": torch.stack(rows),
        "item_length": torch.tensor(lengths),
        "item_id": some_tokens(len(lengths), seed=1),
    }
    return Interaction(batch | columns)


def evaluate(model, tokens, cu_seqlens):
    """Representation of each token, and the gradient of each token's embedding for a fixed random gradient of it."""
    looked_up = []
    hook = model.item_embedding.register_forward_hook(lambda module, ids, embedded: looked_up.append(embedded))
    hidden = model.encode(tokens, cu_seqlens)
    hook.remove()
    (gradient,) = torch.autograd.grad(hidden, looked_up, randn(*hidden.shape, seed=1).to(hidden.dtype))
    return {"hidden": hidden.detach(), "gradient": gradient}


def influence(model, length, **options):
    """(length, length): whether the output at i has a gradient at the embedding of j, of one sequence."""
    looked_up = []
    hook = model.item_embedding.register_forward_hook(lambda module, ids, embedded: looked_up.append(embedded))
    hidden = model.encode(some_tokens(length), alone(length), **options)
    hook.remove()
    rows = [torch.autograd.grad(output.sum(), looked_up, retain_graph=True)[0].any(1) for output in hidden.unbind()]
    return torch.stack(rows)


@each_model
def test_no_token_sees_another_sequence(name, dtype):
    """Not a bit of the outputs and gradients of the others moves when one history changes.

    But for Mamba-2 in PyTorch, whose scan lets rounding move: see ``scan_contract.check_isolation``.
    """
    model = make(name, dtype)
    tokens = some_tokens(sum(LENGTHS))
    before = evaluate(model, tokens, borders(LENGTHS))
    for part in slices(LENGTHS)[1:3]:
        changed = tokens.clone()
        changed[part] = changed[part] % (N_ITEMS - 1) + 1
        after = evaluate(model, changed, borders(LENGTHS))
        assert not torch.equal(after["hidden"], before["hidden"])
        kept, same = (
            {key: torch.cat([value[: part.start], value[part.stop :]]) for key, value in found.items()}
            for found in (before, after)
        )
        if name.startswith("Mamba4Rec") or compiled(dtype):
            assert_same_bits(same, kept)
        else:
            for key in kept:
                assert relative_error(same[key], kept[key]) < (1e-12 if dtype == torch.float64 else 1e-4)


@each_model
def test_packed_equals_one_sequence_at_a_time(name):
    model = make(name)
    tokens = some_tokens(sum(LENGTHS))
    hidden = model.encode(tokens, borders(LENGTHS))
    for part, length in zip(slices(LENGTHS), LENGTHS, strict=True):
        torch.testing.assert_close(hidden[part], model.encode(tokens[part], alone(length)))


@torch.no_grad()
def test_an_empty_history_is_refused():
    with pytest.raises(ValueError, match="history 1 of the batch is empty"):
        make("2Mamba4Rec").full_sort_predict(padded_batch((3, 0, 1)))


@each_model
@torch.no_grad()
def test_packed_batch_equals_padded_batch(name, dtype):
    """Scores and loss do not depend on how the batch came."""
    model = make(name, dtype)
    for function in (model.full_sort_predict, model.predict, model.calculate_loss):
        packed = function(packed_batch())
        torch.testing.assert_close(packed, function(padded_batch()))
        torch.testing.assert_close(packed, function(padded_batch(width=max(LENGTHS))))


@each_model
@pytest.mark.parametrize("layers", [1, 2])
def test_a_readout_is_the_same_tokens_of_the_whole_output(name, layers):
    """What the last layer leaves out for tokens that nobody reads changes nothing, forward and backward."""
    whole, some = make(name, num_layers=layers), make(name, num_layers=layers)
    some.load_state_dict(whole.state_dict())
    batch, rows = packed_batch(), torch.tensor([3, 0, 0, sum(LENGTHS) - 1])
    arguments = batch["item_id_list"], batch["cu_seqlens"]
    expected, actual = whole.encode(*arguments)[rows], some.encode(*arguments, rows)
    torch.testing.assert_close(actual, expected)
    weight = torch.randn_like(expected)
    (expected * weight).sum().backward()
    (actual * weight).sum().backward()
    for (parameter, a), b in zip(whole.named_parameters(), some.parameters(), strict=True):
        torch.testing.assert_close(b.grad, a.grad, msg=lambda text, which=parameter: f"{which}: {text}")


@each_model
@torch.no_grad()
def test_scores_are_products_with_the_embedding_of_the_items(name):
    """The last output of each history, against all items, one item, or the candidates that name their history.

    The biases are added: of each item, and of all items that are in the history.
    """
    model = make(name)
    batch = packed_batch()
    last = model.encode(batch["item_id_list"], batch["cu_seqlens"])[batch["cu_seqlens"][1:].long() - 1]
    scores = last @ model.item_embedding.weight.T
    if "biases" in name:
        assert model.item_bias.all()
        assert model.repeat_bias.all()
        scores += model.item_bias
        for row, history in zip(scores, slices(LENGTHS), strict=True):
            row[batch["item_id_list"][history].unique()] += 10 * model.repeat_bias
    torch.testing.assert_close(model.full_sort_predict(batch), scores)
    torch.testing.assert_close(model.predict(batch), scores[torch.arange(len(LENGTHS)), batch["item_id"]])
    row, item = torch.tensor([2, 0, 2, 3, 1, 0]), torch.tensor([7, 7, 0, 49, 3, 1])
    candidates = packed_batch(item_id=item, candidate_seq_idx=row)
    torch.testing.assert_close(model.predict(candidates), scores[row, item])


@each_model
def test_loss_is_the_cross_entropy_of_the_scores(name):
    model = make(name)
    batch = packed_batch()
    expected = F.cross_entropy(model.full_sort_predict(batch), batch["item_id"])
    found = model.calculate_loss(batch)
    torch.testing.assert_close(found, expected)
    gradients = (torch.autograd.grad(loss, list(model.parameters())) for loss in (found, expected))
    torch.testing.assert_close(*gradients)


@each_model
def test_pairwise_loss_compares_each_target_with_its_negatives(name):
    """Negatives come as RecBole's sampler gives them: the first of every target, then the second of every target."""
    model = make(name, loss_type="BPR")
    negatives = some_tokens(2 * len(LENGTHS), seed=2)
    batch = packed_batch(neg_item_id=negatives)
    scores = model.full_sort_predict(batch)
    row = torch.arange(len(LENGTHS))
    difference = scores[row, batch["item_id"]] - scores[row, negatives.view(2, -1)]
    torch.testing.assert_close(model.calculate_loss(batch), -(1e-10 + difference.sigmoid()).log().mean())


@pytest.mark.parametrize("name", CAUSAL)
def test_causal_models_see_nothing_after_a_token(name):
    """Each output depends on the tokens up to its own, and on all of them."""
    model = make(name)
    assert model.causal
    assert torch.equal(influence(model, 15), torch.ones(15, 15, dtype=torch.bool).tril())
    tokens = some_tokens(15)
    before = model.encode(tokens, alone(15))
    for t in range(15):
        changed = tokens.clone()
        changed[t] = tokens[t] % (N_ITEMS - 1) + 1
        after = model.encode(changed, alone(15))
        torch.testing.assert_close(after[:t], before[:t])
        assert (after[t:] != before[t:]).any(1).all()


@pytest.mark.parametrize("name", BIDIRECTIONAL)
def test_bidirectional_models_see_the_whole_history_at_its_end(name):
    model = make(name)
    assert not model.causal
    assert influence(model, 15)[-1].all()


@pytest.mark.parametrize("cut", [1, 4, 14])
@pytest.mark.parametrize("name", BIDIRECTIONAL)
def test_after_a_cut_nothing_is_read_before_its_turn(name, cut):
    """So that every token from the last before the cut on can be trained to predict."""
    t = torch.arange(15)
    allowed = (t <= t[:, None]) | ((t < cut) & (t[:, None] < cut))
    seen = influence(make(name), 15, cut=torch.tensor([cut]))
    assert not (seen & ~allowed).any()
    assert torch.equal(seen[cut - 1 :], allowed[cut - 1 :])


@pytest.mark.parametrize("name", BIDIRECTIONAL)
def test_up_to_its_cut_a_history_is_read_as_if_it_ended_there(name, dtype):
    """And after it as it is alone."""
    model, tokens, cuts = make(name, dtype), some_tokens(sum(LENGTHS)), torch.tensor([2, 1, 9, 3])
    hidden = model.encode(tokens, borders(LENGTHS), cut=cuts)
    for part, cut in zip(slices(LENGTHS), cuts, strict=True):
        torch.testing.assert_close(hidden[part][:cut], model.encode(tokens[part][:cut], alone(cut)))
        torch.testing.assert_close(hidden[part], model.encode(tokens[part], alone(len(tokens[part])), cut=cut[None]))


@pytest.mark.parametrize("name", BIDIRECTIONAL)
@pytest.mark.parametrize("keys", [{}, BIASES])
def test_loss_of_cut_histories(name, keys):
    cut, readout = torch.tensor([4, 1, 24, 2]), torch.tensor([3, 4, 5, 29, 31, 32])
    batch = packed_batch(item_id=some_tokens(len(readout), seed=1), cut=cut, readout=readout)
    model = make(name, **keys)
    tokens = batch["item_id_list"]
    scores = model.encode(tokens, batch["cu_seqlens"], cut=cut)[readout] @ model.item_embedding.weight.T
    if keys:
        scores += model.item_bias
        for row, token in enumerate(readout):
            start = int(batch["cu_seqlens"][batch["seq_idx"][token].long()])
            scores[row, tokens[start : token + 1].unique()] += 10 * model.repeat_bias
    loss, expected = model.calculate_loss(batch), F.cross_entropy(scores, batch["item_id"])
    torch.testing.assert_close(loss, expected)
    gradients = (torch.autograd.grad(each, list(model.parameters()), retain_graph=True) for each in (loss, expected))
    torch.testing.assert_close(*gradients)


@pytest.mark.parametrize("name", ["SSD4Rec, aligned", "Hydra4Rec"])
def test_aligned_models_see_the_whole_history_everywhere(name):
    assert influence(make(name), 15).all()


def test_unaligned_ssd4rec_sees_its_past_and_the_mirror_image_of_it():
    """At position t of one layer: tokens up to t, and tokens from L - 1 - t on, so the last one twice sees all."""
    i = torch.arange(15)
    expected = (i <= i[:, None]) | (i >= 14 - i[:, None])
    assert torch.equal(influence(make("SSD4Rec", num_layers=1), 15), expected)


@pytest.mark.parametrize("name", BIDIRECTIONAL[:2])
def test_beta_zero_is_no_backward_direction(name):
    """Then SSD4Rec is causal."""
    assert torch.equal(influence(make(name, beta=0.0), 15), torch.ones(15, 15, dtype=torch.bool).tril())


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


@pytest.fixture(scope="module")
def three_users(tmp_path_factory):
    """A folder with a dataset of three users."""
    folder = tmp_path_factory.mktemp("three_users")
    write_dataset(folder, interactions(n_users=3, n_items=12, shortest=5, longest=9))
    return folder


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


@each_model
def test_mixed_precision_gives_nearly_the_same_loss_and_gradients(name):
    """What ``enable_amp`` does to a training step, dropout aside."""
    model = make(name, dtype=torch.float32)
    found = []
    for enabled in (False, True):
        model.zero_grad()
        with torch.autocast("cpu", enabled=enabled):
            loss = model.calculate_loss(packed_batch())
        loss.backward()
        assert loss.dtype == torch.float32
        found.append((loss.detach(), torch.cat([parameter.grad.flatten() for parameter in model.parameters()])))
    (exact, gradient), (loss, rough) = found
    assert abs(loss - exact) < 1e-2 * exact
    assert (rough - gradient).norm() < 0.1 * gradient.norm()  # larger weights than any trained model has
