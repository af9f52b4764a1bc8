"""The two addresses that are asked most, without FastAPI's own way to them, which takes longer than the model.

FastAPI describes them, and the functions that answer are the same.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable
from types import SimpleNamespace

from fastapi import Request, Response
from pydantic import ValidationError
from starlette.types import ASGIApp, Receive, Scope, Send

from recbole_ssm.serving.service import routes
from recbole_ssm.serving.service.errors import Refused, not_valid

_RECOMMEND, _EVENTS = "/recommend", "/sessions/{session_id}/events"
_EVENTS_OF = re.compile(r"/sessions/([A-Za-z0-9._~-]{1,128})/events")
_COUNT = re.compile(rb"(?:k=([0-9]{1,9}))?")


class Hot:
    """Answers ``POST /recommend`` and ``POST /sessions/ID/events?k=``, and hands on everything else.

    Args:
        app: what answers the rest, also these addresses where something is unusual about them.
    """

    def __init__(self, app: ASGIApp):
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        answer = self._answer(scope, receive) if scope["type"] == "http" and scope["method"] == "POST" else None
        if answer is None:
            await self._app(scope, receive, send)
            return
        try:
            response = await answer
        except Refused as error:
            response = error.answer()
        except ValidationError as error:
            response = not_valid(error).answer()
        await response(scope, receive, send)

    def _answer(self, scope: Scope, receive: Receive) -> Awaitable[Response] | None:
        """The answer to come; None for what another is to answer."""
        path, query = scope["path"], scope["query_string"]
        if path == _RECOMMEND and not query:
            scope["route"] = SimpleNamespace(path=_RECOMMEND)
            return routes.recommend(Request(scope, receive))
        events, count = _EVENTS_OF.fullmatch(path), _COUNT.fullmatch(query)
        if events and count:
            scope["route"] = SimpleNamespace(path=_EVENTS)
            return routes.add_events(Request(scope, receive), events[1], int(count[1] or 0))
        return None
