"""An index of item vectors: the best items without a look at each of them, by faiss.

The index names candidates, and the model then scores these exactly, with everything that it adds to scores. So each
score is exact; that no better item was missed is exact in an index of kind ``exact``, and otherwise has been measured.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from recbole_ssm.errors import InputError
from recbole_ssm.ops.added import Added, AddedWhere
from recbole_ssm.serving.nearest import KINDS, exact_best, faiss, make_index, measure
from recbole_ssm.serving.recommender import Recommender
from recbole_ssm.serving.session import Session, read_count
from recbole_ssm.serving.vectors import fingerprint, item_vectors, query_vectors
from recbole_ssm.system.atomic_write import atomic_write
from recbole_ssm.system.extras import package

_FORMAT = "recbole-ssm item index 1"
_TARGET = 0.95
AUTO = "auto"
"""The kind that follows from the number of items."""

_FEW_ITEMS = 50_000
"""Up to so many items ``auto`` is ``exact``."""


@dataclass(frozen=True)
class About:
    """What an index is, and how good it was when it was made."""

    kind: str
    """A name in :data:`recbole_ssm.serving.nearest.KINDS`."""
    items: int
    """Items in it."""
    width: int
    """Numbers of each vector."""
    effort: int
    """How much of the index a search reads: lists of an inverted file, or ``efSearch`` of a graph; 0 for all."""
    fetch: int
    """How many candidates a search takes out for the model to score, at least."""
    recall_at_10: float
    """Share of the exact best 10 items that it found, before anything was added to scores."""
    milliseconds: float
    """Median time of one search, alone, on the machine that built it."""
    queries: int
    """Histories by which the two were measured."""
    measured_on: str
    """What these histories were."""
    fingerprint: str
    """Of the vectors."""


class ItemIndex:
    """An index of the items of one model.

    Args:
        found: the index of faiss.
        about: what it is.
        recommender: the model whose items they are.

    Attributes:
        about: what it is, and its measured recall.

    Raises:
        InputError: it is the index of other vectors.
    """

    def __init__(self, found: Any, about: About, recommender: Recommender):
        if about.fingerprint != fingerprint(recommender.model):
            raise InputError("the index holds vectors of another model; build one of this checkpoint")
        self.about = about
        self._found, self._recommender, self._model = found, recommender, recommender.model

    @classmethod
    def build(
        cls,
        recommender: Recommender,
        kind: str = "auto",
        *,
        histories: Iterable[Sequence[str]] | None = None,
        target: float = _TARGET,
    ) -> ItemIndex:
        """Make an index, and measure its recall.

        The least effort is taken with which the index finds a share ``target`` of the exact best 10 items.

        Args:
            recommender: the model.
            kind: ``exact``, ``pq``, ``ivf``, ``ivf_pq``, ``hnsw``, or ``auto``: exact for up to 50,000 items, and else
                ``pq`` or ``ivf``: the one that takes less time for the recall, which is measured.
            histories: names of items of some users, for the measurement; unknown items are passed over. None: made
                ones.
            target: the recall at 10 that is wanted.

        Returns:
            The index. Its recall is below ``target`` where the greatest effort does not reach it.

        Raises:
            InputError: faiss is missing, there is no such kind, or the model has no vectors of items.
        """
        faiss()
        if kind not in (AUTO, *KINDS):
            raise InputError(f"the kind of an index is one of {AUTO}, {', '.join(KINDS)}, and not {kind!r}")
        vectors = item_vectors(recommender.model)
        kinds = [kind] if kind != AUTO else ["exact"] if len(vectors) <= _FEW_ITEMS else ["pq", "ivf"]
        queries, told = query_vectors(recommender, histories)
        best, tried = exact_best(vectors, queries), []
        for each in kinds:
            index = make_index(each, vectors)
            tried.append((measure(index, each, vectors, queries, best, target), each, index))
        measured, kind, found = max(tried, key=lambda one: (one[0].recall_at_10 >= target, -one[0].milliseconds))
        about = About(
            kind=kind,
            items=vectors.shape[0],
            width=vectors.shape[1],
            **measured._asdict(),
            queries=len(queries),
            measured_on=told,
            fingerprint=fingerprint(recommender.model),
        )
        return cls(found, about, recommender)

    @property
    def exact(self) -> bool:
        """Whether it finds the best items always."""
        return self.about.kind == "exact"

    def __repr__(self) -> str:
        about = self.about
        how = "exact" if self.exact else f"approximate, recall@10 {about.recall_at_10:.3f} on {about.measured_on}"
        return f"ItemIndex({about.kind}, {about.items} items, {how}, {about.milliseconds:.2f} ms a search)"

    def search(
        self,
        hidden: Tensor,
        k: int,
        *,
        exclude: Sequence[Sequence[int]] | None = None,
        added: Sequence[Added | AddedWhere] = (),
    ) -> tuple[Tensor, Tensor]:
        """The best items for representations of histories.

        Args:
            hidden: (R, hidden_size), by the model's ``forward`` or ``step``.
            k: how many items.
            exclude: for each of the R histories numbers of items that are left out; so many more are fetched.
            added: what the model adds after these histories, see ``added_after`` of the model. The items that it adds
                to are candidates, too.

        Returns:
            Scores (R, k) and numbers of items (R, k), the best first; -inf and 0 where there are fewer.
        """
        exclude = [()] * len(hidden) if exclude is None else exclude
        more = max((len(each) for each in exclude), default=0)
        fetch = min(self.about.items, max(self.about.fetch, k) + more)
        candidates = self._candidates(hidden, fetch)
        rows = torch.arange(len(hidden), device=hidden.device)
        for each in added:
            candidates = _with_others(candidates, *each.named())
        scores = self._model.score_items(hidden, candidates.T.contiguous(), added, rows).T
        scores = scores.masked_fill(_left_out(candidates, exclude), -torch.inf)
        best, place = scores.topk(min(k, scores.shape[1]), dim=1)
        return best, candidates.gather(1, place).where(best > -torch.inf, 0)

    def recommend(
        self, histories: Sequence[Sequence[str]], k: int = 10, *, skip_unknown: bool = False
    ) -> list[list[tuple[str, float]]]:
        """As :meth:`Recommender.recommend`, for a model that reads no columns, and from the index.

        Args:
            histories: the item names of each history, the latest last.
            k: how many items are wanted.
            skip_unknown: pass over items that the model does not know.

        Returns:
            For each history the names and scores of the best ``k`` items.

        Raises:
            InputError: as there.
        """
        k, recommender = read_count(k), self._recommender
        if recommender.columns:
            raise InputError(f"the model reads {', '.join(recommender.columns)} too; use a session, or search")
        sessions = [
            recommender.session([item for item in each if item in recommender] if skip_unknown else each)
            for each in histories
        ]
        return [
            [] if skip_unknown and not session.history else self.recommend_after(session, k) for session in sessions
        ]

    def recommend_after(self, session: Session, k: int = 10) -> list[tuple[str, float]]:
        """As :meth:`Session.recommend`, from the index."""
        recommender = self._recommender
        with recommender.computing():
            hidden, numbers, added = session.representation()
            exclude = [sorted(set(numbers))] if recommender.filter_seen else None
            scores, items = self.search(hidden, read_count(k), exclude=exclude, added=added)
        return [
            (recommender.items[item], score)
            for item, score in zip(items[0].tolist(), scores[0].tolist(), strict=True)
            if item
        ]

    def save(self, file: str | Path) -> None:
        """Write it to one file, in the format of safetensors."""
        safetensors = package("safetensors.numpy", "ann", "a file of an index")
        parts = {"faiss": faiss().serialize_index(self._found)}
        with atomic_write(Path(file)) as out:
            out.write(safetensors.save(parts, metadata={"format": _FORMAT, "about": json.dumps(asdict(self.about))}))

    @classmethod
    def load(cls, file: str | Path, recommender: Recommender) -> ItemIndex:
        """Read an index that :meth:`save` has written.

        faiss reads a part of the file in C++: read only files that you trust.

        Args:
            file: the file.
            recommender: the model of which it was built.

        Returns:
            The index.

        Raises:
            InputError: the file is missing, something else, or the index of another model.
        """
        safetensors, found = package("safetensors", "ann", "a file of an index"), None
        read = faiss().deserialize_index
        try:
            with safetensors.safe_open(str(file), "numpy") as parts:
                about = About(**json.loads(parts.metadata()["about"]))
                if about.fingerprint == fingerprint(recommender.model):  # else the constructor refuses it, unread
                    found = read(parts.get_tensor("faiss"))
        except Exception as error:  # safetensors' own kinds, which are no OSError
            raise InputError(f"{file} cannot be read as an index of items: {error}") from error
        return cls(found, about, recommender)

    def _candidates(self, hidden: Tensor, fetch: int) -> Tensor:
        """Numbers of items (R, fetch) that the index names; 0 where it names fewer."""
        query = np.zeros((len(hidden), self.about.width), np.float32)
        found = hidden.detach().float().cpu().numpy()
        query[:, : found.shape[1]] = found
        query[:, found.shape[1] :][:, :1] = 1.0  # meets the bias of each item, where the model has one
        places = self._found.search(query, fetch, params=KINDS[self.about.kind].parameters(self.about.effort, fetch))[1]
        return torch.from_numpy(places + 1).to(hidden.device)


def _with_others(candidates: Tensor, row: Tensor, item: Tensor) -> Tensor:
    """The candidates (R, F) and others (m,) of rows (m,), each once in a row and then as 0."""
    others = torch.bincount(row, minlength=len(candidates))
    start = others.cumsum(0) - others
    wide = candidates.new_zeros(len(candidates), int(others.max()))
    order = row.argsort(stable=True)
    wide[row[order], torch.arange(len(row), device=row.device) - start[row[order]]] = item[order].to(wide.dtype)
    together = torch.cat([candidates, wide], 1).sort(1).values
    again = torch.nn.functional.pad(together[:, 1:] == together[:, :-1], (1, 0))
    return together.masked_fill(again, 0)


def _left_out(candidates: Tensor, exclude: Sequence[Sequence[int]]) -> Tensor:
    """Where a candidate (R, F) is 0 or among the items of its row that are left out."""
    out = candidates == 0
    for row, items in enumerate(exclude):
        if len(items):
            out[row] |= torch.isin(candidates[row], torch.as_tensor(items, device=candidates.device))
    return out
