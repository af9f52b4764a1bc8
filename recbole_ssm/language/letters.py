"""The verbalizer of LlamaRec: each candidate is a letter, and each letter one token that comes after the prompt.

Yue et al., "LlamaRec: Two-Stage Recommendation using Large Language Models for Ranking", arXiv 2311.02089, section 4.2.
"""

from __future__ import annotations

from string import ascii_uppercase

import torch
from torch import Tensor

from recbole_ssm.errors import InputError
from recbole_ssm.language.tokenizer import Tokenizer

LETTERS = ascii_uppercase
"""The names of candidates, the first one first."""


def letter_tokens(tokenizer: Tokenizer, prompt: str, count: int) -> Tensor:
    """The token of each letter, where it is the first word after a prompt.

    Args:
        tokenizer: of the language model.
        prompt: text of a prompt, such as it ends before the answer.
        count: how many letters are needed.

    Returns:
        (count,) int64.

    Raises:
        InputError: a letter is not one token of its own, or two letters have the same token.
    """
    letters = LETTERS[:count]
    before, *others = tokenizer.encode([prompt, *(prompt + letter for letter in letters)])
    found = []
    for letter, after in zip(letters, others, strict=True):
        if len(after) != len(before) + 1 or after[:-1] != before:
            raise InputError(
                f"language_model: its tokenizer has no token of its own for the letter {letter} after the prompt, so "
                "that candidates cannot be named by letters; use another language model"
            )
        found.append(after[-1])
    if len(set(found)) < count:
        raise InputError(
            f"language_model: its tokenizer has the same token for several of the letters {letters}, so that "
            "candidates cannot be named by letters; use another language model"
        )
    return torch.tensor(found)
