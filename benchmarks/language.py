"""What language models cost in recommending, this package's code beside transformers' or beside another way of its own.

    python benchmarks/language.py --threads 1 --language_model=models/smollm2 --json=language.json

Mamba with the shape of mamba-130m (24 layers of width 768), random weights:

- ``history``: forward of one history of 96 titles, 710 tokens, transformers' code for a CPU and packed ops.
- ``training``: forward and backward of 16 sequences of 128 tokens, 2 layers of width 256.
- ``click``: a title of 8 tokens more after that history, reading all again and from a kept state.

A Llama with the shape of SmolLM2-135M, or the one in the folder ``--language_model``:

- ``prompts``: four prompts of LlamaRec of 615 tokens that begin with the same 36; each whole, and these read once.
- ``adapters``: forward and backward of one with LoRA of rank 8; logits of all tokens, and of the answer's two.

GPT-2 with the shape of the smallest (12 layers of width 768), random weights:

- ``queries 5``, ``queries 20``: beam search after a prompt of 130 tokens for 16 tokens, by transformers and here.

Prints medians of alternating runs, how many times faster the second is, and the largest difference of the outputs.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from arguments import at_least_one, output_file
from measuring import alternate, machine, median_ratio

from recbole_ssm.language.beam import beam_search
from recbole_ssm.language.lora import Lora, add_adapters
from recbole_ssm.language.making import from_folder, from_settings
from recbole_ssm.language.model import LanguageModel
from recbole_ssm.language.shared_beginning import next_logits
from recbole_ssm.language.steps import read_prompts, step_of
from recbole_ssm.ops.packing import cumulative_lengths, last_tokens

VOCABULARY = 50_280
"""Of Mamba, and about that of the others."""
SHARED = 36
"""Tokens that all prompts of LlamaRec begin with, for SmolLM2's tokenizer."""
WRITTEN, TITLE = 16, 8
"""Tokens of a query, and of a title."""


class Sizes(NamedTuple):
    """Of a case."""

    layers: int
    width: int
    tokens: int
    folder: Path | None = None
    """Of the Llama; None for random weights."""


Measured = tuple[dict[str, Callable[[], Any]], float]
"""Two ways by name, the slower one first, and the largest difference of what they give."""


def made(kind: str, **settings: int) -> LanguageModel:
    """A language model with random weights."""
    torch.manual_seed(0)
    return from_settings({"model_type": kind, **settings}, ["", "title"], tokenizer_size=259).eval()


def mamba(sizes: Sizes) -> LanguageModel:
    """A Mamba with random weights."""
    return made("mamba", num_hidden_layers=sizes.layers, hidden_size=sizes.width, vocab_size=VOCABULARY)


