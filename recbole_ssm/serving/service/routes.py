"""The addresses of the service."""

from __future__ import annotations

import json
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request, Response
from pydantic import BaseModel

from recbole_ssm.serving.service import messages
from recbole_ssm.serving.service.service import Service

router = APIRouter()

_JSON = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"))

SessionId = Annotated[str, Path(pattern=messages.SESSION_ID, description="letters, digits and . _ ~ -, up to 128")]
Count = Annotated[int, Query(ge=1, description="how many items are wanted")]
CountOrNone = Annotated[int, Query(ge=0, description="how many recommendations are wanted; 0 for none")]


def _takes(kind: type[BaseModel]) -> dict[str, Any]:
    """The body of a request, for the description of the service. Pydantic reads it without FastAPI, which is faster."""
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": kind.model_json_schema()}}}}


def _gives(kind: type[BaseModel], *errors: int) -> dict[int | str, dict[str, Any]]:
    return {200: {"model": kind}, **{status: {"model": messages.Error} for status in (422, *errors)}}


def _answer(content: dict[str, Any]) -> Response:
    return Response(_JSON.encode(content).encode(), media_type="application/json")


def _service(request: Request) -> Service:
    service: Service = request.app.state.service
    return service


@router.post(
    "/recommend",
    openapi_extra=_takes(messages.RecommendRequest),
    responses=_gives(messages.Recommendations, 413, 503),
    response_class=Response,
)
async def recommend(request: Request) -> Response:
    """The best items after a history, or after a session. Without either, and for unknown items only: popular items."""
    read = messages.RecommendRequest.model_validate_json(await request.body())
    return _answer(await _service(request).recommend(read))


@router.post(
    "/sessions/{session_id}/events",
    openapi_extra=_takes(messages.EventsRequest),
    responses=_gives(messages.Events, 409, 413, 503),
    response_class=Response,
)
async def add_events(request: Request, session_id: SessionId, k: CountOrNone = 0) -> Response:
    """Let a session have one item or several more; the first ones begin it. With ``?k=`` recommend after them."""
    read = messages.EventsRequest.model_validate_json(await request.body())
    return _answer(await _service(request).add(session_id, read, k))


@router.get("/sessions/{session_id}", responses=_gives(messages.Session, 404), response_class=Response)
async def get_session(request: Request, session_id: SessionId) -> Response:
    """The latest items of a session."""
    return _answer(await _service(request).session(session_id))


@router.delete("/sessions/{session_id}", status_code=204, responses={404: {"model": messages.Error}})
async def delete_session(request: Request, session_id: SessionId) -> Response:
    """Forget a session."""
    await _service(request).forget(session_id)
    return Response(status_code=204)


@router.get("/items", responses=_gives(messages.Items), response_class=Response)
async def find_items(
    request: Request, query: Annotated[str, Query(description="part of a title, or a name")] = "", k: Count = 10
) -> Response:
    """Items whose title holds some words, popular ones first; where no titles are known, by name."""
    return _answer(await _service(request).search(query, k))


@router.get("/items/{item:path}/similar", responses=_gives(messages.Items, 404), response_class=Response)
async def similar_items(request: Request, item: str, k: Count = 10) -> Response:
    """The items whose embeddings are nearest to that of an item, by cosine."""
    return _answer(await _service(request).similar(item, k))


@router.post(
    "/explain",
    openapi_extra=_takes(messages.ExplainRequest),
    responses=_gives(messages.Parts, 404, 413),
    response_class=Response,
)
async def explain(request: Request) -> Response:
    """What each item of a history says for another item: nearness of embeddings, and how often it came after."""
    read = messages.ExplainRequest.model_validate_json(await request.body())
    return _answer(await _service(request).explain(read))


@router.get("/healthz", response_class=Response)
async def healthz(request: Request) -> Response:
    """200 while the process runs. ``old_model`` is true where a newer checkpoint is there and cannot be used."""
    service = _service(request)
    use = service.in_use
    items = len(use.recommender.items) - 1
    found = {"status": "ok", "name": use.recommender.name, "model": use.fingerprint, "items": items}
    return _answer(found | {"old_model": service.old_model})


@router.get("/readyz", responses={503: {"model": messages.Error}}, response_class=Response)
async def readyz(request: Request) -> Response:
    """200 while requests are answered; 503 while the service stops, or cannot reach its sessions."""
    await _service(request).check()
    return _answer({"status": "ready"})


@router.get("/metrics", response_class=Response)
async def metrics(request: Request) -> Response:
    """Counters in the format of Prometheus."""
    content = await _service(request).batcher.call(_service(request).counted)
    return Response(content, media_type="text/plain; version=0.0.4; charset=utf-8")
