"""The only place where this package changes other packages: names that RecBole 1.2.1 looks up in numpy and scipy.

RecBole writes names such as ``np.float`` and ``np.bool``, and fills sparse matrices by ``dok_matrix._update``
(LightGCN and others). Newer versions of numpy and scipy lack these names. RecBole's own ``Config`` restores some of
them, too, but its ``compatibility_settings`` fails on numpy 2. The only other way would be to change RecBole's files.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from scipy.sparse import dok_matrix

_TYPES = {
    "bool": np.bool_,
    "int": np.int_,
    "float": np.float64,
    "complex": np.complex128,
    "object": np.object_,
    "str": np.str_,
    "long": np.int_,
    "unicode": np.str_,
}


def _update(matrix: dok_matrix, entries: Mapping[tuple[int, int], Any]) -> None:
    matrix._dict.update(entries)


def restore() -> None:
    """Give numpy and scipy the names that RecBole looks up."""
    for name, kind in _TYPES.items():
        setattr(np, name, kind)
    if not hasattr(dok_matrix, "_update"):
        dok_matrix._update = _update