def llama(sizes: Sizes) -> LanguageModel:
    """A Llama from a folder, or with random weights."""
    if sizes.folder is not None:
        return from_folder(sizes.folder, ["", "title"]).eval()
    heads = {"num_attention_heads": max(1, sizes.width // 64), "num_key_value_heads": max(1, sizes.width // 192)}
    large = {"intermediate_size": sizes.width * 8 // 3, "vocab_size": VOCABULARY, "max_position_embeddings": 8192}
    return made("llama", num_hidden_layers=sizes.layers, hidden_size=sizes.width, **heads, **large)


def history(sizes: Sizes) -> Measured:
    """Forward of one history."""
    language = mamba(sizes)
    text, borders = torch.randint(VOCABULARY, (sizes.tokens,)), cumulative_lengths(torch.tensor([sizes.tokens]))

    def padded() -> torch.Tensor:
        return language.model.base_model(input_ids=text[None], use_cache=False).last_hidden_state[0]

    with torch.no_grad():
        difference = padded() - language(text, borders)
    packed = torch.no_grad()(partial(language, text, borders))
    return {"transformers": torch.no_grad()(padded), "packed": packed}, float(difference.abs().max())


def training(sizes: Sizes) -> Measured:
    """Forward and backward of 16 sequences."""
    language, length = mamba(sizes), sizes.tokens
    text, borders = torch.randint(VOCABULARY, (16, length)), cumulative_lengths(torch.full((16,), length))

    def padded() -> torch.Tensor:
        hidden = language.model.base_model(input_ids=text, use_cache=False).last_hidden_state
        hidden.square().mean().backward()
        return hidden.detach().flatten(0, 1)

    def packed() -> torch.Tensor:
        hidden = language(text.flatten(), borders)
        hidden.square().mean().backward()
        return hidden.detach()

    return {"transformers": padded, "packed": packed}, float((padded() - packed()).abs().max())


@torch.no_grad()
def click(sizes: Sizes) -> Measured:
    """One title more from a kept state, beside all again."""
    language, tokens = mamba(sizes), sizes.tokens
    text, new = torch.randint(VOCABULARY, (tokens + TITLE,)), torch.tensor([0, TITLE], dtype=torch.int32)
    assert language.packed is not None
    _, state = language.packed.prefill(text[:tokens], cumulative_lengths(torch.tensor([tokens])))
    again = torch.no_grad()(partial(language, text, cumulative_lengths(torch.tensor([tokens + TITLE]))))
    kept = torch.no_grad()(partial(language.packed.extend, text[tokens:], new, state))
    return {"all again": again, "one title": kept}, float((again()[-1] - kept()[0][-1]).abs().max())


@torch.no_grad()
def prompts(sizes: Sizes) -> Measured:
    """Four prompts that begin alike."""
    language = llama(sizes)
    texts = torch.randint(language.tokenizer.size, (4, sizes.tokens))
    texts[:, :SHARED] = texts[0, :SHARED]
    borders = cumulative_lengths(torch.full((4,), sizes.tokens))

    def whole() -> torch.Tensor:
        with torch.no_grad():
            return language.logits(language(texts.flatten(), borders, last_tokens(borders)))

    shared = partial(next_logits, language, texts.tolist())
    return {"whole": whole, "begun once": shared}, float((whole() - shared()).abs().max())


def adapters(sizes: Sizes) -> Measured:
    """Forward and backward of a prompt with LoRA."""
    language = llama(sizes)
    add_adapters(language.model, Lora(8, 32.0))
    text = torch.randint(language.tokenizer.size, (sizes.tokens,))
    borders, answer = cumulative_lengths(torch.tensor([sizes.tokens])), torch.tensor([5, 6])

    def everything() -> float:
        logits = language.model(input_ids=text[None], use_cache=False).logits[0]
        loss = torch.nn.functional.cross_entropy(logits[-2:], answer)
        loss.backward()
        return loss.item()

    def two() -> float:
        loss = language.loss(language(text, borders, borders[-1] - torch.tensor([2, 1])), answer)
        loss.backward()
        return loss.item()

    return {"all logits": everything, "two tokens": two}, abs(everything() - two())


def queries(beams: int, sizes: Sizes) -> Measured:
    """Beam search; the difference is that of the best query's mean log-probability."""
    heads = max(1, sizes.width // 64)
    language = made("gpt2", n_layer=sizes.layers, n_embd=sizes.width, n_head=heads, vocab_size=VOCABULARY)
    text, borders = torch.randint(VOCABULARY, (sizes.tokens,)), cumulative_lengths(torch.tensor([sizes.tokens]))
    end = language.tokenizer.end
    search = {"num_beams": beams, "num_return_sequences": beams, "do_sample": False, "eos_token_id": end}
    told = {"return_dict_in_generate": True, "output_scores": True, "pad_token_id": end}

    def theirs() -> float:
        mask = torch.ones_like(text[None])
        found = language.model.generate(text[None], attention_mask=mask, max_new_tokens=WRITTEN, **search, **told)
        return float(found.sequences_scores[0])

    @torch.no_grad()
    def ours() -> float:
        begun = read_prompts(language, text, borders)
        found = beam_search(*begun, step_of(language), beams=beams, most=WRITTEN, end=end)
        return float(found.total[0, 0] / found.length[0, 0])

    return {"transformers": theirs, "here": ours}, abs(theirs() - ours())


CASES: dict[str, tuple[Callable[[Sizes], Measured], Sizes]] = {
    "history": (history, Sizes(24, 768, 710)),
    "training": (training, Sizes(2, 256, 128)),
    "click": (click, Sizes(24, 768, 710)),
    "prompts": (prompts, Sizes(30, 576, 615)),
    "adapters": (adapters, Sizes(30, 576, 615)),
    "queries 5": (partial(queries, 5), Sizes(12, 768, 130)),
    "queries 20": (partial(queries, 20), Sizes(12, 768, 130)),
}
"""Functions, and the sizes they get."""


def parsed(arguments: list[str] | None) -> argparse.Namespace:
    """What was given."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--repeats", type=at_least_one, default=3)
    parser.add_argument("--threads", type=at_least_one, default=1)
    for name in ("layers", "width", "tokens"):
        parser.add_argument(f"--{name}", type=at_least_one, help="in place of each case's")
    parser.add_argument("--language_model", type=Path, help="folder of a Llama; default one with random weights")
    parser.add_argument("--json", type=output_file, help="file to write")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> None:
    """Measure, print, write."""
    given = parsed(arguments)
    torch.set_num_threads(given.threads)
    torch.manual_seed(0)
    rows = []
    for name in given.cases:
        function, usual = CASES[name]
        own = {size: getattr(given, size) or getattr(usual, size) for size in ("layers", "width", "tokens")}
        variants, difference = function(Sizes(**own, folder=given.language_model))
        slow, fast = variants
        seconds = alternate(variants, given.repeats)
        medians = {each: statistics.median(times) for each, times in seconds.items()}
        times = median_ratio(seconds[slow], seconds[fast])
        rows.append({"case": name, "sizes": own, **medians, "times_faster": times, "difference": difference})
        print(
            f"{name:12}{slow} {medians[slow]:.3f} s, {fast} {medians[fast]:.3f} s: {times:.2f} times faster, outputs "
            f"differ by {difference:.1e}",
            flush=True,
        )
    if given.json:
        content = {"threads": given.threads, "rows": rows, **machine()}
        given.json.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
