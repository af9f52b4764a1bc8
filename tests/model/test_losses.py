"""Scores are what their definition says; mixed precision changes the loss little."""

import pytest
import torch
from model_cases import LENGTHS, each_model, make, packed_batch
from packed_cases import slices


@pytest.mark.sampled(5)
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


@pytest.mark.sampled(5)
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
