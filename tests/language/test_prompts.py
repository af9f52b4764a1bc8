"""LlamaRec's prompts and letters."""

import pytest
from language_cases import TITLES, needs_transformers

needs_transformers()

from recbole_ssm.errors import InputError  # noqa: E402
from recbole_ssm.language.letters import LETTERS, letter_tokens  # noqa: E402
from recbole_ssm.language.prompts import INSTRUCTION, Prompts, prompt_text  # noqa: E402
from recbole_ssm.language.tokenizer import train_tokenizer  # noqa: E402


@pytest.fixture(scope="module")
def words():
    return train_tokenizer(TITLES, 300)


def prompts(words, **sizes):
    return Prompts(words, TITLES, **{"history_items": 2, "title_tokens": 32, "prompt_tokens": 500, **sizes})


def test_a_prompt_is_that_of_the_paper(words):
    (text,) = prompts(words).texts([[6, 0, 1, 2]], [[3, 7]])
    assert text == (
        f"### Instruction:\n{INSTRUCTION}\n\n### Input:\nUser history: (1) Toy Story (1995) \n (2) GoldenEye (1995); "
        "\n Candidate pool: (A) Toy Soldiers (1991) \n (B) Toy Story 2 (1999)\n\n### Response:\n"
    )


def test_a_prompt_becomes_tokens_as_a_whole_after_one_begin(words):
    given = [[1], [4, 2]], [[2, 3], [5, 7]]
    for text, tokens in zip(prompts(words).texts(*given), prompts(words).tokens(*given), strict=True):
        assert tokens == [words.begin, *words.encode([text])[0]]
        assert words.decode([tokens[1:]]) == [text]


def test_long_titles_are_cut_and_long_prompts_lose_what_is_first(words):
    (text,) = prompts(words, title_tokens=3).texts([[1]], [[7]])
    (whole,) = words.encode([TITLES[1]])
    assert f"(1) {words.decode([whole[:3]])[0]}; " in text
    (cut,) = prompts(words, title_tokens=1).texts([[4]], [[4]])
    assert "(1) ; " in cut  # the first of the two bytes of É
    (full,) = prompts(words).tokens([[1, 2]], [[3, 7]])
    (short,) = prompts(words, prompt_tokens=len(full) - 20).tokens([[1, 2]], [[3, 7]])
    assert short == [full[0], *full[21:]]
    with pytest.raises(InputError, match="prompt_tokens: the candidates of a prompt alone take"):
        prompts(words, prompt_tokens=30).tokens([[1, 2]], [[3, 7]])


def test_letters_are_single_distinct_tokens_after_the_prompt(words):
    found = letter_tokens(words, prompt_text(["x"], ["y"]), 26).tolist()
    assert len(set(found)) == 26
    assert words.decode([[token] for token in found]) == list(LETTERS)


class _Odd:
    """Characters as tokens, but that words are joined with what is before them, or letters cannot be told apart."""

    def __init__(self, joined="", same=""):
        self._joined, self._same = joined, same

    def encode(self, texts):
        joined = [text.replace(self._joined, "!") if self._joined else text for text in texts]
        return [[0 if letter in self._same else ord(letter) for letter in text] for text in joined]


@pytest.mark.parametrize(
    ("tokenizer", "what"),
    [(_Odd(joined="\nB"), "no token of its own for the letter B"), (_Odd(same="AC"), "the same token for several")],
    ids=["joined", "same"],
)
def test_letters_that_do_not_stand_alone_are_refused(tokenizer, what):
    with pytest.raises(InputError, match=f"language_model: its tokenizer has {what}"):
        letter_tokens(tokenizer, "so it ends:\n", 3)
    assert len(letter_tokens(_Odd(), "so it ends:\n", 3)) == 3
