"""Run an assembled gateway: the public side and the operator's side, until a signal ends both."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import signal
import socket
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from typing import TYPE_CHECKING

import uvicorn

from modeltoll.errors import SettingsError

if TYPE_CHECKING:
    from starlette.applications import Starlette
    from starlette.types import ASGIApp

    from modeltoll.gateway.assemble import Assembly
    from modeltoll.gateway.settings import Settings

__all__ = ["Post", "attend", "lent", "listen", "run", "runner", "serve", "served"]

_GRACE_SECONDS = 30
_KEEP_SECONDS = 75  # longer than clients and proxies keep idle connections, or they write into closed ones
_BACKLOG = 1024

Post = tuple["ASGIApp", socket.socket]  # an application, and where it listens


class _Server(uvicorn.Server):
    """A server that leaves signals to whoever runs it."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def listen(setting: str, address: str) -> socket.socket:
    """A listening socket at ``HOST:PORT``.

    Raises:
        SettingsError: it cannot be had; the fault names ``setting``.
    """
    host, _, port = address.rpartition(":")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listening = socket.create_server((host.strip("[]"), int(port)), family=family, backlog=_BACKLOG)
    except OSError as error:
        raise SettingsError([f"{setting}: cannot listen on {address}: {error.strerror}; choose another"]) from None
    # Connections inherit this. asyncio does not see to it for sockets that it was handed, and then every answer
    # waits some 40 ms for the other side's delayed acknowledgement.
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listening


def _server(app: ASGIApp) -> _Server:
    config = uvicorn.Config(
        app,
        lifespan="off",
        ws="none",
        access_log=False,
        log_level="warning",
        server_header=False,
        proxy_headers=False,  # callers.py decides whom to believe
        timeout_keep_alive=_KEEP_SECONDS,
        timeout_graceful_shutdown=_GRACE_SECONDS,
    )
    return _Server(config)


@contextlib.asynccontextmanager
async def served(app: Starlette, listening: socket.socket) -> AsyncIterator[None]:
    """Serve an application on that socket for as long as the block lasts."""
    server = _server(app)
    serving = asyncio.create_task(server.serve([listening]))
    try:
        yield
    finally:
        server.should_exit = True
        await serving


@contextlib.asynccontextmanager
async def lent(app: Starlette) -> AsyncIterator[str]:
    """The same on a loopback port of its own; yields its address."""
    with listen("calibration", "127.0.0.1:0") as listening:
        async with served(app, listening):
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"


def runner(app: ASGIApp) -> asyncio.Runner:
    """An event loop of uvicorn's choice, which is uvloop where there is one."""
    return asyncio.Runner(loop_factory=_server(app).config.get_loop_factory())


def run(settings: Settings, assembly: Assembly, ready: Callable[[], None] = lambda: None) -> None:
    """As ``serve``, in an event loop of its own."""
    with runner(assembly.public) as loop:
        loop.run(serve(settings, assembly, ready))


async def serve(settings: Settings, assembly: Assembly, ready: Callable[[], None] = lambda: None) -> None:
    """Serve until SIGINT or SIGTERM; requests that are inside are finished first, unless a second signal comes.

    Raises:
        SettingsError: an address cannot be listened on. LedgerError: the ledger cannot be opened.
    """
    with listen("listen", settings.listen) as public, listen("admin", settings.admin) as private:
        async with assembly.opened():
            posts = ((assembly.public, public), (assembly.admin, private))
            await attend(posts, ready, signals=(signal.SIGINT, signal.SIGTERM))


async def attend(
    posts: Sequence[Post], ready: Callable[[], None], *, signals: Sequence[signal.Signals], until: int | None = None
) -> None:
    """Serve all posts until one of the signals comes, or the file descriptor ``until`` can be read."""
    servers = tuple(_server(app) for app, _ in posts)
    loop = asyncio.get_running_loop()
    for number in signals:
        loop.add_signal_handler(number, _stop, servers)
    if until is not None:
        loop.add_reader(until, _stop_once, loop, until, servers)
    gc.freeze()  # all that was built so far stays; the collector need not look at it again and again
    ready()
    await asyncio.gather(*(server.serve([sock]) for server, (_, sock) in zip(servers, posts, strict=True)))


def _stop_once(loop: asyncio.AbstractEventLoop, until: int, servers: tuple[_Server, ...]) -> None:
    loop.remove_reader(until)
    _stop(servers)


def _stop(servers: tuple[_Server, ...]) -> None:
    for server in servers:
        server.force_exit = server.should_exit
        server.should_exit = True
