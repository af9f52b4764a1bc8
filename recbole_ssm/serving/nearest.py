"""Kinds of indices of faiss for the largest inner products, and how much each must read for a wanted recall."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from recbole_ssm.system.extras import package

AT = 10
"""Recall is measured for so many best items."""

_LEAST = 39
"""faiss wants so many vectors for each centre."""

_SAMPLE = 1 << 16
"""Vectors by which codes are made."""


class Effort(NamedTuple):
    """How much a search reads, and what was measured with that; see :class:`recbole_ssm.serving.index.About`."""

    effort: int
    fetch: int
    recall_at_10: float
    milliseconds: float


class Kind(NamedTuple):
    """A kind of index."""

    make: Callable[[np.ndarray], Any]
    """Makes it of vectors (n, width)."""
    parameters: Callable[[int, int], Any]
    """Parameters of faiss for an effort, and for how many candidates are fetched."""
    efforts: Callable[[int], Iterator[tuple[int, int]]]
    """Efforts and candidates to try for n vectors, the least first."""


def faiss() -> Any:
    """The module, which has no types; InputError where it is not installed."""
    return package("faiss", "ann", "an index of items")


def _exact(vectors: np.ndarray) -> Any:
    found = faiss().IndexFlatIP(vectors.shape[1])
    found.add(vectors)
    return found


def _pq(vectors: np.ndarray) -> Any:
    """Four bits for each number of a vector; all are read, 32 vectors at a time (André et al., VLDB 2015).

    A random rotation makes all numbers matter alike.
    """
    width = vectors.shape[1]
    found = faiss().index_factory(width, f"RR{width},PQ{width}x4fs", faiss().METRIC_INNER_PRODUCT)
    found.train(vectors[np.sort(np.random.default_rng(0).permutation(len(vectors))[:_SAMPLE])])
    found.add(vectors)
    return found


def _ivf(vectors: np.ndarray) -> Any:
    """An inverted file (Sivic and Zisserman, ICCV 2003) in which each number of a vector is a byte."""
    coarse, n_lists = _coarse(vectors)
    kinds = faiss().ScalarQuantizer.QT_8bit, faiss().METRIC_INNER_PRODUCT
    return _filled(faiss().IndexIVFScalarQuantizer(coarse, vectors.shape[1], n_lists, *kinds), vectors)


def _ivf_pq(vectors: np.ndarray) -> Any:
    """An inverted file of product codes: two numbers of a vector become one byte (Jégou et al., TPAMI 2011)."""
    n, width = vectors.shape
    coarse, n_lists = _coarse(vectors)
    bits = 8 if n >= 256 * _LEAST else 4
    pieces = width // 2 if width % 2 == 0 else width
    return _filled(faiss().IndexIVFPQ(coarse, width, n_lists, pieces, bits, faiss().METRIC_INNER_PRODUCT), vectors)


def _coarse(vectors: np.ndarray) -> tuple[Any, int]:
    """What finds the lists of an inverted file, and how many lists there are."""
    return faiss().IndexFlatIP(vectors.shape[1]), max(1, min(round(len(vectors) ** 0.5), len(vectors) // _LEAST))


def _filled(found: Any, vectors: np.ndarray) -> Any:
    """An inverted file, trained on some of the vectors, with all of them."""
    found.cp.niter, found.cp.max_points_per_centroid = 5, 64
    sample = np.random.default_rng(0).permutation(len(vectors))[: max(64 * found.nlist, _SAMPLE)]
    found.train(vectors[np.sort(sample)])
    found.add(vectors)
    return found


def _hnsw(vectors: np.ndarray) -> Any:
    """A graph of near vectors (Malkov and Yashunin, TPAMI 2020)."""
    found = faiss().IndexHNSWFlat(vectors.shape[1], 32, faiss().METRIC_INNER_PRODUCT)
    found.hnsw.efConstruction = 80
    found.add(vectors)
    return found


def _all(effort: int, fetch: int) -> None:
    """Nothing can be chosen."""


def _lists(effort: int, fetch: int) -> Any:
    return faiss().SearchParametersIVF(nprobe=effort)


def _width_of_search(effort: int, fetch: int) -> Any:
    return faiss().SearchParametersHNSW(efSearch=max(effort, fetch))


def _doubling(n: int, *fetches: int) -> Iterator[tuple[int, int]]:
    effort = 8
    while effort <= min(n, 1024):
        yield from ((effort, min(fetch, n)) for fetch in fetches)
        effort *= 2


KINDS = {
    "exact": Kind(_exact, _all, lambda n: iter([(0, AT)])),
    "pq": Kind(_pq, _all, lambda n: ((0, min(fetch, n)) for fetch in (100, 150, 200, 300, 400, 800, 1600, 3200))),
    "ivf": Kind(_ivf, _lists, lambda n: _doubling(n, 100)),
    "ivf_pq": Kind(_ivf_pq, _lists, lambda n: _doubling(n, 200, 1000)),
    "hnsw": Kind(_hnsw, _width_of_search, lambda n: _doubling(n, AT)),
}


def make_index(kind: str, vectors: np.ndarray) -> Any:
    """An index of faiss of a kind, with vectors (n, width) float32."""
    return KINDS[kind].make(np.ascontiguousarray(vectors))


def exact_best(vectors: np.ndarray, queries: np.ndarray) -> list[np.ndarray]:
    """The places of the exact best 10 among vectors (n, width) for each query (R, width)."""
    return [_best(vectors @ query, AT) for query in queries]


def measure(
    found: Any, kind: str, vectors: np.ndarray, queries: np.ndarray, best: list[np.ndarray], target: float
) -> Effort:
    """The least effort that reaches a recall, or the greatest.

    Args:
        found: the index.
        kind: its kind.
        vectors: (n, width), what is in it.
        queries: (R, width).
        best: of :func:`exact_best`.
        target: the recall at 10 that is wanted.

    Returns:
        The effort, its recall after the candidates have been scored exactly, and the median time of one search.
    """
    tried = Effort(0, AT, 0.0, 0.0)
    for effort, fetch in KINDS[kind].efforts(len(vectors)):
        parameters = KINDS[kind].parameters(effort, fetch)
        places = found.search(queries, fetch, params=parameters)[1]
        hits = 0
        for query, wanted, place in zip(queries, best, places, strict=True):
            place = place[place >= 0]
            hits += len(np.intersect1d(wanted, place[_best(vectors[place] @ query, AT)]))
        tried = Effort(effort, fetch, hits / sum(map(len, best)), 0.0)
        if tried.recall_at_10 >= target:
            break
    parameters = KINDS[kind].parameters(tried.effort, tried.fetch)
    return tried._replace(
        milliseconds=_median_time(lambda query: found.search(query, tried.fetch, params=parameters), queries)
    )


def _best(scores: np.ndarray, k: int) -> np.ndarray:
    """The places of the ``k`` largest."""
    k = min(k, len(scores))
    return np.argpartition(-scores, k - 1)[:k] if k else np.zeros(0, np.int64)


def _median_time(search: Callable[[np.ndarray], Any], queries: np.ndarray) -> float:
    """Of one search in milliseconds."""
    times = []
    for row in range(min(len(queries), 50)):
        begun = time.perf_counter()
        search(queries[row : row + 1])
        times.append(1000 * (time.perf_counter() - begun))
    return float(np.median(times))
