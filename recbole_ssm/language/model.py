"""A language model with its tokenizer and the texts of the items: what models that read text share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recbole_ssm.errors import CheckpointError, InputError
from recbole_ssm.language import loading
from recbole_ssm.language.lora import Lora, add_adapters, check_gradients
from recbole_ssm.language.packed_mamba import PackedMamba, is_packable
from recbole_ssm.language.tokenizer import Tokenizer, read_tokenizer, train_tokenizer
from recbole_ssm.ops import linear_cross_entropy
from recbole_ssm.ops.packing import cumulative_lengths, lengths_of, positions, sequence_index


class LanguageModel(nn.Module):
    """A causal language model, its tokenizer, and the texts of a catalogue.

    Make it by :func:`from_folder`, :func:`from_settings` or :func:`from_kept`.

    Args:
        model: of transformers.
        tokenizer: its own.
        texts: (n_items) by item number, that of the padding empty.
        title_tokens: how many tokens of a text are read.
        base: the folder of frozen weights and its hash, of a model with LoRA; then only the adapters are in
            ``state_dict``.

    Attributes:
        model: of transformers, with LoRA where that is used.
        tokenizer: see :class:`recbole_ssm.language.tokenizer.Tokenizer`.
        texts: by item number.
        packed: the backbone on packed ops, see :class:`recbole_ssm.language.packed_mamba.PackedMamba`; None for other
            models than Mamba.
        title_flat: (N,) int64, the tokens of all texts, each followed by the tokenizer's ``separator``.
        title_start: (n_items + 1,) int64, where each begins in ``title_flat``.
    """

    title_flat: Tensor
    title_start: Tensor

    def __init__(
        self,
        model: Any,
        tokenizer: Tokenizer,
        texts: Sequence[str],
        title_tokens: int,
        base: tuple[str, str] | None = None,
    ):
        super().__init__()
        rows = model.get_input_embeddings().num_embeddings
        if tokenizer.size > rows:
            raise InputError(
                f"the tokenizer has {tokenizer.size:,} tokens, and the language model {rows:,}: they do not belong "
                "together; name the tokenizer of this model"
            )
        self.model, self.base, self._title_tokens = model, base, title_tokens
        self.packed = PackedMamba(model) if is_packable(model) else None
        self._take_texts(tokenizer, texts)
        if base is not None:
            self.register_load_state_dict_post_hook(type(self)._forgive)

    def _take_texts(self, tokenizer: Tokenizer, texts: Sequence[str]) -> None:
        self.tokenizer, self.texts = tokenizer, list(texts)
        tokens = [[*each, tokenizer.separator] for each in tokenizer.encode(self.texts, self._title_tokens)]
        with torch.device("cpu"):  # also while sizes are compared on none
            flat = torch.tensor([token for each in tokens for token in each], dtype=torch.int64)
            start = cumulative_lengths(torch.tensor([len(each) for each in tokens])).long()
        device = self.model.device if self.model.device.type != "meta" else torch.device("cpu")
        self.register_buffer("title_flat", flat.to(device), persistent=False)
        self.register_buffer("title_start", start.to(device), persistent=False)

    @property
    def width(self) -> int:
        """Of representations."""
        return int(self.model.get_input_embeddings().embedding_dim)

    @property
    def longest(self) -> int | None:
        """How many tokens it can read; None for any number, as of Mamba."""
        found = getattr(self.model.config, "max_position_embeddings", None)
        return None if self.packed is not None or found is None else int(found)

    def titles(self) -> list[list[int]]:
        """The tokens of each item's text, by its number, without ``separator``."""
        flat, start = self.title_flat.tolist(), self.title_start.tolist()
        return [flat[begin : end - 1] for begin, end in zip(start[:-1], start[1:], strict=True)]

    def forward(self, tokens: Tensor, cu_seqlens: Tensor, readout: Tensor | None = None) -> Tensor:
        """Representations of tokens of a packed stream.

        Args:
            tokens: (T,) int64.
            cu_seqlens: (S + 1,) borders of the sequences.
            readout: (R,) int64, the tokens that are wanted; None for all.

        Returns:
            (T, width), or (R, width), each of what its sequence has up to the token.
        """
        if self.packed is not None:
            return self.packed.forward(tokens, cu_seqlens, readout)
        row, place = sequence_index(cu_seqlens, len(tokens)).long(), positions(cu_seqlens, len(tokens))
        padded = tokens.new_zeros(len(cu_seqlens) - 1, int(lengths_of(cu_seqlens).max()))
        padded[row, place] = tokens  # at the right end, where no token before can read it
        hidden = self.model.base_model(input_ids=padded, use_cache=False).last_hidden_state
        return hidden[row, place] if readout is None else hidden[row[readout], place[readout]]

    def logits(self, hidden: Tensor) -> Tensor:
        """Scores (R, vocabulary) of the next token, in float32, after representations (R, width)."""
        head = self.model.get_output_embeddings()
        return head(hidden.to(head.weight.dtype)).float()

    def loss(self, hidden: Tensor, target: Tensor) -> Tensor:
        """Mean cross-entropy of the next tokens.

        Args:
            hidden: (R, width).
            target: (R,) int64; rows of -100 do not count.

        Returns:
            A scalar.
        """
        head = self.model.get_output_embeddings()
        if type(head) is not nn.Linear or head.weight.is_quantized:
            return F.cross_entropy(self.logits(hidden), target)
        return linear_cross_entropy(hidden.to(head.weight.dtype), head.weight, target, bias=head.bias)

    def kept(self) -> dict[str, Any]:
        """What a checkpoint keeps beside the weights, for :func:`from_kept`: strings and numbers only."""
        found: dict[str, Any] = {
            "language_config": loading.settings_to_text(self.model.config),
            "tokenizer": self.tokenizer.to_text(),
            "texts": "\n".join(self.texts),
        }
        return found if self.base is None else found | dict(zip(("base", "base_hash"), self.base, strict=True))

    def take(self, kept: Mapping[str, Any]) -> None:
        """Take over tokenizer and texts of a checkpoint; ValueError if they or the frozen weights are others."""
        if self.base is not None and kept.get("base_hash") != self.base[1]:
            raise ValueError(f"its adapters were trained with other weights than those in {self.base[0]}")
        texts = str(kept["texts"]).split("\n")
        if len(texts) != len(self.texts):
            raise ValueError(f"it has texts of {len(texts)} items, and here are {len(self.texts)}")
        self._take_texts(Tokenizer.from_text(kept["tokenizer"]), texts)

    def state_dict(self, *arguments: Any, **options: Any) -> Any:
        """Of a model with LoRA the adapters alone."""
        found = super().state_dict(*arguments, **options)
        if self.base is not None:
            prefix, own = options.get("prefix", ""), {n for n, p in self.named_parameters() if p.requires_grad}
            for name in [n for n in found if n.startswith(prefix) and n[len(prefix) :] not in own]:
                del found[name]
        return found

    def _forgive(self, found: Any) -> None:
        """A file of adapters lacks the frozen weights, which have come from their folder."""
        frozen = tuple(
            f".{name}" for name, weight in self.named_parameters(remove_duplicate=False) if not weight.requires_grad
        )
        found.missing_keys[:] = [name for name in found.missing_keys if not f".{name}".endswith(frozen)]


