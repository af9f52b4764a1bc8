"""The tokenizer of a language model: of a model's folder, or trained on the texts of the items."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from recbole_ssm.errors import InputError
from recbole_ssm.language.library import first_line, tokenizers, transformers

_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "spiece.model")
_BEGIN, _END, _SEPARATOR = "<begin>", "<end>", "<title>"


class Tokenizer:
    """Texts to tokens and back, and the tokens that stand around texts.

    Args:
        core: a ``tokenizers.Tokenizer``.
        begin: the token in front of a whole text.
        end: the token after a whole text.
        separator: the token after each title in a stream of titles.
    """

    def __init__(self, core: Any, begin: int, end: int, separator: int):
        core.no_padding()
        core.no_truncation()
        self._core, self.begin, self.end, self.separator = core, begin, end, separator

    @property
    def size(self) -> int:
        """1 more than the largest token."""
        return 1 + max(self._core.get_vocab(with_added_tokens=True).values())

    def encode(self, texts: Sequence[str], most: int | None = None) -> list[list[int]]:
        """The tokens of each text, without any around it.

        Args:
            texts: any number of them.
            most: how many tokens of a text are kept, from its beginning; None for all.

        Returns:
            A list for each text.
        """
        return [found.ids[:most] for found in self._core.encode_batch(list(texts), add_special_tokens=False)]

    def decode(self, tokens: Sequence[Sequence[int]]) -> list[str]:
        """The text of each list of tokens; special tokens are left out."""
        found: list[str] = self._core.decode_batch([list(each) for each in tokens], skip_special_tokens=True)
        return found

    def to_text(self) -> str:
        """All of it as JSON, for :meth:`from_text`."""
        marks = {"begin": self.begin, "end": self.end, "separator": self.separator}
        return json.dumps({**marks, "tokenizer": self._core.to_str()})

    @classmethod
    def from_text(cls, text: str) -> Tokenizer:
        """What :meth:`to_text` has written.

        Args:
            text: the JSON.

        Returns:
            The tokenizer.

        Raises:
            ValueError: it is something else.
        """
        try:
            kept = json.loads(text)
            core = tokenizers().Tokenizer.from_str(kept["tokenizer"])
            found = cls(core, *(kept[name] for name in ("begin", "end", "separator")))
            if not all(isinstance(mark, int) and 0 <= mark < found.size for mark in (found.begin, found.end)):
                raise ValueError("its marks are no tokens")
        except Exception as error:  # the library's own errors have no class of their own
            raise ValueError(f"no tokenizer can be made of it: {error}") from error
        return found


def train_tokenizer(texts: Iterable[str], size: int) -> Tokenizer:
    """A byte-level BPE tokenizer (Sennrich et al., ACL 2016; bytes as GPT-2 has them), trained on texts.

    The same texts give the same tokenizer.

    Args:
        texts: for example the titles of all items.
        size: how many tokens it has at most: 259 of bytes and marks, and merges.

    Returns:
        The tokenizer. Any text can be written with it.
    """
    library = tokenizers()
    core = library.Tokenizer(library.models.BPE())
    core.pre_tokenizer = library.pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = library.decoders.ByteLevel()
    trainer = library.trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=[_BEGIN, _END, _SEPARATOR],
        initial_alphabet=sorted(library.pre_tokenizers.ByteLevel.alphabet()),
        min_frequency=2,
        show_progress=False,
    )
    core.train_from_iterator(texts, trainer)
    return Tokenizer(core, *(core.token_to_id(mark) for mark in (_BEGIN, _END, _SEPARATOR)))


def check_tokenizer(folder: Path) -> None:
    """Raise :class:`InputError` unless a folder has a tokenizer; transformers 5 would make an empty one."""
    if not any((folder / name).is_file() for name in _FILES):
        raise InputError(
            f"{folder} has no tokenizer: {_FILES[0]} is missing, and so are {', '.join(_FILES[1:])}; where there is a "
            "network, AutoTokenizer.from_pretrained(NAME).save_pretrained(FOLDER) of transformers writes it"
        )


def read_tokenizer(folder: Path) -> Tokenizer:
    """The tokenizer in a folder of a model. A title ends with a new line where that is one token.

    Args:
        folder: as ``save_pretrained`` of transformers writes it.

    Returns:
        The tokenizer.

    Raises:
        InputError: there is none, or it has no token that ends a text.
    """
    check_tokenizer(folder)
    automatic = transformers().AutoTokenizer
    try:
        found = automatic.from_pretrained(str(folder), local_files_only=True, trust_remote_code=False, use_fast=True)
        core = found.backend_tokenizer
    except Exception as error:  # it raises whatever its libraries raise
        raise InputError(
            f"the tokenizer in {folder} cannot be read ({first_line(error)}); the folder must hold a tokenizer.json"
        ) from error
    marks = [mark for mark in (found.bos_token_id, found.eos_token_id) if mark is not None]
    if not marks:
        raise InputError(f"the tokenizer in {folder} has no token that begins or ends a text; name another folder")
    line = core.encode("\n", add_special_tokens=False).ids[-1:]
    ends_line = bool(line) and core.decode(line).endswith("\n")
    return Tokenizer(core, marks[0], marks[-1], line[0] if ends_line else marks[-1])
