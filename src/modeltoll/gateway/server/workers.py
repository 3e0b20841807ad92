"""Several worker processes on one address: started together, replaced where one dies, and ended together.

The parent listens and serves nothing; each worker is a whole gateway that accepts from the same sockets. What they must
agree on is in the ledger, and in the keys that seal tokens, which the parent draws where the settings give none.
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
from modeltoll.gateway.server.reload import ReloadingGateway, keep_immutable
from modeltoll.gateway.server.serve import SignalPolicy, event_loop_runner, listen, run_servers, shutdown_policy
from modeltoll.gateway.settings.load import load_settings

if TYPE_CHECKING:
    from multiprocessing.context import SpawnProcess
    from pathlib import Path

    from modeltoll.gateway.assembly.gateway import Gateway
    from modeltoll.gateway.settings.load import Settings

__all__ = ["run_workers"]

log = logging.getLogger("modeltoll.gateway")

_SPAWN = multiprocessing.get_context("spawn")  # a fork would share connections, locks and random numbers
_KEY_BYTES = 32
_PAUSE = 1.0  # seconds before a worker is replaced that never got ready
_ENDS = (signal.SIGINT, signal.SIGTERM)
_HEARD = (*_ENDS, signal.SIGHUP)


@dataclass(frozen=True, slots=True)
class _Site:
    """What all workers are given: settings and the file that they follow, sockets to accept from, and where each shows
    its own metrics."""

    settings: Settings
    path: Path | None
    public: socket.socket
    admin: socket.socket
    seats: Sequence[socket.socket]


class _Worker:
    """A place that one process after the other may take."""

    def __init__(self, site: _Site, number: int) -> None:
        self.number = number
        self.ready = self.reported = False
        self._site = site
        self.process: SpawnProcess
        self.report: Connection
        self.start()

    def start(self) -> None:
        """Start a process. It never hears an interrupt of the terminal's: the parent passes on what ends it."""
        self.ready = self.reported = False
        self.report, sender = _SPAWN.Pipe(duplex=False)
        self.process = _SPAWN.Process(target=_work, args=(self._site, self.number, sender), daemon=False)
        before = {
            number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGHUP)
        }  # inherited
        try:
            self.process.start()
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
            sender.close()

    def hear(self) -> None:
        """Take its report.

        Raises:
            ModeltollError: it cannot serve.
        """
        self.reported = True
        try:
            fault = self.report.recv()
        except EOFError:
            fault = f"worker {self.number} ended before it was ready"
        if fault:
            raise ModeltollError(fault)
        self.ready = True


def run_workers(
    settings: Settings, count: int, ready: Callable[[], None] = lambda: None, path: Path | None = None
) -> None:
    """Serve by ``count`` processes until SIGINT or SIGTERM; a second signal does not wait for who is inside.

    Each follows the settings file at ``path``; SIGHUP is passed on to all.

    Raises:
        SettingsError: an address cannot be listened on, or the ledger cannot be shared. ModeltollError: a worker cannot
            start.
    """
    if settings.ledger.url.startswith("memory:"):
        raise SettingsError(
            [
                "ledger.url: a memory ledger is one process's own; several workers need sqlite:///, postgresql:// or valkey://"
            ]
        )
    if not settings.secrets:
        settings = settings.model_copy(update={"secrets": (SecretStr(secrets.token_hex(_KEY_BYTES)),)})
    with ExitStack() as stack:
        public = stack.enter_context(listen("listen", settings.listen))
        admin = stack.enter_context(listen("admin", settings.admin))
        seats = [stack.enter_context(listen("workers", "127.0.0.1:0")) for _ in range(count)]
        heard = stack.enter_context(_signals())
        site = _Site(settings, path, public, admin, seats)
        crew: list[_Worker] = []
        try:
            for number in range(count):
                crew.append(_Worker(site, number))  # noqa: PERF401  whoever was started is ended, also half-way
            if _all_ready(crew, heard):
                ready()
                _watch(crew, heard)
        finally:
            _end(crew, heard)