def from_folder(
    folder: str | Path,
    texts: Sequence[str],
    *,
    tokenizer: str | Path | None = None,
    title_tokens: int = 32,
    lora: Lora | None = None,
    load_in_4bit: bool = False,
    dtype: torch.dtype = torch.float32,
) -> LanguageModel:
    """A pretrained language model.

    Args:
        folder: as ``save_pretrained`` writes it, with safetensors.
        texts: (n_items) by item number.
        tokenizer: another folder with the tokenizer; None for the same.
        title_tokens: how many tokens of a text are read.
        lora: adapters, which alone are trained; None to train all weights.
        load_in_4bit: see :func:`recbole_ssm.language.loading.load_weights`; needs ``lora``.
        dtype: of the weights.

    Returns:
        The model; on the meta device without its weights.

    Raises:
        InputError: the folder cannot be used, tokenizer and model do not fit, or an adapter gets no gradient.
    """
    folder = Path(folder)
    if load_in_4bit and lora is None:
        raise InputError("load_in_4bit: weights in 4 bits cannot be trained; set lora_rank, such as 8")
    if load_in_4bit:
        loading.check_four_bits()
    settings = loading.read_settings(folder)
    words = read_tokenizer(Path(tokenizer or folder))
    if torch.empty(0).device.type == "meta":
        model = loading.make_model(settings, dtype)
    else:
        model = loading.load_weights(folder, settings, dtype=dtype, load_in_4bit=load_in_4bit)
    base = None
    if lora is not None:
        base = str(folder.resolve()), loading.folder_hash(folder)
        add_adapters(model, lora)
    found = LanguageModel(model, words, texts, title_tokens, base)
    if lora is not None:
        _check_adapters(found)
    return found


