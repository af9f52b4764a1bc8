"""Sessions of the service: what is kept of each, and where."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from threading import Lock
from typing import Protocol


@dataclass(frozen=True)
class Record:
    """What is kept of a session. It is replaced as a whole, never changed.

    Attributes:
        items: names of its latest items, the latest last.
        times: when each was had, in Unix seconds.
        events: how many items it has had.
        model: fingerprint of the checkpoint whose state this is.
        state: of the model after all items; empty for none. Under another checkpoint it says nothing.
        version: how often it was replaced.
        used: when it was last replaced, in Unix seconds.
    """

    items: tuple[str, ...] = ()
    times: tuple[float, ...] = ()
    events: int = 0
    model: str = ""
    state: bytes = b""
    version: int = 0
    used: float = 0.0


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
        seconds: one that was not used for so long is forgotten.
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
            return [self._records.get(id) for id in ids]

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
        """Drop sessions from the front while they are too old. A session that was only read may stay longer."""
        before = time.time() - self._seconds
        while self._records:
            id, record = next(iter(self._records.items()))
            if record.used >= before:
                return
            del self._records[id]
