"""What decides the batches of an epoch and all random numbers in it: read, and set again."""

from __future__ import annotations

from typing import Any

from recbole_ssm.errors import CheckpointError
from recbole_ssm.system.distributed import all_gather, rank, world_size
from recbole_ssm.system.rng import random_state, set_random_state


def draws(train_data: Any) -> dict[str, Any]:
    """The state that decides the epoch that comes next.

    Args:
        train_data: loader of training data.

    Returns:
        ``random``, the random state of each process; ``generator``, the state of the loader's, and ``epoch``, that of
        its sampler, each None where it has none.
    """
    generator = getattr(train_data, "generator", None)
    return {
        "random": all_gather(random_state()),
        "generator": None if generator is None else generator.get_state(),
        "epoch": getattr(getattr(train_data, "batch_sampler", None), "epoch", None),
    }


def repeat_draws(train_data: Any, state: dict[str, Any]) -> None:
    """Let the epoch that comes next be the one that :func:`draws` described.

    Args:
        train_data: loader of training data.
        state: what :func:`draws` returned.

    Raises:
        CheckpointError: there are more or fewer processes now.
    """
    if len(state["random"]) != world_size():
        raise CheckpointError(f"the training had {len(state['random'])} processes, not {world_size()}; start as many")
    set_random_state(state["random"][rank()])
    if state["generator"] is not None:
        train_data.generator.set_state(state["generator"].cpu())
    if state["epoch"] is not None:
        train_data.batch_sampler.set_epoch(int(state["epoch"]))
