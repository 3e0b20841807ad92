"""One gateway after another on the same ground: settings are read again while requests go on.

A new gateway is built beside the one in force and takes its place in one step, or not at all; requests that are inside the
old one are finished there. What cannot change while a gateway runs is said, and stays.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING

from modeltoll.gateway.assembly.build import build_gateway
from modeltoll.gateway.file_watch import FileWatch
from modeltoll.gateway.settings.load import load_settings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from starlette.types import Receive, Scope, Send

    from modeltoll.gateway.assembly.gateway import Gateway
    from modeltoll.gateway.settings.load import Settings

__all__ = ["ReloadingGateway", "keep_immutable"]

log = logging.getLogger("modeltoll.gateway")

_EVERY = 1.0  # seconds between two looks at the settings file


def keep_immutable(new: Settings, old: Settings) -> tuple[Settings, tuple[str, ...]]:
    """New settings with what cannot change while a gateway runs as it was, and the names of what would have changed.

    Keys that were drawn because none are set are kept too.
    """
    kept = {name: getattr(old, name) for name in ("listen", "admin", "operation")}
    changed = [name for name, value in kept.items() if getattr(new, name) != value]
    if new.ledger.url != old.ledger.url:
        changed.append("ledger.url")
    kept["ledger"] = new.ledger.model_copy(update={"url": old.ledger.url})
    if not new.secrets:
        kept["secrets"] = old.secrets
    return new.model_copy(update=kept), tuple(changed)


class _Generation:
    """One gateway's time in force, and after it until nobody is inside."""

    def __init__(self, assembly: Gateway) -> None:
        self.assembly = assembly
        self._stack = AsyncExitStack()
        self._inside = 0
        self._empty = asyncio.Event()

    async def begin(self) -> None:
        await self._stack.enter_async_context(self.assembly.staffed())

    async def serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._inside += 1
        self._empty.clear()
        try:
            await self.assembly.public(scope, receive, send)
        finally:
            self._inside -= 1
            if not self._inside:
                self._empty.set()

    async def end(self, *, patient: bool) -> None:
        if patient and self._inside:
            await self._empty.wait()
        await self._stack.aclose()


class ReloadingGateway:
    """A gateway, and those that follow it whenever the settings file at ``path`` changes; without a file, none does."""

    def __init__(self, assembly: Gateway, path: Path | None = None) -> None:
        self._turn = _Generation(assembly)
        self._path = path
        self._standing = assembly.ground.standing
        self._asked = asyncio.Event()
        self._next: Gateway | None = None
        self._leaving: dict[_Generation, asyncio.Task[None]] = {}
        self._watch = None if path is None else FileWatch(path, self._load, "the settings file")
        if self._watch is not None:
            self._watch.trust()

    @property
    def assembly(self) -> Gateway:
        """The gateway in force."""
        return self._turn.assembly

    async def public(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The public side of the gateway in force; see ASGI."""
        await self._turn.serve(scope, receive, send)

    async def admin(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Its operator's side."""
        await self._turn.assembly.admin(scope, receive, send)

    def read_again(self) -> None:
        """Have the settings, and all files that they name, read again soon."""
        self._asked.set()

    @asynccontextmanager
    async def opened(self, every: float = _EVERY) -> AsyncIterator[None]:
        """Open the ground and the gateway, and follow the settings file, while the block lasts."""
        async with self._turn.assembly.ground.opened(), AsyncExitStack() as stack:
            stack.push_async_callback(self._end)
            await self._turn.begin()
            if self._watch is not None:
                keeping = asyncio.create_task(self._keep(self._watch, every))
                stack.push_async_callback(_cancel, keeping)
            yield

    async def _keep(self, watch: FileWatch, every: float) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(every):
                    await self._asked.wait()
            again = self._asked.is_set()
            self._asked.clear()
            try:
                await asyncio.to_thread(watch.look, again=again)
                await self._follow()
            except Exception:
                log.exception("the settings could not be read again")
            self._standing.broken = watch.broken

    def _load(self) -> None:
        """In a thread: build what the file now says, beside what is in force."""
        assert self._path is not None  # or nobody looks at it
        now = self._turn.assembly
        settings, changed = keep_immutable(load_settings(self._path), now.settings)
        self._next = build_gateway(settings, before=now)
        for name in changed:
            log.warning("%s has changed in the settings file, and stays as it is until the gateway is restarted", name)

    async def _follow(self) -> None:
        """Put what was built in force, and let the one before finish."""
        assembly, self._next = self._next, None
        if assembly is None:
            return
        turn = _Generation(assembly)
        await turn.begin()
        before, self._turn = self._turn, turn
        self._standing.settled = time.time()
        for notice in set(assembly.notices) - set(before.assembly.notices):
            log.warning("%s", notice)
        self._leaving[before] = ending = asyncio.create_task(before.end(patient=True))
        ending.add_done_callback(lambda _: self._leaving.pop(before, None))

    async def _end(self) -> None:
        for turn, ending in tuple(self._leaving.items()):
            await _cancel(ending)
            await turn.end(patient=False)
        await self._turn.end(patient=False)


async def _cancel(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.wait((task,))
