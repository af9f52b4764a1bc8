"""SSD4Rec's own setting on MovieLens-1M: speed and memory of a slice of an epoch, and of the padded form beside it."""

from __future__ import annotations

from typing import Any

import torch
from recbole.data.interaction import Interaction
from torch import Tensor

from gpu_parts.place import Place
from gpu_parts.tables import number, reasons, table
from gpu_parts.timing import compare
from gpu_parts.training import SMALL, Few, put_together, train
from recbole_ssm.ops.packing import cumulative_lengths
from recbole_ssm.system.resources import peak_memory_gib
from recbole_ssm.training.assembly import Assembly, computing

STEPS, SECONDS = 300, 20
"""The most of the slice."""

CUT = 200
"""RecBole's models read so many items at most."""


def measure(place: Place) -> None:
    """The slice with the package's trainer, then both forms on histories of its first batch."""
    dataset, keys = place.dataset("ml-1m")
    if place.tiny:
        keys |= {**SMALL, "train_batch_tokens": None, "train_batch_size": 32}
    assembly = put_together(place, "SSD4Rec", dataset, ["paper/SSD4Rec-ml-1m"], keys)
    with computing(assembly.config):
        place.attempt("slice", _slice, place, assembly)
        for name, (histories, most) in {"whole": (64, None), f"cut at {CUT}": (512, CUT)}.items():
            place.attempt(name, _both_forms, place, assembly, histories, most)


def _slice(place: Place, assembly: Assembly) -> dict[str, Any]:
    """Steps as in a training, data loading and all, and what a whole epoch would take."""
    loader, field = assembly.loaders.train, assembly.trainer.model.ITEM_SEQ
    warm_up = 2 if place.tiny else 5
    train(assembly, warm_up)
    each = train(assembly, warm_up) / warm_up
    seconds = min(SECONDS, place.left() / 3)
    steps = 2 if place.tiny else min(STEPS, max(int(seconds / each), 5), len(loader))
    tokens = sum(len(batch[field]) for batch in Few(loader, min(steps, 20))) / min(steps, 20)
    seconds = train(assembly, steps) / steps
    return {
        "steps": steps,
        "tokens_per_step": tokens,
        "tokens_per_second": tokens / seconds,
        "seconds_per_step": seconds,
        "steps_per_epoch": len(loader),
        "seconds_per_epoch": seconds * len(loader),
        "gib": peak_memory_gib(place.device),
    }


def _both_forms(place: Place, assembly: Assembly, histories: int, most: int | None) -> dict[str, Any]:
    """A step on the same histories, packed, and as rows of one length: the same model, padding read as items."""
    batch = next(iter(assembly.loaders.train)).to(place.device)
    model, optimizer = assembly.trainer.model, assembly.trainer.optimizer
    packed, padded = forms(batch, model, 8 if place.tiny else histories, most)

    def step(batch: Interaction) -> None:
        optimizer.zero_grad()
        model.calculate_loss(batch).backward()
        optimizer.step()

    tokens, rows = len(packed[model.ITEM_SEQ]), len(padded[model.ITEM_SEQ])
    found = compare(place, {"packed": lambda: step(packed), "padded": lambda: step(padded)}, "packed", rounds=5)
    for each in found.values():
        if "seconds" in each:
            each["tokens_per_second"] = tokens / each["seconds"]
    return {"histories": len(packed[model.ITEM_ID]), "tokens": tokens, "padded_to": rows, **found}


def forms(batch: Interaction, model: Any, histories: int, most: int | None) -> tuple[Interaction, Interaction]:
    """Histories of a batch, each cut to its last items, as a packed stream, and as one of rows of the same length."""
    lengths = batch["cu_seqlens"].diff().long()[:histories]
    first = batch["cu_seqlens"][:-1].long()[: len(lengths)]
    kept = lengths if most is None else lengths.clamp(max=most)
    width, items = int(kept.max()), batch[model.ITEM_SEQ]
    place = torch.arange(width, device=items.device)
    valid = place < kept[:, None]
    rows = items[(first + lengths - kept)[:, None] + place.where(valid, 0)].where(valid, 0)
    target = batch[model.ITEM_ID][: len(lengths)]

    def stream(tokens: Tensor, each: Tensor) -> Interaction:
        return Interaction({model.ITEM_SEQ: tokens, "cu_seqlens": cumulative_lengths(each), model.ITEM_ID: target})

    return stream(rows[valid], kept), stream(rows.flatten(), torch.full_like(kept, width))


def lines(result: dict) -> list[str]:
    """The slice in words, and a row for each length."""
    found = []
    if (part := result.get("slice", {})) and "steps" in part:
        found.append(
            f"{part['tokens_per_second'] / 1e3:,.0f} thousand tokens per second over {part['steps']} steps of "
            f"{part['tokens_per_step']:,.0f} tokens, {part['gib']:.1f} GiB; an epoch of {part['steps_per_epoch']} "
            f"steps would take {part['seconds_per_epoch']:.0f} s"
        )
    rows = [
        [
            f"{name}, {each['histories']} histories",
            *(number(each[form].get("tokens_per_second", each[form]), ",.0f") for form in ("packed", "padded")),
            *(number(each[form].get("gib", each[form]), ".2f") for form in ("packed", "padded")),
            number(each["padded"].get("times_as_long", each["padded"]), ".2f"),
        ]
        for name, each in result.items()
        if "histories" in each
    ]
    heads = ["a step", "packed tokens/s", "padded tokens/s", "packed GiB", "padded GiB", "padded takes, times"]
    return [*found, *table(heads, rows), *reasons(result)]
