"""A caller who hangs up: the model server sees its connection closed, the place comes free, and nothing is logged."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import threading
from urllib.parse import urlsplit

import httpx
import pytest
from aiohttp import web
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from modeltoll.client.purse import Purse
from modeltoll.client.sidecar import application, upstream_url
from modeltoll.client.sidecar_metrics import SidecarMetrics
from modeltoll.gateway.middleware import TollMiddleware
from modeltoll.testing.model_servers import serving
from served_gateway import CLASSIFIER, ROWS, read_request, response, served_gateway, socket_server, wait_until

BODY = json.dumps(ROWS).encode()
HEAD = b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(BODY)
REQUEST = HEAD + BODY


class SlowModel:
    """A model server that answers its first prediction never, and others at once."""

    def __init__(self):
        self.began, self.left = threading.Event(), threading.Event()
        self.asked = 0

    def __call__(self, connection, number):
        while read := read_request(connection):
            if read[0].startswith(b"POST"):
                self.asked += 1
                if self.asked == 1:
                    self.began.set()
                    assert connection.recv(1) == b""
                    self.left.set()
                    return
            connection.sendall(response())


@pytest.fixture
def model():
    return SlowModel()


@pytest.fixture
def gate(tmp_path, model):
    """A gateway with a single place in it, and a single one in the queue."""
    with socket_server(model) as url:
        section = {"url": url, "connections": 1, "max_waiting": 1}
        with served_gateway(tmp_path, section, {"m": CLASSIFIER}, limits={"waiting": 2, "caller_share": 1.0}) as gate:
            yield gate


def connect(url):
    place = urlsplit(url)
    return socket.create_connection((place.hostname, place.port))


def check_free(gate, model, asked=2):
    """Nothing is left of the caller; the next one is answered."""
    assert model.left.wait(30)
    wait_until(lambda: "modeltoll_upstream_inside 0" in httpx.get(f"{gate.admin}/metrics").text)
    wait_until(lambda: "modeltoll_upstream_waiting 0" in httpx.get(f"{gate.admin}/metrics").text)
    assert httpx.post(f"{gate.url}/predict", json=ROWS).status_code == 200
    assert model.asked == asked
    log = httpx.get(f"{gate.admin}/api/log").json()["lines"]
    assert len(log) == 1  # of the next one


@pytest.mark.parametrize("linger", [False, True], ids=["closed", "reset"])
def test_the_model_server_sees_the_caller_leave(gate, model, linger):
    with connect(gate.url) as caller:
        caller.sendall(REQUEST)
        assert model.began.wait(30)
        assert not model.left.is_set()
        if linger:
            caller.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
    check_free(gate, model)


@pytest.mark.parametrize("together", [True, False], ids=["one write", "two writes"])
def test_a_caller_who_pipelines_is_seen_to_leave(gate, model, together):
    with connect(gate.url) as caller:
        caller.sendall(REQUEST * 2 if together else REQUEST)
        assert model.began.wait(30)
        if not together:
            caller.sendall(REQUEST)
    check_free(gate, model)


def test_pipelined_requests_are_answered_in_their_order(gate, model):
    model.asked = 1  # the next one is answered
    with connect(gate.url) as caller:
        caller.sendall(REQUEST * 5)
        found = b""
        while found.count(b'{"scores"') < 5:
            chunk = caller.recv(65536)
            assert chunk
            found += chunk
    assert (found.count(b"HTTP/1.1 200"), model.asked) == (5, 6)


def test_a_caller_who_leaves_the_queue_frees_its_place(gate, model):
    with connect(gate.url) as first:
        first.sendall(REQUEST)
        assert model.began.wait(30)
        with connect(gate.url) as second:
            second.sendall(REQUEST)
            wait_until(lambda: "modeltoll_upstream_waiting 1" in httpx.get(f"{gate.admin}/metrics").text)
        wait_until(lambda: "modeltoll_upstream_waiting 0" in httpx.get(f"{gate.admin}/metrics").text)
    check_free(gate, model)


def test_a_caller_who_leaves_during_its_upload_asks_nothing(gate, model):
    model.asked = 1
    for _ in range(4):  # more than there are places
        with connect(gate.url) as caller:
            caller.sendall(HEAD + BODY[:-5])

    def answered():
        return httpx.post(f"{gate.url}/predict", json=ROWS).status_code == 200

    wait_until(answered)
    assert model.asked == 2


def test_a_program_behind_the_sidecar_is_seen_to_leave(gate, model):
    running = application(upstream_url(gate.url), Purse(), SidecarMetrics())
    with sidecar_of(running) as url, connect(url) as program:
        program.sendall(REQUEST.replace(b"Host: x", b"Host: localhost"))
        assert model.began.wait(30)
        program.close()
        check_free(gate, model)


@contextlib.contextmanager
def sidecar_of(app):
    """Serve the sidecar's application as ``modeltoll proxy`` does, in a thread."""
    started, loop = threading.Event(), asyncio.new_event_loop()
    listening = socket.create_server(("127.0.0.1", 0))

    async def start():
        runner = web.AppRunner(app, access_log=None, handler_cancellation=True, auto_decompress=False)
        await runner.setup()
        await web.SockSite(runner, listening).start()
        started.set()
        return runner

    def run():
        asyncio.set_event_loop(loop)
        runner = loop.run_until_complete(start())
        loop.run_forever()
        loop.run_until_complete(runner.cleanup())
        loop.close()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    assert started.wait(30)
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(30)


def test_an_application_behind_the_middleware_sees_its_caller_leave(application_settings):
    began, left = threading.Event(), threading.Event()

    async def predict(request: Request):
        await request.body()
        began.set()
        while not await request.is_disconnected():
            pass
        left.set()
        return JSONResponse({"scores": [[0.6, 0.3, 0.1]]})

    app = Starlette(routes=[Route("/predict", predict, methods=["POST"])])
    app.add_middleware(TollMiddleware, settings=application_settings({"mode": "shadow"}))
    with serving(app) as url:
        with connect(url) as caller:
            caller.sendall(REQUEST)
            assert began.wait(30)
            assert not left.is_set()
        assert left.wait(30)
