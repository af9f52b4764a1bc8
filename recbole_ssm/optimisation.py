"""The optimiser of a model, and how its learning rate changes while it trains."""

from __future__ import annotations

from torch import nn
from torch.optim import Adam, AdamW, Optimizer
from torch.optim.lr_scheduler import OneCycleLR

_FUSED = {"adam": Adam, "adamw": AdamW}

WARM_UP = 0.1
"""Share of all steps in which the learning rate rises."""


def decay_matrices_only(model: nn.Module, weight_decay: float) -> list[dict]:
    """Parameter groups in which weights and embeddings decay, but no biases, norms, step sizes or decays of states.

    As in mamba-ssm, which marks the last two kinds ``_no_weight_decay``.
    """
    groups: dict[bool, list[nn.Parameter]] = {True: [], False: []}
    for name, parameter in model.named_parameters():
        groups[parameter.dim() >= 2 and not name.endswith("A_log")].append(parameter)
    return [
        {"params": parameters, "weight_decay": weight_decay if decays else 0.0}
        for decays, parameters in groups.items()
        if parameters
    ]


def fused_adam(learner: str, parameters: list[dict], learning_rate: float) -> Optimizer | None:
    """Torch's Adam or AdamW in one pass, several times faster than the usual one; None for other learners."""
    kind = _FUSED.get(learner.lower())
    return None if kind is None else kind(parameters, lr=learning_rate, fused=True)


def one_cycle(optimizer: Optimizer, steps: int) -> OneCycleLR:
    """Let the learning rate rise to what the optimiser has for the first tenth of ``steps``, and then fall to nothing.

    A rise, then a cosine (arXiv 1708.07120, as torch has it, with momentum left alone). It follows the optimiser's own
    steps; should there be more of them than ``steps``, the rate stays at its lowest.
    """
    highest = [group["lr"] for group in optimizer.param_groups]
    steps = max(steps, 2)
    schedule = OneCycleLR(optimizer, highest, total_steps=steps, pct_start=WARM_UP, cycle_momentum=False)

    def follow(*_) -> None:
        if schedule.last_epoch < steps - 1:
            schedule.step()

    optimizer.register_step_post_hook(follow)
    return schedule
