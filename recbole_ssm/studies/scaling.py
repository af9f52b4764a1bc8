"""``recbole-ssm scaling``: what models cost as histories get longer, and as catalogues get larger."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from recbole.data.interaction import Interaction
from recbole.utils import ModelType

from recbole_ssm.config.command_line import key_of
from recbole_ssm.config.config import Config
from recbole_ssm.errors import InputError, OutOfMemory
from recbole_ssm.model.catalogue import Catalogue
from recbole_ssm.ops.backends import use_backend
from recbole_ssm.studies.report import Figure, Report, Table, styles, write_csv
from recbole_ssm.studies.run_store import RunStore
from recbole_ssm.system.atomic_write import write_json
from recbole_ssm.system.resources import added_memory_mib, fits_memory
from recbole_ssm.system.terminal import Console
from recbole_ssm.training.assembly import set_seed
from recbole_ssm.training.make_model import make_model

LENGTHS = (50, 100, 200, 500, 1000, 2000, 5000, 10_000)
CATALOGUES = (1000, 3000, 10_000, 30_000, 100_000, 300_000, 1_000_000)
SIZES = {
    "lengths": {"interactions": "of a history"},
    "catalogues": {"items": "of the catalogue"},
}
"""The column of sizes of each kind of measurement, and its legend."""

COLUMNS = {
    "training ms": "of a history: forward and backward, with one target at its end; processor time with one thread",
    "ranking ms": "of a history: scores of all items, and the ten best",
    "training MiB": "most memory that a training step of all histories of the batch added",
    "histories": "in the batch",
}
"""The columns of measurements, and their legends."""


@dataclass
class Point:
    """A model at one size."""

    model: str
    size: int
    histories: int
    train_ms: float
    rank_ms: float
    train_mib: float | None


def measure(
    model: str, length: int, items: int, histories: int, keys: Iterable[str] = (), repeats: int = 3
) -> Point | None:
    """Measure a new model on random histories.

    Args:
        model: a sequential one, of this package or of RecBole.
        length: interactions of each history.
        items: of the catalogue.
        histories: of a batch.
        keys: arguments ``--key=value``.
        repeats: the median of so many is taken, after one that warms up.

    Returns:
        None if it does not fit into memory. ``size`` is the length.

    Raises:
        InputError: the model cannot be used, or is not sequential.
    """
    config = _config(model, length, keys)
    set_seed(config)
    device = config.device
    try:
        with use_backend(config.ssm_backend or "auto"), fits_memory(f"{model} at {length}"):
            network: Any = make_model(config, Catalogue(items))
            batch = _random_batch(network, histories, length, items).to(device)

            def train() -> None:
                network.zero_grad(set_to_none=True)
                network.calculate_loss(batch).backward()

            @torch.no_grad()
            def rank() -> None:
                torch.topk(network.full_sort_predict(batch).view(histories, -1), 10)

            train_ms = _milliseconds(train, device, repeats) / histories
            mib = added_memory_mib(train, device)
            network.eval()
            return Point(model, length, histories, train_ms, _milliseconds(rank, device, repeats) / histories, mib)
    except OutOfMemory:
        return None


def _random_batch(network: Any, histories: int, length: int, items: int) -> Interaction:
    """A padded batch of random items, with a click an hour in the columns that the model reads."""
    batch = {
        "item_id_list": torch.randint(1, items, (histories, length)),
        "item_length": torch.full((histories,), length),
        "item_id": torch.randint(1, items, (histories,)),
    }
    hours = (3600 * torch.arange(length, dtype=torch.float64)).repeat(histories, 1)
    for column in getattr(network, "columns", ()):
        batch[network.field_of(column)] = column.values(hours.flatten()).view(histories, length)
    return Interaction(batch)


def _try(model: str, keys: Iterable[str]) -> None:
    """Raise InputError for a model that cannot be measured: for example one that reads more than items."""
    try:
        measure(model, 50, 100, 2, keys, repeats=1)
    except InputError:
        raise
    except Exception as error:
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise InputError(f"{model} cannot be measured on random histories ({reason}); leave it out") from error


def _config(model: str, length: int, keys: Iterable[str]) -> Config:
    fixed = {"MAX_ITEM_LIST_LENGTH": length, "loss_type": "CE", "train_neg_sample_args": None, "state": "error"}
    for key in map(key_of, keys):
        if key in fixed:
            raise InputError(f"scaling sets {key} itself; leave --{key} out")
    config = Config(model, "ml-100k", config_dict=fixed, command_line=keys)
    if config.MODEL_TYPE != ModelType.SEQUENTIAL:
        raise InputError(f"scaling is for sequential models, and {model} is not one")
    return config


def _milliseconds(run: Callable[[], None], device: torch.device, repeats: int) -> float:
    clock = time.perf_counter if device.type == "cuda" or torch.get_num_threads() > 1 else time.process_time
    took = []
    for _ in range(repeats + 1):
        start = clock()
        run()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        took.append(1000 * (clock() - start))
    return median(took[1:])


def exponent(sizes: Iterable[float], values: Iterable[float]) -> float:
    """The exponent with which values grow with size: the slope of a line through their logarithms."""
    return float(np.polyfit(np.log(list(sizes)), np.log(list(values)), 1)[0])


def scaling(
    models: list[str],
    folder: Path,
    lengths: Iterable[int] = LENGTHS,
    catalogues: Iterable[int] = CATALOGUES,
    keys: Iterable[str] = (),
    tokens: int = 10_000,
    seconds: float = 60.0,
    command: str = "",
) -> dict[str, Any]:
    """Measure models over lengths (3,000 items) and over catalogues (histories of 50), and write the results.

    Args:
        models: sequential ones, of this package or of RecBole.
        folder: gets ``scaling.json`` and ``scaling.csv`` after each measurement, and at the end ``report.html``
            (self-contained), ``scaling.md``, ``scaling.tex`` and ``figures/`` (SVG and PDF).
        lengths: of histories.
        catalogues: numbers of items.
        keys: arguments ``--key=value`` for all models.
        tokens: interactions of a batch over lengths, where a history is not longer.
        seconds: a model that takes longer for a step is not tried at larger sizes.
        command: shown in the report.

    Returns:
        What ``scaling.json`` holds: ``lengths`` and ``catalogues``, lists of :class:`Point`, and their ``exponents``.

    Raises:
        InputError: a model or a key cannot be used, or the folder cannot be written to; nothing has been measured.
    """
    console, keys, store = Console(), list(keys), RunStore(folder)
    store.check_writable()
    for model in models:
        _try(model, keys)
    store.make()
    with store.claimed():
        found: dict[str, list[Point]] = {"lengths": [], "catalogues": []}
        result = _write(folder, found, command)
        for kind, sizes in (("lengths", lengths), ("catalogues", catalogues)):
            for model in models:
                for point in _growing(model, kind, sorted(sizes), keys, tokens, seconds, console):
                    found[kind].append(point)
                    result = _write(folder, found, command)
        report = _report(found, result["exponents"], command)
        report.write(folder, "scaling")
    for table in report.tables:
        console.print(table.terminal())
    for line in (*report.notes, f"report: {folder / 'report.html'}"):
        console.tell(line)
    return result


def _growing(
    model: str, kind: str, sizes: Iterable[int], keys: list[str], tokens: int, seconds: float, console: Console
) -> Iterator[Point]:
    """Measure a model at one size after another, until one does not fit into memory or takes too long."""
    for size in sizes:
        length, items = (size, 3000) if kind == "lengths" else (50, size)
        histories = max(tokens // length, 1) if kind == "lengths" else 64
        point = measure(model, length, items, histories, keys)
        if point is None:
            console.tell(f"{model}, {size:,}: does not fit into memory")
            return
        point.size = size
        yield point
        took = f"training {point.train_ms:.2f} ms, ranking {point.rank_ms:.2f} ms for each history"
        console.tell(f"{model}, {kind} {size:,}: {took}")
        if point.train_ms * histories > 1000 * seconds:
            console.tell(f"{model}: larger ones are left out")
            return


def _write(folder: Path, found: dict[str, list[Point]], command: str) -> dict[str, Any]:
    """Write the results so far, for programs."""
    points = {kind: [asdict(point) for point in points] for kind, points in found.items()}
    result = points | {"exponents": {kind: _exponents(points) for kind, points in found.items()}}
    write_json(folder / "scaling.json", {"command": command, **result})
    if records := [{"over": kind, **point} for kind in found for point in points[kind]]:
        write_csv(folder / "scaling.csv", records)
    return result


def _report(found: dict[str, list[Point]], exponents: dict[str, Any], command: str) -> Report:
    measured = {kind: points for kind, points in found.items() if points}
    return Report(
        "Cost over lengths and catalogues",
        command,
        tables=[
            Table(f"Over {kind}", SIZES[kind] | COLUMNS, [(point.model, _cells(point)) for point in points])
            for kind, points in measured.items()
        ],
        notes=[_in_words(kind, exponents[kind]) for kind in found if exponents[kind]],
        figures=[figure for kind, points in measured.items() for figure in _figures(kind, points)],
    )


def _exponents(points: list[Point]) -> dict[str, dict[str, float]]:
    """The exponents of each model with three sizes or more."""
    found = {}
    for model in dict.fromkeys(point.model for point in points):
        own = [point for point in points if point.model == model]
        if len(own) > 2:
            sizes = [point.size for point in own]
            found[model] = {
                "training": exponent(sizes, [point.train_ms for point in own]),
                "ranking": exponent(sizes, [point.rank_ms for point in own]),
            }
    return found


def _in_words(kind: str, exponents: dict[str, dict[str, float]]) -> str:
    what = "the length of a history" if kind == "lengths" else "the number of items"
    words = [f"{model} {each['training']:.2f} (ranking {each['ranking']:.2f})" for model, each in exponents.items()]
    return f"Time of training grows with this power of {what}: {', '.join(words)}."


def _cells(point: Point) -> list[str]:
    mib = "" if point.train_mib is None else f"{point.train_mib:.0f}"
    return [f"{point.size:,}", f"{point.train_ms:.3f}", f"{point.rank_ms:.3f}", mib, str(point.histories)]


def _figures(kind: str, points: list[Point]) -> list[Figure]:
    label = "interactions of a history" if kind == "lengths" else "items"
    per = "interaction" if kind == "lengths" else "history"
    style = styles(dict.fromkeys(point.model for point in points))

    def parts(point: Point) -> int:
        """The number that the cost of a history is divided by."""
        return point.size if kind == "lengths" else 1

    def curves(axes: Axes, value: Callable[[Point], float], unit: str) -> None:
        for model, look in style.items():
            own = [(point.size, value(point)) for point in points if point.model == model]
            own = [(size, each) for size, each in own if each]
            if own:
                axes.plot(*zip(*own, strict=True), label=model, **look)
        axes.set(xscale="log", yscale="log", xlabel=label, ylabel=unit)

    wanted: tuple[tuple[str, str, Callable[[Point], float]], ...] = (
        ("Training", f"ms per {per}", lambda p: p.train_ms / parts(p)),
        ("Ranking", f"ms per {per}", lambda p: p.rank_ms / parts(p)),
        ("Memory of training", f"KiB per {per}", lambda p: 1024 * (p.train_mib or 0) / p.histories / parts(p)),
    )
    return [Figure(f"{title} over {label}", partial(curves, value=value, unit=unit)) for title, unit, value in wanted]