@contextmanager
def _signals() -> Iterator[socket.socket]:
    """A socket from which the number of each signal that concerns the gateway can be read, one byte each."""
    heard, told = socket.socketpair()
    with heard, told:
        told.setblocking(False)
        before = {number: signal.signal(number, lambda *_: None) for number in _HEARD}
        wakeup = signal.set_wakeup_fd(told.fileno())
        try:
            yield heard
        finally:
            signal.set_wakeup_fd(wakeup)
            for number, handler in before.items():
                signal.signal(number, handler)


def _all_ready(crew: Sequence[_Worker], heard: socket.socket) -> bool:
    """Wait for everybody's report; False where a signal came first. Raises as ``_Worker.hear`` does."""
    while waiting := {worker.report: worker for worker in crew if not worker.ready}:
        told = wait([heard, *waiting])
        if heard in told and _ends(heard, crew):
            return False
        for report in told:
            if report is not heard:
                waiting[report].hear()  # type: ignore[index]  # only reports are left
    return True


def _watch(crew: Sequence[_Worker], heard: socket.socket) -> None:
    """Put another process in the place of any that ends, until a signal comes."""
    while True:
        reports = [worker.report for worker in crew if not worker.reported]
        told = wait([heard, *reports, *(worker.process.sentinel for worker in crew)])
        if heard in told and _ends(heard, crew):
            return
        for worker in crew:
            if worker.report in told and not worker.reported:
                _take_note(worker)
            if worker.process.exitcode is not None:
                log.error("worker %d ended with %d; another takes its place", worker.number, worker.process.exitcode)
                if not worker.ready:
                    wait([heard], _PAUSE)
                worker.start()


def _ends(heard: socket.socket, crew: Sequence[_Worker]) -> bool:
    """Whether the signal that was heard ends the gateway; any other is passed on."""
    if heard.recv(1)[0] != signal.SIGHUP:
        return True
    for worker in crew:
        if worker.process.exitcode is None and worker.process.pid is not None:
            os.kill(worker.process.pid, signal.SIGHUP)
    return False


def _take_note(worker: _Worker) -> None:
    try:
        worker.hear()
    except ModeltollError as error:
        log.error("worker %d cannot serve: %s", worker.number, error)  # noqa: TRY400  it is told, not raised here


def _end(crew: Sequence[_Worker], heard: socket.socket) -> None:
    """End all; each further signal is passed on, and the third one waits for nobody."""
    ways = iter((_terminate, _terminate))
    while alive := [worker.process for worker in crew if worker.process.exitcode is None]:
        way = next(ways, _kill)
        for process in alive:
            way(process)
        while alive:
            done = wait([heard, *(process.sentinel for process in alive)])
            if heard in done and heard.recv(1)[0] in _ENDS:
                break
            alive = [process for process in alive if process.sentinel not in done]


def _terminate(process: SpawnProcess) -> None:
    process.terminate()


def _kill(process: SpawnProcess) -> None:
    process.kill()


# What follows runs in a worker.


def _work(site: _Site, number: int, report: Connection) -> None:
    """A worker, from its start to its end."""
    configure_logging(site.settings.operation)
    try:
        assembly = _assembled(site)
        household = ReloadingGateway(assembly, site.path)
        addresses = [f"http://127.0.0.1:{seat.getsockname()[1]}" for seat in site.seats]
        chorus = WorkerMetricsApp(household.admin, addresses)
        parent = multiprocessing.parent_process()
        until = parent.sentinel if parent else None  # nobody outlives the parent
        posts = ((household.public, site.public), (chorus, site.admin), (household.admin, site.seats[number]))

        async def serve() -> None:
            async with household.opened(), chorus.opened():
                duty = SignalPolicy(household.read_again, shutdown_policy(assembly), ends=(), until=until)
                await run_servers(posts, lambda: report.send(""), duty)

        with event_loop_runner(assembly.public) as loop:
            loop.run(serve())
    except ModeltollError as error:
        report.send(str(error) or type(error).__name__)
        sys.exit(1)


def _assembled(site: _Site) -> Gateway:
    """By the settings file as it is now, for another worker may have had the old one's place; or as it was at the start."""
    if site.path is not None:
        try:
            return build_gateway(keep_immutable(load_settings(site.path), site.settings)[0])
        except SettingsError as error:
            log.error("the settings file cannot be used, those of the start are in force: %s", error)  # noqa: TRY400
    return build_gateway(site.settings)
