"""Keeps a gateway open for as long as an event loop runs, where nothing says when to open and to close it."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractAsyncContextManager

__all__ = ["LoopLifetime"]

# The tasks that hold contexts open. An event loop refers to its tasks weakly, and a task that is collected does not leave its
# context in order. Tasks of a loop that was closed without ending them stay here.
_kept: set[asyncio.Task[None]] = set()


@dataclass(frozen=True, slots=True)
class _Keeper:
    """The task that keeps the gateway open in ``loop``; ``opened`` is done once the gateway is open, or cannot be opened."""

    loop: asyncio.AbstractEventLoop
    opened: asyncio.Future[None]
    task: asyncio.Task[None]

    @property
    def is_current(self) -> bool:
        """Whether it keeps, or is about to keep, the gateway open in the event loop that runs."""
        return self.loop is asyncio.get_running_loop() and not self.task.done()

    def end(self) -> None:
        """End the task of a loop that does not run; called in a thread of its own."""
        self.task.cancel()
        with suppress(asyncio.CancelledError):
            self.loop.run_until_complete(self.task)


class LoopLifetime:
    """A context that is entered with its first use in an event loop and left at the latest when that loop ends.

    One task enters and leaves it, so that it is left in order: an event loop cancels its tasks before it closes. A loop
    that comes after another one (as in tests, where each request may have its own) enters the context again.
    """

    def __init__(self, context: Callable[[], AbstractAsyncContextManager[None]]) -> None:
        self._context = context
        self._keeper: _Keeper | None = None

    @property
    def is_open(self) -> bool:
        """Whether the context is entered, in the event loop that runs."""
        keeper = self._keeper
        return keeper is not None and keeper.opened.done() and keeper.is_current

    async def open(self) -> None:
        """Enter the context, unless it is entered.

        Raises:
            RuntimeError: it is entered in another event loop, which runs in another thread. What entering it raises.
        """
        keeper = self._keeper
        if keeper is None or not keeper.is_current:
            if keeper is not None and not keeper.task.done():
                await self._leave(keeper)
            loop = asyncio.get_running_loop()
            opened: asyncio.Future[None] = loop.create_future()
            keeper = self._keeper = _Keeper(loop, opened, loop.create_task(self._keep(opened)))
            _kept.add(keeper.task)
            keeper.task.add_done_callback(_kept.discard)
        await asyncio.shield(keeper.opened)

    async def close(self) -> None:
        """Leave the context, if it was entered in this event loop."""
        keeper, self._keeper = self._keeper, None
        if keeper is None or not keeper.is_current:
            return
        keeper.task.cancel()
        with suppress(asyncio.CancelledError):
            await keeper.task

    async def _leave(self, keeper: _Keeper) -> None:
        """Leave the context that was entered in another event loop."""
        if keeper.loop.is_running():
            raise RuntimeError(
                "the gateway is open in another event loop, which still runs: use one loop, or an application for each"
            )
        if not keeper.loop.is_closed():  # else nothing can run there any more
            await asyncio.to_thread(keeper.end)

    async def _keep(self, opened: asyncio.Future[None]) -> None:
        try:
            async with self._context():
                opened.set_result(None)
                await asyncio.Event().wait()
        except Exception as error:
            if opened.done():
                raise
            opened.set_exception(error)
        finally:
            opened.cancel()
