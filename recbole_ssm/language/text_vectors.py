"""Vectors of texts by any model of transformers in a local folder: the mean of the last hidden states of the tokens.

It is the pooling of Sentence-BERT (Reimers and Gurevych, EMNLP 2019), and also serves models that write.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from recbole_ssm.errors import InputError
from recbole_ssm.language.library import first_line, quietly, transformers
from recbole_ssm.language.loading import check_folder
from recbole_ssm.language.tokenizer import check_tokenizer

_LONGEST = 512
"""Tokens of a text that are read, unless the model reads fewer."""


_FLOOR = 0.1
"""Of the mean variance, which is added to each: directions in which nothing varies are not blown up."""


def whitened(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Vectors whose directions vary alike: those of language models are much the same in a few of them.

    So what tells items apart weighs more (Zhang et al., "Are ID Embeddings Necessary?", 2024). It is done by ZCA, which
    turns no direction, so that vectors made of slightly other data are near to these.

    Args:
        vectors: (n, d).

    Returns:
        (n, d), each of length 1.
    """
    found = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-30)
    found = found.astype(np.float64) - found.mean(0)
    variance, axes = np.linalg.eigh(found.T @ found / len(found))
    floor = max(_FLOOR * float(variance.mean()), 1e-30)
    found = found @ ((axes / np.sqrt(variance.clip(0) + floor)) @ axes.T)
    length = np.maximum(np.linalg.norm(found, axis=1, keepdims=True), 1e-30)
    return (found / length).astype(np.float32)


class TextEncoder:
    """A model of transformers, and its tokenizer.

    Args:
        folder: as ``save_pretrained`` writes it. Weights are read from safetensors only, and no code of the folder is
            run.
        device: that computes.

    Attributes:
        width: numbers of a vector.

    Raises:
        InputError: the folder holds no model and tokenizer that can be read like this.
    """

    def __init__(self, folder: Path, device: str = "cpu"):
        check_folder(folder)
        check_tokenizer(folder)
        library = transformers()
        how = {"local_files_only": True, "trust_remote_code": False}
        try:
            with quietly():
                self._tokenizer: Any = library.AutoTokenizer.from_pretrained(str(folder), **how)
                model = library.AutoModel.from_pretrained(str(folder), use_safetensors=True, dtype=torch.float32, **how)
        except Exception as error:  # of transformers, tokenizers and safetensors
            raise InputError(
                f"language_model: {folder} cannot be read as a model with its tokenizer ({first_line(error)})"
            ) from error
        if model.config.is_encoder_decoder:
            raise InputError(f"language_model: {folder} holds an encoder with a decoder; name a model of one part")
        if self._tokenizer.pad_token is None:
            self._tokenizer.pad_token = self._tokenizer.eos_token or self._tokenizer.unk_token
        self._tokenizer.padding_side = "right"
        self._model, self._device = model.to(device).eval(), device
        self._longest = min(
            _LONGEST, self._tokenizer.model_max_length, getattr(model.config, "max_position_embeddings", _LONGEST)
        )
        self.width = int(model.config.hidden_size)

    def encode(
        self, texts: Sequence[str], batch: int = 32, told: Callable[[float], None] = lambda _: None
    ) -> NDArray[np.float32]:
        """The vector of each text.

        Args:
            texts: none of them empty. Long ones are read up to 512 tokens, or as many as the model reads.
            batch: how many are read together; those of similar length are.
            told: is told what share is done.

        Returns:
            (n, width).
        """
        found = np.zeros((len(texts), self.width), np.float32)
        order = sorted(range(len(texts)), key=lambda row: len(texts[row]))
        for start in range(0, len(order), batch):
            rows = order[start : start + batch]
            found[rows] = self._of_batch([texts[row] for row in rows])
            told((start + len(rows)) / len(order))
        return found

    @torch.inference_mode()
    def _of_batch(self, texts: list[str]) -> NDArray[np.float32]:
        read = self._tokenizer(
            texts, padding=True, truncation=True, max_length=self._longest, return_tensors="pt", verbose=False
        )
        ids, mask = read["input_ids"].to(self._device), read["attention_mask"].to(self._device)
        hidden = self._model(input_ids=ids, attention_mask=mask).last_hidden_state
        weight = mask[..., None].float()
        mean: NDArray[np.float32] = ((hidden * weight).sum(1) / weight.sum(1).clamp(min=1)).cpu().numpy()
        return mean
