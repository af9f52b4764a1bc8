"""Mamba language models on this package's packed ops beside transformers' own code for a CPU.

    python benchmarks/language.py --threads 1 --json=language.json

``history``: forward of one history of 96 titles, 710 tokens, with the shape of mamba-130m (24 layers of width 768).
``training``: forward and backward of 16 sequences of 128 tokens, 2 layers of width 256. ``click``: a title of 8 tokens
more after that history, from a kept state, beside reading all again; both on packed ops. Weights are random. Prints
medians of alternating runs, how many times faster the second is, and the largest difference of the outputs.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Callable
from typing import Any

import torch
from arguments import at_least_one, output_file
from measuring import alternate, machine, median_ratio

from recbole_ssm.language.loading import make_model, make_settings
from recbole_ssm.language.packed_mamba import PackedMamba
from recbole_ssm.ops.packing import cumulative_lengths

VOCABULARY = 50_280
Variants = dict[str, Callable[[], Any]]


def made(layers: int, width: int) -> tuple[Any, PackedMamba]:
    """A model of transformers with random weights, and the same on packed ops."""
    sizes = {"num_hidden_layers": layers, "hidden_size": width, "vocab_size": VOCABULARY}
    model = make_model(make_settings({"model_type": "mamba", **sizes}), torch.float32)
    return model.backbone, PackedMamba(model)


def history(layers: int, width: int, tokens: int) -> tuple[Variants, float]:
    """Forward of one history, and the difference of both outputs."""
    theirs, ours = made(layers, width)
    text = torch.randint(VOCABULARY, (tokens,))
    borders = cumulative_lengths(torch.tensor([tokens]))

    def padded() -> torch.Tensor:
        with torch.no_grad():
            return theirs(input_ids=text[None], use_cache=False).last_hidden_state[0]

    def packed() -> torch.Tensor:
        with torch.no_grad():
            return ours.forward(text, borders)

    return {"transformers": padded, "packed": packed}, float((padded() - packed()).abs().max())


def training(layers: int, width: int, tokens: int) -> tuple[Variants, float]:
    """Forward and backward of 16 sequences, and the difference of both outputs."""
    theirs, ours = made(layers, width)
    text, borders = torch.randint(VOCABULARY, (16, tokens)), cumulative_lengths(torch.full((16,), tokens))

    def padded() -> torch.Tensor:
        hidden = theirs(input_ids=text, use_cache=False).last_hidden_state
        hidden.square().mean().backward()
        return hidden.detach().flatten(0, 1)

    def packed() -> torch.Tensor:
        hidden = ours.forward(text.flatten(), borders)
        hidden.square().mean().backward()
        return hidden.detach()

    return {"transformers": padded, "packed": packed}, float((padded() - packed()).abs().max())


@torch.no_grad()
def click(layers: int, width: int, tokens: int) -> tuple[Variants, float]:
    """One title more from a kept state, beside all again, and the difference of both outputs."""
    _, ours = made(layers, width)
    text, new = torch.randint(VOCABULARY, (tokens + 8,)), torch.tensor([0, 8], dtype=torch.int32)
    borders = cumulative_lengths(torch.tensor([tokens]))
    _, state = ours.prefill(text[:tokens], borders)

    def again() -> torch.Tensor:
        with torch.no_grad():
            return ours.forward(text, borders.new_tensor([0, tokens + 8]))[-1]

    def kept() -> torch.Tensor:
        with torch.no_grad():
            return ours.extend(text[tokens:], new, state)[0][-1]

    return {"all again": again, "one title": kept}, float((again() - kept()).abs().max())


CASES: dict[str, tuple[Callable[[int, int, int], tuple[Variants, float]], tuple[int, int, int]]] = {
    "history": (history, (24, 768, 710)),
    "training": (training, (2, 256, 128)),
    "click": (click, (24, 768, 710)),
}
"""Functions, and how many layers, which width and how many tokens they get."""


def main(arguments: list[str] | None = None) -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--repeats", type=at_least_one, default=3)
    parser.add_argument("--threads", type=at_least_one, default=1)
    parser.add_argument("--layers", type=at_least_one, help="in place of each case's")
    parser.add_argument("--width", type=at_least_one, help="in place of each case's")
    parser.add_argument("--tokens", type=at_least_one, help="in place of each case's")
    parser.add_argument("--json", type=output_file, help="file to write")
    given = parser.parse_args(arguments)
    torch.set_num_threads(given.threads)
    torch.manual_seed(0)
    rows = []
    for name in given.cases:
        function, usual = CASES[name]
        sizes = [own or size for own, size in zip((given.layers, given.width, given.tokens), usual, strict=True)]
        variants, difference = function(*sizes)
        slow, fast = variants
        seconds = alternate(variants, given.repeats)
        medians = {each: statistics.median(times) for each, times in seconds.items()}
        times = median_ratio(seconds[slow], seconds[fast])
        rows.append({"case": name, "sizes": sizes, **medians, "times_faster": times, "difference": difference})
        print(
            f"{name:10}{slow} {medians[slow]:.3f} s, {fast} {medians[fast]:.3f} s: {times:.1f} times faster, outputs "
            f"differ by {difference:.1e}",
            flush=True,
        )
    if given.json:
        content = {"threads": given.threads, "rows": rows, **machine()}
        given.json.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
