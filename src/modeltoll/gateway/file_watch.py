"""A file that is read again when it changes, while the gateway runs; what cannot be used changes nothing."""

from __future__ import annotations

import asyncio
import logging
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from modeltoll.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

__all__ = ["FileWatch"]

log = logging.getLogger("modeltoll.gateway")

_EVERY = 1.0  # seconds between two looks at the file; requests never wait for one


class FileWatch:
    """Calls ``load`` when the file at ``path`` has changed; ``what`` names it in the log.

    ``load`` puts all of the file in force, or raises ``SettingsError`` and leaves what was in force before.
    """

    def __init__(self, path: Path, load: Callable[[], None], what: str) -> None:
        self._path = path
        self._load = load
        self._what = what
        self._seen: tuple[int, ...] | None = None
        self._fault = ""

    @property
    def broken(self) -> bool:
        """Whether the file as it is now cannot be used."""
        return bool(self._fault)

    def read(self) -> None:
        """Put the file in force.

        Raises:
            SettingsError: it cannot be used; every fault at once.
        """
        seen = self._signature()
        self._load()
        self._seen = seen

    def trust(self) -> None:
        """Take the file as it is now for the one that is in force."""
        self._seen = self._signature()

    def look(self, *, again: bool = False) -> None:
        """Read the file again where it has changed, or is to be read in any case; a fault goes to the log once."""
        if self._signature() == self._seen and not (again or self._fault):
            return
        before = self._fault
        try:
            self.read()
        except SettingsError as error:
            self._fault = "; ".join(error.faults)
            if self._fault != before:
                log.error("%s cannot be used, what was before stays in force: %s", self._what, self._fault)  # noqa: TRY400
        else:
            self._fault = ""
            log.info("%s was read again", self._what)

    @asynccontextmanager
    async def kept(self, every: float = _EVERY) -> AsyncIterator[None]:
        """Look at the file every so many seconds for as long as the block lasts."""
        looking = asyncio.create_task(self._keep(every))
        try:
            yield
        finally:
            looking.cancel()
            await asyncio.wait((looking,))

    async def _keep(self, every: float) -> None:
        while True:
            await asyncio.sleep(every)
            await asyncio.to_thread(self.look)

    def _signature(self) -> tuple[int, ...] | None:
        try:
            status = self._path.stat()
        except OSError:
            return None
        return status.st_ino, status.st_size, status.st_mtime_ns
