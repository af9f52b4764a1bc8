"""What a service is told when it starts."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Limits:
    """The largest requests. What is larger gets an error, and is not computed.

    Attributes:
        body: bytes of a request.
        history: items of a history.
        events: items that one request adds to a session.
        k: recommendations of one answer.
        names: names in ``candidates``, and in ``exclude``.
        name: characters of the name of an item or a category.
    """

    body: int = 1 << 20
    history: int = 1000
    events: int = 100
    k: int = 100
    names: int = 10_000
    name: int = 256


@dataclass(frozen=True)
class Settings:
    """How a service runs.

    Attributes:
        checkpoint: the file; None for a service in Python that is given a model.
        items: ``.item`` file with titles and categories; None for none.
        title: its column of titles; None to find it.
        category: its column of categories; None to find it.
        popular: file with popular items, for checkpoints without counts; None for none.
        index: an index of the items, from which candidates come: its file, or a kind such as ``auto``, of which one is
            built for each checkpoint. None to score all items.
        token: what a client has to send as bearer token; None for nothing.
        hosts: values of the ``Host`` header that are answered, without port; empty for all.
        sessions: ``memory``, or the address of a Redis server: ``redis://HOST:PORT/NUMBER``.
        max_sessions: how many sessions are kept in memory. The one that was not used for the longest time goes first.
        session_seconds: a session without new items for so long is forgotten.
        session_items: how many of its latest items a session keeps. Its state has read all.
        event_ids: how many of the latest ids of events a session keeps.
        max_batch: the most requests that are computed together.
        max_queue: how many requests may wait; one more is refused.
        watch: seconds between two looks at the checkpoint's file.
        warm: whether a model computes a few steps before it answers, so that its first answers are as fast as others.
        limits: of requests.
    """

    checkpoint: Path | None = None
    items: Path | None = None
    title: str | None = None
    category: str | None = None
    popular: Path | None = None
    index: Path | None = None
    token: str | None = None
    hosts: tuple[str, ...] = ()
    sessions: str = "memory"
    max_sessions: int = 20_000
    session_seconds: float = 86_400.0
    session_items: int = 500
    event_ids: int = 100
    max_batch: int = 32
    max_queue: int = 1024
    watch: float = 1.0
    warm: bool = True
    limits: Limits = Limits()
