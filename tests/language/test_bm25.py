"""BM25 is that of a package of its own, and is defined for texts and queries without words."""

import random

import pytest
import torch

from recbole_ssm.language.bm25 import BM25, words_of

WORDS = [f"w{number}" for number in range(40)]


def texts(n: int, seed: int) -> list[str]:
    draw = random.Random(seed)
    return [" ".join(draw.choices(WORDS, k=draw.randrange(9))) for _ in range(n)]


@pytest.mark.slow
@pytest.mark.parametrize(("k1", "b"), [(1.2, 0.75), (0.5, 0.0), (2.0, 1.0)])
def test_equals_bm25s(k1, b):
    bm25s = pytest.importorskip("bm25s")
    documents, queries = texts(150, 0), [each for each in texts(12, 1) if each]
    index = bm25s.BM25(k1=k1, b=b, method="lucene")
    index.index([each.split() for each in documents], show_progress=False)
    expected = torch.stack([torch.from_numpy(index.get_scores(each.split())) for each in queries])
    found = BM25(documents, k1, b).scores(queries)
    factor = float(expected.sum() / found.sum())
    assert min(abs(factor - 1), abs(factor - (k1 + 1))) < 1e-4  # versions differ in the factor k1 + 1
    torch.testing.assert_close(found * factor, expected.float(), atol=1e-4, rtol=1e-4)


def test_of_one_word_in_one_text():
    found = BM25(["Toy Story (1995)", "story", "", "Heat"]).scores(["toy toy"])
    idf = torch.tensor(1 + (4 - 1 + 0.5) / 1.5).log()
    expected = 2 * idf / (1 + 1.2 * (0.25 + 0.75 * 3 / (5 / 4)))
    torch.testing.assert_close(found, torch.tensor([[expected.item(), 0, 0, 0]]))


def test_queries_without_known_words():
    index = BM25(["a b", "", "b c"])
    assert index.scores(["", "unknown", "..."]).tolist() == [[0, 0, 0]] * 3
    assert index.scores([]).shape == (0, 3)
    assert torch.equal(index.scores(["a unknown"]), index.scores(["A"]))


def test_texts_without_words():
    assert BM25(["", "!"]).scores(["a"]).tolist() == [[0, 0]]
    assert BM25([]).scores(["a"]).shape == (1, 0)


def test_words():
    assert words_of("L'Oréal, Anti-Age_2 (50ML)") == ["l", "oréal", "anti", "age_2", "50ml"]
