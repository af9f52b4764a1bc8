"""The checkpoint's file is looked at while the service runs: where it was replaced, the new model takes over.

So is the file of an index, which belongs to one checkpoint. Where they do not fit together, the old ones go on until
the other file is replaced, too.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from logging import getLogger
from pathlib import Path
from typing import TYPE_CHECKING

from recbole_ssm.errors import FolderMissing, InputError
from recbole_ssm.serving.recommender import Recommender
from recbole_ssm.system.terminal import printable

if TYPE_CHECKING:
    from recbole_ssm.serving.service.service import Service


class Watch:
    """Files that may be replaced, by a rename or by pointing a symbolic link elsewhere.

    Args:
        file: the checkpoint.
        read: makes a recommender of it.
        index: the file of an index of the items; None for none.
    """

    def __init__(self, file: Path, read: Callable[[Path], Recommender], index: Path | None = None):
        self._file, self._read = file, read
        self._files = [file] if index is None else [file, index]
        self._seen: tuple[int, ...] = ()

    def load(self) -> Recommender:
        """The model of the file as it is now."""
        self._seen = self._look()
        return self._read(self._file)

    def changed(self) -> bool:
        """Whether one is another file than was there for :meth:`load`; not while one is missing."""
        found = self._look()
        return bool(found) and found != self._seen

    async def follow(self, service: Service, seconds: float, begin: Callable[[], None]) -> None:
        """Look every so many seconds, and give the service each new model, which a thread of its own reads.

        Args:
            service: gets the models.
            seconds: between two looks.
            begin: what the thread does first.
        """
        loop = asyncio.get_running_loop()
        with ThreadPoolExecutor(1, "checkpoint", initializer=begin) as thread:
            while True:
                await asyncio.sleep(seconds)
                if not self.changed():
                    continue
                try:
                    found = await loop.run_in_executor(thread, lambda: service.prepared(self.load()))
                except Exception as error:  # the model in use goes on
                    service.old_model = True
                    service.metrics.swaps.labels("failed").inc()
                    getLogger().error(f"{self._replaced} replaced, and the old model goes on: {_in_words(error)}")
                    continue
                await service.replace(found)
                service.old_model = False
                service.metrics.swaps.labels("done").inc()

    @property
    def _replaced(self) -> str:
        return "the checkpoint was" if len(self._files) == 1 else "the checkpoint or the index was"

    def _look(self) -> tuple[int, ...]:
        """What tells these files from others; nothing where one is missing."""
        try:
            found = [file.stat() for file in self._files]
        except OSError:
            return ()
        return tuple(number for each in found for number in (each.st_dev, each.st_ino, each.st_mtime_ns, each.st_size))


def _in_words(error: Exception) -> str:
    """An error for the log of a service, which was started from a command line."""
    if isinstance(error, FolderMissing):
        return printable(error.of_command())
    return printable(error if isinstance(error, InputError) else f"{type(error).__name__}: {error}")
