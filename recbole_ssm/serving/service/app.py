"""The app: routes, errors, the page, and what begins and ends with the server."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from fastapi import FastAPI
from fastapi.responses import FileResponse
from starlette.staticfiles import StaticFiles

from recbole_ssm.serving.recommender import Recommender
from recbole_ssm.serving.service.errors import add_handlers
from recbole_ssm.serving.service.guard import Guard
from recbole_ssm.serving.service.routes import router
from recbole_ssm.serving.service.service import Service
from recbole_ssm.serving.service.settings import Settings
from recbole_ssm.system.version import __version__

PAGE = Path(__file__).parent.parent / "page"
"""Files of the page: ``index.html`` at ``/``, the others at ``/page/NAME``."""


def create_app(recommender: Recommender, settings: Settings | None = None) -> FastAPI:
    """The service as an ASGI app.

    Args:
        recommender: the model that answers.
        settings: how it runs; None for what :class:`Settings` has.

    Returns:
        The app; ``app.state.service`` is the :class:`Service`.

    Raises:
        InputError: a file of the settings cannot be read, or the model cannot be served.
    """
    settings = settings or Settings()
    service = Service(recommender, settings)

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
        description=f"Recommendations of a {type(recommender.model).__name__}.",
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
    )
    app.state.service = service
    app.include_router(router)
    add_handlers(app)
    _add_page(app)
    app.add_middleware(Guard, settings=settings, metrics=service.metrics)
    return app


def _add_page(app: FastAPI) -> None:
    if not (PAGE / "index.html").is_file():
        return

    @app.get("/", include_in_schema=False)
    async def page() -> FileResponse:
        return FileResponse(PAGE / "index.html")

    app.mount("/page", StaticFiles(directory=PAGE))
