"""How well and how fast indices of items find the best 10: kinds of ``recbole_ssm.serving.nearest`` on made vectors.

    python benchmarks/nearest_items.py --items=1000000 --kinds exact pq ivf ivf_pq --json=nearest.json

The vectors have width 64. ``clusters``: 2,000 centres and their neighbours, with directions that matter less and less,
and lengths that differ. ``even``: normally distributed, as no trained model's are, which is the hardest. Prints for
each kind seconds to build, size, recall at 10 after the candidates were scored exactly, and the median time of one
search.
"""

from __future__ import annotations

import argparse
import json
import time

import numpy as np
from arguments import at_least_one, output_file
from measuring import machine

from recbole_ssm.serving.nearest import KINDS, exact_best, faiss, make_index, measure

WIDTH, CENTRES, QUERIES = 64, 2000, 200


def made(items: int, how: str) -> tuple[np.ndarray, np.ndarray]:
    """Vectors of items and of histories."""
    draw = np.random.default_rng(0)

    def normal(rows: int) -> np.ndarray:
        return draw.standard_normal((rows, WIDTH), dtype=np.float32)

    if how == "even":
        return normal(items), normal(QUERIES)
    spectrum = np.arange(1, WIDTH + 1, dtype=np.float32) ** -0.5
    centres = normal(CENTRES)

    def near(rows: int, distance: float) -> np.ndarray:
        return (centres[draw.integers(0, CENTRES, rows)] + distance * normal(rows)) * spectrum

    lengths = np.exp(0.2 * draw.standard_normal((items, 1), dtype=np.float32))
    return near(items, 0.7) * lengths, near(QUERIES, 0.5)


def main(arguments: list[str] | None = None) -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--items", type=at_least_one, default=1_000_000)
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=["exact", "pq", "ivf", "ivf_pq"])
    parser.add_argument("--vectors", nargs="+", choices=("clusters", "even"), default=["clusters"])
    parser.add_argument("--json", type=output_file, help="file to write")
    given = parser.parse_args(arguments)
    rows = []
    for how in given.vectors:
        vectors, queries = made(given.items, how)
        best = exact_best(vectors, queries)
        for kind in given.kinds:
            start = time.perf_counter()
            index = make_index(kind, vectors)
            seconds = time.perf_counter() - start
            found = measure(index, kind, vectors, queries, best, target=0.95)
            size = len(faiss().serialize_index(index)) / 2**20
            rows.append({"vectors": how, "kind": kind, "build_seconds": seconds, "mebibytes": size, **found._asdict()})
            print(
                f"{how:10}{kind:8}{seconds:8.1f} s to build{size:8.0f} MiB  recall {found.recall_at_10:.3f}  "
                f"{found.milliseconds:8.2f} ms a search (effort {found.effort}, {found.fetch} candidates)",
                flush=True,
            )
    if given.json:
        content = {"items": given.items, "rows": rows, **machine()}
        given.json.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
