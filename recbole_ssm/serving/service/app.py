"""The app: routes, errors, the page, and what begins and ends with the server."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from fastapi import FastAPI
from fastapi.responses import FileResponse, HTMLResponse, Response
from starlette.staticfiles import StaticFiles

from recbole_ssm.serving.recommender import Recommender
from recbole_ssm.serving.service.errors import add_handlers
from recbole_ssm.serving.service.guard import Guard
from recbole_ssm.serving.service.hot import Hot
from recbole_ssm.serving.service.reference import reference
from recbole_ssm.serving.service.routes import router
from recbole_ssm.serving.service.service import Service
from recbole_ssm.serving.service.settings import Settings
from recbole_ssm.serving.service.watch import Watch
from recbole_ssm.system.version import __version__

PAGE = Path(__file__).parent.parent / "page"
"""Files of the page: ``index.html`` at ``/``, the others at ``/page/NAME``."""


def create_app(recommender: Recommender, settings: Settings | None = None, watch: Watch | None = None) -> FastAPI:
    """The service as an ASGI app.

    Args:
        recommender: the model that answers.
        settings: how it runs; None for what :class:`Settings` has.
        watch: the file of the model, which may be replaced; None for none.

    Returns:
        The app; ``app.state.service`` is the :class:`Service`.

    Raises:
        InputError: a file of the settings cannot be read, or the model cannot be served.
    """
    settings = settings or Settings()
    service = Service(recommender, settings, watch)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        service.start()
        try:
            yield
        finally:
            await service.close()

    app = FastAPI(
        title="recbole-ssm",
        version=__version__,
        description=f"Recommendations of a {recommender.name}.",
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        telemetry={"tracing": False, "metrics": False, "logs": False, "auto_configure": False},
    )
    app.state.service = service
    app.include_router(router)
    add_handlers(app)
    _add_page(app)
    _add_reference(app)
    app.add_middleware(Hot)
    app.add_middleware(Guard, settings=settings, metrics=service.metrics)
    return app


def _add_page(app: FastAPI) -> None:
    if not (PAGE / "index.html").is_file():
        return

    @app.get("/", include_in_schema=False)
    async def page() -> FileResponse:
        return FileResponse(PAGE / "index.html")

    app.mount("/page", StaticFiles(directory=PAGE))


def _add_reference(app: FastAPI) -> None:
    @app.get("/docs", include_in_schema=False)
    async def docs() -> HTMLResponse:
        return HTMLResponse(reference(app.openapi())[0])

    @app.get("/docs.css", include_in_schema=False)
    async def style() -> Response:
        return Response(reference(app.openapi())[1], media_type="text/css")
