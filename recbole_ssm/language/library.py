"""The libraries of language models, which are an extra of this package."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from recbole_ssm.system.extras import package

_EXTRA, _NEEDED_BY = "language", "a language model"


def transformers() -> Any:
    """The module; InputError says how to install it."""
    return package("transformers", _EXTRA, _NEEDED_BY)


def tokenizers() -> Any:
    """The module, with its parts; InputError says how to install it."""
    for part in ("models", "pre_tokenizers", "decoders", "trainers"):
        package(f"tokenizers.{part}", _EXTRA, _NEEDED_BY)
    return package("tokenizers", _EXTRA, _NEEDED_BY)


@contextmanager
def quietly() -> Iterator[None]:
    """Without transformers' bars and warnings: its own slow path of Mamba, of which one tells, is not used.

    Yields:
        Nothing.
    """
    logging = transformers().utils.logging
    before, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(before)
        if bars:
            logging.enable_progress_bar()


def first_line(error: Exception) -> str:
    """What an error says, without its full stop: those of these libraries may have many lines."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
