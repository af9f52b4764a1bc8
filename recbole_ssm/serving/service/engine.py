"""Answers a batch of requests together: sessions are loaded, stepped, kept and ranked, all at once."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import compress, islice

import torch
from torch import Tensor

from recbole_ssm.serving.choice import Choice, best_scores
from recbole_ssm.serving.service.in_use import InUse
from recbole_ssm.serving.service.sessions import Record, Sessions

_SCORES = 2**24
"""The most scores that are computed at once, unless one request alone has more."""


@dataclass(frozen=True)
class Ask:
    """One request.

    Attributes:
        session_id: the session that it is about; None for a history without one.
        items: names: the history, or what is added to the session.
        times: of the items, in Unix seconds.
        k: how many items are wanted; 0 for none.
        exclude: names of items that may not be recommended.
        candidates: names of the items that alone may be recommended; None for all.
        categories: only items of these may be recommended; None for all.
        filter_seen: whether items of the history are left out; None for what the recommender has.
    """

    session_id: str | None = None
    items: Sequence[str] = ()
    times: Sequence[float] = ()
    k: int = 0
    exclude: Sequence[str] = ()
    candidates: Sequence[str] | None = None
    categories: Sequence[str] | None = None
    filter_seen: bool | None = None


@dataclass
class Reply:
    """What comes of it.

    Attributes:
        items: names and scores, the best first; None where none were asked for.
        source: ``model``, or ``popular`` where the model knows nothing of the history.
        unknown: items that the model does not know.
        events: items of the session so far.
        in_use: what has answered.
        seconds: of computing, for the whole batch.
    """

    items: list[tuple[str, float]] | None
    source: str
    unknown: int
    events: int
    in_use: InUse
    seconds: float = 0.0


@dataclass
class _Row:
    """A request on its way."""

    ask: Ask
    record: Record
    new: list[str]
    times: list[float]
    changed: bool = False
    numbers: list[int] = field(default_factory=list)
    found: list[tuple[str, float]] | None = None
    source: str = "model"


class Engine:
    """Computes with one model for one batch at a time.

    Args:
        in_use: the model, with all that belongs to it. Another one may be put in its place between two batches.
        sessions: where sessions are kept.
        session_items: how many of its latest items a session keeps.
    """

    def __init__(self, in_use: InUse, sessions: Sessions, session_items: int):
        self.in_use, self.sessions, self._kept = in_use, sessions, session_items

    def run(self, asks: Sequence[Ask]) -> list[Reply | None]:
        """Answer requests.

        Args:
            asks: at most one of them is about any session.

        Returns:
            The answers; None for one whose session another process has changed meanwhile. Ask again.
        """
        start, use = time.perf_counter(), self.in_use
        rows = self._rows(asks, use)
        if use.states is not None:
            self._advance(rows, use)
        changed = {row.ask.session_id: row.record for row in rows if row.changed and row.ask.session_id is not None}
        lost = self.sessions.save(changed) if changed else set()
        with use.recommender.computing():
            self._rank([row for row in rows if row.ask.k], use)
        seconds = time.perf_counter() - start
        return [
            None
            if row.ask.session_id in lost and row.new
            else Reply(row.found, row.source, len(row.ask.items) - len(row.new), row.record.events, use, seconds)
            for row in rows
        ]

    def _rows(self, asks: Sequence[Ask], use: InUse) -> list[_Row]:
        """The requests, with the records of their sessions, and without items that the model does not know."""
        ids = [ask.session_id for ask in asks if ask.session_id is not None]
        loaded = self.sessions.load(ids) if ids else []
        records: dict[str | None, Record | None] = dict(zip(ids, loaded, strict=True))
        found = []
        for ask in asks:
            known = [(item, when) for item, when in zip(ask.items, ask.times, strict=True) if item in use.recommender]
            row = _Row(
                ask, records.get(ask.session_id) or Record(), [item for item, _ in known], [at for _, at in known]
            )
            if row.new:
                row.changed, row.record = True, self._grown(row)
            found.append(row)
        return found

    def _grown(self, row: _Row) -> Record:
        """The record of a session, or of a history, with its new items; its state is still that of before."""
        before = row.record
        kept = slice(None) if row.ask.session_id is None else slice(-self._kept, None)
        return replace(
            before,
            items=(*before.items, *row.new)[kept],
            times=(*before.times, *row.times)[kept],
            events=before.events + len(row.new),
            version=before.version + 1,
            used=time.time(),
        )

    def _advance(self, rows: Sequence[_Row], use: InUse) -> None:
        """Bring the state of each row to its latest item: by steps, or from its items where there is no state."""
        assert use.states is not None
        step = [row for row in rows if row.new and self._has_state(row, use)]
        begin = [row for row in rows if row.record.items and not self._has_state(row, use)]
        if step:
            columns = self._columns([row.times for row in step], use)
            numbers = [use.numbers(row.new) for row in step]
            states = use.states.step([row.record.state for row in step], numbers, columns)
            self._put(step, states, use)
        if begin:
            self._begin(begin, use)

    def _begin(self, rows: Sequence[_Row], use: InUse) -> None:
        """Read the items of rows as whole histories. Of another model's items some may be unknown to this one."""
        assert use.states is not None
        known = []
        for row in rows:
            pairs = [
                pair for pair in zip(row.record.items, row.record.times, strict=True) if pair[0] in use.recommender
            ]
            if pairs:
                known.append((row, pairs))
        if not known:
            return
        columns = self._columns([[when for _, when in pairs] for _, pairs in known], use)
        states = use.states.begin([use.numbers([item for item, _ in pairs]) for _, pairs in known], columns)
        self._put([row for row, _ in known], states, use)

    def _put(self, rows: Sequence[_Row], states: Sequence[bytes], use: InUse) -> None:
        for row, state in zip(rows, states, strict=True):
            if not row.changed:
                row.changed, row.record = True, replace(row.record, version=row.record.version + 1)
            row.record = replace(row.record, state=state, model=use.fingerprint)

    def _has_state(self, row: _Row, use: InUse) -> bool:
        return bool(row.record.state) and row.record.model == use.fingerprint

    def _columns(self, times: list[list[float]], use: InUse) -> dict[str, list[list[float]]]:
        """The times as the columns that the model reads; there are no others than of times."""
        return dict.fromkeys(use.recommender.columns, times)

    def _rank(self, rows: Sequence[_Row], use: InUse) -> None:
        """Give each row its best items."""
        scored = []
        for row in rows:
            row.numbers = use.numbers(row.record.items)
            if row.numbers:
                scored.append(row)
            else:
                row.source, row.found = "popular", self._popular(row.ask, use)
        if use.states is None:
            self._rank_histories(scored, use)
            return
        at_once = max(1, _SCORES // len(use.recommender.items))
        for start in range(0, len(scored), at_once):
            some = scored[start : start + at_once]
            scores = use.states.scores([row.record.state for row in some], [row.numbers for row in some])
            best = best_scores(scores, self._choice(some, use), max(row.ask.k for row in some))
            for row, found in zip(some, best, strict=True):
                row.found = use.recommender._named(*found)[: row.ask.k]

    def _rank_histories(self, rows: Sequence[_Row], use: InUse) -> None:
        """As :meth:`_rank`, for a model without states, which reads whole histories."""
        if not rows:
            return
        known = [[item in use.recommender for item in row.record.items] for row in rows]
        times = [list(compress(row.record.times, each)) for row, each in zip(rows, known, strict=True)]
        best = use.recommender._best(
            [row.numbers for row in rows],
            self._columns(times, use),
            self._choice(rows, use),
            max(row.ask.k for row in rows),
        )
        for row, found in zip(rows, best, strict=True):
            row.found = found[: row.ask.k]

    def _choice(self, rows: Sequence[_Row], use: InUse) -> Choice:
        """What may be recommended to each row."""
        left_out: list[Tensor | None] = []
        for row in rows:
            seen = use.recommender.filters_seen(row.ask.filter_seen)
            numbers = use.numbers(row.ask.exclude) + (row.numbers if seen else [])
            left_out.append(torch.tensor(numbers) if numbers else None)
        return Choice([use.allowed(row.ask.candidates, row.ask.categories) for row in rows], left_out)

    def _popular(self, ask: Ask, use: InUse) -> list[tuple[str, float]]:
        """The most popular of the items that may be recommended."""
        allowed = use.allowed(ask.candidates, ask.categories)
        within = None if allowed is None else {use.recommender.items[number] for number in allowed.tolist()}
        left_out = set(ask.exclude)
        fits = (each for each in use.popular if each[0] not in left_out and (within is None or each[0] in within))
        return list(islice(fits, ask.k))
