"""``serve``: a checkpoint behind HTTP."""

from __future__ import annotations

import os
from argparse import Namespace
from pathlib import Path

from recbole_ssm.cli import types
from recbole_ssm.cli.parser import VerbParser
from recbole_ssm.errors import InputError

_NOTE = (
    "The token that clients must send stands in the environment variable RECBOLE_SSM_TOKEN; without it none is asked "
    "for. The service needs: pip install 'recbole-ssm[serve]'."
)


def parser() -> VerbParser:
    """The options of the verb."""
    found = VerbParser(
        "serve", "Recommend over HTTP: for histories, and for sessions that grow item by item.", note=_NOTE
    )
    text = "a file of a model of this package; where it is replaced, the service goes on with the new one"
    found.option("checkpoint", "FILE", text, needed=True)
    found.option(*types.LANGUAGE_MODEL)
    text = "address to listen at; default 127.0.0.1, which only programs of this machine can reach"
    found.option("host", "127.0.0.1", text, default="127.0.0.1")
    found.option("port", "8000", "TCP port; default 8000", type=types.count, default=8000)
    text = "names by which clients may call it, separated by commas; on loopback its own names are always among them"
    found.option("hosts", "NAME,NAME", text, type=types.names, default=[])
    text = "the .item file of the data set, for titles and categories"
    found.option("items", "FILE", text, type=Path)
    found.option("title", "COLUMN", "its column of titles; default the first with a usual name")
    found.option("category", "COLUMN", "its column of categories; default the first with a usual name")
    text = "popular items, one on a line, the most popular first, or with counts behind a comma"
    found.option("popular", "FILE", text, type=Path)
    text = (
        "candidates from an index of the items: the file that export --format=vectors --index=KIND wrote for this "
        "checkpoint, or a kind, such as auto, to build one here for each checkpoint; default all are scored"
    )
    found.option("index", "FILE", text, type=Path)
    text = "where sessions are kept: memory, or redis://HOST:PORT/NUMBER; default memory"
    found.option("sessions", "memory", text, default="memory")
    text = "sessions in memory at most; default 20000"
    found.option("max_sessions", "20000", text, type=types.count, default=20_000)
    text = "seconds after which a session without new items is forgotten; default 86400"
    found.option("session_seconds", "86400", text, type=types.seconds, default=86_400.0)
    found.option("workers", "1", "processes; more than 1 need sessions in Redis", type=types.count, default=1)
    found.option("device", "NAME", "the device that computes, such as cuda; default cpu", default="cpu")
    text = "whether to recommend nothing of the history; default as in the training"
    found.option("filter_seen", "True", text, type=types.switch)
    return found


def call(given: Namespace, keys: list[str]) -> None:
    """Serve until a signal stops it."""
    try:
        from recbole_ssm.serving.service.server import Server, known_hosts
        from recbole_ssm.serving.service.settings import Settings
    except ModuleNotFoundError as error:
        raise InputError(f"serve needs {error.name}; pip install 'recbole-ssm[serve]' brings it") from error

    settings = Settings(
        checkpoint=Path(given.checkpoint),
        items=given.items,
        title=given.title,
        category=given.category,
        popular=given.popular,
        index=given.index,
        token=os.environ.get("RECBOLE_SSM_TOKEN") or None,
        hosts=known_hosts(given.host, tuple(given.hosts)),
        sessions=given.sessions,
        max_sessions=given.max_sessions,
        session_seconds=given.session_seconds,
    )
    options = {"filter_seen": given.filter_seen, "language_model": given.language_model}
    Server(settings, given.host, given.port, given.workers, given.device, **options).run()
