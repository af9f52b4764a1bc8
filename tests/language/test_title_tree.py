"""The walk of the tree of titles finds what scoring each title by itself finds."""

import random

import pytest
import torch
from torch import nn

from recbole_ssm.language.title_tree import TitleTree

END = 0


class Toy(nn.Module):
    """A recurrent model of random weights, large enough to be sure of itself at places."""

    def __init__(self, vocabulary: int, seed: int):
        super().__init__()
        torch.manual_seed(seed)
        self.embedding = nn.Embedding(vocabulary, 8)
        self.cell = nn.GRUCell(8, 8)
        self.head = nn.Linear(8, vocabulary)
        self.steps = 0
        for each in self.parameters():
            nn.init.normal_(each, std=1.5)

    def step(self, tokens, state, parents):
        state = self.cell(self.embedding(tokens), state[parents])
        self.steps += len(tokens)
        return self.head(state), state

    def score(self, state, title):
        total = 0.0
        for token in [*title, END]:
            logits = self.head(state)
            total += logits.log_softmax(0)[token].item()
            state = self.cell(self.embedding(torch.tensor([token])), state[None])[0]
        return total


def titles(n: int, vocabulary: int, seed: int) -> list[list[int]]:
    draw = random.Random(seed)
    found = [[draw.randrange(1, vocabulary) for _ in range(draw.randrange(1, 6))] for _ in range(n - 3)]
    found += [found[1], found[0] + [1], []]  # of equal text, with another one as its beginning, and empty
    return [[1], *found]  # the first is the padding


@pytest.fixture(params=range(4))
def case(request):
    seed = request.param
    model, items = Toy(7, seed).eval(), titles(60, 7, seed)
    state = torch.randn(3, 8, generator=torch.Generator().manual_seed(seed))
    with torch.no_grad():
        exact = torch.tensor([[-torch.inf, *(model.score(each, title) for title in items[1:-1])] for each in state])
        exact = torch.cat([exact, exact[:, :1]], 1)  # the last has no title
    return model, TitleTree(items, END), state, exact, seed


def walk(case, k, left_out=None, **options):
    model, tree, state, *_ = case
    return tree.walk(model.head(state).detach(), state, model.step, k, left_out, **options)


@pytest.mark.sampled(2)
def test_equals_scoring_each_title(case):
    exact = case[3]
    for k in (1, 5, 20):
        found = walk(case, k, beam=4)
        torch.testing.assert_close(found.topk(k).values, exact.topk(k).values, atol=1e-5, rtol=1e-5)
        met = found > found.min(1, keepdim=True).values
        torch.testing.assert_close(found[met], exact[met], atol=1e-5, rtol=1e-5)
        assert (met.sum(1) >= k).all()


def test_without_a_bound_all_are_exact(case):
    found = walk(case, None)
    torch.testing.assert_close(found[:, 1:-1], case[3][:, 1:-1], atol=1e-5, rtol=1e-5)
    assert (found[:, 0] < found[:, 1:-1].min(1).values).all() and torch.equal(found[:, 0], found[:, -1])
    different = list({tuple(title): item for item, title in enumerate(titles(60, 7, case[4])) if item}.values())
    assert (found[:, different].double().exp().sum(1) <= 1 + 1e-6).all()
    assert found[0, 2] == found[0, -3]


@pytest.mark.sampled(4)
def test_the_bound_saves_steps_and_nothing_else_changes(case):
    model = case[0]
    model.steps = 0
    walk(case, None)
    everything, model.steps = model.steps, 0
    found = walk(case, 3)
    assert 0 < model.steps < everything
    for options in ({"beam": 1}, {"rows": 2}, {"beam": 1000}):
        other = walk(case, 3, **options).topk(3).values
        torch.testing.assert_close(other, found.topk(3).values, atol=1e-5, rtol=1e-5)


@pytest.mark.sampled(4)
def test_what_is_left_out_is_not_among_the_best(case):
    exact = case[3].clone()
    first = exact.topk(4).indices
    users = torch.arange(3).repeat_interleave(4)
    exact[users, first.flatten()] = -torch.inf
    twice = torch.cat([users, users[:2]]), torch.cat([first.flatten(), first.flatten()[:2]])
    found = walk(case, 5, twice)
    torch.testing.assert_close(found.topk(5).values, exact.topk(5).values, atol=1e-5, rtol=1e-5)
    assert (found[users, first.flatten()] == found[users, 0]).all()


@pytest.mark.sampled(4)
def test_more_than_are_left(case):
    left = torch.tensor([3, 7])
    others = torch.tensor([item for item in range(1, 61) if item not in left.tolist()])
    left_out = torch.arange(3).repeat_interleave(len(others)), others.repeat(3)
    found = walk(case, 10, left_out)
    torch.testing.assert_close(found[:, left], case[3][:, left], atol=1e-5, rtol=1e-5)
    assert (found[:, others] < found[:, left].min(1, keepdim=True).values).all()


def test_nothing_is_left():
    model, tree = Toy(5, 0), TitleTree([[], [1], [2, 3]], END)
    state, everything = torch.zeros(1, 8), (torch.zeros(2, dtype=torch.int64), torch.tensor([1, 2]))
    found = tree.walk(model.head(state).detach(), state, model.step, 2, everything)
    assert found.shape == (1, 3) and found.isfinite().all() and len(found.unique()) == 1
    assert TitleTree([[]], END).walk(model.head(state).detach(), state, model.step, 1).shape == (1, 1)


def test_nodes():
    tree = TitleTree([[9], [1, 2], [1, 2], [1], [3]], END)
    assert tree.token.tolist() == [-1, 1, 3, END, 2, END, END]
    assert tree.first_child.tolist() == [1, 3, 5, 6, 6, 7, 7, 7]
    assert tree.below.tolist() == [0, 3, 1, 1, 2, 1, 2]
    assert not tree.state_dict()
