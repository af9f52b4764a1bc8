"""Trainings in two processes, as torchrun starts them.

It stands here since such a process has to find it, and modules of tests have no name to it.
"""

from __future__ import annotations

import json
import os
import signal
import socket
from pathlib import Path

import torch
from processes import process

import recbole_ssm
from recbole_ssm.model.base import PackedSequentialRecommender
from recbole_ssm.training.hooks.stopping import Interrupted


def results(asked: list, *, resume: bool = False) -> dict:
    """What trainings come to that are asked for by name, model and keys."""
    found = {}
    for name, model, keys in asked:
        result = recbole_ssm.run(model, "tiny", config_dict=keys, resume=resume)
        losses = [epoch["train_loss"] for epoch in result["history"]]
        found[name] = {"losses": losses, "valid": result["best_valid_result"], "test": result["test_result"]}
    return json.loads(json.dumps(found, default=float))


def stopped_at(call: int, asked: list) -> str:
    """The message of a training of which the second process is told to stop at a call of the model's loss."""
    original, calls = PackedSequentialRecommender.calculate_loss, 0

    def stopping(self, interaction):
        nonlocal calls
        calls += 1
        if calls == call and os.environ["RANK"] == "1":
            signal.raise_signal(signal.SIGTERM)
        return original(self, interaction)

    PackedSequentialRecommender.calculate_loss = stopping
    try:
        results(asked)
    except Interrupted as error:
        return str(error)
    finally:
        PackedSequentialRecommender.calculate_loss = original
    return ""


def dying(folder: str, call: int, asked: list) -> None:
    """A training whose second process ends at a call of the model's loss."""
    os.chdir(folder)
    torch.set_num_threads(1)
    original, calls = PackedSequentialRecommender.calculate_loss, 0

    def ending(self, interaction):
        nonlocal calls
        calls += 1
        if calls == call and os.environ["RANK"] == "1":
            os._exit(3)
        return original(self, interaction)

    PackedSequentialRecommender.calculate_loss = ending
    results(asked)


def _write_result(file: str, function, arguments: tuple) -> None:
    Path(file).write_text(json.dumps(function(*arguments)))
    torch.distributed.destroy_process_group()


def in_two_processes(function, *arguments) -> list:
    """What a function of this module returns in each of two processes."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    both = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    started = [
        process(_write_result, f"rank-{rank}.json", function, arguments, RANK=str(rank), LOCAL_RANK=str(rank), **both)
        for rank in range(2)
    ]
    for each in started:
        each.join(120)
        each.kill()
        assert each.exitcode == 0
    return [json.loads(Path(f"rank-{rank}.json").read_text()) for rank in range(2)]
