"""A client of a model server over HTTP."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import aiohttp

from modeltoll import wire
from modeltoll.errors import AnswerError, UpstreamError, UpstreamTimeout
from modeltoll.gateway.protocols.protocol import JSON
from modeltoll.gateway.upstream.http_attempt import Attempt, NotingConnector, attempt
from modeltoll.gateway.upstream.upstream import NO_HEAD
from modeltoll.records import Answer

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from modeltoll.gateway.upstream.upstream import RequestHead

__all__ = ["HttpUpstream"]

_KEEP_SECONDS = 4.0  # below the 5 s after which common servers close an idle connection


class HttpUpstream:
    """An HTTP server, through a pool of kept connections.

    ``timeout`` is in seconds, for one request from connecting to the last byte of its answer; ``max_body`` bounds an
    answer in bytes. ``headers`` returns headers to add to each request. A request that meets a connection which the
    server has just closed is sent once more, on a new connection; ``on_retry`` is then called. A prediction changes
    nothing in the server, so that it may be asked for twice.
    """

    def __init__(
        self,
        url: str,
        *,
        timeout: float = 30.0,
        connections: int = 64,
        max_body: int = 64 << 20,
        headers: Callable[[], Mapping[str, str]] = dict,
        on_retry: Callable[[], None] = lambda: None,
    ) -> None:
        self._url = url.rstrip("/")
        self._timeout = timeout
        self._connections = connections
        self._max_body = max_body
        self._headers = headers
        self._on_retry = on_retry
        self._session: aiohttp.ClientSession | None = None
        self._retry_session: aiohttp.ClientSession | None = None

    async def open(self) -> None:
        """Create the pool; connections are opened on demand."""
        self._session = _session(NotingConnector(limit=self._connections, keepalive_timeout=_KEEP_SECONDS))
        self._retry_session = _session(NotingConnector(limit=self._connections, force_close=True))

    async def close(self) -> None:
        """Close the pool."""
        sessions, self._session, self._retry_session = (self._session, self._retry_session), None, None
        for session in sessions:
            if session is not None:
                await session.close()

    async def predict(self, path: str, body: bytes, content_type: str = JSON, head: RequestHead = NO_HEAD) -> Answer:
        """See ``Upstream.predict``."""
        headers = {**head.all_headers, **self._headers(), **wire.content_headers(content_type)}
        return await self._ask("POST", head.target(path), body, headers)

    async def fetch(self, path: str, head: RequestHead = NO_HEAD) -> Answer:
        """See ``Upstream.fetch``."""
        return await self._ask("GET", head.target(path), None, {**head.all_headers, **self._headers()})

    async def _ask(self, method: str, path: str, body: bytes | None, headers: Mapping[str, str]) -> Answer:
        session, retry_session = self._session, self._retry_session
        if session is None or retry_session is None:
            raise UpstreamError("the gateway is not open")
        noted = Attempt()
        token = attempt.set(noted)
        try:
            async with asyncio.timeout(self._timeout):
                try:
                    return await self._send(session, method, path, body, headers)
                except (aiohttp.ClientConnectionError, OSError):
                    if not noted.repeatable:
                        raise
                self._on_retry()
                return await self._send(retry_session, method, path, body, headers)
        except TimeoutError:
            raise UpstreamTimeout("the model server did not answer in time") from None
        except (aiohttp.ClientError, asyncio.IncompleteReadError, OSError) as error:
            raise UpstreamError("the model server does not answer", private=repr(error)) from None
        finally:
            attempt.reset(token)

    async def _send(
        self, session: aiohttp.ClientSession, method: str, path: str, body: bytes | None, headers: Mapping[str, str]
    ) -> Answer:
        async with session.request(
            method, self._url + path, data=body, headers=headers, allow_redirects=False
        ) as response:
            return await self._read(response)

    async def _read(self, response: aiohttp.ClientResponse) -> Answer:
        headers = response.headers
        if headers.get("Content-Encoding", "identity") != "identity":
            raise AnswerError("the model server's answer is compressed, though it was not asked for")
        content_type = headers.get("Content-Type", "application/octet-stream")
        if not (content_type.isascii() and content_type.isprintable()):
            raise AnswerError("the model server's content type cannot be read")
        too_large = AnswerError(f"the model server's answer is larger than {self._max_body} bytes")
        if (response.content_length or 0) > self._max_body:
            raise too_large
        chunks: list[bytes] = []
        size = 0
        async for chunk in response.content.iter_any():
            size += len(chunk)
            if size > self._max_body:
                raise too_large
            chunks.append(chunk)
        folded = wire.with_binary_length(content_type, headers.get(wire.BINARY_HEADER))
        return Answer(response.status, folded, b"".join(chunks))


def _session(connector: aiohttp.BaseConnector) -> aiohttp.ClientSession:
    """A session that adds nothing of its own to requests and answers."""
    session = aiohttp.ClientSession(
        connector=connector,
        timeout=aiohttp.ClientTimeout(total=None),  # the caller of a request sets one
        cookie_jar=aiohttp.DummyCookieJar(),
        headers={"Accept": "*/*", "Accept-Encoding": "identity"},
        auto_decompress=False,
    )
    session._retry_connection = False  # aiohttp would send a GET again besides  # noqa: SLF001
    return session
