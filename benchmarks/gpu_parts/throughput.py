"""Training throughput: whole steps of models, beside RecBole's padded SASRec on the same histories."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from recbole.data.interaction import Interaction
from recbole.model.sequential_recommender import SASRec
from torch import Tensor

from gpu_parts.mixers import SIZES, lines, sizes, words
from gpu_parts.place import Place
from gpu_parts.streams import borders_like
from gpu_parts.timing import compare
from recbole_ssm.config.config import Config
from recbole_ssm.model.catalogue import Catalogue
from recbole_ssm.ops import use_backend
from recbole_ssm.ops.backends.gpu_packages import GPU_PACKAGES
from recbole_ssm.training.make_model import make_model
from recbole_ssm.training.optimisation import fused_adam

__all__ = ["lines", "measure"]

ITEMS = {"ml": 3417, "am": 12102}


def measure(place: Place) -> None:
    """The widest first."""
    for width, kind in sizes(place):
        place.attempt(f"model step, {words(width, kind)}", _models, place, width, kind)


def _models(place: Place, width: int, kind: str) -> dict[str, Any]:
    """A step of training, optimiser and all; every token is a target, but for RecBole's SASRec, which has one a row."""
    T = 64 if place.tiny else 32_768
    borders = borders_like(kind, T, place.device)
    found = compare(place, dict(_model_steps(place, width, kind, borders)), "2Mamba4Rec, ours", rounds=5)
    for each in found.values():
        if "seconds" in each:
            each["tokens_per_second"] = T / each["seconds"]
    return found


def _model_steps(place: Place, width: int, kind: str, borders: Tensor) -> Iterator[tuple[str, Callable[[], object]]]:
    T, n_items = int(borders[-1]), 60 if place.tiny else ITEMS[kind]
    tokens = torch.randint(1, n_items, (T,), device=place.device)
    packed = {"cu_seqlens": borders, "item_id_list": tokens, "item_id": tokens.roll(-1)}
    mamba2 = {"hidden_size": width, "num_layers": 2, "d_state": SIZES[width]["N"], "headdim": SIZES[width]["P"]}
    attends = {"hidden_size": width, "num_layers": 2}
    yield "2Mamba4Rec, ours", _step(place, "2Mamba4Rec", mamba2, n_items, packed)
    yield "2Mamba4Rec, ours, AMP", _step(place, "2Mamba4Rec", mamba2, n_items, packed, amp=True)
    padded = _padded(tokens, borders)
    sasrec = {"hidden_size": width, "n_layers": 2, "n_heads": 2, "inner_size": 4 * width, "loss_type": "CE"}
    sasrec |= {"MAX_ITEM_LIST_LENGTH": padded["item_id_list"].shape[1], "train_neg_sample_args": None}
    yield "RecBole's SASRec, padded", _step(place, "SASRec", sasrec, n_items, padded)
    yield "RecBole's SASRec, padded, AMP", _step(place, "SASRec", sasrec, n_items, padded, amp=True)
    yield "PackedSASRec", _step(place, "PackedSASRec", attends, n_items, packed)
    scan = {"hidden_size": width, "num_layers": 2, "d_state": 16}
    yield "Mamba4Rec, ours", _step(place, "Mamba4Rec", scan, n_items, packed)
    yield "LRURec, ours", _step(place, "LRURec", attends, n_items, packed)
    if GPU_PACKAGES.missing() is None:
        yield "2Mamba4Rec, mamba-ssm", _step(place, "2Mamba4Rec", mamba2, n_items, packed, backend="mamba_ssm")
    if width == min(SIZES):  # it takes long
        yield "2Mamba4Rec, PyTorch", _step(place, "2Mamba4Rec", mamba2, n_items, packed, backend="torch")


def _padded(tokens: Tensor, borders: Tensor) -> dict[str, Tensor]:
    """The same histories as rows, each with a target."""
    lengths = borders.diff().long()
    valid = torch.arange(int(lengths.max()), device=tokens.device) < lengths[:, None]
    rows = torch.zeros(valid.shape, dtype=torch.int64, device=tokens.device).masked_scatter(valid, tokens)
    return {"item_id_list": rows, "item_length": lengths, "item_id": tokens[borders[1:].long() - 1]}


def _step(
    place: Place, name: str, keys: dict, n_items: int, batch: dict, *, backend: str = "auto", amp: bool = False
) -> Callable[[], object]:
    """A function that makes a training step; the model is made when it is first called."""
    made: list[tuple] = []

    def step() -> None:
        if not made:
            given = {**keys, "use_gpu": place.on_gpu, "show_progress": False}
            config, catalogue = Config(name, "ml-100k", config_dict=given), Catalogue(n_items)
            model = SASRec(config, catalogue).to(place.device) if name == "SASRec" else make_model(config, catalogue)
            groups = [{"params": list(model.parameters())}]
            made.append((model.train(), fused_adam("adam", groups, 1e-3)))
        model, optimizer = made[0]
        with use_backend(backend):
            optimizer.zero_grad()
            with torch.autocast(place.device.type, torch.bfloat16, enabled=amp):
                loss = model.calculate_loss(Interaction(batch))
            loss.backward()
            optimizer.step()

    return step
