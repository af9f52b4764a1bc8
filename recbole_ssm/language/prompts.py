"""LlamaRec's prompts: a history and candidates, as the tokens that a language model reads.

The words are those of the paper's code (Yue et al., arXiv 2311.02089). A prompt becomes tokens as a whole: those of its
parts, put together, are others.
"""

from __future__ import annotations

from collections.abc import Sequence

from recbole_ssm.errors import InputError
from recbole_ssm.language.letters import LETTERS
from recbole_ssm.language.tokenizer import Tokenizer

INSTRUCTION = (
    "Given user history in chronological order, recommend an item from the candidate pool with its index letter."
)
_POOL = "Candidate pool: "
_PROMPT = f"### Instruction:\n{{}}\n\n### Input:\nUser history: {{}}; \n {_POOL}{{}}\n\n### Response:\n"


def prompt_text(history: Sequence[str], candidates: Sequence[str]) -> str:
    """The prompt.

    Args:
        history: titles of the latest items, the oldest first.
        candidates: titles of the candidates; each gets a letter.

    Returns:
        The text; the letter of the answer comes right after it.
    """
    read = " \n ".join(f"({number}) {title}" for number, title in enumerate(history, 1))
    pool = " \n ".join(f"({letter}) {title}" for letter, title in zip(LETTERS, candidates, strict=False))
    return _PROMPT.format(INSTRUCTION, read, pool)


class Prompts:
    """The prompts of histories of item numbers.

    Args:
        tokenizer: of the language model.
        texts: (n_items,) the title of each item; that of the padding, number 0, is not used.
        history_items: how many of the latest items a prompt shows.
        title_tokens: longer titles are cut to so many tokens.
        prompt_tokens: longer prompts lose what is first in them.
    """

    def __init__(
        self, tokenizer: Tokenizer, texts: Sequence[str], *, history_items: int, title_tokens: int, prompt_tokens: int
    ):
        self._tokenizer, self._history_items, self._longest = tokenizer, history_items, prompt_tokens
        self._titles = _cut(tokenizer, texts, title_tokens)

    def texts(self, histories: Sequence[Sequence[int]], candidates: Sequence[Sequence[int]]) -> list[str]:
        """The prompts as texts; arguments as for :meth:`tokens`."""
        titles = self._titles
        return [
            prompt_text(
                [titles[item] for item in _shown(history, self._history_items)], [titles[item] for item in pool]
            )
            for history, pool in zip(histories, candidates, strict=True)
        ]

    def tokens(self, histories: Sequence[Sequence[int]], candidates: Sequence[Sequence[int]]) -> list[list[int]]:
        """The prompts as tokens, after the token that begins a text.

        Args:
            histories: items of each, the oldest first; hidden ones (number 0) are passed over.
            candidates: items of each.

        Returns:
            The tokens of each.

        Raises:
            InputError: ``prompt_tokens`` are too few for the candidates.
        """
        texts = self.texts(histories, candidates)
        found = self._tokenizer.encode(texts)
        room = self._longest - 1
        for text, tokens in zip(texts, found, strict=True):
            if len(tokens) > room:
                self._check_room(text, room)
        return [[self._tokenizer.begin, *tokens[-room:]] for tokens in found]

    def _check_room(self, text: str, room: int) -> None:
        """Raise InputError where a prompt that is cut would not show all candidates."""
        (tail,) = self._tokenizer.encode([text[text.rindex(_POOL) :]])
        if len(tail) > room:
            raise InputError(
                f"prompt_tokens: the candidates of a prompt alone take {len(tail)} tokens, and {self._longest} are "
                "allowed; allow more, or set smaller title_tokens or rerank"
            )


def _shown(history: Sequence[int], count: int) -> list[int]:
    return [item for item in history if item][-count:]


def _cut(tokenizer: Tokenizer, texts: Sequence[str], length: int) -> list[str]:
    """The text of the first tokens of each; a character that is cut in its middle is left out."""
    cut = list(texts)
    long = [row for row, tokens in enumerate(tokenizer.encode(texts, length + 1)) if len(tokens) > length]
    kept = tokenizer.decode(tokenizer.encode([texts[row] for row in long], length)) if long else []
    for row, text in zip(long, kept, strict=True):
        cut[row] = text.rstrip("\ufffd")
    return cut
