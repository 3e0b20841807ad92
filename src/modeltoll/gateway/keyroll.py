"""The keys of a key file as the file is now: read again when it changes, while the gateway runs."""

from __future__ import annotations

import asyncio
import logging
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from modeltoll.errors import CallerRefused, SettingsError
from modeltoll.gateway.callers import hash_key
from modeltoll.gateway.keyfile import read_keys

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping
    from pathlib import Path

    from modeltoll.gateway.callers import Tier
    from modeltoll.gateway.keyfile import KeyDocument
    from modeltoll.records import Caller

__all__ = ["KeyRoll"]

log = logging.getLogger("modeltoll.gateway")

_EVERY = 1.0  # seconds between two looks at the file; requests never wait for one
_NEVER = float("inf")


@dataclass(frozen=True, slots=True)
class _Entry:
    caller: Caller
    until: float


class KeyRoll:
    """The keys of one file, whose callers are of the ``tiers`` that it names. ``clock`` gives seconds since the epoch.

    A file that cannot be used, or is gone, leaves the last good keys in force; ``broken`` says so.
    """

    def __init__(self, path: Path, tiers: Mapping[str, Tier], clock: Callable[[], float]) -> None:
        self._path = path
        self._tiers = tiers
        self._clock = clock
        self._entries: Mapping[str, _Entry] = {}
        self._seen: tuple[int, ...] | None = None
        self._fault = ""

    @property
    def broken(self) -> bool:
        """Whether the file as it is now cannot be used."""
        return bool(self._fault)

    @property
    def good(self) -> int:
        """How many keys are in force."""
        now = self._clock()
        return sum(entry.until > now for entry in self._entries.values())

    def caller(self, credential: str) -> Caller | None:
        """See ``Credentials.caller``: refuses a key that has expired."""
        entry = self._entries.get(hash_key(credential))
        if entry is None:
            return None
        if entry.until <= self._clock():
            raise CallerRefused("the API key has expired")
        return entry.caller

    def read(self) -> None:
        """Put the file's keys in force.

        Raises:
            SettingsError: it cannot be used; every fault at once. The keys before stay in force.
        """
        seen = self._signature()
        self._entries = self._admitted(read_keys(self._path))
        self._seen = seen

    def look(self) -> None:
        """Read the file again where it has changed; a fault goes to the log once."""
        if self._signature() == self._seen and not self._fault:
            return
        before = self._fault
        try:
            self.read()
        except SettingsError as error:
            self._fault = str(error)
            if self._fault != before:
                said = "; ".join(error.faults)
                log.error("the key file cannot be used, the keys before stay in force: %s", said)  # noqa: TRY400  a word
        else:
            self._fault = ""
            log.info("the key file was read: %d keys are in force", self.good)

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

    def _admitted(self, document: KeyDocument) -> Mapping[str, _Entry]:
        unknown = {key.tier for key in document.keys} - self._tiers.keys()
        if unknown:
            known = ", ".join(self._tiers)
            raise SettingsError(
                [f"{self._path}: there is no tier {tier!r}; there are: {known}" for tier in sorted(unknown)]
            )
        return {
            key.sha256: _Entry(
                self._tiers[key.tier].caller(f"key:{key.name}", (f"org:{key.organisation}",) * bool(key.organisation)),
                key.expires.timestamp() if key.expires else _NEVER,
            )
            for key in document.keys
        }
