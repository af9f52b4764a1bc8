"""Trainings in two processes, as torchrun starts them, of a server that has imported the package for all of them.

It stands here since such a process has to find it, and modules of tests have no name to it.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import socket
import warnings
from pathlib import Path

import torch

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


def _one(rank: int, port: int, function, arguments: tuple) -> None:
    numbers = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": 2, "LOCAL_WORLD_SIZE": 2, "MASTER_PORT": port}
    os.environ.update({"MASTER_ADDR": "127.0.0.1"} | {name: str(number) for name, number in numbers.items()})
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore")
    Path(f"rank-{rank}.json").write_text(json.dumps(function(*arguments)))
    torch.distributed.destroy_process_group()


def in_two_processes(function, *arguments) -> list:
    """What a function of this module returns in each of two processes."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["recbole_ssm.training.run", "torch._dynamo"])
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    processes = [context.Process(target=_one, args=(rank, port, function, arguments)) for rank in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
        process.kill()
        assert process.exitcode == 0
    return [json.loads(Path(f"rank-{rank}.json").read_text()) for rank in range(2)]
