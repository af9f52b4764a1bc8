"""Answers a batch of requests together: sessions are loaded, stepped, kept and ranked, all at once."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import compress, islice

import numpy as np
import torch
from torch import Tensor

from recbole_ssm.serving.choice import Choice, best_scores
from recbole_ssm.serving.service.errors import Refused
from recbole_ssm.serving.service.in_use import InUse
from recbole_ssm.serving.service.sessions import Record, Sessions
from recbole_ssm.serving.service.settings import Settings

_NONE = np.zeros(0, np.int64)

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
        event_id: of this addition to the session. Where the session has had it, nothing is added. None for no id.
    """

    session_id: str | None = None
    items: Sequence[str] = ()
    times: Sequence[float] = ()
    k: int = 0
    exclude: Sequence[str] = ()
    candidates: Sequence[str] | None = None
    categories: Sequence[str] | None = None
    filter_seen: bool | None = None
    event_id: str | None = None


@dataclass
class Reply:
    """What comes of it.

    Attributes:
        items: names and scores, the best first; None where none were asked for.
        source: ``model``, or ``popular`` where the model knows nothing of the history.
        unknown: items that the model does not know.
        events: items of the session so far.
        in_use: what has answered.
        repeated: whether the session had the event already.
        seconds: of computing, for the whole batch.
    """

    items: list[tuple[str, float]] | None
    source: str
    unknown: int
    events: int
    in_use: InUse
    repeated: bool = False
    seconds: float = 0.0


@dataclass
class _Row:
    """A request on its way."""

    ask: Ask
    record: Record
    new: list[int]
    """Numbers of the items of the request that the model knows, and that the session has not had by this event."""
    times: list[float]
    """Of these."""
    unknown: int
    """Items of the request that the model does not know."""
    repeated: bool
    """Whether the session has had this event."""
    changed: bool = False
    found: list[tuple[str, float]] | None = None
    source: str = "model"


