"""What each model reads of a history: its past, all of it, or all of it up to a cut."""

import pytest
import torch
import torch.nn.functional as F
from model_cases import BIASES, BIDIRECTIONAL, CAUSAL, LENGTHS, influence, make, packed_batch, some_tokens
from packed_cases import alone, borders, slices


@pytest.mark.sampled(2)
@pytest.mark.parametrize("name", CAUSAL)
def test_causal_models_see_all_tokens_up_to_their_own(name):
    model = make(name)
    assert model.causal
    assert torch.equal(influence(model, 15), torch.ones(15, 15, dtype=torch.bool).tril())


@pytest.mark.sampled(4)
@pytest.mark.parametrize("name", BIDIRECTIONAL)
def test_bidirectional_models_see_the_whole_history_at_its_end(name):
    model = make(name)
    assert not model.causal
    assert influence(model, 15)[-1].all()


@pytest.mark.sampled(15)
@pytest.mark.parametrize("cut", [1, 4, 14])
@pytest.mark.parametrize("name", BIDIRECTIONAL)
def test_after_a_cut_nothing_is_read_before_its_turn(name, cut):
    """So that every token from the last before the cut on can be trained to predict."""
    t = torch.arange(15)
    allowed = (t <= t[:, None]) | ((t < cut) & (t[:, None] < cut))
    seen = influence(make(name), 15, cut=torch.tensor([cut]))
    assert not (seen & ~allowed).any()
    assert torch.equal(seen[cut - 1 :], allowed[cut - 1 :])


@pytest.mark.sampled(5)
@pytest.mark.parametrize("name", BIDIRECTIONAL)
def test_up_to_its_cut_a_history_is_read_as_if_it_ended_there(name, dtype):
    """And after it as it is alone."""
    model, tokens, cuts = make(name, dtype), some_tokens(sum(LENGTHS)), torch.tensor([2, 1, 9, 3])
    hidden = model.encode(tokens, borders(LENGTHS), cut=cuts)
    for part, cut in zip(slices(LENGTHS), cuts, strict=True):
        torch.testing.assert_close(hidden[part][:cut], model.encode(tokens[part][:cut], alone(cut)))
        torch.testing.assert_close(hidden[part], model.encode(tokens[part], alone(len(tokens[part])), cut=cut[None]))


@pytest.mark.sampled(3)
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


@pytest.mark.sampled(2)
@pytest.mark.parametrize("name", ["SSD4Rec, aligned", "Hydra4Rec"])
def test_aligned_models_see_the_whole_history_everywhere(name):
    assert influence(make(name), 15).all()


def test_unaligned_ssd4rec_sees_its_past_and_the_mirror_image_of_it():
    """At position t of one layer: tokens up to t, and tokens from L - 1 - t on, so the last one twice sees all."""
    i = torch.arange(15)
    expected = (i <= i[:, None]) | (i >= 14 - i[:, None])
    assert torch.equal(influence(make("SSD4Rec", num_layers=1), 15), expected)


@pytest.mark.sampled(2)
@pytest.mark.parametrize("name", BIDIRECTIONAL[:2])
def test_beta_zero_is_no_backward_direction(name):
    """Then SSD4Rec is causal."""
    assert torch.equal(influence(make(name, beta=0.0), 15), torch.ones(15, 15, dtype=torch.bool).tril())
