"""Run an assembled gateway: the public side and the operator's side, until a signal ends both."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import signal
import socket
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import uvicorn

from modeltoll.errors import SettingsError
from modeltoll.gateway.server.http_protocol import HeadTimeoutProtocol, raise_file_limit
from modeltoll.gateway.server.reload import ReloadingGateway

if TYPE_CHECKING:
    from pathlib import Path

    from starlette.applications import Starlette
    from starlette.types import ASGIApp

    from modeltoll.gateway.assembly.gateway import Gateway
    from modeltoll.gateway.settings.load import Settings
    from modeltoll.gateway.state import ServerState

__all__ = [
    "Listener",
    "ShutdownPolicy",
    "SignalPolicy",
    "background_server",
    "event_loop_runner",
    "listen",
    "run",
    "run_servers",
    "serve",
    "shutdown_policy",
    "temporary_server",
]

log = logging.getLogger("modeltoll.gateway")

_GRACE_SECONDS = 30
_KEEP_SECONDS = 75  # longer than clients and proxies keep idle connections, or they write into closed ones
_BACKLOG = 1024

Listener = tuple["ASGIApp", socket.socket]  # an application, and where it listens


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


def _server(app: ASGIApp, finish: int = _GRACE_SECONDS) -> _Server:
    config = uvicorn.Config(
        app,
        http=HeadTimeoutProtocol,
        interface="asgi3",
        lifespan="off",
        ws="none",
        access_log=False,
        log_config=None,  # logs.py decides how it looks
        log_level="warning",
        server_header=False,
        proxy_headers=False,  # callers.py decides whom to believe
        timeout_keep_alive=_KEEP_SECONDS,
        timeout_graceful_shutdown=finish,
    )
    return _Server(config)


@contextlib.asynccontextmanager
async def background_server(app: Starlette, listening: socket.socket) -> AsyncIterator[None]:
    """Serve an application on that socket for as long as the block lasts."""
    server = _server(app)
    serving = asyncio.create_task(server.serve([listening]))
    try:
        yield
    finally:
        server.should_exit = True
        await serving


@contextlib.asynccontextmanager
async def temporary_server(app: Starlette) -> AsyncIterator[str]:
    """The same on a loopback port of its own; yields its address."""
    with listen("calibration", "127.0.0.1:0") as listening:
        async with background_server(app, listening):
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"


def event_loop_runner(app: ASGIApp) -> asyncio.Runner:
    """An event loop of uvicorn's choice, which is uvloop where there is one."""
    return asyncio.Runner(loop_factory=_server(app).config.get_loop_factory())


def run(
    settings: Settings, assembly: Gateway, ready: Callable[[], None] = lambda: None, path: Path | None = None
) -> None:
    """As ``serve``, in an event loop of its own."""
    with event_loop_runner(assembly.public) as loop:
        loop.run(serve(settings, assembly, ready, path))


async def serve(
    settings: Settings, assembly: Gateway, ready: Callable[[], None] = lambda: None, path: Path | None = None
) -> None:
    """Serve until SIGINT or SIGTERM, by the settings in the file at ``path`` as it changes; see ``run_servers``.

    Raises:
        SettingsError: an address cannot be listened on. LedgerError: the ledger cannot be opened.
    """
    household = ReloadingGateway(assembly, path)
    with listen("listen", settings.listen) as public, listen("admin", settings.admin) as private:
        async with household.opened():
            posts = ((household.public, public), (household.admin, private))
            await run_servers(posts, ready, SignalPolicy(household.read_again, shutdown_policy(assembly)))


@dataclass(frozen=True, slots=True)
class ShutdownPolicy:
    """How a gateway leaves: for ``drain`` seconds it denies its readiness and serves on, so that nobody sends it more;
    then requests inside have ``finish`` seconds."""

    standing: ServerState
    drain: float = 0.0
    finish: int = 30


def shutdown_policy(assembly: Gateway) -> ShutdownPolicy:
    """As its settings say."""
    operation = assembly.settings.operation
    return ShutdownPolicy(assembly.ground.standing, operation.drain_seconds, operation.finish_seconds)


@dataclass(frozen=True, slots=True)
class SignalPolicy:
    """What signals mean: SIGHUP ``again``, SIGTERM and each of ``ends`` the end. It also comes when the file descriptor
    ``until`` can be read."""

    again: Callable[[], None]
    leave: ShutdownPolicy
    ends: Sequence[signal.Signals] = (signal.SIGINT,)
    until: int | None = None


async def run_servers(posts: Sequence[Listener], ready: Callable[[], None], duty: SignalPolicy) -> None:
    """Serve all posts until the end comes.

    The first of them is the public side. It leaves first, the others when it has: whoever asks for readiness hears that
    it is denied until the last request is answered. A second signal waits for nobody.
    """
    raise_file_limit()
    servers = tuple(_server(app, duty.leave.finish) for app, _ in posts)
    loop, leaving = asyncio.get_running_loop(), _Shutdown(servers, duty.leave)
    loop.add_signal_handler(signal.SIGHUP, duty.again)
    loop.add_signal_handler(signal.SIGTERM, leaving.begin, duty.leave.drain)
    for number in duty.ends:
        loop.add_signal_handler(number, leaving.begin, 0.0)
    if duty.until is not None:
        loop.add_reader(duty.until, _begin_once, loop, duty.until, leaving)
    gc.freeze()  # all that was built so far stays; the collector need not look at it again and again
    ready()
    await asyncio.gather(*(leaving.serve(server, sock) for server, (_, sock) in zip(servers, posts, strict=True)))


class _Shutdown:
    """The end of several servers, of which the first goes first."""

    def __init__(self, servers: Sequence[_Server], leave: ShutdownPolicy) -> None:
        self._first, *self._others = servers
        self._leave = leave

    async def serve(self, server: _Server, listening: socket.socket) -> None:
        await server.serve([listening])
        if server is self._first:
            for other in self._others:
                other.should_exit = True

    def begin(self, drain: float) -> None:
        """Leave after so many seconds; when this is said again, at once."""
        if self._leave.standing.leaving:
            for server in (self._first, *self._others):
                server.should_exit = server.force_exit = True
            return
        self._leave.standing.leaving = True
        if drain:
            log.info("leaving: readiness is denied; in %g s nobody else is let in", drain)
        asyncio.get_running_loop().call_later(drain, self._close)

    def _close(self) -> None:
        self._first.should_exit = True


def _begin_once(loop: asyncio.AbstractEventLoop, until: int, leaving: _Shutdown) -> None:
    loop.remove_reader(until)
    leaving.begin(0.0)
