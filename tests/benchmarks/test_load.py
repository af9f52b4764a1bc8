"""The client of the service's benchmark: it counts from planned times, and goes on when connections are cut."""

import asyncio
import sys
import threading
from contextlib import contextmanager

import pytest
from atomic import ROOT

sys.path.insert(0, str(ROOT / "benchmarks"))
import load


@contextmanager
def answering(answer):
    """The port of a server in another thread; ``answer(number)`` gives a status, or None to cut the connection."""
    loop, count = asyncio.new_event_loop(), iter(range(10**6))

    async def serve(reader, writer):
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                await reader.readexactly(int(head.rpartition(b": ")[2]))
                status = answer(next(count))
                if status is None:
                    break
                writer.write(b"HTTP/1.1 %d X\r\nContent-Length: 2\r\n\r\n" % status)
                writer.write(b"{}")
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        writer.close()

    server = loop.run_until_complete(asyncio.start_server(serve, "127.0.0.1", 0))
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


@pytest.mark.slow
def test_a_stall_delays_all_that_is_planned_meanwhile():
    """A client that waited for answers would see one late request."""
    pause = threading.Event()
    with answering(lambda number: pause.wait(0.3) if number == 5 else 200) as port:
        measured = load.load("127.0.0.1", port, [load.post("/x", {})] * 60, 200)
    assert sum(latency > 0.1 for latency in measured.latencies) > 20
    assert len(measured.latencies) + sum(measured.errors.values()) == 60


def test_errors_are_counted_and_cut_connections_are_made_anew():
    with answering(lambda number: {3: 503, 10: None}.get(number, 200)) as port:
        measured = load.load("127.0.0.1", port, [load.post("/x", {"a": 1})] * 40, 400, connections=2)
    assert measured.errors == {"503": 1, "lost": 1} and len(measured.numbers) == 38
    found = measured.summary()
    assert (found["answers"], found["errors"]) == (38, {"503": 1, "lost": 1}) and found["p50"] <= found["max"]


@pytest.mark.slow
def test_clicks_are_of_sessions_of_the_lengths_that_are_asked_for():
    found = list(load.clicks(4000, 50, shortest=3, longest=9, active=10))
    lengths = [sum(session == each for session, _ in found) for each in {session for session, _ in found}]
    assert max(lengths) == 9 and sum(length < 3 for length in lengths) <= 10
    assert {int(item[1:]) for _, item in found} <= set(range(1, 51))
    with pytest.raises(TimeoutError, match="nothing listens"):
        load.wait_until_ready("127.0.0.1", 1, 0.1)
