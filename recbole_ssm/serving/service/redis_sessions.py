"""Sessions in a Redis server, which several processes share, and which outlive them."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from logging import getLogger
from typing import Any
from urllib.parse import urlsplit

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
    """Sessions as hashes of a Redis server, which may also begin later, or go away and come back.

    Args:
        address: such as ``redis://127.0.0.1:6379/0``.
        seconds: a session without new items for so long is forgotten.

    Raises:
        InputError: it is no address, or the server does not let this client in.
    """

    def __init__(self, address: str, seconds: float):
        options: dict[str, Any] = {"socket_timeout": _SECONDS, "socket_connect_timeout": _SECONDS, "protocol": 2}
        if PASSWORD in os.environ:
            options["password"] = os.environ[PASSWORD]
        try:
            _check_number(address)
            self._server = redis.Redis.from_url(address, **options)
            self._server.connection_pool.make_connection()  # which knows the options that an address may have
        except (TypeError, ValueError) as error:
            raise InputError(f"--sessions={address} must be memory, or like redis://HOST:PORT/0") from error
        self._seconds = max(1, round(seconds))
        self._replace = self._server.register_script(_REPLACE)
        self._away = False
        self._look()

    def _look(self) -> None:
        """Raise InputError where the server lets nobody in; where it does not answer the log says so."""
        try:
            self._server.ping()
        except (redis.AuthenticationError, redis.ResponseError) as error:
            raise InputError(
                f"the Redis server of --sessions refuses: {error}; its password stands in {PASSWORD}, and the number "
                "of its database at the end of the address"
            ) from error
        except redis.RedisError as error:
            self._tell(error)

    def _tell(self, error: redis.RedisError) -> None:
        if not self._away:
            getLogger().warning(f"the sessions in Redis cannot be reached: {error}")
        self._away = True

    @contextmanager
    def _reached(self) -> Iterator[None]:
        """Refused for any error of the server, or of the way to it. The log says when it begins and when it ends."""
        try:
            yield
        except redis.RedisError as error:
            self._tell(error)
            raise Refused(503, "no_sessions", "the sessions cannot be reached", {"Retry-After": "1"}) from error
        if self._away:
            getLogger().warning("the sessions in Redis can be reached again")
        self._away = False

    def load(self, ids: Sequence[str]) -> list[Record | None]:
        """See :meth:`Sessions.load`."""
        with self._reached(), self._server.pipeline(transaction=False) as pipeline:
            for id in ids:
                pipeline.hmget(_PREFIX + id, "about", "state", "event_ids")
            found = pipeline.execute(raise_on_error=False)
            return [self._read(id, fields) for id, fields in zip(ids, found, strict=True)]

    def _read(self, id: str, fields: Any) -> Record | None:
        """A session from its fields; None where there are none, or others than this package writes."""
        try:
            if isinstance(fields, redis.ResponseError) and str(fields).startswith("WRONGTYPE"):
                raise ValueError(fields)  # somebody else's key, which is no hash
            if isinstance(fields, redis.RedisError):
                raise fields
            return None if fields[0] is None else _record(*fields)
        except (AttributeError, TypeError, ValueError) as error:
            getLogger().warning(f"a session in Redis cannot be read and is forgotten: {error}")
            self._server.delete(_PREFIX + id)
            return None

    def save(self, records: Mapping[str, Record]) -> set[str]:
        """See :meth:`Sessions.save`."""
        with self._reached(), self._server.pipeline(transaction=False) as pipeline:
            for id, record in records.items():
                values = record.version - 1, record.version, _about(record), record.state, " ".join(record.event_ids)
                self._replace(keys=[_PREFIX + id], args=(*values, self._seconds), client=pipeline)
            return {id for id, done in zip(records, pipeline.execute(), strict=True) if not done}

    def delete(self, id: str) -> bool:
        """See :meth:`Sessions.delete`."""
        with self._reached():
            return bool(self._server.delete(_PREFIX + id))

    def count(self) -> int:
        """How many keys the database has, which are the sessions if it has nothing else."""
        with self._reached():
            return int(self._server.dbsize())

    def check(self) -> None:
        """See :meth:`Sessions.check`."""
        with self._reached():
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


def _check_number(address: str) -> None:
    """Raise ValueError where no number of a database ends an address; the client would take database 0."""
    parts = urlsplit(address)
    if parts.scheme != "unix" and not re.fullmatch(r"(/\d*)?", parts.path):
        raise ValueError(parts.path)
