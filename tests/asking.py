"""Asks an ASGI app in this process, without a server."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx


class Client:
    """Sends requests one after another, or many at once."""

    def __init__(self, app: Any, loop: asyncio.AbstractEventLoop):
        self.app, self._loop = app, loop
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        self.session = httpx.AsyncClient(transport=transport, base_url="http://localhost")

    def run(self, coroutine: Any) -> Any:
        return self._loop.run_until_complete(coroutine)

    def request(self, method: str, url: str, **options: Any) -> httpx.Response:
        return self.run(self.session.request(method, url, **options))

    def get(self, url: str, **options: Any) -> httpx.Response:
        return self.request("GET", url, **options)

    def post(self, url: str, **options: Any) -> httpx.Response:
        return self.request("POST", url, **options)

    def delete(self, url: str, **options: Any) -> httpx.Response:
        return self.request("DELETE", url, **options)

    def at_once(self, requests: list[tuple[str, str, dict[str, Any]]]) -> list[httpx.Response]:
        async def all_of_them() -> list[httpx.Response]:
            asked = (self.session.request(method, url, **options) for method, url, options in requests)
            return list(await asyncio.gather(*asked))

        return self.run(all_of_them())


@contextmanager
def asking(app: Any) -> Iterator[Client]:
    """A client of an app that has begun, and ends with the block."""
    loop = asyncio.new_event_loop()
    client = Client(app, loop)
    lifespan = app.router.lifespan_context(app)
    loop.run_until_complete(lifespan.__aenter__())
    try:
        yield client
    finally:
        loop.run_until_complete(client.session.aclose())
        loop.run_until_complete(lifespan.__aexit__(None, None, None))
        loop.close()
