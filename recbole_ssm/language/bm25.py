"""BM25 over short texts, for many queries at once."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse
from torch import Tensor

_WORD = re.compile(r"\w+")


def words_of(text: str) -> list[str]:
    """The words of a text: letters, digits and underscores that stand together, in lower case."""
    return _WORD.findall(text.lower())


class BM25:
    """An index of texts (Robertson and Zaragoza, "The Probabilistic Relevance Framework", 2009).

    A word that stands f times in a text of n words adds ``idf * f / (f + k1 (1 - b + b n / mean n))`` for each time
    that the query has it. As in Lucene, idf is ``log(1 + (N - df + .5) / (df + .5))`` for a word in df of N texts, and
    there is no factor k1 + 1, which is the same for all texts.

    Args:
        texts: are found by their numbers. A text may be empty.
        k1: how much a word counts that stands in a text again: 0 for not at all.
        b: how much less the words of a long text count, from 0 to 1.
    """

    def __init__(self, texts: Sequence[str], k1: float = 1.2, b: float = 0.75) -> None:
        words = [words_of(text) for text in texts]
        self._number = {word: number for number, word in enumerate(dict.fromkeys(w for each in words for w in each))}
        counts = self._counts(words)
        length = np.asarray(counts.sum(1)).ravel()
        holders = np.bincount(counts.indices, minlength=counts.shape[1])
        idf = np.log1p((len(texts) - holders + 0.5) / (holders + 0.5))
        text = np.repeat(np.arange(len(texts)), np.diff(counts.indptr))
        longer = length[text] / (length.mean() if len(text) else 1.0)
        weight = idf[counts.indices] * counts.data / (counts.data + k1 * (1 - b + b * longer))
        matrix = sparse.csr_matrix((weight, counts.indices, counts.indptr), counts.shape)
        self._weights = matrix.T.tocsr().astype(np.float32)

    def scores(self, queries: Sequence[str]) -> Tensor:
        """How well each text fits each query.

        Args:
            queries: texts. Words that no text has count for nothing.

        Returns:
            (queries, texts) float32; 0 where they have no word in common.
        """
        found: NDArray[np.float32] = (self._counts([words_of(query) for query in queries]) @ self._weights).toarray()
        return torch.from_numpy(found)

    def _counts(self, words: Sequence[Sequence[str]]) -> sparse.csr_matrix:
        """How often each known word is in each text, (texts, words) float32."""
        number = self._number
        known = [[number[word] for word in each if word in number] for each in words]
        borders = np.cumsum([0, *map(len, known)])
        columns = np.fromiter((word for each in known for word in each), np.int64, int(borders[-1]))
        shape = len(words), len(number)
        found = sparse.csr_matrix((np.ones(len(columns), np.float32), columns, borders), shape)
        found.sum_duplicates()
        return found
