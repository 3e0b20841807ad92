"""Reloads the settings of a running gateway.

A new gateway is built beside the active one and replaces it in one step, or not at all. Requests in the previous gateway
are completed there. Settings that cannot change while a gateway runs keep their values, and a warning is logged.
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
    from modeltoll.gateway.grpc.call import GrpcCall
    from modeltoll.gateway.grpc.outcome import Outcome
    from modeltoll.gateway.settings.gateway import Settings

__all__ = ["ReloadingGateway", "keep_immutable"]

log = logging.getLogger("modeltoll.gateway")

_CHECK_SECONDS = 1.0  # between two checks of the settings file


def keep_immutable(new: Settings, old: Settings) -> tuple[Settings, tuple[str, ...]]:
    """New settings with the old values of those that need a restart, and the names of those that would have changed.

    Random keys that were drawn because the settings have none are kept too.
    """
    kept = {name: getattr(old, name) for name in ("listen", "listen_grpc", "admin", "operation")}
    changed = [name for name, value in kept.items() if getattr(new, name) != value]
    if new.ledger.url != old.ledger.url:
        changed.append("ledger.url")
    kept["ledger"] = new.ledger.model_copy(update={"url": old.ledger.url})
    if not new.secrets:
        kept["secrets"] = old.secrets
    return new.model_copy(update=kept), tuple(changed)


class _Generation:
    """One gateway, from its activation until its last request is answered."""

    def __init__(self, gateway: Gateway) -> None:
        self.gateway = gateway
        self._stack = AsyncExitStack()
        self._active_requests = 0
        self._idle = asyncio.Event()

    async def start(self) -> None:
        await self._stack.enter_async_context(self.gateway.running())

    async def serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._begin()
        try:
            await self.gateway.public(scope, receive, send)
        finally:
            self._end()

    async def call(self, call: GrpcCall) -> Outcome:
        assert self.gateway.grpc is not None  # the address is there from the start
        self._begin()
        try:
            return await self.gateway.grpc(call)
        finally:
            self._end()

    def _begin(self) -> None:
        self._active_requests += 1
        self._idle.clear()

    def _end(self) -> None:
        self._active_requests -= 1
        if not self._active_requests:
            self._idle.set()

    async def stop(self, *, wait_for_requests: bool) -> None:
        if wait_for_requests and self._active_requests:
            await self._idle.wait()
        await self._stack.aclose()


class ReloadingGateway:
    """A gateway that is replaced whenever the settings file at ``path`` changes; without a file it never is."""

    def __init__(self, gateway: Gateway, path: Path | None = None) -> None:
        self._generation = _Generation(gateway)
        self._path = path
        self._state = gateway.shared.state
        self._reload_requested = asyncio.Event()
        self._next: Gateway | None = None
        self._stopping: dict[_Generation, asyncio.Task[None]] = {}
        self._watch = None if path is None else FileWatch(path, self._build_next, "the settings file")
        if self._watch is not None:
            self._watch.mark_active()

    @property
    def gateway(self) -> Gateway:
        """The active gateway."""
        return self._generation.gateway

    async def public(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI: the public application of the active gateway."""
        await self._generation.serve(scope, receive, send)

    async def grpc(self, call: GrpcCall) -> Outcome:
        """Handle a call over gRPC in the active gateway."""
        return await self._generation.call(call)

    def serves_grpc(self, method: str) -> bool:
        """Whether a method over gRPC is served."""
        return self.gateway.grpc is not None and self.gateway.grpc.serves(method)

    async def admin(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI: the admin application of the active gateway."""
        await self.gateway.admin(scope, receive, send)

    def reload(self) -> None:
        """Request a reload of the settings and of all files that they name, whether or not the file has changed."""
        self._reload_requested.set()

    @asynccontextmanager
    async def open(self, check_seconds: float = _CHECK_SECONDS) -> AsyncIterator[None]:
        """Open the shared resources, run the gateway and watch the settings file while the block lasts."""
        async with self.gateway.shared.open(), AsyncExitStack() as stack:
            stack.push_async_callback(self._stop)
            await self._generation.start()
            if self._watch is not None:
                watching = asyncio.create_task(self._watch_settings(self._watch, check_seconds))
                stack.push_async_callback(_cancel, watching)
            yield

    async def _watch_settings(self, watch: FileWatch, check_seconds: float) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(check_seconds):
                    await self._reload_requested.wait()
            force = self._reload_requested.is_set()
            self._reload_requested.clear()
            try:
                await asyncio.to_thread(watch.check, force=force)
                await self._activate_next()
            except Exception:
                log.exception("the settings could not be read again")
            self._state.settings_invalid = watch.invalid

    def _build_next(self) -> None:
        """Build a gateway from the current settings file, beside the active one. Runs in a thread."""
        assert self._path is not None  # only the file watch calls this
        before = self.gateway
        settings, changed = keep_immutable(load_settings(self._path), before.settings)
        self._next = build_gateway(settings, before=before)
        for name in changed:
            log.warning("%s has changed in the settings file, and stays as it is until the gateway is restarted", name)

    async def _activate_next(self) -> None:
        """Activate the gateway that was built, and let the previous one finish its requests."""
        gateway, self._next = self._next, None
        if gateway is None:
            return
        generation = _Generation(gateway)
        await generation.start()
        previous, self._generation = self._generation, generation
        self._state.settings_loaded_at = time.time()
        for warning in set(gateway.warnings) - set(previous.gateway.warnings):
            log.warning("%s", warning)
        self._stopping[previous] = task = asyncio.create_task(previous.stop(wait_for_requests=True))
        task.add_done_callback(lambda _: self._stopping.pop(previous, None))

    async def _stop(self) -> None:
        for generation, task in tuple(self._stopping.items()):
            await _cancel(task)
            await generation.stop(wait_for_requests=False)
        await self._generation.stop(wait_for_requests=False)


async def _cancel(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.wait((task,))
