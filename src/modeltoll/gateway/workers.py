"""Several worker processes on one address: started together, replaced where one dies, and ended together.

The parent listens and serves nothing; each worker is a whole gateway that accepts from the same sockets. What they must
agree on is in the ledger, and in the keys that seal tokens, which the parent draws where the settings give none.
"""

from __future__ import annotations

import logging
import multiprocessing
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
from modeltoll.gateway.assemble import assemble
from modeltoll.gateway.chorus import Chorus
from modeltoll.gateway.serve import attend, listen, runner

if TYPE_CHECKING:
    from multiprocessing.context import SpawnProcess

    from modeltoll.gateway.settings import Settings

__all__ = ["run_workers"]

log = logging.getLogger("modeltoll.gateway")

_SPAWN = multiprocessing.get_context("spawn")  # a fork would share connections, locks and random numbers
_KEY_BYTES = 32
_PAUSE = 1.0  # seconds before a worker is replaced that never got ready
_ENDS = (signal.SIGINT, signal.SIGTERM)


@dataclass(frozen=True, slots=True)
class _Site:
    """What all workers are given: settings, sockets to accept from, and where each shows its own metrics."""

    settings: Settings
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
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # inherited
        try:
            self.process.start()
        finally:
            signal.signal(signal.SIGINT, before)
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


def run_workers(settings: Settings, count: int, ready: Callable[[], None] = lambda: None) -> None:
    """Serve by ``count`` processes until SIGINT or SIGTERM; a second signal does not wait for who is inside.

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
        site = _Site(settings, public, admin, seats)
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
    """A socket that can be read once for each signal that ends the gateway."""
    heard, told = socket.socketpair()
    with heard, told:
        told.setblocking(False)
        before = {number: signal.signal(number, lambda *_: None) for number in _ENDS}
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
        if heard in told:
            heard.recv(1)
            return False
        for report in told:
            waiting[report].hear()  # type: ignore[index]  # only reports are left
    return True


def _watch(crew: Sequence[_Worker], heard: socket.socket) -> None:
    """Put another process in the place of any that ends, until a signal comes."""
    while True:
        reports = [worker.report for worker in crew if not worker.reported]
        told = wait([heard, *reports, *(worker.process.sentinel for worker in crew)])
        if heard in told:
            heard.recv(1)
            return
        for worker in crew:
            if worker.report in told and not worker.reported:
                _take_note(worker)
            if worker.process.exitcode is not None:
                log.error("worker %d ended with %d; another takes its place", worker.number, worker.process.exitcode)
                if not worker.ready:
                    wait([heard], _PAUSE)
                worker.start()


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
        while alive and heard not in (done := wait([heard, *(process.sentinel for process in alive)])):
            alive = [process for process in alive if process.sentinel not in done]
        if alive:
            heard.recv(1)


def _terminate(process: SpawnProcess) -> None:
    process.terminate()


def _kill(process: SpawnProcess) -> None:
    process.kill()


# What follows runs in a worker.


def _work(site: _Site, number: int, report: Connection) -> None:
    """A worker, from its start to its end."""
    try:
        assembly = assemble(site.settings)
        addresses = [f"http://127.0.0.1:{seat.getsockname()[1]}" for seat in site.seats]
        chorus = Chorus(assembly.admin, addresses)
        parent = multiprocessing.parent_process()
        posts = ((assembly.public, site.public), (chorus, site.admin), (assembly.admin, site.seats[number]))

        async def serve() -> None:
            async with assembly.opened(), chorus.opened():
                await attend(
                    posts,
                    lambda: report.send(""),
                    signals=(signal.SIGTERM,),
                    until=parent.sentinel if parent else None,  # nobody outlives the parent
                )

        with runner(assembly.public) as loop:
            loop.run(serve())
    except ModeltollError as error:
        report.send(str(error) or type(error).__name__)
        sys.exit(1)
