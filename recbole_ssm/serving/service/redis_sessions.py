"""Sessions in a Redis server, which several processes share, and which outlive them."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import redis

from recbole_ssm.errors import InputError
from recbole_ssm.serving.service.errors import Refused
from recbole_ssm.serving.service.sessions import Record

PASSWORD = "RECBOLE_SSM_REDIS_PASSWORD"
"""Environment variable with the server's password; an address on the command line can be read by others."""

_PREFIX = "recbole-ssm:session:"
_SECONDS = 2.0
"""The longest that a call may take."""

_REPLACE = """
local version = redis.call('HGET', KEYS[1], 'version') or '0'
if version ~= ARGV[1] then
  if version == ARGV[2] and redis.call('HGET', KEYS[1], 'about') == ARGV[3] then return 1 end
  return 0
end
redis.call('HSET', KEYS[1], 'version', ARGV[2], 'about', ARGV[3], 'state', ARGV[4], 'event_ids', ARGV[5])
redis.call('EXPIRE', KEYS[1], ARGV[6])
return 1
"""
"""Replaces a session unless another process has done so since it was read.

The client sends it again where the answer was lost; what it has written already is found to be its own.
"""


class InRedis:
    """Sessions as hashes of a Redis server.

    Args:
        address: such as ``redis://127.0.0.1:6379/0``.
        seconds: a session without new items for so long is forgotten.

    Raises:
        InputError: it is no address.
    """

    def __init__(self, address: str, seconds: float):
        options: dict[str, Any] = {"socket_timeout": _SECONDS, "socket_connect_timeout": _SECONDS, "protocol": 2}
        if PASSWORD in os.environ:
            options["password"] = os.environ[PASSWORD]
        try:
            self._server = redis.Redis.from_url(address, **options)
        except ValueError as error:
            raise InputError(f"--sessions={address} must be memory, or like redis://HOST:PORT/0") from error
        self._seconds = max(1, round(seconds))
        self._replace = self._server.register_script(_REPLACE)

    def load(self, ids: Sequence[str]) -> list[Record | None]:
        """See :meth:`Sessions.load`."""
        with _reached(), self._server.pipeline(transaction=False) as pipeline:
            for id in ids:
                pipeline.hmget(_PREFIX + id, "about", "state", "event_ids")
            return [None if found[0] is None else _record(*found) for found in pipeline.execute()]

    def save(self, records: Mapping[str, Record]) -> set[str]:
        """See :meth:`Sessions.save`."""
        with _reached(), self._server.pipeline(transaction=False) as pipeline:
            for id, record in records.items():
                values = record.version - 1, record.version, _about(record), record.state, " ".join(record.event_ids)
                self._replace(keys=[_PREFIX + id], args=(*values, self._seconds), client=pipeline)
            return {id for id, done in zip(records, pipeline.execute(), strict=True) if not done}

    def delete(self, id: str) -> bool:
        """See :meth:`Sessions.delete`."""
        with _reached():
            return bool(self._server.delete(_PREFIX + id))

    def count(self) -> int:
        """How many keys the database has, which are the sessions if it has nothing else."""
        with _reached():
            return int(self._server.dbsize())

    def check(self) -> None:
        """See :meth:`Sessions.check`."""
        with _reached():
            self._server.ping()

    def close(self) -> None:
        """See :meth:`Sessions.close`."""
        self._server.close()


def _about(record: Record) -> str:
    values = record.items, record.times, record.events, record.model, record.version, record.used
    return json.dumps(values)


def _record(about: bytes, state: bytes, event_ids: bytes | None) -> Record:
    """A session from its fields; one of an earlier version of this package has no ids of events."""
    items, times, events, model, version, used = json.loads(about)
    ids = tuple((event_ids or b"").decode().split())
    of_model = {"model": model, "state": state}
    return Record(tuple(items), tuple(times), events, **of_model, version=version, used=used, event_ids=ids)


@contextmanager
def _reached() -> Iterator[None]:
    """Refused for any error of the server, or of the way to it."""
    try:
        yield
    except redis.RedisError as error:
        raise Refused(503, "no_sessions", "the sessions cannot be reached", {"Retry-After": "1"}) from error
