"""Serves a gateway: its public and its admin application, until a signal stops both."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import signal
import socket
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import uvicorn

from modeltoll.gateway.server.http_protocol import CLOSE, HeadTimeoutProtocol, raise_file_limit
from modeltoll.gateway.server.listening import listen, listen_all
from modeltoll.gateway.server.reload import ReloadingGateway

if TYPE_CHECKING:
    from pathlib import Path

    from starlette.types import ASGIApp

    from modeltoll.gateway.assembly.gateway import Gateway
    from modeltoll.gateway.server.grpc_server import GrpcServer
    from modeltoll.gateway.settings.gateway import Settings
    from modeltoll.gateway.state import ServerState

__all__ = [
    "Listener",
    "ShutdownPolicy",
    "SignalPolicy",
    "background_server",
    "event_loop_runner",
    "grpc_server",
    "listen",
    "run",
    "run_servers",
    "serve",
    "shutdown_policy",
    "temporary_server",
]

log = logging.getLogger("modeltoll.gateway")

_GRACE_SECONDS = 30
_KEEP_SECONDS = 75
_MIB = 1 << 20

Listener = tuple["ASGIApp", Sequence[socket.socket]]  # an application, and the sockets on which it listens


class _Server(uvicorn.Server):
    """A server that installs no signal handlers."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    def close_after_responses(self) -> None:
        """From now on each response says that its connection closes, also those to requests that are being handled."""
        self.config.encoded_headers.append(CLOSE)
        self.server_state.default_headers = [*self.server_state.default_headers, CLOSE]
        for connection in self.server_state.connections:
            if isinstance(connection, HeadTimeoutProtocol):
                connection.close_after_response()


def _server(app: ASGIApp, finish_seconds: int = _GRACE_SECONDS, keep_alive_seconds: int = _KEEP_SECONDS) -> _Server:
    config = uvicorn.Config(
        app,
        http=HeadTimeoutProtocol,
        interface="asgi3",
        lifespan="off",
        ws="none",
        access_log=False,
        log_config=None,  # see observability/logging_setup.py
        log_level="warning",
        server_header=False,
        proxy_headers=False,  # see callers/identify.py
        timeout_keep_alive=keep_alive_seconds,
        timeout_graceful_shutdown=finish_seconds,
    )
    return _Server(config)


@contextlib.asynccontextmanager
async def background_server(app: ASGIApp, listening: socket.socket) -> AsyncIterator[None]:
    """Serve an application on that socket while the block lasts."""
    server = _server(app)
    serving = asyncio.create_task(server.serve([listening]))
    try:
        yield
    finally:
        server.should_exit = True
        await serving


@contextlib.asynccontextmanager
async def temporary_server(app: ASGIApp) -> AsyncIterator[str]:
    """Serve an application on a free loopback port while the block lasts; yields its URL."""
    with listen("calibration", "127.0.0.1:0") as listening:
        async with background_server(app, listening):
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"


def event_loop_runner(app: ASGIApp) -> asyncio.Runner:
    """A runner of the event loop that uvicorn chooses: uvloop where it is installed."""
    return asyncio.Runner(loop_factory=_server(app).config.get_loop_factory())


def run(
    settings: Settings, gateway: Gateway, ready: Callable[[], None] = lambda: None, path: Path | None = None
) -> None:
    """As ``serve``, in an event loop of its own."""
    with event_loop_runner(gateway.public) as loop:
        loop.run(serve(settings, gateway, ready, path))


async def serve(
    settings: Settings, gateway: Gateway, ready: Callable[[], None] = lambda: None, path: Path | None = None
) -> None:
    """Serve until SIGINT or SIGTERM; settings are reloaded when the file at ``path`` changes. See ``run_servers``.

    Raises:
        SettingsError: an address cannot be listened on. LedgerError: the ledger cannot be opened.
    """
    reloading = ReloadingGateway(gateway, path)
    with listen_all("listen", settings.listen_addresses) as public, listen("admin", settings.admin) as admin:
        async with reloading.open():
            listeners = ((reloading.public, public), (reloading.admin, (admin,)))
            signals = SignalPolicy(reloading.reload, shutdown_policy(gateway))
            await run_servers(listeners, ready, signals, grpc_server(reloading))


def grpc_server(reloading: ReloadingGateway, address: str | None = None) -> GrpcServer | None:
    """The server of the gRPC side; None where the settings have no address for it.

    ``address``: the one that several processes share, which another process keeps.
    """
    settings = reloading.gateway.settings
    if settings.listen_grpc is None:
        return None
    from modeltoll.gateway.server.grpc_server import GrpcListener, GrpcServer  # noqa: PLC0415  an extra

    return GrpcServer(
        GrpcListener(
            address or settings.listen_grpc,
            reloading.serves_grpc,
            reloading.grpc,
            int(settings.limits.body_mib * _MIB),
            shared=address is not None,
        )
    )


