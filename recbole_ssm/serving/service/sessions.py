"""Sessions of the service: what is kept of each, and where."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from threading import Lock
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

_NONE = np.zeros(0, np.int64)


class Record(NamedTuple):
    """What is kept of a session. It is replaced as a whole, never changed.

    Under another checkpoint its numbers and its state say nothing.

    Attributes:
        items: names of its latest items, the latest last.
        times: when each was had, in Unix seconds.
        events: how many items it has had.
        numbers: of these items in the model, without those that it does not know.
        model: fingerprint of the checkpoint whose numbers and state these are.
        state: of the model after all items; empty for none.
        version: how often it was replaced.
        used: when it was last replaced, in Unix seconds.
        event_ids: those of the latest requests that added items, the latest last.
    """

    items: tuple[str, ...] = ()
    times: tuple[float, ...] = ()
    events: int = 0
    numbers: NDArray[np.int64] = _NONE
    model: str = ""
    state: bytes = b""
    version: int = 0
    used: float = 0.0
    event_ids: tuple[str, ...] = ()


class Sessions(Protocol):
    """Where sessions are kept. It is used by one thread at a time."""

    def load(self, ids: Sequence[str]) -> list[Record | None]:
        """The record of each session; None where there is no such session."""

    def save(self, records: Mapping[str, Record]) -> set[str]:
        """Keep new records, by the ids of sessions.

        Args:
            records: each with the version of the one that it replaces, plus 1.

        Returns:
            The ids of sessions that somebody else has replaced meanwhile; their records are not kept.
        """

    def delete(self, id: str) -> bool:
        """Forget a session; False if there was no such session."""

    def count(self) -> int:
        """How many there are."""

    def check(self) -> None:
        """Raise Refused if they cannot be reached."""

    def close(self) -> None:
        """Let go of connections."""


class InMemory:
    """Sessions in the memory of this process.

    Args:
        most: how many are kept. The one that was not used for the longest time goes first.
        seconds: one without new items for so long is forgotten.
    """

    def __init__(self, most: int, seconds: float):
        self._most, self._seconds, self._lock = most, seconds, Lock()
        self._records: OrderedDict[str, Record] = OrderedDict()

    def load(self, ids: Sequence[str]) -> list[Record | None]:
        """See :meth:`Sessions.load`."""
        with self._lock:
            self._forget_old()
            for id in ids:
                if id in self._records:
                    self._records.move_to_end(id)
            oldest = time.time() - self._seconds
            found = [self._records.get(id) for id in ids]
            return [None if record is None or record.used < oldest else record for record in found]

    def save(self, records: Mapping[str, Record]) -> set[str]:
        """See :meth:`Sessions.save`."""
        with self._lock:
            for id, record in records.items():
                self._records[id] = record
                self._records.move_to_end(id)
            while len(self._records) > self._most:
                self._records.popitem(last=False)
        return set()

    def delete(self, id: str) -> bool:
        """See :meth:`Sessions.delete`."""
        with self._lock:
            return self._records.pop(id, None) is not None

    def count(self) -> int:
        """See :meth:`Sessions.count`."""
        return len(self._records)

    def check(self) -> None:
        """See :meth:`Sessions.check`."""

    def close(self) -> None:
        """See :meth:`Sessions.close`."""

    def _forget_old(self) -> None:
        """Drop sessions from the front while they are too old; others go when they come to the front."""
        before = time.time() - self._seconds
        while self._records:
            id, record = next(iter(self._records.items()))
            if record.used >= before:
                return
            del self._records[id]
