"""Training throughput: mixers alone and whole steps of models, beside named peers on the same histories."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from recbole.data.interaction import Interaction
from recbole.model.sequential_recommender import SASRec
from torch import Tensor

from gpu_parts import attention
from gpu_parts.place import Place, Skipped
from gpu_parts.streams import at_least_float32, borders_like, scan_inputs
from gpu_parts.tables import number, reasons, table
from gpu_parts.timing import compare, seconds_of
from recbole_ssm.config.config import Config
from recbole_ssm.model.catalogue import Catalogue
from recbole_ssm.ops import ssd, use_backend
from recbole_ssm.ops.backends.gpu_packages import GPU_PACKAGES
from recbole_ssm.ops.backends.triton.backend import TRITON
from recbole_ssm.training.making import make_model
from recbole_ssm.training.optimisation import fused_adam

SIZES = {64: {"H": 8, "P": 16, "N": 32}, 256: {"H": 32, "P": 16, "N": 64}}
"""Of SSD, by the model's width: 2Mamba4Rec's recipe, and SSD4Rec's paper."""

ITEMS = {"ml": 3417, "am": 12102}
LENGTHS = {"ml": "MovieLens's lengths", "am": "Amazon's lengths"}
FIRST = "ours, Triton"


def measure(place: Place) -> None:
    """The peak, then mixers, then model steps; the widest first."""
    place.attempt("peak", _peak, place)
    sizes = [(64, "ml")] if place.tiny else [(256, "ml"), (64, "ml"), (256, "am"), (64, "am")]
    for width, kind in sizes:
        for dtype in (torch.float32, torch.bfloat16):
            place.attempt(f"SSD, {_words(width, kind)}, {_name(dtype)}", _mixers, place, width, kind, dtype)
    for width, kind in sizes:
        place.attempt(f"model step, {_words(width, kind)}", _models, place, width, kind)


def _words(width: int, kind: str) -> str:
    return f"width {width}, {LENGTHS[kind]}"


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _peak(place: Place) -> dict[str, float]:
    """TFLOP/s of a product of two square matrices."""
    size, found = (64 if place.tiny else 8192), {}
    for name, dtype, precision in (
        ("float32", torch.float32, "highest"),
        ("tf32", torch.float32, "high"),
        ("bfloat16", torch.bfloat16, "highest"),
    ):
        torch.set_float32_matmul_precision(precision)
        a, b = (torch.randn(size, size, device=place.device, dtype=dtype) for _ in range(2))
        seconds_of(place, lambda a=a, b=b: a @ b, 3)
        found[name] = 2 * size**3 / seconds_of(place, lambda a=a, b=b: a @ b, 3 if place.tiny else 10) / 1e12
    torch.set_float32_matmul_precision("highest")
    return found


