"""The checkpoint's file is looked at while the service runs: where it was replaced, the new model takes over."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from logging import getLogger
from pathlib import Path
from typing import TYPE_CHECKING

from recbole_ssm.serving.recommender import Recommender
from recbole_ssm.system.terminal import printable

if TYPE_CHECKING:
    from recbole_ssm.serving.service.service import Service


class Watch:
    """A file that may be replaced, by a rename or by pointing a symbolic link elsewhere.

    Args:
        file: the checkpoint.
        read: makes a recommender of it.
    """

    def __init__(self, file: Path, read: Callable[[Path], Recommender]):
        self._file, self._read = file, read
        self._seen: tuple[int, ...] = ()

    def load(self) -> Recommender:
        """The model of the file as it is now."""
        self._seen = self._look()
        return self._read(self._file)

    def changed(self) -> bool:
        """Whether it is another file than the one that was loaded; not while there is no file."""
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
                    getLogger().error(f"the checkpoint was replaced, and cannot be used: {printable(error)}")
                    continue
                await service.replace(found)
                service.old_model = False
                service.metrics.swaps.labels("done").inc()

    def _look(self) -> tuple[int, ...]:
        """What tells one file from another; nothing where there is none."""
        try:
            found = self._file.stat()
        except OSError:
            return ()
        return found.st_dev, found.st_ino, found.st_mtime_ns, found.st_size
