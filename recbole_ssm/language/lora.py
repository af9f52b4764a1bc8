"""Low-rank adapters of a language model (LoRA: Hu et al., ICLR 2022), by peft."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from torch import nn

from recbole_ssm.errors import InputError
from recbole_ssm.language.library import first_line
from recbole_ssm.system.extras import package


class Lora(NamedTuple):
    """What adapters a model gets."""

    rank: int
    alpha: float
    dropout: float = 0.0
    targets: Sequence[str] = ()
    """Names of the modules that get one; empty for the usual ones of the model's type."""


_OF_MAMBA = {"mamba": ("in_proj", "x_proj", "dt_proj"), "mamba2": ("in_proj",)}
"""Peft knows no targets for these, and refuses ``out_proj`` and ``conv1d``: their weights are used raw in kernels."""


def add_adapters(model: nn.Module, lora: Lora) -> None:
    """Give a causal language model of transformers adapters; nothing else of it is trained after that.

    Args:
        model: is changed in place. The names of its weights change, too.
        lora: which adapters.

    Raises:
        InputError: a target is no module of the model, or cannot have an adapter.
    """
    peft = package("peft", "language", "LoRA")
    settings: Any = model.config
    targets = list(lora.targets or _OF_MAMBA.get(settings.model_type, ()))
    names = {name.rpartition(".")[2] for name, _ in model.named_modules()} - {""}
    for target in targets:
        if target not in names:
            linear = sorted({n.rpartition(".")[2] for n, m in model.named_modules() if isinstance(m, nn.Linear)})
            raise InputError(f"lora_targets: the model has no module {target!r}; it has {', '.join(linear)}")
    wanted = peft.LoraConfig(
        task_type="CAUSAL_LM",
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=targets or None,
        bias="none",
        fan_in_fan_out=settings.model_type == "gpt2",  # whose matrices lie the other way round
    )
    try:
        peft.inject_adapter_in_model(wanted, model)
    except ValueError as error:
        raise InputError(f"lora_targets: {first_line(error)}") from error
    for name, parameter in model.named_parameters():
        parameter.requires_grad_("lora_" in name)
        if parameter.requires_grad:  # whatever the model's type is: small steps would be lost in half precision
            parameter.data = parameter.data.float()


def check_gradients(model: nn.Module) -> None:
    """Raise :class:`InputError` unless each adapter has got a gradient from a backward pass; the gradients are removed.

    At the start the second of an adapter's two matrices is zero, so that the first has a gradient of zeros.

    Args:
        model: with adapters, after a backward pass.
    """
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        gradient, parameter.grad = parameter.grad, None
        if gradient is None or ("lora_B" in name and not bool(gradient.any())):
            module = name.partition(".lora_")[0].rpartition(".")[2]
            raise InputError(
                f"lora_targets: the adapter of {module} gets no gradient, since this model uses its weight without "
                "calling it; leave that target out"
            )
