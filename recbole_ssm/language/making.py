"""Language models with their tokenizer and texts: from a folder, from settings, or of a checkpoint."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch

from recbole_ssm.errors import FolderMissing, InputError
from recbole_ssm.language import loading
from recbole_ssm.language.lora import Lora, add_adapters, check_gradients
from recbole_ssm.language.model import LanguageModel
from recbole_ssm.language.tokenizer import Tokenizer, read_tokenizer, train_tokenizer
from recbole_ssm.ops.precision import HALF

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16, "auto": None}
"""Types of numbers by name; None is the one that a folder's weights have."""


class Options(NamedTuple):
    """How a language model is made, whatever it is made of."""

    title_tokens: int = 32
    """How many tokens of a text are read."""
    lora: Lora | None = None
    """Adapters, which alone are trained; None to train all weights."""
    load_in_4bit: bool = False
    """See :func:`recbole_ssm.language.loading.load_weights`; needs ``lora``."""
    dtype: torch.dtype | None = torch.float32
    """Of the weights; half precision needs ``lora``. None for that of the folder, or float32 without ``lora``."""

    def check(self) -> None:
        """Raise :class:`InputError` where weights would be trained that cannot be, or where there is no GPU for them.

        Steps of training are often smaller than the gap between two numbers of half precision, and would be lost.
        """
        if self.load_in_4bit and self.lora is None:
            raise InputError("load_in_4bit: weights in 4 bits cannot be trained; set lora_rank, such as 8")
        if self.dtype in HALF and self.lora is None:
            raise InputError(
                f"language_dtype: weights in {str(self.dtype).removeprefix('torch.')} are too coarse to be trained "
                "themselves; set lora_rank, such as 8, or leave them in float32 and set enable_amp"
            )
        if self.load_in_4bit:
            loading.check_four_bits()

    def dtype_for(self, settings: Any) -> torch.dtype:
        """The type of the weights, with the settings that they are made with or come with."""
        if self.dtype is None and self.lora is not None:
            return getattr(settings, "dtype", None) or torch.float32
        return self.dtype or torch.float32


_USUAL = Options()


def from_folder(
    folder: str | Path, texts: Sequence[str], options: Options = _USUAL, *, tokenizer: str | Path | None = None
) -> LanguageModel:
    """A pretrained language model.

    Args:
        folder: as ``save_pretrained`` writes it, with safetensors.
        texts: (n_items) by item number.
        options: how it is made.
        tokenizer: another folder with the tokenizer; None for the same.

    Returns:
        The model; on the meta device without its weights.

    Raises:
        InputError: the folder cannot be used, tokenizer and model do not fit, or an adapter gets no gradient.
    """
    options.check()
    folder = Path(folder)
    settings = loading.read_settings(folder)
    words = read_tokenizer(Path(tokenizer or folder))
    base = None if options.lora is None else (str(folder.resolve()), loading.folder_hash(folder))
    model = _adapted(_of_folder(folder, settings, options), options)
    found = LanguageModel(model, words, texts, options.title_tokens, base)
    if options.lora is not None:
        _check_adapters(found)
    return found


def from_settings(
    settings: Mapping[str, Any],
    texts: Sequence[str],
    options: Options = _USUAL,
    *,
    tokenizer: str | Path | None = None,
    tokenizer_size: int = 2000,
) -> LanguageModel:
    """A language model with random weights.

    Args:
        settings: see :func:`recbole_ssm.language.loading.make_settings`.
        texts: (n_items) by item number.
        options: how it is made, without adapters.
        tokenizer: a folder with a tokenizer; None for one that is trained on the texts.
        tokenizer_size: how many tokens that has at most.

    Returns:
        The model.

    Raises:
        InputError: settings, or tokenizer and settings, do not fit.
    """
    options.check()
    words = train_tokenizer(texts, tokenizer_size) if tokenizer is None else read_tokenizer(Path(tokenizer))
    made = loading.make_settings(
        settings, vocab_size=words.size, bos_token_id=words.begin, eos_token_id=words.end
    )  # and no padding: its embedding would not be learned
    model = loading.make_model(made, options.dtype_for(made))
    return LanguageModel(model, words, texts, options.title_tokens)


def from_kept(
    kept: Mapping[str, Any],
    texts: Sequence[str] | None = None,
    options: Options = _USUAL,
    *,
    folder: str | Path | None = None,
) -> LanguageModel:
    """The language model of a checkpoint, whose weights are loaded afterwards.

    Args:
        kept: from :meth:`LanguageModel.kept`.
        texts: (n_items) of another catalogue; None for those that are kept.
        options: as it was made.
        folder: where the frozen weights lie now; None for where they lay.

    Returns:
        The model.

    Raises:
        FolderMissing: the frozen weights are not there, or are others.
        ValueError: ``kept`` is not of such a model.
    """
    texts = str(kept["texts"]).split("\n") if texts is None else texts
    settings, words = loading.settings_from_text(kept["language_config"]), Tokenizer.from_text(kept["tokenizer"])
    if options.lora is None:
        model, base = loading.make_model(settings, options.dtype_for(settings)), None
    else:
        place = Path(folder or kept["base"]).resolve()
        base = str(place), str(kept["base_hash"])
        if not _on_meta():
            _check_base(place, base[1])
        model = _adapted(_of_folder(place, settings, options), options)
    return LanguageModel(model, words, texts, options.title_tokens, base)


def _on_meta() -> bool:
    """Whether sizes are compared, without memory for weights."""
    return torch.empty(0).device.type == "meta"


def _of_folder(folder: Path, settings: Any, options: Options) -> Any:
    dtype = options.dtype_for(settings)
    if _on_meta():
        return loading.make_model(settings, dtype)
    return loading.load_weights(folder, settings, dtype=dtype, load_in_4bit=options.load_in_4bit)


def _adapted(model: Any, options: Options) -> Any:
    if options.lora is not None:
        add_adapters(model, options.lora)
    return model


def check_there(folder: str | Path) -> None:
    """Raise :class:`FolderMissing` unless the folder of a frozen model is there."""
    if not Path(folder).is_dir():
        raise FolderMissing(f"the checkpoint has adapters alone, and the folder of their model, {folder}, is not there")


def _check_base(folder: Path, expected: str) -> None:
    check_there(folder)
    if not (folder / "config.json").is_file() or loading.folder_hash(folder) != expected:
        raise FolderMissing(
            f"the checkpoint has adapters alone, and {folder} holds other files than the model that they were trained "
            "with"
        )


def _check_adapters(language: LanguageModel) -> None:
    """Raise InputError unless each adapter gets a gradient; one short text is read for that."""
    if language.title_flat.device.type == "meta" or language.model.device.type == "meta":
        return
    with torch.random.fork_rng(devices=[]), torch.enable_grad():
        device = language.model.device
        tokens = torch.arange(8, device=device) % language.tokenizer.size
        hidden = language(tokens, torch.tensor([0, 8], dtype=torch.int32, device=device))
        language.logits(hidden).square().sum().backward()
    check_gradients(language.model)
