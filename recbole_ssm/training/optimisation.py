"""The optimiser of a model, and the schedule of its learning rate."""

from __future__ import annotations

from collections import defaultdict

from torch import Tensor, nn
from torch.optim import Adam, AdamW, Optimizer
from torch.optim.lr_scheduler import LRScheduler, OneCycleLR

_FUSED = {"adam": Adam, "adamw": AdamW}

WARM_UP = 0.1
"""Share of all steps in which the learning rate rises."""


def parameter_groups(
    model: nn.Module, learning_rate: float, weight_decay: float, embedding_lr_scale: float = 1.0
) -> list[dict]:
    """The parameters of a model that are trained, grouped by weight decay and learning rate.

    Weights and embeddings decay. Biases, norms, step sizes and the decay rates of states do not, as in mamba-ssm, which
    marks the last two kinds ``_no_weight_decay``.

    Embeddings learn ``embedding_lr_scale`` times as fast as the rest. The best rate of Adam for a matrix falls with the
    width that it sums over; for an embedding it does not ("Tensor Programs V", arXiv 2203.03466, table 3). And the row
    of an item gets a gradient of its own only where the item occurs.

    Args:
        model: the model.
        learning_rate: of all parameters but embeddings.
        weight_decay: of weights and embeddings.
        embedding_lr_scale: the learning rate of embeddings, as a multiple of ``learning_rate``. Those that are marked
            ``_is_pretrained`` learn like layers.

    Returns:
        Groups as torch's optimisers take them.
    """
    embeddings = {id(module.weight) for module in model.modules() if isinstance(module, nn.Embedding)}
    groups: defaultdict[tuple[float, float], list[nn.Parameter]] = defaultdict(list)
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        decay = weight_decay if parameter.dim() >= 2 and not name.endswith("A_log") else 0.0
        fast = id(parameter) in embeddings and not getattr(parameter, "_is_pretrained", False)
        rate = learning_rate * (embedding_lr_scale if fast else 1.0)
        groups[decay, rate].append(parameter)
    return [{"params": found, "weight_decay": decay, "lr": rate} for (decay, rate), found in groups.items()]


def fused_adam(learner: str, parameters: list[dict], learning_rate: float) -> Optimizer | None:
    """Torch's fused Adam or AdamW, several times faster than the default one; None for other learners."""
    kind = _FUSED.get(learner.lower())
    return None if kind is None else kind(parameters, lr=learning_rate, fused=True)


def one_cycle(optimizer: Optimizer, steps: int) -> OneCycleLR:
    """Let the learning rate rise to that of the optimiser, and then fall to 0.

    It rises for :data:`WARM_UP` of all steps and then follows a cosine (arXiv 1708.07120, in torch's version, without a
    schedule of momentum). It counts the optimiser's own steps. After ``steps`` of them the rate stays at its lowest.

    Args:
        optimizer: is changed in place.
        steps: of the whole training.

    Returns:
        The schedule, which steps by itself.
    """
    highest = [group["lr"] for group in optimizer.param_groups]
    steps = max(steps, 2)
    rise = WARM_UP if WARM_UP * steps != 1 else 2 / steps  # torch divides by the steps of the rise less one
    schedule = OneCycleLR(optimizer, highest, total_steps=steps, pct_start=rise, cycle_momentum=False)

    def follow(*_) -> None:
        if schedule.last_epoch < steps - 1:
            schedule.step()

    optimizer.register_step_post_hook(follow)
    return schedule


def set_optimizer_state(optimizer: Optimizer, state: dict) -> None:
    """Take over an optimiser's state. Its settings stay those of the configuration, but for the learning rates.

    Torch compares no shapes, and would write beyond a tensor where they do not fit.

    Args:
        optimizer: is changed in place.
        state: ``state_dict`` of another one for the same parameters.

    Raises:
        ValueError: a tensor has another shape than its parameter.
    """
    settings = [dict(group) for group in optimizer.param_groups]
    optimizer.load_state_dict(state)
    for group, before in zip(optimizer.param_groups, settings, strict=True):
        rates = {key: float(value) for key, value in group.items() if key.endswith("lr")}
        group.clear()
        group.update(before | rates)
    for parameter, values in optimizer.state.items():
        for name, value in values.items():
            if isinstance(value, Tensor):
                if value.shape != parameter.shape and not (name == "step" and value.numel() == 1):
                    raise ValueError(f"{name} has not the shape of its parameter")
                values[name] = value.contiguous()


def set_schedule_state(schedule: LRScheduler, state: dict) -> None:
    """Take over how far a schedule of learning rates is. The schedule itself follows from the configuration.

    Args:
        schedule: is changed in place.
        state: ``state_dict`` of another one.

    Raises:
        ValueError: it is of another schedule.
    """
    moves = ("last_epoch", "_step_count", "_last_lr", "base_lrs", "_get_lr_called_within_step")
    known = {key: state[key] for key in schedule.state_dict().keys() & state.keys()}
    if any(known[key] != value for key, value in schedule.state_dict().items() if key in known and key not in moves):
        raise ValueError("it is another schedule")
    schedule.load_state_dict(known)
