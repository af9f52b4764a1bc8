"""Ranking and streaming: histories per second, and the microseconds of one more click and its ten recommendations."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from gpu_parts.place import Place
from gpu_parts.streams import borders_like
from gpu_parts.tables import number, reasons, table
from gpu_parts.timing import percentiles
from gpu_parts.training import QUIET, SMALL
from recbole_ssm import Recommender
from recbole_ssm.system.cuda_graphs import recorded
from recbole_ssm.training.run import run

MODELS = ("2Mamba4Rec", "Mamba4Rec", "LRURec")
"""Those that keep a state."""


def measure(place: Place) -> None:
    """With a checkpoint of a short training, for each model."""
    for model in MODELS[:1] if place.tiny else MODELS:
        if isinstance(file := place.tried(_checkpoint, place, model), dict):
            place.note(model, file)
            continue
        by_graph = Recommender(file, device=place.device, filter_seen=False)
        by_kernel = Recommender(file, device=place.device, filter_seen=False, cuda_graph=False)
        place.attempt(f"{model}, session", _session, place, by_graph)
        place.attempt(f"{model}, session, no CUDA graph", _session, place, by_kernel)
        place.attempt(f"{model}, step and ranking, CUDA graph", _graph, place, by_kernel)
        place.attempt(f"{model}, step and ranking, no CUDA graph", _step, place, by_kernel)
        place.attempt(f"{model}, histories", _ranking, place, by_kernel)


def _checkpoint(place: Place, model: str) -> str:
    """Of one epoch of ml-100k."""
    dataset, keys = place.dataset("ml-100k")
    keys |= {**QUIET, "use_gpu": place.on_gpu, "epochs": 1, "train_batch_tokens": 4096}
    keys |= {"d_state": 32, "headdim": 16} if model == "2Mamba4Rec" else {}
    keys |= SMALL if place.tiny else {}
    return run(model, dataset, config_dict=keys, test=False)["checkpoint"]


def _ranking(place: Place, recommender: Recommender) -> dict[str, float]:
    """Histories as long as MovieLens-1M's: whole answers with names, and what the model takes of that."""
    lengths = borders_like("ml", 300 if place.tiny else 100_000, torch.device("cpu")).diff().tolist()
    n_items = len(recommender.items) - 1
    ids = torch.randint(1, n_items + 1, (sum(lengths),), generator=torch.Generator().manual_seed(5))
    histories = [[recommender.items[item] for item in each] for each in (part.tolist() for part in ids.split(lengths))]
    answers = percentiles(place, lambda: recommender.recommend(histories, k=10), 2 if place.tiny else 7)
    numbers = [part.tolist() for part in ids.split(lengths)]
    some = numbers[: min(len(numbers), 1024)]
    batch = recommender._batch(some, {})

    def scores() -> torch.Tensor:
        with recommender.computing():
            return torch.topk(recommender.model.full_sort_predict(batch), min(10, n_items)).indices

    alone = percentiles(place, scores, 2 if place.tiny else 20)
    return {
        "histories_per_second": 1e6 * len(histories) / answers["median"],
        "model_histories_per_second": 1e6 * len(some) / alone["median"],
    }


def _session(place: Place, recommender: Recommender) -> dict[str, float]:
    """One more click, and ten recommendations with their names."""
    session = recommender.session(recommender.items[1:21])
    item = recommender.items[1]

    def click() -> None:
        session.add(item)
        session.recommend(10)

    return percentiles(place, click, 5 if place.tiny else 300)


def _step(place: Place, recommender: Recommender) -> dict[str, float]:
    """The model's part of it, on the device: state, scores of all items, the best ten; kernel by kernel."""
    return percentiles(place, _click(recommender, place.device), 5 if place.tiny else 300)


def _graph(place: Place, recommender: Recommender) -> dict[str, float]:
    """The same, recorded once as a CUDA graph and replayed."""
    place.needs_gpu()
    return percentiles(place, recorded(_click(recommender, place.device), place.device), 500)


def _click(recommender: Recommender, device: torch.device) -> Callable[[], None]:
    """A function that feeds one item and ranks all; state and ranking are kept in place."""
    model = recommender.model
    item = torch.ones(1, dtype=torch.int64, device=device)
    with recommender.computing():
        _, state = model.step(item, None)
        best = torch.zeros(1, 10, dtype=torch.int64, device=device)

    def click() -> None:
        with recommender.computing():
            hidden, new = model.step(item, state)
            for old, fresh in zip(_tensors(state), _tensors(new), strict=True):
                old.copy_(fresh)
            best.copy_(torch.topk(hidden @ model.item_embedding.weight.T, 10).indices)

    return click


def _tensors(state: Any) -> list[torch.Tensor]:
    """All tensors of a state, in order."""
    if isinstance(state, torch.Tensor):
        return [state]
    return [tensor for part in state for tensor in _tensors(part)] if isinstance(state, list | tuple) else []


def lines(result: dict) -> list[str]:
    """Ranking, then latencies."""
    ranking, clicks = [], []
    for name, each in result.items():
        if "histories_per_second" in each:
            speeds = (each["histories_per_second"], each["model_histories_per_second"])
            ranking.append([name, *(number(speed, ",.0f") for speed in speeds)])
        elif "median" in each:
            clicks.append([name, *(number(each[which], ",.0f") for which in ("median", "p95"))])
    heads = ["histories ranked per second", "with names, in Python", "the model alone"]
    return [*table(heads, ranking), "", *table(["one more click, µs", "median", "p95"], clicks), "", *reasons(result)]
