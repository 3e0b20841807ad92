"""Sends the steps of one turn of the event loop to a ledger's server as one group: one round trip for all of them.

Each step of a group has an outcome of its own; one that fails does not fail the others. While all connections wait for
their groups, steps gather in the next group.

If the server is down, a step fails at once and the next one tries again, instead of waiting for retries at growing
intervals. After a failover an open connection, or the address that a name had, may lead to a server that is no primary
server now. Such a server has not executed the step. All idle connections are closed then, and the step is sent on a new
connection, for which the names are resolved anew. Any other step that may have reached the server is never sent again,
unless sending it twice is the same as once.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from modeltoll.errors import LedgerError
from modeltoll.ledger.deadlines import Deadlines
from modeltoll.ledger.failover import PAUSES

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["GroupConnection", "GroupServer", "StepGroups"]

C = TypeVar("C")  # what one step sends
C_contra = TypeVar("C_contra", contravariant=True)

_GRACE = 1.0  # seconds after the timeout of a group's steps at which its connection is closed
_LARGEST_GROUP = 128  # steps


class GroupConnection(Protocol[C_contra]):
    """A connection to a ledger's server, used by one group at a time."""

    async def exchange(self, commands: Sequence[C_contra]) -> list[Any]:
        """Send commands, and return for each its result or the exception with which it failed.

        If this raises, any of the commands may or may not have been executed.
        """

    async def is_usable(self) -> bool:
        """Whether the idle connection is still open, without a round trip."""

    async def close(self) -> None:
        """Close it, whatever its state."""


class GroupServer(Protocol[C_contra]):
    """What ``StepGroups`` needs of a kind of server: connections, and the meaning of its errors."""

    async def connect(self) -> GroupConnection[C_contra]:
        """A new connection."""

    def was_refused(self, error: Exception) -> bool:
        """Whether the server certainly has not executed the step, and the next attempt might succeed."""

    def is_no_primary(self, error: Exception) -> bool:
        """Whether the server is no primary server, so that its name may lead to another one now."""

    def is_lost(self, error: Exception) -> bool:
        """Whether the connection broke; the step may or may not have been executed."""

    def public_error(self, error: Exception) -> Exception:
        """The error as the ledger raises it. For a step that takes too long ``error`` is a ``TimeoutError``."""


@dataclass(slots=True, eq=False)
class _Step(Generic[C]):
    """A command that waits for its result.

    ``repeatable``: executing it twice is the same as once. ``alone``: it may take long, and no other step waits for it.
    """

    command: C
    repeatable: bool
    alone: bool
    result: asyncio.Future[Any]
    repetitions: int = 0


