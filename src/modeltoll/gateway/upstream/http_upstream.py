"""A client of a model server over HTTP."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import aiohttp
from yarl import URL

from modeltoll import wire
from modeltoll.errors import UpstreamError, UpstreamTimeout
from modeltoll.gateway.protocols.protocol import JSON
from modeltoll.gateway.upstream.body_payload import body_payload
from modeltoll.gateway.upstream.http_attempt import Attempt, NotingConnector, attempt
from modeltoll.gateway.upstream.read_answer import answer_stream
from modeltoll.gateway.upstream.upstream import NO_HEAD

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Iterator, Mapping

    from modeltoll.gateway.upstream.upstream import AnswerStream, RequestHead
    from modeltoll.records import Answer

__all__ = ["HttpOptions", "HttpUpstream"]

_MAX_HEADER_BYTES = 32 << 10  # of one line of an answer's head


@dataclass(frozen=True, slots=True)
class HttpOptions:
    """How a model server is connected to.

    ``connections``: the most at once. ``keep_alive``: seconds for which an idle one is kept; less than the server keeps it,
    and 0 for a new connection for each request. ``tls``: for ``https``, in place of the system's authorities.
    ``answer_headers``: names, in small letters, of the answer's headers that are passed on.
    """

    connections: int = 64
    keep_alive: float = 4.0
    tls: ssl.SSLContext | None = None
    answer_headers: tuple[str, ...] = ()


_DEFAULT_OPTIONS = HttpOptions()


class HttpUpstream:
    """An HTTP server, through a pool of kept connections.

    ``timeout`` is in seconds, for one request from connecting to the last byte of its answer, or to the head of a stream and
    then for each pause in it; ``max_body`` bounds an answer in bytes. ``headers`` returns headers, with names in small letters, to add to each request; they replace those
    of a request's head. A request that meets a connection which the
    server has just closed is sent once more, on a new connection; ``on_retry`` is then called. A prediction changes
    nothing in the server, so that it may be asked for twice.
    """

    def __init__(
        self,
        url: str,
        *,
        timeout: float = 30.0,
        max_body: int = 64 << 20,
        headers: Callable[[], Mapping[str, str]] = dict,
        on_retry: Callable[[], None] = lambda: None,
        options: HttpOptions = _DEFAULT_OPTIONS,
    ) -> None:
        self._url = url.rstrip("/")
        self._timeout = timeout
        self._options = options
        self._max_body = max_body
        self._headers = headers
        self._on_retry = on_retry
        self._session: aiohttp.ClientSession | None = None
        self._retry_session: aiohttp.ClientSession | None = None

    async def open(self) -> None:
        """Create the pool; connections are opened on demand."""
        options = self._options
        tls = True if options.tls is None else options.tls
        kept = {"keepalive_timeout": options.keep_alive} if options.keep_alive else {"force_close": True}
        self._session = _session(NotingConnector(limit=options.connections, ssl=tls, **kept))
        self._retry_session = _session(NotingConnector(limit=options.connections, ssl=tls, force_close=True))

    async def close(self) -> None:
        """Close the pool."""
        sessions, self._session, self._retry_session = (self._session, self._retry_session), None, None
        for session in sessions:
            if session is not None:
                await session.close()

    async def predict(self, path: str, body: bytes, content_type: str = JSON, head: RequestHead = NO_HEAD) -> Answer:
        """See ``Upstream.predict``."""
        return await self._ask("POST", self._target(path, head), body, self._posted(content_type, head))

    @asynccontextmanager
    async def stream(
        self, path: str, body: bytes, content_type: str = JSON, head: RequestHead = NO_HEAD
    ) -> AsyncIterator[AnswerStream]:
        """See ``Upstream.stream``. A stream that is left before its end closes its connection."""
        with _as_upstream_errors():
            async with asyncio.timeout(self._timeout):
                response = await self._send("POST", self._target(path, head), body, self._posted(content_type, head))
        try:
            answer = answer_stream(response, self._max_body, self._options.answer_headers)
            yield replace(answer, chunks=_in_time(answer.chunks, self._timeout))
        finally:
            response.close()

    async def fetch(self, path: str, head: RequestHead = NO_HEAD) -> Answer:
        """See ``Upstream.fetch``."""
        return await self._ask("GET", self._target(path, head), None, {**head.all_headers, **self._headers()})

    def _posted(self, content_type: str, head: RequestHead) -> dict[str, str]:
        """The headers of a request with a body."""
        return {**head.all_headers, **self._headers(), **wire.content_headers(content_type)}

    def _target(self, path: str, head: RequestHead) -> URL:
        """The URL of a path, and the head's query exactly as it was read."""
        url = URL(self._url + path)
        return URL(f"{url}?{head.query}", encoded=True) if head.query else url

    async def _ask(self, method: str, url: URL, body: bytes | None, headers: Mapping[str, str]) -> Answer:
        with _as_upstream_errors():
            async with asyncio.timeout(self._timeout), await self._send(method, url, body, headers) as response:
                return await answer_stream(response, self._max_body, self._options.answer_headers).whole()

    async def _send(
        self, method: str, url: URL, body: bytes | None, headers: Mapping[str, str]
    ) -> aiohttp.ClientResponse:
        """Send a request, once more where its connection was closed meanwhile; its response, once the head has come."""
        session, retry_session = self._session, self._retry_session
        if session is None or retry_session is None:
            raise UpstreamError("the gateway is not open")
        noted = Attempt()
        token = attempt.set(noted)
        try:
            return await session.request(method, url, data=body_payload(body), headers=headers, allow_redirects=False)
        except (aiohttp.ClientConnectionError, OSError):
            if not noted.repeatable:
                raise
        finally:
            attempt.reset(token)
        self._on_retry()
        return await retry_session.request(method, url, data=body_payload(body), headers=headers, allow_redirects=False)


async def _in_time(chunks: AsyncIterator[bytes], seconds: float) -> AsyncIterator[bytes]:
    """The chunks of a stream, each of which must come within so many seconds."""
    while True:
        with _as_upstream_errors("the model server's stream paused for too long"):
            async with asyncio.timeout(seconds):
                chunk = await anext(chunks, b"")  # none of them is empty
        if not chunk:
            return
        yield chunk


@contextmanager
def _as_upstream_errors(too_late: str = "the model server did not answer in time") -> Iterator[None]:
    """Raise ``UpstreamError`` for what goes wrong with a connection, and ``UpstreamTimeout`` for what takes too long."""
    try:
        yield
    except TimeoutError:
        raise UpstreamTimeout(too_late) from None
    except (aiohttp.ClientError, asyncio.IncompleteReadError, OSError) as error:
        reason = f"{type(error).__name__}: {error}"  # whose repr would show the request's headers
        raise UpstreamError("the model server does not answer", private=reason) from None


def _session(connector: aiohttp.BaseConnector) -> aiohttp.ClientSession:
    """A session that adds nothing of its own to requests and answers."""
    session = aiohttp.ClientSession(
        connector=connector,
        timeout=aiohttp.ClientTimeout(total=None),  # the caller of a request sets one
        cookie_jar=aiohttp.DummyCookieJar(),
        headers={"Accept": "*/*", "Accept-Encoding": "identity"},
        auto_decompress=False,
        max_line_size=_MAX_HEADER_BYTES,
        max_field_size=_MAX_HEADER_BYTES,
    )
    session._retry_connection = False  # aiohttp would send a GET again besides  # noqa: SLF001
    return session