class Engine:
    """Computes with one model for one batch at a time.

    Args:
        in_use: the model, with all that belongs to it. Another one may be put in its place between two batches.
        sessions: where sessions are kept.
        settings: how many of its latest items and ids of events a session keeps.
    """

    def __init__(self, in_use: InUse, sessions: Sessions, settings: Settings):
        self.in_use, self.sessions, self._settings = in_use, sessions, settings

    def run(self, asks: Sequence[Ask]) -> list[Reply | Refused | None]:
        """Answer requests.

        Args:
            asks: at most one of them is about any session.

        Returns:
            The answers; None for one whose session another process has changed meanwhile, which is to ask again;
            errors for all with sessions if these cannot be reached.
        """
        try:
            return self._run(asks)
        except Refused as error:
            others = iter(self._run([ask for ask in asks if ask.session_id is None]))
            return [error if ask.session_id is not None else next(others) for ask in asks]

    def _run(self, asks: Sequence[Ask]) -> list[Reply | Refused | None]:
        start, use = time.perf_counter(), self.in_use
        with use.recommender.computing():
            rows = self._rows(asks, use)
            if use.states is not None:
                self._advance(rows, use)
            changed = {row.ask.session_id: row.record for row in rows if row.changed and row.ask.session_id is not None}
            lost = self.sessions.save(changed) if changed else set()
            self._rank([row for row in rows if row.ask.k], use)
        seconds = time.perf_counter() - start
        return [
            None
            if row.ask.session_id in lost and row.new
            else Reply(row.found, row.source, row.unknown, row.record.events, use, row.repeated, seconds)
            for row in rows
        ]

    def _rows(self, asks: Sequence[Ask], use: InUse) -> list[_Row]:
        """The requests, with the records of their sessions, and without items that the model does not know."""
        ids = [ask.session_id for ask in asks if ask.session_id is not None]
        loaded = self.sessions.load(ids) if ids else []
        records: dict[str | None, Record | None] = dict(zip(ids, loaded, strict=True))
        return [self._row(ask, records.get(ask.session_id) or Record(), use) for ask in asks]

    def _row(self, ask: Ask, record: Record, use: InUse) -> _Row:
        """A request with the record of its session, or with an empty one, and its new items in it."""
        sizes = (0, 0 if use.states is None else use.states.size)  # another version may have kept it otherwise
        if record.model != use.fingerprint or len(record.state) not in sizes:
            record = record._replace(state=b"", model=use.fingerprint, numbers=_NONE)
        if record.items and not len(record.numbers):
            record = record._replace(numbers=np.asarray(use.numbers(record.items), np.int64))
        numbers = [use.number(item) for item in ask.items]
        known = [number is not None for number in numbers]
        repeated = ask.event_id is not None and ask.event_id in record.event_ids
        new = [] if repeated else [number for number in numbers if number is not None]
        row = _Row(ask, record, new, [*compress(ask.times, known)], known.count(False), repeated)
        if row.new:
            row.changed, row.record = True, self._grown(row, use)
        return row

    def _grown(self, row: _Row, use: InUse) -> Record:
        """The record of a session, or of a history, with its new items; its state is still that of before."""
        before = row.record
        kept = slice(None) if row.ask.session_id is None else slice(-self._settings.session_items, None)
        items = (*before.items, *(use.recommender.items[number] for number in row.new))[kept]
        numbers = np.concatenate((before.numbers, np.asarray(row.new, np.int64)))[kept]
        if len(before.numbers) < len(before.items):  # some are of another model, and now one of them may be left out
            numbers = np.asarray(use.numbers(items), np.int64)
        return before._replace(
            items=items,
            times=(*before.times, *row.times)[kept],
            events=before.events + len(row.new),
            numbers=numbers,
            version=before.version + 1,
            used=time.time(),
            event_ids=self._with_event(before, row.ask.event_id),
        )

    def _with_event(self, record: Record, event_id: str | None) -> tuple[str, ...]:
        """The ids of a session's latest events, with a new one."""
        if event_id is None:
            return record.event_ids
        return (*record.event_ids, event_id)[-self._settings.event_ids :]

    def _advance(self, rows: Sequence[_Row], use: InUse) -> None:
        """Bring the state of each row to its latest item: by steps, or from its items where there is no state."""
        assert use.states is not None
        step = [row for row in rows if row.new and row.record.state]
        begin = [row for row in rows if len(row.record.numbers) and not row.record.state]
        if step:
            columns = self._columns([row.times for row in step], use)
            states = use.states.step([row.record.state for row in step], [row.new for row in step], columns)
            self._put(step, states)
        if begin:
            columns = self._columns([self._known_times(row, use) for row in begin], use)
            self._put(begin, use.states.begin([row.record.numbers for row in begin], columns))

    def _known_times(self, row: _Row, use: InUse) -> list[float]:
        """The times of the record's items that the model knows. Another model may have known others."""
        record = row.record
        if len(record.numbers) == len(record.items) or not use.recommender.columns:
            return list(record.times)
        return [when for item, when in zip(record.items, record.times, strict=True) if use.number(item) is not None]

    def _put(self, rows: Sequence[_Row], states: Sequence[bytes]) -> None:
        for row, state in zip(rows, states, strict=True):
            if not row.changed:
                row.changed, row.record = True, row.record._replace(version=row.record.version + 1)
            row.record = row.record._replace(state=state)

    def _columns(self, times: list[list[float]], use: InUse) -> dict[str, list[list[float]]]:
        """The times as the columns that the model reads; there are no others than of times."""
        return dict.fromkeys(use.recommender.columns, times)

    def _rank(self, rows: Sequence[_Row], use: InUse) -> None:
        """Give each row its best items."""
        scored = [row for row in rows if len(row.record.numbers)]
        for row in rows:
            if not len(row.record.numbers):
                row.source, row.found = "popular", self._popular(row.ask, use)
        if use.states is None:
            self._rank_histories(scored, use)
            return
        if use.index is not None:
            free = [row for row in scored if row.ask.candidates is None and row.ask.categories is None]
            self._rank_by_index(free, use)
            scored = [row for row in scored if row.found is None]
        at_once = max(1, _SCORES // len(use.recommender.items))
        for start in range(0, len(scored), at_once):
            some = scored[start : start + at_once]
            choice, k = self._choice(some, use), max(row.ask.k for row in some)
            left_out = partial(choice.left_out_on, use.recommender.device, len(use.recommender.items))
            states = [row.record.state for row in some]
            scores = use.states.scores(states, [row.record.numbers for row in some], k, left_out)
            best = best_scores(scores, choice, k)
            for row, found in zip(some, best, strict=True):
                row.found = use.recommender._named(*found)[: row.ask.k]

    def _rank_by_index(self, rows: Sequence[_Row], use: InUse) -> None:
        """As :meth:`_rank`, with candidates from the index, for rows that may have any item."""
        if not rows:
            return
        assert use.states is not None and use.index is not None
        hidden, added = use.states.read([row.record.state for row in rows], [row.record.numbers for row in rows])
        left_out = [[] if each is None else each.tolist() for each in self._choice(rows, use).exclude]
        scores, items = use.index.search(hidden, max(row.ask.k for row in rows), exclude=left_out, added=added)
        for row, values, numbers in zip(rows, scores.tolist(), items.tolist(), strict=True):
            row.found = use.recommender._named(values, numbers)[: row.ask.k]

    def _rank_histories(self, rows: Sequence[_Row], use: InUse) -> None:
        """As :meth:`_rank`, for a model without states, which reads whole histories."""
        if not rows:
            return
        best = use.recommender._best(
            [row.record.numbers.tolist() for row in rows],
            self._columns([self._known_times(row, use) for row in rows], use),
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
            numbers = use.numbers(row.ask.exclude) + (row.record.numbers.tolist() if seen else [])
            left_out.append(torch.tensor(numbers) if numbers else None)
        return Choice([use.allowed(row.ask.candidates, row.ask.categories) for row in rows], left_out)

    def _popular(self, ask: Ask, use: InUse) -> list[tuple[str, float]]:
        """The most popular of the items that may be recommended."""
        allowed = use.allowed(ask.candidates, ask.categories)
        within = None if allowed is None else set(allowed.tolist())
        left_out = set(use.numbers(ask.exclude))
        fits = (
            (use.recommender.items[number], count)
            for number, count in use.popular()
            if number not in left_out and (within is None or number in within)
        )
        return list(islice(fits, ask.k))
