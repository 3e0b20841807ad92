"""Run an assembled gateway: the public side and the operator's side, until a signal ends both."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import uvicorn

from modeltoll.errors import SettingsError

if TYPE_CHECKING:
    from starlette.applications import Starlette

    from modeltoll.gateway.assemble import Assembly
    from modeltoll.gateway.settings import Settings

__all__ = ["serve"]

_GRACE_SECONDS = 30
_BACKLOG = 1024


class _Server(uvicorn.Server):
    """A server that leaves signals to whoever runs it."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def _listen(setting: str, address: str) -> socket.socket:
    host, _, port = address.rpartition(":")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host.strip("[]"), int(port)), family=family, backlog=_BACKLOG)
    except OSError as error:
        raise SettingsError([f"{setting}: cannot listen on {address}: {error.strerror}; choose another"]) from None


def _server(app: Starlette) -> _Server:
    config = uvicorn.Config(
        app,
        lifespan="off",
        access_log=False,
        log_level="warning",
        server_header=False,
        proxy_headers=False,  # callers.py decides whom to believe
        timeout_graceful_shutdown=_GRACE_SECONDS,
    )
    return _Server(config)


async def serve(settings: Settings, assembly: Assembly, ready: Callable[[], None] = lambda: None) -> None:
    """Serve until SIGINT or SIGTERM; requests that are inside are finished first.

    Raises:
        SettingsError: an address cannot be listened on. LedgerError: the ledger cannot be opened.
    """
    with _listen("listen", settings.listen) as public, _listen("admin", settings.admin) as private:
        async with assembly.opened():
            servers = (_server(assembly.public), _server(assembly.admin))
            loop = asyncio.get_running_loop()
            for number in (signal.SIGINT, signal.SIGTERM):
                loop.add_signal_handler(number, _stop, servers)
            ready()
            await asyncio.gather(
                *(server.serve([sock]) for server, sock in zip(servers, (public, private), strict=True))
            )


def _stop(servers: tuple[_Server, ...]) -> None:
    for server in servers:
        server.should_exit = True
