"""What every request must have before it is read: a name, a token, a type and a size that the service takes."""

from __future__ import annotations

import hmac
import time
from collections.abc import MutableMapping
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from recbole_ssm.serving.service.errors import Refused
from recbole_ssm.serving.service.metrics import Metrics
from recbole_ssm.serving.service.settings import Settings

_OPEN, _PAGE = ("/", "/healthz", "/readyz"), "/page/"
"""Addresses that need no token: the page without any data, and those that tell whether the service runs."""

_HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"cache-control", b"no-store"),
    (b"content-security-policy", b"default-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"),
    (b"referrer-policy", b"no-referrer"),
)


class Guard:
    """Refuses what the service does not read, and counts all that is asked. It stands around the app.

    Args:
        app: what answers.
        settings: of the service.
        metrics: counts answers.
    """

    def __init__(self, app: ASGIApp, settings: Settings, metrics: Metrics):
        self._app, self._settings, self._metrics = app, settings, metrics
        self._token = None if settings.token is None else f"Bearer {settings.token}".encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        start, status = time.perf_counter(), 500

        async def counted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", ()), *_HEADERS]
            await send(message)

        try:
            self._check(scope)
            await self._app(scope, _Bounded(receive, self._settings.limits.body).receive, counted)
        except Refused as error:
            await error.answer()(scope, receive, counted)
        finally:
            route = getattr(scope.get("route"), "path", "other")
            self._metrics.requests.labels(route, str(status)).inc()
            self._metrics.seconds.labels(route).observe(time.perf_counter() - start)

    def _check(self, scope: Scope) -> None:
        """Raise Refused for what is not to be read."""
        headers = dict(scope["headers"])
        self._check_host(headers.get(b"host", b""))
        if self._token is not None and not _is_open(scope["path"]):
            given = headers.get(b"authorization", b"")
            if not hmac.compare_digest(given, self._token):
                raise Refused(401, "no_token", "send Authorization: Bearer TOKEN", {"WWW-Authenticate": "Bearer"})
        if scope["method"] in ("POST", "PUT", "PATCH"):
            kind = headers.get(b"content-type", b"").partition(b";")[0].strip().lower()
            if kind != b"application/json":  # what a form of another site can send without being asked is refused
                raise Refused(415, "not_json", "send Content-Type: application/json")
        length = headers.get(b"content-length", b"0")
        if not length.isdigit() or int(length[:20]) > self._settings.limits.body:
            raise _too_large(self._settings.limits.body)

    def _check_host(self, header: bytes) -> None:
        """Raise Refused if the request was meant for another name, as after a DNS rebinding."""
        if not self._settings.hosts:
            return
        host = header.decode("latin-1").lower()
        name = host.partition("]")[0].lstrip("[") if host.startswith("[") else host.partition(":")[0]
        if name not in self._settings.hosts:
            raise Refused(421, "other_host", "the service does not answer for this name; --hosts lists those it does")


def _is_open(path: str) -> bool:
    return path in _OPEN or path.startswith(_PAGE)


class _Bounded:
    """Reads a body up to a number of bytes."""

    def __init__(self, receive: Receive, most: int):
        self._receive, self._most, self._left = receive, most, most

    async def receive(self) -> MutableMapping[str, Any]:
        message = await self._receive()
        self._left -= len(message.get("body", b""))
        if self._left < 0:
            raise _too_large(self._most)
        return message


def _too_large(most: int) -> Refused:
    return Refused(413, "too_large", f"a request may have {most} bytes", {"Connection": "close"})
