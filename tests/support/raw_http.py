"""Raw HTTP to a server, and a whole gateway with its own HTTP server in a thread."""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

from modeltoll.gateway.assembly.build import build_gateway
from modeltoll.gateway.server.listening import listen_all
from modeltoll.gateway.server.serve import background_server
from modeltoll.gateway.settings.load import load_settings
from modeltoll.gateway.upstream.upstream import Upstream

__all__ = ["connect", "exchange", "serving_gateway", "statuses"]

_SECONDS = 30.0


@contextlib.contextmanager
def serving_gateway(path: Path, upstream: Upstream | None = None) -> Iterator[str]:
    """Serve the public side of the settings at ``path``; yields its first address, ``HOST:PORT`` or a socket's path."""
    settings = load_settings(path)
    ready, stop, loop = threading.Event(), asyncio.Event(), asyncio.new_event_loop()
    places: list[str] = []

    async def serve() -> None:
        gateway = build_gateway(settings, upstream)
        with listen_all("listen", settings.listen_addresses) as sockets:
            name = sockets[0].getsockname()
            places.append(name if isinstance(name, str) else f"{name[0]}:{name[1]}")
            async with gateway.open(), contextlib.AsyncExitStack() as stack:
                for listening in sockets:
                    await stack.enter_async_context(background_server(gateway.public, listening))
                ready.set()
                await stop.wait()

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),), daemon=True)
    thread.start()
    try:
        assert ready.wait(_SECONDS), "the gateway did not start"
        yield places[0]
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(_SECONDS)
        loop.close()


def connect(place: str) -> socket.socket:
    """A connection to ``HOST:PORT``, or to a Unix socket at a path."""
    if place.startswith("/"):
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(_SECONDS)
        connection.connect(place)
        return connection
    host, _, port = place.rpartition(":")
    return socket.create_connection((host.strip("[]"), int(port)), timeout=_SECONDS)


def exchange(place: str, sent: bytes, *, hang_up: bool = False) -> bytes:
    """Send bytes, and return what is received until the server closes, or is silent for half a second after an answer.

    ``hang_up``: end the sending direction after the bytes.
    """
    received = b""
    with connect(place) as connection, contextlib.suppress(TimeoutError, ConnectionError):
        connection.sendall(sent)
        if hang_up:
            connection.shutdown(socket.SHUT_WR)
        while chunk := connection.recv(65536):
            received += chunk
            connection.settimeout(0.5)
    return received


def statuses(received: bytes) -> list[int]:
    """The statuses of all responses in what was received."""
    return [int(code) for code in re.findall(rb"HTTP/1\.[01] (\d{3}) ", received)]
