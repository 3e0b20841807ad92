"""Reads a file again when it changes; an invalid file leaves the previous content active."""

from __future__ import annotations

import asyncio
import logging
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Protocol

from modeltoll.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path

__all__ = ["FileWatch", "Watch"]

log = logging.getLogger("modeltoll.gateway")

_CHECK_SECONDS = 1.0  # between two checks of the file; requests never wait for one


class Watch(Protocol):
    """Something that is read again and again."""

    @property
    def invalid(self) -> bool:
        """Whether what was read last cannot be used."""

    def running(self) -> AbstractAsyncContextManager[None]:
        """Read it while the block lasts."""


class FileWatch:
    """Calls ``load`` when the file at ``path`` has changed; ``label`` names the file in the log.

    ``load`` activates the whole content of the file, or raises ``SettingsError`` and changes nothing.
    """

    def __init__(self, path: Path, load: Callable[[], None], label: str) -> None:
        self._path = path
        self._load = load
        self._label = label
        self._active: tuple[int, ...] | None = None
        self._error = ""

    @property
    def invalid(self) -> bool:
        """Whether the current content of the file cannot be used."""
        return bool(self._error)

    def read(self) -> None:
        """Activate the current content of the file.

        Raises:
            SettingsError: the content cannot be used; names every error at once.
        """
        signature = self._signature()
        self._load()
        self._active = signature

    def mark_active(self) -> None:
        """Treat the current content of the file as the active one, without reading it."""
        self._active = self._signature()

    def check(self, *, force: bool = False) -> None:
        """Read the file again if it has changed, or always where ``force``. An error is logged once."""
        if self._signature() == self._active and not (force or self._error):
            return
        before = self._error
        try:
            self.read()
        except SettingsError as error:
            self._error = "; ".join(error.faults)
            if self._error != before:
                log.error("%s cannot be used, the previous content stays active: %s", self._label, self._error)  # noqa: TRY400
        else:
            self._error = ""
            log.info("%s was read again", self._label)

    @asynccontextmanager
    async def running(self, interval: float = _CHECK_SECONDS) -> AsyncIterator[None]:
        """Check the file every ``interval`` seconds while the block lasts."""
        task = asyncio.create_task(self._run(interval))
        try:
            yield
        finally:
            task.cancel()
            await asyncio.wait((task,))

    async def _run(self, interval: float) -> None:
        while True:
            await asyncio.sleep(interval)
            await asyncio.to_thread(self.check)

    def _signature(self) -> tuple[int, ...] | None:
        try:
            status = self._path.stat()
        except OSError:
            return None
        return status.st_ino, status.st_size, status.st_mtime_ns
