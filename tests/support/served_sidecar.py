"""The sidecar on a real port, in a thread of this process."""

from __future__ import annotations

import asyncio
import socket
import threading

import httpx
from aiohttp import web

from modeltoll.client.purse import Purse
from modeltoll.client.sidecar import application, upstream_url
from modeltoll.client.sidecar_metrics import SidecarMetrics


class Sidecar:
    """A sidecar in a thread; ``options`` are those of its purse."""

    def __init__(self, upstream, access=None, **options):
        metrics = SidecarMetrics()
        self.purse = Purse(paid=metrics.record_payment, **options)
        self._app = application(upstream_url(upstream), self.purse, metrics, access)
        self._ready, self._loop = threading.Event(), asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run)

    def _run(self):
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self._serve())
        self._loop.close()

    async def _serve(self):
        self._stop = asyncio.Event()
        runner = web.AppRunner(self._app, access_log=None, handler_cancellation=True, auto_decompress=False)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        self.port = site._server.sockets[0].getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._ready.set()
        await self._stop.wait()
        await runner.cleanup()

    def __enter__(self):
        self._thread.start()
        assert self._ready.wait(10)
        self._client = httpx.Client(base_url=self.url, verify=False)
        return self

    def __exit__(self, *_):
        self._client.close()
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(10)

    def ask(self, method, path, **request):
        return self._client.request(method, path, **request)

    def stream(self, method, path, **request):
        return self._client.stream(method, path, **request)

    def raw(self, request):
        """The sidecar's raw response to these bytes."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=10) as connection:
            connection.sendall(request)
            said = b""
            while chunk := connection.recv(65536):
                said += chunk
        return said

    def metrics(self):
        return self.ask("GET", "/metrics").text