def from_settings(
    settings: Mapping[str, Any],
    texts: Sequence[str],
    *,
    tokenizer: str | Path | None = None,
    tokenizer_size: int = 2000,
    title_tokens: int = 32,
    dtype: torch.dtype = torch.float32,
) -> LanguageModel:
    """A language model with random weights.

    Args:
        settings: see :func:`recbole_ssm.language.loading.make_settings`.
        texts: (n_items) by item number.
        tokenizer: a folder with a tokenizer; None for one that is trained on the texts.
        tokenizer_size: how many tokens that has at most.
        title_tokens: how many tokens of a text are read.
        dtype: of the weights.

    Returns:
        The model.

    Raises:
        InputError: settings, or tokenizer and settings, do not fit.
    """
    words = train_tokenizer(texts, tokenizer_size) if tokenizer is None else read_tokenizer(Path(tokenizer))
    made = loading.make_settings(
        settings, vocab_size=words.size, bos_token_id=words.begin, eos_token_id=words.end
    )  # and no padding: its embedding would not be learned
    return LanguageModel(loading.make_model(made, dtype), words, texts, title_tokens)


def from_kept(
    kept: Mapping[str, Any],
    texts: Sequence[str] | None = None,
    *,
    folder: str | Path | None = None,
    title_tokens: int = 32,
    lora: Lora | None = None,
    load_in_4bit: bool = False,
    dtype: torch.dtype = torch.float32,
) -> LanguageModel:
    """The language model of a checkpoint, whose weights are loaded afterwards.

    Args:
        kept: from :meth:`LanguageModel.kept`.
        texts: (n_items) of another catalogue; None for those that are kept.
        folder: where the frozen weights lie now; None for where they lay.
        title_tokens: as it was made.
        lora: as it was made.
        load_in_4bit: as it was made.
        dtype: of the weights.

    Returns:
        The model.

    Raises:
        CheckpointError: the frozen weights are not there, or are others.
        ValueError: ``kept`` is not of such a model.
    """
    texts = str(kept["texts"]).split("\n") if texts is None else texts
    settings, words = loading.settings_from_text(kept["language_config"]), Tokenizer.from_text(kept["tokenizer"])
    if lora is None or torch.empty(0).device.type == "meta":
        model, base = loading.make_model(settings, dtype), None
    else:
        place = Path(folder or kept["base"])
        _check_base(place, kept["base_hash"])
        model = loading.load_weights(place, settings, dtype=dtype, load_in_4bit=load_in_4bit)
    if lora is not None:
        base = str(kept["base"]), str(kept["base_hash"])
        add_adapters(model, lora)
    return LanguageModel(model, words, texts, title_tokens, base)


def _check_base(folder: Path, expected: str) -> None:
    try:
        loading.check_folder(folder)
    except InputError as error:
        raise CheckpointError(f"the checkpoint has adapters alone, and their model is not there: {error}") from error
    if loading.folder_hash(folder) != expected:
        raise CheckpointError(
            f"the checkpoint has adapters alone, and {folder} holds other files than the model that they were trained "
            "with; put that one there"
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