class StepGroups(Generic[C]):
    """Runs the steps of one event loop over up to ``connections`` connections. ``timeout``: seconds for a step."""

    def __init__(self, server: GroupServer[C], *, timeout: float, connections: int) -> None:
        self.timeout = timeout
        self._server = server
        self._connections = connections
        self._open = False
        self._loop: asyncio.AbstractEventLoop | None = None  # in which the steps wait
        self._due = False  # a group is to be made at the end of this turn of the event loop
        self._waiting: list[_Step[C]] = []
        self._idle: list[GroupConnection[C]] = []
        self._groups: set[asyncio.Task[None]] = set()
        self._step_deadlines: Deadlines[_Step[C]]  # both are made for the event loop
        self._group_deadlines: Deadlines[asyncio.Task[None]]

    def open(self) -> None:
        """Accept steps, in the running event loop."""
        self._open = True
        self._enter_loop()

    async def close(self) -> None:
        """Finish the steps in progress, then close all connections."""
        self._open = False
        self._enter_loop()
        self._make_groups()
        while self._groups:
            await asyncio.wait(self._groups)
        await self._close_idle()

    async def run(self, command: C, *, repeatable: bool = False, alone: bool = False) -> Any:
        """The result of a step once it is durable. Cancelling the caller does not stop it.

        ``repeatable``: executing it twice is the same as once. ``alone``: it may take long, and goes in a group of its own.

        Raises:
            LedgerError: the server does not answer in time, or refuses; the step may or may not have been executed.
        """
        if not self._open:
            raise LedgerError("the ledger is not open")
        loop = self._enter_loop()
        step = _Step(command, repeatable, alone, loop.create_future())
        self._step_deadlines.add(step.result, step)
        self._submit(step)
        return await step.result

    def _enter_loop(self) -> asyncio.AbstractEventLoop:
        """The event loop that runs. The steps and connections of one that ended before the ledger was closed are forgotten."""
        loop = asyncio.get_running_loop()
        if loop is not self._loop:
            self._loop, self._due = loop, False
            self._waiting, self._idle, self._groups = [], [], set()
            self._step_deadlines = Deadlines(loop, self.timeout, self._fail_late)
            self._group_deadlines = Deadlines(loop, self.timeout + _GRACE, asyncio.Task.cancel)
        return loop

    def _submit(self, step: _Step[C]) -> None:
        self._waiting.append(step)
        if not self._due:
            self._due = True
            asyncio.get_running_loop().call_soon(self._make_groups)

    def _make_groups(self) -> None:
        self._due = False
        self._waiting = [step for step in self._waiting if not _took_too_long(step)]
        while self._waiting and len(self._groups) < self._connections:
            task = asyncio.get_running_loop().create_task(self._run_group(self._next_group()))
            self._groups.add(task)
            self._group_deadlines.add(task, task)
            task.add_done_callback(self._group_ended)

    def _next_group(self) -> Sequence[_Step[C]]:
        """Take the steps of the next group from those that wait: the first step, and others if it need not go alone."""
        first = self._waiting[0]
        if first.alone or len(self._waiting) == 1:
            self._waiting = self._waiting[1:]
            return [first]
        group = [step for step in self._waiting if not step.alone][:_LARGEST_GROUP]
        taken = set(map(id, group))
        self._waiting = [step for step in self._waiting if id(step) not in taken]
        return group

    def _group_ended(self, task: asyncio.Task[None]) -> None:
        self._groups.discard(task)
        self._make_groups()

    async def _run_group(self, group: Sequence[_Step[C]]) -> None:
        try:
            outcomes = await self._exchange([step.command for step in group])
        except Exception as error:  # noqa: BLE001  it is the outcome of each step
            outcomes = [error] * len(group)
        except BaseException as error:
            self._deliver(group, [LedgerError("the ledger is closed", private=str(error))] * len(group))
            raise
        if any(isinstance(outcome, Exception) and self._server.is_no_primary(outcome) for outcome in outcomes):
            await self._close_idle()
        self._deliver(group, outcomes)

    async def _exchange(self, commands: Sequence[C]) -> list[Any]:
        connection = await self._idle_connection() or await self._server.connect()
        try:
            outcomes = await connection.exchange(commands)
        except BaseException:
            await connection.close()
            raise
        self._idle.append(connection)
        return outcomes

    async def _idle_connection(self) -> GroupConnection[C] | None:
        while self._idle:
            connection = self._idle.pop()
            if await connection.is_usable():
                return connection
            await connection.close()
        return None

    async def _close_idle(self) -> None:
        while self._idle:
            await self._idle.pop().close()

    def _deliver(self, group: Sequence[_Step[C]], outcomes: Sequence[Any]) -> None:
        for step, outcome in zip(group, outcomes, strict=True):
            if not isinstance(outcome, Exception):
                if not step.result.done():  # else it was cancelled, or took too long
                    step.result.set_result(outcome)
            elif self._may_repeat(step, outcome):
                pause = PAUSES[step.repetitions]
                step.repetitions += 1
                asyncio.get_running_loop().call_later(pause, self._repeat, step, outcome)
            else:
                self._fail(step, outcome)

    def _may_repeat(self, step: _Step[C], error: Exception) -> bool:
        """Whether the step was not executed, or may be executed twice; and there is time for it."""
        if _took_too_long(step) or step.repetitions == len(PAUSES):
            return False
        return self._server.was_refused(error) or (step.repeatable and self._server.is_lost(error))

    def _repeat(self, step: _Step[C], error: Exception) -> None:
        if self._open:
            self._submit(step)
        else:
            self._fail(step, error)

    def _fail_late(self, step: _Step[C]) -> None:
        self._fail(step, TimeoutError(f"nothing within {self.timeout} s"))

    def _fail(self, step: _Step[C], error: Exception) -> None:
        if not step.result.done():
            raised = error if isinstance(error, LedgerError) else self._server.public_error(error)
            raised.__cause__ = error if raised is not error else error.__cause__
            step.result.set_exception(raised)


def _took_too_long(step: _Step[Any]) -> bool:
    """Whether the step has failed already, for its time is over. A caller who hangs up does not stop a step."""
    return step.result.done() and not step.result.cancelled()
