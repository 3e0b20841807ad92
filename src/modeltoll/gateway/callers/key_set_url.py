"""The keys of a JWK set at a URL of the settings: fetched at the start, every few minutes, and when a token names a new key.

Nothing that a token says is followed: its ``jku``, ``x5u`` and ``jwk`` are not read. A token with an unknown key may have
the set fetched once in ten seconds, no oftener, however many such tokens come.
"""

from __future__ import annotations

import asyncio
import logging
import time
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

import aiohttp

from modeltoll.decompression import coding_of, inflated
from modeltoll.errors import SettingsError
from modeltoll.gateway.callers.verification_keys import VerificationKeys, parse_key_set

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncIterator, Callable

__all__ = ["FetchedKeys", "KeySetSource", "KeySetUrl"]

_log = logging.getLogger("modeltoll.gateway")

_FETCH_SECONDS = 10.0  # for one fetch, everything included
_MOST_BYTES = 256 << 10  # of a set
_LEAST_PAUSE = 10.0  # seconds between two fetches that tokens cause, and after one that failed
_LONGEST_USE = 86_400.0  # seconds for which keys are in force after they were fetched
_HEADERS = {"Accept": "application/jwk-set+json, application/json", "Accept-Encoding": "identity"}


@dataclass(frozen=True, slots=True)
class KeySetSource:
    """Where a set is. ``period``: seconds between two fetches. ``tls``: in place of the system's authorities."""

    url: str
    algorithms: tuple[str, ...]
    period: float = 300.0
    tls: ssl.SSLContext | None = None

    def is_same_set(self, other: KeySetSource) -> bool:
        """Whether the keys of the other one are those of this one."""
        return (self.url, self.algorithms) == (other.url, other.algorithms)


@dataclass(frozen=True, slots=True)
class FetchedKeys:
    """Keys, and when they were fetched, by the clock of ``KeySetUrl``."""

    keys: VerificationKeys
    at: float


_NOTHING = FetchedKeys(VerificationKeys(), -_LONGEST_USE)


class KeySetUrl:
    """The keys of one set. ``before``: that of the gateway before this one, whose keys are in force until new ones come.

    ``clock`` gives seconds that never go back. Keys stay in force for a day after they were fetched, should the URL not answer.
    """

    def __init__(
        self, source: KeySetSource, before: KeySetUrl | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.source = source
        self._clock = clock
        self._tried_at = -_LONGEST_USE
        self._wanted: asyncio.Event | None = None
        self._fetching = False
        self._error = ""
        kept = before is not None and source.is_same_set(before.source)
        self.fetched: FetchedKeys = before.fetched if before is not None and kept else _NOTHING

    @property
    def invalid(self) -> bool:
        """Whether the latest fetch has failed."""
        return bool(self._error)

    @property
    def keys(self) -> VerificationKeys:
        """The keys in force; none before the first fetch, and once the last one is more than a day ago."""
        return self.fetched.keys if self._clock() - self.fetched.at < _LONGEST_USE else VerificationKeys()

    def want(self) -> bool:
        """A token names a key that is not in force: fetch the set soon, where it may be. Returns whether keys are on their way."""
        if self._wanted is None:
            return False
        if not self._fetching and self._clock() - self._tried_at >= _LEAST_PAUSE:
            self._wanted.set()
        return self._fetching or self._wanted.is_set() or not self.keys.keys

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Fetch the set again and again while the block lasts, which begins once the first fetch has ended."""
        self._wanted = asyncio.Event()
        await self._fetch()
        task = asyncio.create_task(self._run(self._wanted))
        try:
            yield
        finally:
            self._wanted = None
            task.cancel()
            await asyncio.wait((task,))

    async def _run(self, wanted: asyncio.Event) -> None:
        while True:
            pause = min(self.source.period, _LEAST_PAUSE) if self._error else self.source.period
            with suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await wanted.wait()
            await self._fetch()
            wanted.clear()

    async def _fetch(self) -> None:
        """Put the set into force; what fails is logged once, and leaves the keys before it in force."""
        self._fetching, self._tried_at, before = True, self._clock(), self._error
        try:
            keys = parse_key_set(await self._body(), self.source.url, self.source.algorithms)
        except (SettingsError, aiohttp.ClientError, OSError, ValueError, OverflowError) as error:
            faults = error.faults if isinstance(error, SettingsError) else [f"{type(error).__name__}: {error}"]
            self._error = "; ".join(faults)
            if self._error != before:
                _log.error("callers.jwt.key_url: %s cannot be used: %s", self.source.url, self._error)
        else:
            for reason in keys.ignored if keys.ignored != self.fetched.keys.ignored else ():
                _log.warning("%s: %s", self.source.url, reason)
            self.fetched, self._error = FetchedKeys(keys, self._clock()), ""
        finally:
            self._fetching = False

    async def _body(self) -> bytes:
        """The body of the set, of at most 256 KiB. Redirects are not followed."""
        connector = aiohttp.TCPConnector(ssl=self.source.tls or True, force_close=True)
        session = aiohttp.ClientSession(
            connector=connector, cookie_jar=aiohttp.DummyCookieJar(), headers=_HEADERS, auto_decompress=False
        )
        async with (
            asyncio.timeout(_FETCH_SECONDS),
            session,
            session.get(self.source.url, allow_redirects=False) as found,
        ):
            if found.status != 200:
                raise ValueError(f"it answers with status {found.status}")
            body = bytearray()
            async for chunk in found.content.iter_any():
                body += chunk
                if len(body) > _MOST_BYTES:
                    raise OverflowError(f"it is larger than {_MOST_BYTES} bytes")
            coding = coding_of(found.headers.get("Content-Encoding", ""))
            return inflated(bytes(body), coding, _MOST_BYTES) if coding else bytes(body)
