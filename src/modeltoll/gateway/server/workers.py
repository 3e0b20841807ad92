"""Runs several worker processes on one address: starts them, replaces those that die, and stops them together.

The parent listens and serves nothing; each worker is a whole gateway that accepts connections from the same sockets. What
workers share is in the ledger, and in the keys that encrypt tokens, which the parent draws where the settings have none.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import secrets
import signal
import socket
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import TYPE_CHECKING

from pydantic import SecretStr

from modeltoll.errors import ModeltollError, SettingsError
from modeltoll.gateway.assembly.build import build_gateway
from modeltoll.gateway.observability.logging_setup import configure_logging
from modeltoll.gateway.observability.worker_metrics import WorkerMetricsApp
from modeltoll.gateway.server.listening import listen, listen_all
from modeltoll.gateway.server.reload import ReloadingGateway, keep_immutable
from modeltoll.gateway.server.serve import (
    SignalPolicy,
    event_loop_runner,
    grpc_server,
    run_servers,
    shutdown_policy,
)
from modeltoll.gateway.settings.load import load_settings
from modeltoll.ledger.from_url import ledger_spec

if TYPE_CHECKING:
    from multiprocessing.context import SpawnProcess
    from pathlib import Path

    from modeltoll.gateway.assembly.gateway import Gateway
    from modeltoll.gateway.settings.gateway import Settings

__all__ = ["run_workers"]

log = logging.getLogger("modeltoll.gateway")

_SPAWN = multiprocessing.get_context("spawn")  # a fork would copy connections, locks and the state of generators
_KEY_BYTES = 32
_RESTART_SECONDS = 1.0  # before a worker that never became ready is replaced
_STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_SIGNALS = (*_STOP_SIGNALS, signal.SIGHUP)


@dataclass(frozen=True, slots=True)
class _WorkerSetup:
    """What every worker is given: the settings and their file, the sockets to accept connections from, and the sockets
    on which each worker serves its own admin application. ``grpc``: the address that they share for gRPC, if any."""

    settings: Settings
    path: Path | None
    public: Sequence[socket.socket]
    admin: socket.socket
    worker_admins: Sequence[socket.socket]
    grpc: str | None = None


class _Worker:
    """One worker by its number: a process, and those that replace it."""

    def __init__(self, setup: _WorkerSetup, number: int) -> None:
        self.number = number
        self.ready = self.reported = False
        self._setup = setup
        self.process: SpawnProcess
        self.report: Connection
        self.start()

    def start(self) -> None:
        """Start a process. It ignores SIGINT and SIGHUP of the terminal: the parent passes on what concerns it."""
        self.ready = self.reported = False
        self.report, sender = _SPAWN.Pipe(duplex=False)
        self.process = _SPAWN.Process(target=_worker_main, args=(self._setup, self.number, sender), daemon=False)
        # The process inherits these handlers.
        before = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGHUP)}
        try:
            self.process.start()
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
            sender.close()

    def receive_report(self) -> None:
        """Receive the report of the process: an empty text when it is ready, else its error.

        Raises:
            ModeltollError: the process cannot serve.
        """
        self.reported = True
        try:
            error = self.report.recv()
        except EOFError:
            error = f"worker {self.number} ended before it was ready"
        if error:
            raise ModeltollError(error)
        self.ready = True


def run_workers(
    settings: Settings, count: int, ready: Callable[[], None] = lambda: None, path: Path | None = None
) -> None:
    """Serve with ``count`` processes until SIGINT or SIGTERM; a second signal does not wait for active requests.

    Each process reloads the settings file at ``path`` when it changes; SIGHUP is passed on to all.

    Raises:
        SettingsError: an address cannot be listened on, or the ledger cannot be shared. ModeltollError: a worker cannot
            start.
    """
    if not ledger_spec(settings.ledger.url).shared:
        raise SettingsError(
            [
                "ledger.url: a memory ledger belongs to one process; several workers need sqlite:///, postgresql:// or valkey://"
            ]
        )
    if not settings.secrets:
        settings = settings.model_copy(update={"secrets": (SecretStr(secrets.token_hex(_KEY_BYTES)),)})
    with ExitStack() as stack:
        public = stack.enter_context(listen_all("listen", settings.listen_addresses))
        admin = stack.enter_context(listen("admin", settings.admin))
        worker_admins = [stack.enter_context(listen("workers", "127.0.0.1:0")) for _ in range(count)]
        grpc = stack.enter_context(_grpc_port(settings))
        signals = stack.enter_context(_signal_socket())
        setup = _WorkerSetup(settings, path, public, admin, worker_admins, grpc)
        workers: list[_Worker] = []
        try:
            for number in range(count):
                workers.append(_Worker(setup, number))  # noqa: PERF401  those started are stopped if a later one fails
            if _all_ready(workers, signals):
                ready()
                _supervise(workers, signals)
        finally:
            _stop(workers, signals)


@contextmanager
def _grpc_port(settings: Settings) -> Iterator[str | None]:
    """The address that all workers listen on for gRPC, kept while the block lasts; None where there is none."""
    if settings.listen_grpc is None:
        yield None
        return
    try:
        from modeltoll.gateway.server.grpc_server import reserved_port  # noqa: PLC0415  an extra
    except ImportError:
        raise SettingsError(["listen_grpc: gRPC needs more: pip install 'modeltoll[grpc]'"]) from None
    with reserved_port(settings.listen_grpc) as address:
        yield address


@contextmanager
def _signal_socket() -> Iterator[socket.socket]:
    """A socket that receives the number of each signal for the gateway, one byte each."""
    receiver, sender = socket.socketpair()
    with receiver, sender:
        sender.setblocking(False)
        before = {number: signal.signal(number, lambda *_: None) for number in _SIGNALS}
        wakeup = signal.set_wakeup_fd(sender.fileno())
        try:
            yield receiver
        finally:
            signal.set_wakeup_fd(wakeup)
            for number, handler in before.items():
                signal.signal(number, handler)


def _all_ready(workers: Sequence[_Worker], signals: socket.socket) -> bool:
    """Wait until all workers are ready; False where a stop signal came first.

    Raises:
        ModeltollError: a worker cannot serve.
    """
    while waiting := {worker.report: worker for worker in workers if not worker.ready}:
        readable = wait([signals, *waiting])
        if signals in readable and _stops(signals, workers):
            return False
        for report in readable:
            if report is not signals:
                waiting[report].receive_report()  # type: ignore[index]  # only reports are left
    return True


def _supervise(workers: Sequence[_Worker], signals: socket.socket) -> None:
    """Replace every process that ends, until a stop signal comes."""
    while True:
        reports = [worker.report for worker in workers if not worker.reported]
        readable = wait([signals, *reports, *(worker.process.sentinel for worker in workers)])
        if signals in readable and _stops(signals, workers):
            return
        for worker in workers:
            if worker.report in readable and not worker.reported:
                _log_report(worker)
            if worker.process.exitcode is not None:
                log.error(
                    "worker %d ended with exit code %d; another replaces it", worker.number, worker.process.exitcode
                )
                if not worker.ready:
                    wait([signals], _RESTART_SECONDS)
                worker.start()


def _stops(signals: socket.socket, workers: Sequence[_Worker]) -> bool:
    """Whether the received signal stops the gateway; SIGHUP is passed on to the workers."""
    if signals.recv(1)[0] != signal.SIGHUP:
        return True
    for worker in workers:
        if worker.process.exitcode is None and worker.process.pid is not None:
            os.kill(worker.process.pid, signal.SIGHUP)
    return False


def _log_report(worker: _Worker) -> None:
    try:
        worker.receive_report()
    except ModeltollError as error:
        log.error("worker %d cannot serve: %s", worker.number, error)  # noqa: TRY400  the traceback says nothing more


def _stop(workers: Sequence[_Worker], signals: socket.socket) -> None:
    """Stop all workers. Each further stop signal is passed on as SIGTERM; the second further one kills them."""
    methods = iter((_terminate, _terminate))
    while alive := [worker.process for worker in workers if worker.process.exitcode is None]:
        stop = next(methods, _kill)
        for process in alive:
            stop(process)
        while alive:
            done = wait([signals, *(process.sentinel for process in alive)])
            if signals in done and signals.recv(1)[0] in _STOP_SIGNALS:
                break
            alive = [process for process in alive if process.sentinel not in done]


def _terminate(process: SpawnProcess) -> None:
    process.terminate()


def _kill(process: SpawnProcess) -> None:
    process.kill()


# What follows runs in a worker.


def _worker_main(setup: _WorkerSetup, number: int, report: Connection) -> None:
    """The main function of a worker process."""
    configure_logging(setup.settings.operation)
    try:
        gateway = _build_gateway(setup)
        reloading = ReloadingGateway(gateway, setup.path)
        addresses = [f"http://127.0.0.1:{admin.getsockname()[1]}" for admin in setup.worker_admins]
        all_workers = WorkerMetricsApp(reloading.admin, addresses)
        parent = multiprocessing.parent_process()
        listeners = (
            (reloading.public, setup.public),
            (all_workers, (setup.admin,)),
            (reloading.admin, (setup.worker_admins[number],)),
        )
        signals = SignalPolicy(
            reloading.reload,
            shutdown_policy(gateway),
            stop_signals=(),
            stop_descriptor=parent.sentinel if parent else None,  # no worker outlives the parent
        )

        async def serve() -> None:
            async with reloading.open(), all_workers.open():
                grpc = grpc_server(reloading, setup.grpc)
                await run_servers(listeners, lambda: report.send(""), signals, grpc)

        with event_loop_runner(gateway.public) as loop:
            loop.run(serve())
    except ModeltollError as error:
        report.send(str(error) or type(error).__name__)
        sys.exit(1)


def _build_gateway(setup: _WorkerSetup) -> Gateway:
    """A gateway with the current settings file, since this worker may replace another; or with the settings at start."""
    workers = len(setup.worker_admins)
    if setup.path is not None:
        try:
            return build_gateway(keep_immutable(load_settings(setup.path), setup.settings)[0], workers=workers)
        except SettingsError as error:
            log.error("the settings file cannot be used; the settings read at the start stay in force: %s", error)  # noqa: TRY400
    return build_gateway(setup.settings, workers=workers)
