"""Requests that wait are computed together: quick ones in the event loop, others in a thread beside it.

Nobody waits for others to come: who asks while a batch is computed is in the next one. To hand a batch to a thread and
its answers back costs as much as a small model, since only one thread at a time runs Python.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Generic, TypeVar

from recbole_ssm.serving.service.errors import Refused

Request = TypeVar("Request")
Answer = TypeVar("Answer")
Found = TypeVar("Found")

_TRIES = 5
"""So often is a request computed whose session other processes keep changing."""

_QUICK = 0.002
"""Seconds. What takes less for each request is computed in the event loop."""

_LATEST = 0.05
"""What the latest batch counts in the average of these seconds."""


class Batcher(Generic[Request, Answer]):
    """Gathers requests into batches.

    Args:
        compute: called in the thread with a batch; gives for each an answer, an error, or None to compute it again.
        key: two requests with the same key, which is not None, are not in one batch; the first comes first.
        most: the most requests of a batch.
        queue: the most requests that may wait.
        blocks: whether ``compute`` waits for others, so that it must not be called in the event loop.
        begin: called in each thread that computes, before all else.
        observe: called with the number of requests of each batch.
    """

    def __init__(
        self,
        compute: Callable[[Sequence[Request]], Sequence[Answer | Exception | None]],
        key: Callable[[Request], object],
        *,
        most: int,
        queue: int,
        blocks: bool = False,
        begin: Callable[[], None] = lambda: None,
        observe: Callable[[int], None] = lambda _: None,
    ):
        self._compute, self._key, self._observe = compute, key, observe
        self._most, self._room, self._begin = most, queue, begin
        self._thread, self._in_the_thread = ThreadPoolExecutor(1, "model", initializer=begin), 0
        self._blocks, self._seconds = blocks, 0.0
        self._waiting: deque[tuple[Request, asyncio.Future[Answer], int]] = deque()
        self._arrived = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self.closing = False

    @property
    def length(self) -> int:
        """How many requests wait."""
        return len(self._waiting)

    def start(self) -> None:
        """Begin to compute, in the running event loop."""
        self._begin()
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def close(self) -> None:
        """Compute what waits, take nothing more, and end the thread."""
        self.closing = True
        self._arrived.set()
        if self._task is not None:
            await self._task
        self._thread.shutdown()

    async def ask(self, request: Request) -> Answer:
        """The answer to a request.

        Args:
            request: what is asked.

        Returns:
            What ``compute`` gives for it.

        Raises:
            Refused: too many wait already, or the service stops.
        """
        if self.closing:
            raise _stopping()
        if len(self._waiting) >= self._room:
            raise Refused(503, "busy", "too many requests wait; ask again in a moment", {"Retry-After": "1"})
        answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._waiting.append((request, answer, 1))
        self._arrived.set()
        return await answer

    async def call(self, function: Callable[..., Found], *arguments: Any) -> Found:
        """Call a function in the thread, between two batches; Refused if the service stops."""
        if self.closing:
            raise _stopping()
        return await self._in_thread(function, *arguments)

    async def _in_thread(self, function: Callable[..., Found], *arguments: Any) -> Found:
        self._in_the_thread += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, function, *arguments)
        finally:
            self._in_the_thread -= 1

    async def _run(self) -> None:
        while True:
            await self._arrived.wait()
            self._arrived.clear()
            while self._waiting:
                await self._answer(self._next_batch())
                await asyncio.sleep(0)  # so that answers go out
            if self.closing:
                return

    def _next_batch(self) -> list[tuple[Request, asyncio.Future[Answer], int]]:
        """The first that wait, without any whose key another one has; these stay, in their order."""
        batch: list[tuple[Request, asyncio.Future[Answer], int]] = []
        later: list[tuple[Request, asyncio.Future[Answer], int]] = []
        keys: set[object] = set()
        while self._waiting and len(batch) < self._most:
            each = self._waiting.popleft()
            if each[1].done():  # who asked has gone
                continue
            key = self._key(each[0])
            if key is not None and key in keys:
                later.append(each)
                continue
            keys.add(key)
            batch.append(each)
        self._waiting.extendleft(reversed(later))
        return batch

    async def _answer(self, batch: list[tuple[Request, asyncio.Future[Answer], int]]) -> None:
        if not batch:
            return
        self._observe(len(batch))
        try:
            answers = await self._computed([request for request, _, _ in batch])
        except Exception as error:
            for _, future, _ in batch:
                if not future.done():
                    future.set_exception(error)
            return
        for (request, future, tries), answer in zip(batch, answers, strict=True):
            if future.done():
                continue
            if isinstance(answer, Exception):
                future.set_exception(answer)
            elif answer is not None:
                future.set_result(answer)
            elif tries < _TRIES:
                self._waiting.append((request, future, tries + 1))
            else:
                future.set_exception(Refused(409, "conflict", "others change this session at the same time"))

    async def _computed(self, requests: Sequence[Request]) -> Sequence[Answer | Exception | None]:
        """Their answers. One call of ``compute`` ends before the next begins, or a function of :meth:`call`."""
        if self._blocks or self._in_the_thread or self._seconds > _QUICK:
            return await self._in_thread(self._timed, requests)
        return self._timed(requests)

    def _timed(self, requests: Sequence[Request]) -> Sequence[Answer | Exception | None]:
        begun = time.thread_time()  # without the time in which another thread runs
        answers = self._compute(requests)
        self._seconds += _LATEST * ((time.thread_time() - begun) / len(requests) - self._seconds)
        return answers


def _stopping() -> Refused:
    return Refused(503, "stopping", "the service stops; ask again in a moment", {"Retry-After": "1"})
