"""One order of all items from several queries, by turns; and prompts put together from pieces."""

import pytest
import torch

from recbole_ssm.language.pieces import Pieces, surrounded
from recbole_ssm.language.round_robin import by_turns, ranks


def order(scores: torch.Tensor) -> list[list[int]]:
    return scores.argsort(1, descending=True).tolist()


def test_by_turns():
    assert by_turns([[1, 2, 3], [1, 4], [2, 5, 6]]) == [1, 4, 2, 3, 5, 6]
    assert by_turns([[], [7, 7]]) == [7]
    assert by_turns([]) == []


@pytest.fixture(scope="module")
def scores():
    draw = torch.Generator().manual_seed(0)
    found = torch.rand(3, 4, 30, generator=draw)
    return found.where(torch.rand(3, 4, 30, generator=draw) < 0.5, 0.0)


def test_all_items_have_a_rank_of_their_own(scores):
    for most in (1, 5, 100):
        found = ranks(scores, torch.zeros(30), most)
        assert torch.equal(found.sort(1).values, torch.arange(1.0, 31).expand(3, -1))


def test_one_query_gives_its_own_order(scores):
    tie = torch.linspace(0, 1, 30)
    for most in (1, 100):
        found = ranks(scores[:, :1], tie, most)
        assert order(found) == order(scores[:, 0].double() + 1e-9 * tie)


def test_the_first_items_are_those_of_the_queries_in_turn(scores):
    found = order(ranks(scores, torch.zeros(30), 100))
    for user in range(3):
        lists = order(scores[user])
        held = [[item for item in each if scores[user, query, item] > 0] for query, each in enumerate(lists)]
        first = by_turns(held)
        assert found[user][: len(first)] == first
        assert set(first) == set(scores[user].any(0).nonzero()[:, 0].tolist())


def test_fewer_in_turn_change_nothing_before(scores):
    all_in_turn = order(ranks(scores, torch.zeros(30), 100))
    for most in (2, 4, 8):
        some = order(ranks(scores, torch.zeros(30), most))
        assert [each[:most] for each in some] == [each[:most] for each in all_in_turn]


def test_what_fits_no_query_follows_by_popularity_and_the_negative_is_last():
    scores = torch.tensor([[[-2.0, 0, 3, 0, -1, 0], [-2, 1, 3, 0, -1, 0]]])
    assert order(ranks(scores, torch.tensor([9.0, 0, 0, 0.2, 5, 0.7]), 100)) == [[2, 1, 5, 3, 4, 0]]


def test_prompts_of_pieces():
    pieces = Pieces([[9], [8, 8], [], [3], [4, 5]])
    numbers, borders = surrounded(torch.tensor([3, 4, 2]), torch.tensor([0, 2, 3]), 0, (1, torch.tensor([4, 3])))
    assert numbers.tolist() == [0, 3, 4, 1, 4, 0, 2, 1, 3] and borders.tolist() == [0, 5, 9]
    tokens, ends = pieces.join(numbers, borders)
    assert tokens.tolist() == [9, 3, 4, 5, 8, 8, 4, 5, 9, 8, 8, 3] and ends.tolist() == [0, 8, 12]
    assert not pieces.state_dict()
