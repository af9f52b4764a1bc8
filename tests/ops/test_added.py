"""Numbers that are added to the scores of some items."""

import pytest
import torch
from packed_cases import randn

from recbole_ssm.ops import Added
from recbole_ssm.ops.packing import RowItems


def some(dtype=torch.float64):
    """Two rows and two groups; item 3 is in both groups of row 0, and item 1 in no row."""
    items = torch.tensor([3, -1, 0, 3, 5, 2], dtype=torch.int32)
    to = RowItems(items, torch.tensor([[0, 2], [5, 4]]), torch.tensor([[3, 5], [6, 4]]), torch.arange(1.0, 7))
    return Added(to, torch.tensor([[1.0, 10.0], [100.0, 1000.0]])).like(torch.zeros(1, dtype=dtype))


EXPECTED = torch.tensor([[33.0, 0, 0, 41, 0, 50], [0, 0, 600, 0, 0, 0]], dtype=torch.float64)


def test_additions_to_one_score_add_up():
    scores = torch.zeros(2, 6, dtype=torch.float64)
    some().add_to(scores)
    assert torch.equal(scores, EXPECTED)
    second = torch.zeros(1, 6, dtype=torch.float64)
    some().add_to_block(second, slice(1, 2))
    assert torch.equal(second, EXPECTED[1:])
    some().times(-1.0).add_to(scores)
    assert not scores.any()


@pytest.mark.slow
def test_additions_of_known_length_do_not_wait_for_a_gpu(monkeypatch):
    monkeypatch.setattr("recbole_ssm.ops.added.on_host", lambda tensor: False)
    scores = torch.zeros(2, 6, dtype=torch.float64)
    added = some()
    added._replace(to=added.to._replace(longest=3)).add_to(scores)
    assert torch.equal(scores, EXPECTED)
    added._replace(to=added.to._replace(longest=3)).add_to(torch.zeros(2, 6, device="meta"))


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_single_scores_get_what_all_get(dtype):
    rows, items = torch.tensor([1, 0, 0, 0, 1, 0]), torch.tensor([2, 3, 3, 1, 5, 0])
    assert torch.equal(some(dtype).at(rows, items).double(), EXPECTED[rows, items].to(dtype).double())
    several = torch.stack([items, items.flip(0)])
    assert torch.equal(some().at(rows, several), EXPECTED[rows, several])


def test_single_scores_hand_gradients_on():
    weight = torch.zeros(2, 2, dtype=torch.float64, requires_grad=True)
    found = some()._replace(weight=weight).at(torch.tensor([0, 0, 1]), torch.tensor([3, 0, 1]))
    (found * randn(3, seed=1)).sum().backward()
    a, b, _ = randn(3, seed=1).tolist()
    torch.testing.assert_close(weight.grad, torch.tensor([[a + 3 * b, 4 * a + 3 * b], [0, 0]], dtype=torch.float64))
