"""Errors of the service: one form for all, ``{"error": {"code": ..., "message": ...}}``."""

from __future__ import annotations

from collections.abc import Mapping
from logging import getLogger

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import ValidationError
from starlette.exceptions import HTTPException

from recbole_ssm.system.terminal import printable

_CODES = {404: "not_found", 405: "method_not_allowed"}


class Refused(Exception):
    """A request that gets an error for an answer.

    Args:
        status: of HTTP.
        code: a word for programs.
        message: a sentence for people; it holds nothing of the request but names of fields.
        headers: of the answer.
    """

    def __init__(self, status: int, code: str, message: str, headers: Mapping[str, str] | None = None):
        super().__init__(message)
        self.status, self.code, self.message, self.headers = status, code, message, dict(headers or {})

    def answer(self) -> JSONResponse:
        """What the client gets."""
        content = {"error": {"code": self.code, "message": self.message}}
        return JSONResponse(content, self.status, headers=self.headers)


def not_valid(error: ValidationError | RequestValidationError) -> Refused:
    """The error for a request whose content does not fit its form."""
    first = error.errors()[0]
    if first["type"] == "json_invalid":
        return Refused(400, "bad_json", "the body is not JSON in UTF-8")
    place = ".".join(printable(part) for part in first["loc"] if part not in ("query", "path"))
    return Refused(422, "not_valid", f"{place[:100] or 'the body'}: {first['msg'][:200]}")


def add_handlers(app: FastAPI) -> None:
    """Let an app answer with errors of this form only."""

    async def refused(_: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, Refused)
        return error.answer()

    async def invalid(_: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, ValidationError | RequestValidationError)
        return not_valid(error).answer()

    async def of_http(_: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, HTTPException)
        code = _CODES.get(error.status_code, "error")
        return Refused(error.status_code, code, f"{error.detail}", error.headers).answer()

    async def unexpected(_: Request, error: Exception) -> JSONResponse:
        getLogger().error("a request failed", exc_info=error)
        return Refused(500, "failed", "the service failed; its log says why").answer()

    app.add_exception_handler(Refused, refused)
    app.add_exception_handler(ValidationError, invalid)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(HTTPException, of_http)
    app.add_exception_handler(Exception, unexpected)
