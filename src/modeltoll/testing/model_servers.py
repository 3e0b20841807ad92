"""Stand-ins for model servers: an ``Upstream`` without a network, an application on a local port, a scripted connection."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from typing import Any

import uvicorn

from modeltoll.errors import ModeltollError
from modeltoll.gateway.upstream.upstream import NO_HEAD, AnswerStream, RequestHead
from modeltoll.records import Answer

__all__ = ["FakeUpstream", "Script", "scripted_server", "serving"]

_STOP_SECONDS = 10.0

Script = Sequence[bytes | threading.Event]


class FakeUpstream:
    """An ``Upstream`` that answers without a network.

    ``handler`` maps a request's (path, body) to the answer, or is an error to raise. ``requests`` records (path, body) of
    every request, with an empty body for a GET; ``content_types`` and ``heads`` record what came with it.
    """

    def __init__(self, handler: Callable[[str, bytes], Answer] | ModeltollError) -> None:
        self.handler = handler
        self.requests: list[tuple[str, bytes]] = []
        self.content_types: list[str] = []
        self.heads: list[RequestHead] = []

    async def open(self) -> None:
        """Do nothing."""

    async def close(self) -> None:
        """Do nothing."""

    async def predict(
        self, path: str, body: bytes, content_type: str = "application/json", head: RequestHead = NO_HEAD
    ) -> Answer:
        """See ``Upstream.predict``."""
        self.requests.append((path, body))
        self.content_types.append(content_type)
        self.heads.append(head)
        if isinstance(self.handler, ModeltollError):
            raise self.handler
        return self.handler(path, body)

    @contextlib.asynccontextmanager
    async def stream(
        self, path: str, body: bytes, content_type: str = "application/json", head: RequestHead = NO_HEAD
    ) -> AsyncIterator[AnswerStream]:
        """See ``Upstream.stream``: the answer of the handler, in one chunk."""
        yield AnswerStream.of(await self.predict(path, body, content_type, head))

    async def fetch(self, path: str, head: RequestHead = NO_HEAD) -> Answer:
        """See ``Upstream.fetch``."""
        return await self.predict(path, b"", head=head)


@contextlib.contextmanager
def serving(app: Any) -> Iterator[str]:
    """Serve an ASGI application in a thread on a free port of 127.0.0.1; yields its URL."""
    server = uvicorn.Server(
        uvicorn.Config(
            app,
            lifespan="off",
            ws="none",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            timeout_graceful_shutdown=round(_STOP_SECONDS),
        )
    )
    listening = socket.create_server(("127.0.0.1", 0), backlog=512)
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    thread = threading.Thread(target=server.run, args=([listening],), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(2 * _STOP_SECONDS)
        listening.close()


@contextlib.contextmanager
def scripted_server(script: Script) -> Iterator[str]:
    """Serve a script: read the head of a request, send the bytes of ``script``, close the connection; yields the URL.

    An event in the script makes the server wait until it is set, or until the ``with`` block ends.
    """
    listening = socket.create_server(("127.0.0.1", 0))
    finished = threading.Event()

    def respond(connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            received = b""
            while b"\r\n\r\n" not in received and (chunk := connection.recv(65536)):
                received += chunk
            for step in script:
                if isinstance(step, bytes):
                    connection.sendall(step)
                else:
                    while not (step.wait(0.01) or finished.is_set()):
                        pass

    def accept() -> None:
        with contextlib.suppress(OSError):  # the listening socket was closed
            while True:
                connection, _ = listening.accept()
                threading.Thread(target=respond, args=(connection,), daemon=True).start()

    thread = threading.Thread(target=accept, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    finally:
        finished.set()
        listening.shutdown(socket.SHUT_RDWR)
        thread.join(2 * _STOP_SECONDS)
        listening.close()