@dataclass(frozen=True, slots=True)
class ShutdownPolicy:
    """How a gateway stops.

    For ``drain_seconds`` it reports that it is not ready and serves on, so that load balancers send requests elsewhere.
    Meanwhile every response closes its connection, so that few are in use at the end. Then it accepts no more requests,
    and active ones have ``finish_seconds`` to complete. An idle connection is kept for ``keep_alive_seconds``.
    """

    state: ServerState
    drain_seconds: float = 0.0
    finish_seconds: int = _GRACE_SECONDS
    keep_alive_seconds: int = _KEEP_SECONDS


def shutdown_policy(gateway: Gateway) -> ShutdownPolicy:
    """The shutdown policy of the gateway's settings."""
    operation = gateway.settings.operation
    return ShutdownPolicy(
        gateway.shared.state, operation.drain_seconds, operation.finish_seconds, operation.keep_alive_seconds
    )


@dataclass(frozen=True, slots=True)
class SignalPolicy:
    """What signals do: SIGHUP calls ``reload``, SIGTERM drains and stops, each of ``stop_signals`` stops without draining.

    The servers also stop when the file descriptor ``stop_descriptor`` becomes readable.
    """

    reload: Callable[[], None]
    shutdown: ShutdownPolicy
    stop_signals: Sequence[signal.Signals] = (signal.SIGINT,)
    stop_descriptor: int | None = None


async def run_servers(
    listeners: Sequence[Listener], ready: Callable[[], None], signals: SignalPolicy, grpc: GrpcServer | None = None
) -> None:
    """Serve all listeners until a signal stops them; ``ready`` is called when the signal handlers are installed.

    The first listener is the public application. It stops first, with the side over gRPC, then the others, so that the readiness check answers
    "not ready" until the last request is completed. A second signal stops everything at once.
    """
    raise_file_limit()
    policy = signals.shutdown
    servers = tuple(_server(app, policy.finish_seconds, policy.keep_alive_seconds) for app, _ in listeners)
    loop, shutdown = asyncio.get_running_loop(), _Shutdown(servers, policy, grpc)
    if grpc is not None:
        await grpc.start()
    loop.add_signal_handler(signal.SIGHUP, signals.reload)
    loop.add_signal_handler(signal.SIGTERM, shutdown.begin, policy.drain_seconds)
    for number in signals.stop_signals:
        loop.add_signal_handler(number, shutdown.begin, 0.0)
    if signals.stop_descriptor is not None:
        loop.add_reader(signals.stop_descriptor, _begin_once, loop, signals.stop_descriptor, shutdown)
    gc.freeze()  # what was built so far is never freed; the collector need not scan it
    ready()
    await asyncio.gather(
        *(shutdown.serve(server, sockets) for server, (_, sockets) in zip(servers, listeners, strict=True))
    )


class _Shutdown:
    """Stops several servers, the first one before the others."""

    def __init__(self, servers: Sequence[_Server], policy: ShutdownPolicy, grpc: GrpcServer | None) -> None:
        self._first, *self._others = servers
        self._policy = policy
        self._state = policy.state
        self._grpc = grpc
        self._grpc_steps: set[asyncio.Task[None]] = set()

    async def serve(self, server: _Server, listening: Sequence[socket.socket]) -> None:
        await server.serve(list(listening))
        if server is self._first:
            if self._grpc is not None:
                await self._grpc.stop(0.0 if server.force_exit else self._policy.finish_seconds)
            for other in self._others:
                other.should_exit = True

    def begin(self, drain: float) -> None:
        """Stop after ``drain`` seconds; a second call stops at once."""
        if self._state.draining:
            for server in (self._first, *self._others):
                server.should_exit = server.force_exit = True
            self._tell_grpc(lambda grpc: grpc.stop(0.0))
            return
        self._state.draining = True
        self._first.close_after_responses()
        self._tell_grpc(lambda grpc: grpc.drain())
        if drain:
            log.info("draining: the gateway reports that it is not ready; in %g s it accepts no more requests", drain)
        asyncio.get_running_loop().call_later(drain, self._stop_first)

    def _stop_first(self) -> None:
        self._first.should_exit = True
        self._tell_grpc(lambda grpc: grpc.stop(self._policy.finish_seconds))

    def _tell_grpc(self, step: Callable[[GrpcServer], Coroutine[Any, Any, None]]) -> None:
        if self._grpc is not None:
            task = asyncio.ensure_future(step(self._grpc))
            self._grpc_steps.add(task)
            task.add_done_callback(self._grpc_steps.discard)


def _begin_once(loop: asyncio.AbstractEventLoop, descriptor: int, shutdown: _Shutdown) -> None:
    loop.remove_reader(descriptor)
    shutdown.begin(0.0)
