"""Open-loop load over HTTP: requests leave at planned times, whatever becomes of those before.

A latency counts from the planned time, so that a server that stalls is seen to delay all that comes meanwhile.
"""

from __future__ import annotations

import asyncio
import gc
import json
import random
import time
from collections import Counter, deque
from collections.abc import Coroutine, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

try:
    import uvloop
except ModuleNotFoundError:  # slower, and correct
    uvloop = None


@dataclass
class Measured:
    """What became of the requests.

    Attributes:
        latencies: seconds of each answer with status 200.
        numbers: which requests these were.
        errors: how many there were of each other status; ``lost`` where a connection was cut.
        seconds: from the first planned time to the last answer.
        late: seconds by which the client itself sent too late, at most.
    """

    latencies: list[float] = field(default_factory=list)
    numbers: list[int] = field(default_factory=list)
    errors: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0
    late: float = 0.0

    def summary(self) -> dict[str, float | int | dict[str, int]]:
        """Milliseconds at some percentiles, requests per second, and errors."""
        found = np.asarray(self.latencies or [np.nan]) * 1000
        quantiles = {f"p{q}": round(float(np.percentile(found, q)), 2) for q in (50, 90, 99)}
        return {
            "answers": len(self.latencies),
            "per_second": round(len(self.latencies) / max(self.seconds, 1e-9), 1),
            **quantiles,
            "max": round(float(found.max()), 1),
            "errors": dict(self.errors),
            "client_late": round(1000 * self.late, 1),
        }


class _Connection(asyncio.Protocol):
    """One connection that is kept open, with one request at a time."""

    def __init__(self, load: _Load):
        self._load, self._read, self._busy = load, b"", False
        self._number, self._planned = 0, 0.0
        self._transport: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def send(self, number: int, request: bytes, planned: float) -> None:
        self._number, self._planned, self._busy, self._read = number, planned, True, b""
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        self._read += data
        head, end, body = self._read.partition(b"\r\n\r\n")
        if not end:
            return
        place = head.lower().find(b"content-length:")
        length = int(head[place + 15 :].split(b"\r\n", 1)[0]) if place >= 0 else 0
        if len(body) >= length:
            self._busy = False
            self._load.answered(self, head[9:12].decode(), self._number, self._planned)

    def connection_lost(self, error: Exception | None) -> None:
        self._load.lost(self, self._busy)


class _Load:
    """Sends requests at their times, over as many connections as are needed."""

    def __init__(self, host: str, port: int, requests: Sequence[bytes], rate: float, connections: int):
        self._host, self._port, self._requests, self._rate, self._most = host, port, requests, rate, connections
        self._free: list[_Connection] = []
        self._waiting: deque[tuple[int, bytes, float]] = deque()
        self._tasks: set[asyncio.Future[None]] = set()
        self._open, self._left = 0, len(requests)
        self.measured, self._done = Measured(), asyncio.Event()

    async def run(self) -> Measured:
        """All requests, and their answers."""
        for _ in range(self._most):
            await self._connect()
        loop = asyncio.get_running_loop()
        begin = loop.time() + 0.1
        for number, request in enumerate(self._requests):
            planned = begin + number / self._rate
            wait = planned - loop.time()
            if wait > 0.0005:
                await asyncio.sleep(wait)
            self.measured.late = max(self.measured.late, loop.time() - planned)
            self._send(number, request, planned)
        await self._done.wait()
        self.measured.seconds = loop.time() - begin
        return self.measured

    async def _connect(self) -> None:
        try:
            _, made = await asyncio.get_running_loop().create_connection(
                lambda: _Connection(self), self._host, self._port
            )
        except OSError:
            return
        self._open += 1
        self._give(made)

    def _send(self, number: int, request: bytes, planned: float) -> None:
        if self._free:
            self._free.pop().send(number, request, planned)
        elif self._open:
            self._waiting.append((number, request, planned))
        else:
            self._finish("refused")
            self._later(self._connect())

    def _later(self, coroutine: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _give(self, connection: _Connection) -> None:
        if self._waiting:
            connection.send(*self._waiting.popleft())
        else:
            self._free.append(connection)

    def answered(self, connection: _Connection, status: str, number: int, planned: float) -> None:
        if status == "200":
            self.measured.numbers.append(number)
            self.measured.latencies.append(asyncio.get_running_loop().time() - planned)
            self._finish("")
        else:
            self._finish(status)
        self._give(connection)

    def lost(self, connection: _Connection, busy: bool) -> None:
        self._open -= 1
        if connection in self._free:
            self._free.remove(connection)
        if busy:
            self._finish("lost")
        if not self._open:
            while self._waiting:
                self._waiting.popleft()
                self._finish("refused")
        if self._left:
            self._later(self._connect())

    def _finish(self, error: str) -> None:
        if error:
            self.measured.errors[error] += 1
        self._left -= 1
        if not self._left:
            self._done.set()


def load(host: str, port: int, requests: Sequence[bytes], rate: float, connections: int = 32) -> Measured:
    """Send requests at a fixed rate, and wait for all answers."""
    gc.collect()
    gc.freeze()
    run = asyncio.run if uvloop is None else uvloop.run
    return run(_Load(host, port, requests, rate, connections).run())


def clicks(
    number: int, n_items: int, *, shortest: int, longest: int, active: int, seed: int = 0
) -> Iterator[tuple[str, str]]:
    """Sessions and items of clicks.

    So many sessions are active at a time; each ends after a number of clicks that is even in its logarithm, and another
    one begins. Items are drawn with the probabilities 1/1, 1/2, 1/3 and so on.
    """
    draw = random.Random(seed)
    numbers = np.random.default_rng(seed)
    items = np.minimum(np.exp(numbers.random(number) * np.log(n_items + 1)), n_items).astype(int)
    left: dict[str, int] = {}
    begun = 0
    for item in items:
        while len(left) < active:
            left[f"s{begun}"] = round(shortest * (longest / shortest) ** draw.random())
            begun += 1
        session = draw.choice(list(left)) if active < 50 else next(iter(left))
        yield session, f"i{item}"
        clicks_left = left.pop(session) - 1
        if clicks_left:
            left[session] = clicks_left


def post(path: str, content: object) -> bytes:
    """A request, as it goes over the wire."""
    body = json.dumps(content).encode()
    lines = f"POST {path} HTTP/1.1", "Host: localhost", "Content-Type: application/json", f"Content-Length: {len(body)}"
    return "\r\n".join((*lines, "", "")).encode() + body


def wait_until_ready(host: str, port: int, seconds: float = 60.0) -> None:
    """Wait until a server takes connections."""
    import socket

    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            socket.create_connection((host, port), 1).close()
            return
        except OSError:
            time.sleep(0.05)
    raise TimeoutError(f"nothing listens at {host}:{port} after {seconds} s")
