"""Causal language models: from a local folder, or with random weights from a configuration. Nothing is downloaded.

A folder is what ``save_pretrained`` of transformers writes. Its weights are read from safetensors only, and code that
stands in it is never run.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from recbole_ssm.errors import InputError, did_you_mean
from recbole_ssm.language.library import first_line, quietly, transformers
from recbole_ssm.system.extras import package

_PICKLED = ("*.bin", "*.pt", "*.pth", "*.ckpt")
_BLOCK = 1 << 20
_BLOCKS = 64


def check_folder(folder: Path) -> None:
    """Raise :class:`InputError` unless a folder has a configuration and weights that can be read safely."""
    if not folder.is_dir():
        raise InputError(f"language_model: there is no folder {folder} on this machine, and nothing is downloaded")
    if not (folder / "config.json").is_file():
        raise InputError(f"language_model: {folder} has no config.json; name a folder as save_pretrained writes it")
    if any(folder.glob("*.safetensors")):
        return
    if any(file for pattern in _PICKLED for file in folder.glob(pattern)):
        raise InputError(
            f"language_model: the weights in {folder} are pickled, and reading them could run code; load the model "
            "where you trust it and save it with save_pretrained(..., safe_serialization=True)"
        )
    raise InputError(f"language_model: {folder} has no weights (*.safetensors); name a folder that has")


def read_settings(folder: Path) -> Any:
    """The configuration of the model in a folder.

    Args:
        folder: as ``save_pretrained`` writes it.

    Returns:
        A configuration of transformers.

    Raises:
        InputError: the folder holds no causal language model that transformers knows.
    """
    check_folder(folder)
    library = transformers()
    try:
        found = library.AutoConfig.from_pretrained(str(folder), local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError, KeyError) as error:
        raise InputError(
            f"language_model: the configuration in {folder} cannot be read by transformers {library.__version__} "
            f"without running code of the folder ({first_line(error)}); name another model"
        ) from error
    kinds = found.architectures or []
    if kinds and not any(kind.endswith(("ForCausalLM", "LMHeadModel")) for kind in kinds):
        raise InputError(
            f"language_model: {folder} holds a {kinds[0]}, which does not write text from left to right; name a "
            "causal language model, such as a MambaForCausalLM"
        )
    _check_direction(found, "language_model")
    return found


def load_weights(folder: Path, settings: Any, *, dtype: torch.dtype, load_in_4bit: bool = False) -> Any:
    """The model in a folder, with its weights.

    Args:
        folder: as ``save_pretrained`` writes it.
        settings: from :func:`read_settings`.
        dtype: of the weights.
        load_in_4bit: keep the matrices in 4 bits (NF4, double quantisation), for LoRA on a GPU.

    Returns:
        A causal language model of transformers, on the CPU; in 4 bits on the current GPU.

    Raises:
        InputError: weights are missing or damaged, or 4 bits are asked for without a GPU.
    """
    options: dict[str, Any] = {"dtype": dtype}
    if load_in_4bit:
        options |= {"quantization_config": _four_bits(), "device_map": {"": torch.cuda.current_device()}}
    library = transformers()
    try:
        with quietly():
            model, found = library.AutoModelForCausalLM.from_pretrained(
                str(folder),
                config=settings,
                local_files_only=True,
                use_safetensors=True,
                trust_remote_code=False,
                output_loading_info=True,
                **options,
            )
    except Exception as error:  # of transformers, safetensors and torch
        raise InputError(f"language_model: the weights in {folder} cannot be read ({first_line(error)})") from error
    lacking = sorted(found["missing_keys"]) + sorted(map(str, found["mismatched_keys"]))
    if lacking:
        raise InputError(
            f"language_model: {folder} lacks weights of a {type(model).__name__}, such as {lacking[0]}; it is of "
            "another model, or was not saved whole"
        )
    return model


def _four_bits() -> Any:
    check_four_bits()
    package("bitsandbytes", "quantised", "load_in_4bit")
    return transformers().BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16,
    )


def check_four_bits() -> None:
    """Raise :class:`InputError` where a model cannot be kept in 4 bits: on a CPU its adapters would stop to learn."""
    if not torch.cuda.is_available():
        raise InputError("load_in_4bit needs an NVIDIA GPU, and none is used here; leave it out")


def make_settings(given: Mapping[str, Any], **of_tokenizer: int) -> Any:
    """The configuration of a model with random weights.

    Args:
        given: ``model_type`` as transformers calls it, such as ``mamba``, and settings of that type's configuration.
        **of_tokenizer: settings that the tokenizer decides.

    Returns:
        A configuration of transformers.

    Raises:
        InputError: there is no such type or no such setting.
    """
    library, given = transformers(), dict(given)
    kind = given.pop("model_type", None)
    try:
        usual = library.AutoConfig.for_model(kind)
    except ValueError as error:
        raise InputError(
            f"language_config: transformers {library.__version__} knows no model_type {kind!r}; try mamba, mamba2, "
            "gpt2 or llama"
        ) from error
    for name in given:
        if not hasattr(usual, name):
            hint = did_you_mean(name, usual.to_dict())
            raise InputError(f"language_config: a {kind} has no setting {name!r}{hint}")
    try:
        made = library.AutoConfig.for_model(kind, **{**of_tokenizer, **given})
    except Exception as error:  # of any configuration's own checks
        raise InputError(f"language_config: a {kind} cannot have these settings ({first_line(error)})") from error
    _check_direction(made, "language_config")
    return made


def _check_direction(settings: Any, key: str) -> None:
    """Raise :class:`InputError` for an encoder, each token of which reads those behind it, too."""
    library, kind = transformers(), type(settings)
    encodes = kind in library.MODEL_FOR_MASKED_LM_MAPPING and not settings.is_decoder
    if encodes or kind not in library.MODEL_FOR_CAUSAL_LM_MAPPING:
        raise InputError(
            f"{key}: a {settings.model_type} does not write text from left to right; name another model_type, such as "
            "mamba, mamba2, gpt2 or llama"
        )


def settings_to_text(settings: Any) -> str:
    """A configuration of transformers as JSON, for :func:`settings_from_text`."""
    return json.dumps({**settings.to_diff_dict(), "model_type": settings.model_type}, default=str, sort_keys=True)


def settings_from_text(text: str) -> Any:
    """The configuration that was written; ValueError if transformers does not know its type."""
    given = json.loads(text)
    return transformers().AutoConfig.for_model(given.pop("model_type", None), **given)


def make_model(settings: Any, dtype: torch.dtype) -> Any:
    """A causal language model of transformers, with random weights.

    Args:
        settings: from :func:`make_settings`.
        dtype: of the weights.

    Returns:
        The model, on torch's default device.

    Raises:
        InputError: there is no causal language model of this type, or its settings do not fit one another.
    """
    try:
        with quietly():
            return transformers().AutoModelForCausalLM.from_config(settings, dtype=dtype, trust_remote_code=False)
    except Exception as error:  # of any model's own checks
        raise InputError(
            f"language_config: no causal language model can be made of a {settings.model_type} with these settings "
            f"({first_line(error)})"
        ) from error


def folder_hash(folder: Path) -> str:
    """A hash of the configuration, tokenizer and weights in a folder.

    Of a large file its size counts, and 64 MiB at even distances.

    Args:
        folder: of a model.

    Returns:
        32 hexadecimal digits.
    """
    digest = hashlib.blake2b(digest_size=16)
    files = [*folder.glob("*.safetensors"), folder / "config.json", folder / "tokenizer.json"]
    for file in sorted(each for each in files if each.is_file()):
        size = file.stat().st_size
        digest.update(f"{file.name} {size} ".encode())
        with open(file, "rb") as content:
            for number in range(_BLOCKS):
                content.seek(max(number * _BLOCK, size * number // _BLOCKS))
                digest.update(content.read(_BLOCK))
    return digest.hexdigest()
