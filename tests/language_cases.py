"""Tiny language models, made on the spot, and titles for them."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from packed_cases import randomise

from recbole_ssm.language.making import from_settings

TITLES = ["", "Toy Story (1995)", "GoldenEye (1995)", "Toy Soldiers (1991)", "Été", "", "Toy", "Toy Story 2 (1999)"]
"""By item number. The fifth item has no title, and one title begins another."""

TINY = {
    "mamba": {"hidden_size": 16, "num_hidden_layers": 2, "state_size": 4},
    "mamba2": {
        "hidden_size": 16,
        "num_hidden_layers": 2,
        "state_size": 4,
        "num_heads": 4,
        "head_dim": 8,
        "n_groups": 1,
    },
    "gpt2": {"n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 64},
    "llama": {
        **{"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32},
        "max_position_embeddings": 64,
    },
}
"""Settings of each ``model_type``, for models of some thousand parameters."""


_LLAMA = {**TINY["llama"], "num_key_value_heads": 1, "head_dim": 8}
LOCAL = {
    "mistral": _LLAMA | {"sliding_window": 3},
    "gemma2": _LLAMA | {"sliding_window": 4, "layer_types": ["sliding_attention", "full_attention"]},
}
"""The same of models some of whose layers read the latest tokens only."""


def needs_transformers():
    """Skip the module where transformers or peft is not installed."""
    for name in ("transformers", "peft"):
        if find_spec(name) is None:  # without importing it, which takes seconds
            pytest.skip(f"{name} is not installed", allow_module_level=True)


def tiny_language(kind="mamba", texts=TITLES, seed=0, tokenizer_size=280, **settings):
    """A language model with random weights in which everything matters, in evaluation mode."""
    torch.manual_seed(seed)
    settings = {"model_type": kind, **TINY.get(kind, {}), **settings}
    found = from_settings(settings, texts, tokenizer_size=tokenizer_size).eval()
    return randomise(found)


def save_language(language, folder) -> Path:
    """A folder as ``save_pretrained`` of transformers writes it."""
    language.model.save_pretrained(folder)
    kept = json.loads(language.tokenizer.to_text())
    (Path(folder) / "tokenizer.json").write_text(kept["tokenizer"], encoding="utf-8")
    marks = {"bos_token": "<begin>", "eos_token": "<end>", "tokenizer_class": "PreTrainedTokenizerFast"}
    (Path(folder) / "tokenizer_config.json").write_text(json.dumps(marks), encoding="utf-8")
    return Path(folder)
