"""The service without HTTP: it checks requests, has them computed in batches, and puts answers into their form."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import torch

from recbole_ssm.errors import InputError
from recbole_ssm.serving.recommender import Recommender
from recbole_ssm.serving.service.batching import Batcher
from recbole_ssm.serving.service.engine import Ask, Engine, Reply
from recbole_ssm.serving.service.errors import Refused
from recbole_ssm.serving.service.in_use import InUse
from recbole_ssm.serving.service.item_file import NOTHING, ItemFile, read_item_file
from recbole_ssm.serving.service.messages import EventsRequest, ExplainRequest, RecommendRequest, check_k, check_names
from recbole_ssm.serving.service.metrics import Metrics
from recbole_ssm.serving.service.popular import read_popular
from recbole_ssm.serving.service.sessions import InMemory, Record, Sessions
from recbole_ssm.serving.service.settings import Settings
from recbole_ssm.serving.service.watch import Watch

_WARM = 5
"""Steps before a model answers: the first ones take longest."""


class Service:
    """Answers requests with one model, which may be replaced while it runs.

    Args:
        recommender: the first model.
        settings: how it runs.
        watch: the file of the model, which may be replaced; None for none.

    Attributes:
        settings: how it runs.
        metrics: what it counts.
        batcher: has requests computed.
        old_model: whether the checkpoint was replaced by one that cannot be used.

    Raises:
        InputError: a file of the settings cannot be read, or the model cannot be served.
    """

    def __init__(self, recommender: Recommender, settings: Settings, watch: Watch | None = None):
        self.settings, self.metrics, self.old_model = settings, Metrics(), False
        self._watch, self._begin = watch, _begin_thread()
        self._following: asyncio.Task[None] | None = None
        self._of_items: ItemFile = NOTHING
        if settings.items is not None:
            self._of_items = read_item_file(settings.items, settings.title, settings.category)
        self._popular = None if settings.popular is None else read_popular(settings.popular)
        self.sessions = open_sessions(settings)
        self.engine = Engine(self.prepared(recommender), self.sessions, settings)
        self.metrics.use(self.in_use.fingerprint)
        self.batcher: Batcher[Ask, Reply] = Batcher(
            self.engine.run,
            lambda ask: ask.session_id,
            most=settings.max_batch,
            queue=settings.max_queue,
            blocks=settings.sessions != "memory",
            begin=self._begin,
            observe=self.metrics.batch.observe,
        )

    @property
    def in_use(self) -> InUse:
        """The model in use."""
        return self.engine.in_use

    def prepared(self, recommender: Recommender) -> InUse:
        """A model with all that belongs to it, and tried; see :attr:`Settings.warm`."""
        found = InUse(recommender, self._of_items, self._popular, self.settings.index)
        engine = Engine(found, InMemory(1, 3600.0), Settings(session_items=1))
        for _ in range(_WARM if self.settings.warm else 1):
            engine.run([Ask("warm", recommender.items[1:2], (0.0,), k=1)])
        return found

    def start(self) -> None:
        """Begin to answer, in the running event loop."""
        self.batcher.start()
        if self._watch is not None:
            follow = self._watch.follow(self, self.settings.watch, self._begin)
            self._following = asyncio.get_running_loop().create_task(follow)

    async def close(self) -> None:
        """Answer what waits, and stop."""
        if self._following is not None:
            self._following.cancel()
        await self.batcher.close()
        self.sessions.close()

    async def replace(self, found: InUse) -> None:
        """Answer with another model from the next batch on."""

        def put() -> None:
            self.engine.in_use = found

        await self.batcher.call(put)
        self.metrics.use(found.fingerprint)

    async def recommend(self, request: RecommendRequest) -> dict[str, Any]:
        """The best items after a history or a session: :class:`messages.Recommendations`."""
        request.check(self.settings.limits)
        history = request.history or []
        when = time.time() if request.time is None else request.time
        reply = await self._ask(
            Ask(
                session_id=request.session_id,
                items=history,
                times=[when] * len(history) if request.times is None else request.times,
                k=request.k,
                exclude=request.exclude,
                candidates=request.candidates,
                categories=request.categories,
                filter_seen=request.filter_seen,
            )
        )
        return {"items": _described(reply), "source": reply.source, **_about(reply)}

    async def add(self, session_id: str, request: EventsRequest, k: int) -> dict[str, Any]:
        """Let a session have more items, and recommend after them: :class:`messages.Events`.

        Args:
            session_id: a new one, or one that there is.
            request: the items.
            k: how many recommendations are wanted; 0 for none.

        Returns:
            The answer.
        """
        request.check(self.settings.limits)
        check_k(k, self.settings.limits)
        times = [time.time()] * len(request.items) if request.times is None else request.times
        ask = Ask(session_id=session_id, items=request.items, times=times, k=k, event_id=request.event_id)
        reply = await self._ask(ask)
        found = {"session_id": session_id, "repeated": reply.repeated, "events": reply.events, **_about(reply)}
        return found if not k else found | {"items": _described(reply), "source": reply.source}

    async def session(self, session_id: str) -> dict[str, Any]:
        """What a session has: :class:`messages.Session`."""
        record = await self._record(session_id)
        items = [self.in_use.described(item) for item in record.items]
        idle = round(max(0.0, time.time() - record.used), 3)
        return {"session_id": session_id, "events": record.events, "items": items, "idle": idle}

    async def forget(self, session_id: str) -> None:
        """Delete a session; Refused if there is no such session."""
        if not await self.batcher.call(self.sessions.delete, session_id):
            raise _no_session()

    async def similar(self, item: str, k: int) -> dict[str, Any]:
        """The items with the nearest embeddings: :class:`messages.Items`; Refused if the model has none."""
        check_k(k, self.settings.limits)
        use = self._known(item)
        try:
            (found,) = await self.batcher.call(use.recommender.similar, [item], k)
        except InputError as error:
            raise Refused(422, "no_embeddings", str(error)) from error
        return {"items": [use.described(*each) for each in found]}

    async def explain(self, request: ExplainRequest) -> dict[str, Any]:
        """What each item of a history says for another: :class:`messages.Parts`."""
        request.check(self.settings.limits)
        use = self._known(request.item)
        history: Sequence[str] = request.history or ()
        if request.session_id is not None:
            history = (await self._record(request.session_id)).items
        known = [item for item in history if item in use.recommender]
        found = await self.batcher.call(use.recommender.explain, known, request.item)
        return {
            "parts": [
                use.described(part.item) | {"similarity": part.similarity, "transitions": part.transitions}
                for part in found
            ]
        }

    async def search(self, query: str, k: int) -> dict[str, Any]:
        """Items by title or name: :class:`messages.Items`."""
        check_k(k, self.settings.limits)
        check_names("query", [query], 1, self.settings.limits.name)
        use = self.in_use
        found = await asyncio.to_thread(use.search.find, query, k)
        return {"items": [use.described(item) for item in found]}

    async def check(self) -> None:
        """Raise Refused unless requests can be answered."""
        await self.batcher.call(self.sessions.check)

    def counted(self) -> bytes:
        """All counters."""
        self.metrics.waiting.set(self.batcher.length)
        with suppress(Refused):
            self.metrics.sessions.set(self.sessions.count())
        return self.metrics.text()

    async def _ask(self, ask: Ask) -> Reply:
        reply = await self.batcher.ask(ask)
        self.metrics.model.observe(reply.seconds)
        self.metrics.unknown.inc(reply.unknown)
        if reply.items is not None and reply.source == "popular":
            self.metrics.popular.inc()
        return reply

    async def _record(self, session_id: str) -> Record:
        (record,) = await self.batcher.call(self.sessions.load, [session_id])
        if record is None:
            raise _no_session()
        return record

    def _known(self, item: str) -> InUse:
        if item not in self.in_use.recommender:
            raise Refused(404, "no_item", "the model knows no such item")
        return self.in_use


def open_sessions(settings: Settings) -> Sessions:
    """The place where sessions are kept; InputError if there is no such place."""
    if settings.sessions == "memory":
        return InMemory(settings.max_sessions, settings.session_seconds)
    try:
        from recbole_ssm.serving.service.redis_sessions import InRedis
    except ModuleNotFoundError as error:
        raise InputError("sessions in Redis need the package redis; pip install 'recbole-ssm[serve]'") from error
    return InRedis(settings.sessions, settings.session_seconds)


def _begin_thread() -> Callable[[], None]:
    """What the model's thread does first: it computes with as many threads as this one would."""
    threads = torch.get_num_threads()
    return lambda: torch.set_num_threads(threads)


def _described(reply: Reply) -> list[dict[str, object]]:
    return [reply.in_use.described(*each) for each in reply.items or ()]


def _about(reply: Reply) -> dict[str, Any]:
    return {"unknown": reply.unknown, "model": reply.in_use.fingerprint, "ms": round(1000 * reply.seconds, 3)}


def _no_session() -> Refused:
    return Refused(404, "no_session", "there is no such session, or it was forgotten")
