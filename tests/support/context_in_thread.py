"""Holds an asynchronous context open in the event loop of another thread."""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading

from modeltoll.errors import ModeltollError


@contextlib.contextmanager
def context_in_thread(context):
    """Hold what ``context()`` makes, an asynchronous context manager, while the block lasts; yields what it yields.

    A ``ModeltollError`` that it raises at its beginning is raised here.
    """
    started, loops = queue.Queue(), {}

    async def hold():
        stop = loops["stop"] = asyncio.Event()
        loops["loop"] = asyncio.get_running_loop()
        async with context() as found:
            started.put(found)
            await stop.wait()

    def run():
        try:
            asyncio.run(hold())
        except ModeltollError as error:
            started.put(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    found = started.get(timeout=60)
    if isinstance(found, BaseException):
        raise found
    try:
        yield found
    finally:
        loops["loop"].call_soon_threadsafe(loops["stop"].set)
        thread.join(30)
        assert not thread.is_alive()