def _mixers(place: Place, width: int, kind: str, dtype: torch.dtype) -> dict[str, Any]:
    """Forward and backward of SSD, and of attention of the same width, over one stream."""
    T = 64 if place.tiny else 65_536
    borders, sizes = borders_like(kind, T, place.device), SIZES[width]
    inputs = {
        name: tensor.to(at_least_float32(name, dtype)).requires_grad_()
        for name, tensor in scan_inputs(T, **sizes, device=place.device).items()
    }
    exact = _exact(inputs, borders)
    scans = {FIRST: _backend("triton", inputs, borders), "ours, PyTorch": _backend("torch", inputs, borders)}
    scans["mamba-ssm"] = _backend("mamba_ssm", inputs, borders)
    scans["flash-linear-attention"] = lambda: _simple_gla(inputs, borders)
    shape = (T, width // 32, 32)
    qkv = [torch.randn(shape, device=place.device, dtype=dtype, requires_grad=True) for _ in range(3)]
    variants = {name: both_ways(run, list(inputs.values())) for name, run in scans.items()}
    variants |= {name: both_ways(run, leaves) for name, run, leaves in attention.variants(qkv, borders)}
    found = compare(place, variants, FIRST if place.on_gpu else "ours, PyTorch")
    peak = place.result.get("peak", {}).get("tf32" if dtype == torch.float32 else "bfloat16")
    for name, each in found.items():
        if "seconds" in each:
            each["tokens_per_second"] = T / each["seconds"]
        if "seconds" in each and name in scans:
            each["error"] = _error(scans[name], exact)
            each["share_of_peak"] = peak and _flop(T, kind, **sizes) / each["seconds"] / 1e12 / peak
    return found


def _backend(name: str, inputs: dict[str, Tensor], borders: Tensor) -> Callable[[], Tensor]:
    """SSD on a backend; Skipped where that has no such kernel."""

    def run() -> Tensor:
        if name == "mamba_ssm" and (missing := GPU_PACKAGES.missing()):
            raise Skipped(missing)
        if name == "triton" and not TRITON.computes("ssd", *inputs.values()):
            raise Skipped(TRITON.missing() or "it needs a GPU")
        with use_backend(name):
            given = (inputs[key] for key in ("x", "dt", "A", "B", "C"))
            return ssd(*given, borders, D=inputs["D"])

    return run


def _simple_gla(inputs: dict[str, Tensor], borders: Tensor) -> Tensor:
    """SSD as gated linear attention: k = B, q = C, v = dt x, decay dt A."""
    try:
        from fla.ops.simple_gla import chunk_simple_gla
    except ImportError as error:
        raise Skipped(f"flash-linear-attention cannot be imported: {error}") from error
    if not borders.is_cuda:
        raise Skipped("it needs a GPU")
    x, dt, A, B, C, D = inputs.values()
    q, k = (t.expand(-1, x.shape[1], -1)[None].contiguous() for t in (C, B))
    v, g = (dt[..., None] * x).to(x.dtype)[None], (dt * A)[None]
    y, _ = chunk_simple_gla(q, k, v, g=g, scale=1.0, cu_seqlens=borders.long())
    return (y[0] + D[:, None] * x).to(x.dtype)


def both_ways(run: Callable[[], Tensor], leaves: list[Tensor]) -> Callable[[], None]:
    """Forward and backward, without adding up gradients from call to call."""
    kept: list[Tensor] = []

    def step() -> None:
        y = run()
        if not kept:
            kept.append(torch.randn_like(y))
        torch.autograd.grad(y, leaves, kept[0], allow_unused=True)

    return step


def _exact(inputs: dict[str, Tensor], borders: Tensor) -> Tensor:
    with torch.no_grad():
        return _backend("torch", {name: t.detach().double() for name, t in inputs.items()}, borders)()


@torch.no_grad()
def _error(run: Callable[[], Tensor], exact: Tensor) -> float:
    return float((run().double() - exact).abs().max() / exact.abs().max())


def _flop(T: int, kind: str, H: int, P: int, N: int) -> float:
    """Of the recurrence by chunks, forward and backward, as ``benchmarks/ops.py`` counts them."""
    E, Q = H * P, 64 if kind == "ml" else 8
    return 2 * T * (E * (0.5 * Q + 2 * N) + E * (1.5 * Q + 4 * N) + 4 * Q * N)


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
    yield "2Mamba4Rec, PyTorch", _step(place, "2Mamba4Rec", mamba2, n_items, packed, backend="torch")
    if GPU_PACKAGES.missing() is None:
        yield "2Mamba4Rec, mamba-ssm", _step(place, "2Mamba4Rec", mamba2, n_items, packed, backend="mamba_ssm")
    scan = {"hidden_size": width, "num_layers": 2, "d_state": 16}
    yield "Mamba4Rec, ours", _step(place, "Mamba4Rec", scan, n_items, packed)
    yield "LRURec, ours", _step(place, "LRURec", attends, n_items, packed)
    yield "PackedSASRec", _step(place, "PackedSASRec", attends, n_items, packed)
    lengths = borders.diff().long()
    place_in_row = torch.arange(int(lengths.max()), device=place.device)
    valid = place_in_row < lengths[:, None]
    rows = torch.zeros(valid.shape, dtype=torch.int64, device=place.device).masked_scatter(valid, tokens)
    padded = {"item_id_list": rows, "item_length": lengths, "item_id": tokens[borders[1:].long() - 1]}
    sasrec = {"hidden_size": width, "n_layers": 2, "n_heads": 2, "inner_size": 4 * width, "loss_type": "CE"}
    sasrec |= {"MAX_ITEM_LIST_LENGTH": rows.shape[1], "train_neg_sample_args": None}
    yield "RecBole's SASRec, padded", _step(place, "SASRec", sasrec, n_items, padded)
    yield "RecBole's SASRec, padded, AMP", _step(place, "SASRec", sasrec, n_items, padded, amp=True)


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


def lines(result: dict) -> list[str]:
    """A table for each size."""
    found = []
    if "bfloat16" in (peak := result.get("peak", {})):
        words = ", ".join(f"{name} {value:.0f}" for name, value in peak.items())
        found += [f"Peak of a matrix product, TFLOP/s: {words}."]
    heads = ["", "thousand tokens/s", "times as long", "GiB", "error", "share of peak"]
    for name, each in result.items():
        rows = [
            [
                variant,
                number(_thousand(one), ",.0f"),
                number(one.get("times_as_long"), ".2f"),
                number(one.get("gib"), ".2f"),
                number(one.get("error"), ".0e"),
                number(one.get("share_of_peak"), ".1%"),
            ]
            for variant, one in each.items()
            if isinstance(one, dict)
        ]
        found += ["", *table([name, *heads[1:]], rows), *reasons(each)] if rows else []
    return [*found, *reasons(result)]


def _thousand(one: dict) -> object:
    return one["tokens_per_second"] / 1e3 if "tokens_per_second" in one else one
