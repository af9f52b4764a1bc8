"""A language model with its tokenizer and the texts of the items: what models that read text share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recbole_ssm.errors import InputError
from recbole_ssm.language import loading
from recbole_ssm.language.packed_mamba import PackedMamba, is_packable
from recbole_ssm.language.tokenizer import Tokenizer
from recbole_ssm.ops import linear_cross_entropy
from recbole_ssm.ops.linear import linear
from recbole_ssm.ops.packing import cumulative_lengths, pad


class LanguageModel(nn.Module):
    """A causal language model, its tokenizer, and the texts of a catalogue.

    :mod:`recbole_ssm.language.making` makes it of a folder, of settings, or of what a checkpoint keeps.

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

    def titles_in_words(self) -> str:
        """How long the texts are that it reads of items, and how many of them are as long as they may be."""
        lengths, most = self.title_start.diff()[1:], self._title_tokens  # without that of the padding
        full = int((lengths > most).sum())
        return (
            f"{lengths.double().mean():.1f} tokens on average; {full:,} of {len(lengths):,} fill title_tokens ({most})"
        )

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
        padded, row, place = pad(tokens, cu_seqlens)  # at the right end, where no token before can read it
        hidden = self.model.base_model(input_ids=padded, use_cache=False).last_hidden_state
        return hidden[row, place] if readout is None else hidden[row[readout], place[readout]]

    def logits(self, hidden: Tensor) -> Tensor:
        """Scores (R, vocabulary) of the next token, in float32, after representations (R, width)."""
        head = self.model.get_output_embeddings()
        return linear(head, hidden.to(head.weight.dtype)).float()

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
        """Strings that a checkpoint keeps beside the weights, for :func:`recbole_ssm.language.making.from_kept`."""
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
