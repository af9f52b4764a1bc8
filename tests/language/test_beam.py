"""Beam search follows the states of its beams, for each kind of model, and a wide one finds the best of a tree."""

import itertools

import pytest
import torch
from language_cases import LOCAL, TINY, needs_transformers, tiny_language

from recbole_ssm.errors import InputError
from recbole_ssm.language.beam import beam_search
from recbole_ssm.language.model import LanguageModel
from recbole_ssm.language.steps import read_prompts, step_of
from recbole_ssm.language.title_tree import TitleTree

needs_transformers()
pytestmark = pytest.mark.slow  # transformers alone takes seconds to import


@pytest.fixture(scope="module", params=[*TINY, *LOCAL])
def language(request) -> LanguageModel:
    """A model that has learned which numbers follow which: with one that is sure of nothing an error hardly shows."""
    language = tiny_language(request.param, **LOCAL.get(request.param, {})).train()
    optimizer = torch.optim.Adam(language.parameters(), lr=0.01)
    tokens, borders = stream(40, 12, seed=1)
    places = (torch.arange(len(tokens)) % 12 < 11).nonzero()[:, 0]
    for _ in range(20):
        optimizer.zero_grad()
        language.loss(language(tokens, borders, places), tokens[places + 1]).backward()
        optimizer.step()
    return language.eval()


def stream(n: int, length: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Sequences in which each number follows from the two before it, most of the time."""
    draw = torch.Generator().manual_seed(seed)
    rows = torch.randint(3, 15, (n, length), generator=draw)
    for place in range(2, length):
        usual = (rows[:, place - 1] * 2 + rows[:, place - 2]) % 11 + 4
        rows[:, place] = torch.where(torch.rand(n, generator=draw) < 0.8, usual, rows[:, place])
    return rows.flatten(), (torch.arange(n + 1) * length).int()


def prompts(lengths: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
    tokens = [stream(1, length, seed=length)[0] for length in lengths]
    return torch.cat(tokens), torch.tensor([0, *itertools.accumulate(lengths)], dtype=torch.int32)


@torch.no_grad()
def recomputed(language: LanguageModel, prompt: torch.Tensor, written: list[int]) -> float:
    """``log p(written | prompt)`` by reading all of it at once."""
    tokens = torch.cat([prompt, torch.tensor(written)])
    logits = language.logits(language(tokens, torch.tensor([0, len(tokens)], dtype=torch.int32)))
    places = torch.arange(len(prompt) - 1, len(tokens) - 1)
    return logits.log_softmax(1)[places, tokens[places + 1]].sum().item()


def search(language, lengths, **options):
    tokens, borders = prompts(lengths)
    with torch.no_grad():
        logits, state = read_prompts(language, tokens, borders)
    return beam_search(logits, state, step_of(language), **options), tokens.tensor_split(borders[1:-1].long())


def test_scores_are_those_of_reading_again(language):
    found, texts = search(language, [5, 9, 2], beams=6, most=5, end=7)
    assert found.total.isfinite().all()
    for row, prompt in enumerate(texts):
        mean = found.total[row] / found.length[row]
        assert (mean.diff() <= 1e-6).all()
        written = [found.tokens[row, beam, : found.length[row, beam]].tolist() for beam in range(6)]
        assert len({tuple(each) for each in written}) == 6
        for beam, each in enumerate(written):
            assert 7 not in each[:-1] and (each[-1] == 7 or len(each) == 5)
            assert found.total[row, beam].item() == pytest.approx(recomputed(language, prompt, each), abs=2e-4)


def test_a_prompt_is_worth_the_same_alone(language):
    together, _ = search(language, [5, 9, 2], beams=4, most=4, end=7)
    for row, length in enumerate([5, 9, 2]):
        alone, _ = search(language, [length], beams=4, most=4, end=7)
        torch.testing.assert_close(alone.total[0], together.total[row], atol=1e-4, rtol=1e-4)
        assert torch.equal(alone.tokens[0], together.tokens[row])


def test_a_wide_beam_finds_the_best_of_a_tree(language):
    vocabulary = language.tokenizer.size
    tree = TitleTree([[], *([token] for token in range(vocabulary) if token != 7)], 7)
    tokens, borders = prompts([6, 3])
    with torch.no_grad():
        logits, state = read_prompts(language, tokens, borders)
        exact = tree.walk(logits, state, step_of(language), 1)
    found = beam_search(logits, state, step_of(language), beams=vocabulary, most=2, end=7, length_power=0)
    titles = (found.tokens[:, :, -1] == 7) & (found.length > 1)  # what ends at once is no title
    best = found.total.masked_fill(~titles, -torch.inf).max(1)
    torch.testing.assert_close(best.values, exact.max(1).values, atol=1e-4, rtol=1e-4)
    for row, beam in enumerate(best.indices.tolist()):
        title = int(found.tokens[row, beam, 0])
        item = 1 + title - (title > 7)
        assert exact[row, item] == exact[row].max()


@pytest.mark.parametrize(
    ("kind", "settings", "why"),
    [
        ("gpt_neo", {"hidden_size": 16, "num_layers": 2, "num_heads": 2, "attention_types": [[["local"], 2]]}, "local"),
        ("gemma2", LOCAL["gemma2"] | {"layer_types": ["chunked_attention"] * 2}, "chunked_attention"),
    ],
)
def test_attention_of_another_kind_is_refused(kind, settings, why):
    with pytest.raises(InputError, match=f"a {kind} cannot write here: it has layers of {why}; name another model"):
        read_prompts(tiny_language(kind, **settings), *prompts([5]))


def test_fewer_continuations_than_beams():
    def step(tokens, state, parents):
        return torch.zeros(len(parents), 2), None

    found = beam_search(torch.zeros(1, 2), None, step, beams=5, most=2, end=1)
    assert found.total.isfinite().sum() == 3
    assert sorted(found.length[0][:3].tolist()) == [1, 2, 2]
