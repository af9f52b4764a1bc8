"""The server process: one that answers, or a few that share sessions."""

from __future__ import annotations

import gc
import json
import os
import socket
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import uvicorn
from fastapi import FastAPI

from recbole_ssm.errors import InputError
from recbole_ssm.serving.recommender import Recommender
from recbole_ssm.serving.service.app import create_app
from recbole_ssm.serving.service.in_use import is_kind
from recbole_ssm.serving.service.settings import Limits, Settings
from recbole_ssm.serving.service.watch import Watch
from recbole_ssm.system import threads

_HANDED_ON = "RECBOLE_SSM_SERVICE"
"""Environment variable by which workers get what they are to do."""

_SMALL = 100_000
"""For fewer items than this one thread computes: more would wait for one another."""

_LOOPBACK = ("127.0.0.1", "localhost", "::1")

_STOP = 30
"""Seconds after which a stopping server closes connections whose requests are not answered."""


@dataclass(frozen=True)
class Server:
    """Where a service listens, and what it computes on.

    Attributes:
        settings: of the service; they name the checkpoint.
        host: address to listen at.
        port: of TCP; 0 for any that is free.
        workers: processes.
        device: in torch's notation.
        filter_seen: whether items of the history are left out by default; None for what the training had.
        language_model: see :class:`recbole_ssm.serving.recommender.Recommender`.
    """

    settings: Settings = field(default_factory=Settings)
    host: str = "127.0.0.1"
    port: int = 8000
    workers: int = 1
    device: str = "cpu"
    filter_seen: bool | None = None
    language_model: str | None = None

    def run(self) -> None:
        """Serve until a signal stops it.

        Raises:
            InputError: the checkpoint or another file cannot be used, nobody can listen at this address, or workers
                would have no sessions in common.
        """
        if self.workers > 1 and self.settings.sessions == "memory":
            raise InputError("several workers need sessions that they share: --sessions=redis://HOST:PORT/0")
        _check_place(self.host, self.port)
        app = self.app()  # also for workers, so that what cannot be used is said once
        print(_begun(app, self.host, self.port), flush=True)
        if self.workers == 1:
            gc.collect()
            gc.freeze()  # what is there stays there: to look at it again and again would make requests wait
            uvicorn.Server(uvicorn.Config(app, **self._options())).run()
            return
        del app
        os.environ[_HANDED_ON] = json.dumps(asdict(self), default=str)
        uvicorn.run(f"{__name__}:app_of_worker", factory=True, workers=self.workers, **self._options())

    def app(self) -> FastAPI:
        """The app, with its checkpoint loaded."""
        assert self.settings.checkpoint is not None
        read = partial(
            Recommender, device=self.device, filter_seen=self.filter_seen, language_model=self.language_model
        )
        index = self.settings.index
        watch = Watch(self.settings.checkpoint, read, None if index is None or is_kind(index) else index)
        recommender = watch.load()
        with threads.chosen(1 if len(recommender.items) < _SMALL else threads.HELPFUL):
            return create_app(recommender, self.settings, watch)

    def _options(self) -> dict[str, Any]:
        return {
            "host": self.host,
            "port": self.port,
            "access_log": False,
            "log_level": "warning",
            "server_header": False,
            "proxy_headers": False,
            "ws": "none",
            "lifespan": "on",
            "timeout_graceful_shutdown": _STOP,
        }


def app_of_worker() -> FastAPI:
    """The app of one of several workers."""
    return _from_plain(json.loads(os.environ[_HANDED_ON])).app()


def _from_plain(found: Mapping[str, Any]) -> Server:
    """A server from what ``asdict`` and JSON have made of it."""
    given = dict(found["settings"])
    files = {key: Path(given[key]) for key in ("checkpoint", "items", "popular", "index") if given[key] is not None}
    settings = Settings(**{**given, **files, "hosts": tuple(given["hosts"]), "limits": Limits(**given["limits"])})
    return Server(**{**found, "settings": settings})


def _check_place(host: str, port: int) -> None:
    """Raise InputError if nobody can listen at an address. Later uvloop would take another port for one too large."""
    try:
        socket.create_server((host, port), family=socket.getaddrinfo(host, None)[0][0]).close()
    except (OSError, OverflowError) as error:
        raise InputError(f"--host={host} and --port={port} cannot be listened at: {error}; give others") from error


def _begun(app: FastAPI, host: str, port: int) -> str:
    """A line on what is served, and where."""
    use = app.state.service.in_use
    items = len(use.recommender.items) - 1
    kept = "whole histories" if use.states is None else f"a state of {use.states.size:,} bytes"
    place = f"[{host}]" if ":" in host else host
    return f"{use.recommender.name} with {items:,} items, {kept} for each session, at http://{place}:{port}/"


def known_hosts(host: str, given: tuple[str, ...]) -> tuple[str, ...]:
    """The values of ``Host`` that are answered: those that are given, and on loopback its own names; else all."""
    if given or host in _LOOPBACK:
        return (*given, *_LOOPBACK)
    return ()
