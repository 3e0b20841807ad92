"""The public application's routes: what is served, what is refused, and what becomes of errors and of what is no HTTP."""

from __future__ import annotations

import asyncio

import pytest
from starlette.responses import PlainTextResponse
from starlette.testclient import TestClient
from starlette.websockets import WebSocketDisconnect

from modeltoll.errors import ModeltollError, RouteRefused
from modeltoll.gateway.public.routing import PublicRequest, PublicRouter, Route


class Broken(Exception):
    """No error that the gateway knows."""


async def greet(request, send):
    return PlainTextResponse(f"{request.method} {request.path_params['name']}")


async def fail(request, send):
    raise Broken


async def refuse(request, send):
    raise ModeltollError("refused")


async def begin_and_fail(request, send):
    await send({"type": "http.response.start", "status": 200, "headers": []})
    raise ModeltollError("too late")


async def send_all(request, send):
    await PlainTextResponse("sent")(request.scope, request.receive, send)


ROUTES = [
    Route("GET", "/hello/{name}", greet),
    Route("POST", "/fail", fail),
    Route("POST", "/refuse", refuse),
    Route("POST", "/late", begin_and_fail),
    Route("POST", "/own", send_all),
]


def shown(request, error):
    return PlainTextResponse(type(error).__name__, status_code=getattr(error, "status", 500))


@pytest.fixture
def client():
    return TestClient(PublicRouter(ROUTES, shown), raise_server_exceptions=False)


def test_a_request_goes_to_the_first_route_of_its_path_and_method(client):
    assert client.get("/hello/you").text == "GET you"
    head = client.head("/hello/you")
    assert (head.status_code, head.headers["content-length"]) == (200, "8")  # of "HEAD you"
    assert client.post("/own").text == "sent"


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/fail"),
        ("POST", "/hello/you"),
        ("GET", "/hello/you/"),
        ("PUT", "/own"),
        ("GET", "/"),
        ("POST", "/own%0A"),
    ],
)
def test_any_other_request_gets_the_same_refusal(client, method, path):
    answer = client.request(method, path)
    assert (answer.status_code, answer.text) == (RouteRefused("").status, "RouteRefused")


def test_an_error_of_the_gateway_is_answered_and_a_fault_is_raised_again_for_the_log(client):
    assert client.post("/refuse").text == "ModeltollError"
    assert client.post("/fail").text == "Broken"
    with pytest.raises(Broken):
        TestClient(PublicRouter(ROUTES, shown)).post("/fail")


def test_an_error_after_the_head_of_the_response_is_raised_and_no_second_head_is_sent():
    sent = []

    async def send(message):
        sent.append(message["type"])

    async def run():
        scope = {"type": "http", "method": "POST", "path": "/late", "headers": []}
        await PublicRouter(ROUTES, shown)(scope, None, send)

    with pytest.raises(ModeltollError, match="too late"):
        asyncio.run(run())
    assert sent == ["http.response.start"]


def test_the_lifespan_completes_and_websockets_are_closed():
    with TestClient(PublicRouter(ROUTES, shown)) as client:
        connecting = client.websocket_connect("/hello/you")
        with pytest.raises(WebSocketDisconnect):
            connecting.__enter__()


def test_headers_are_those_of_starlette_whatever_their_case_and_number():
    raw = [(b"x-a", b"1"), (b"x-b", b"\xe9"), (b"x-a", b"2")]
    headers = PublicRequest({"type": "http", "headers": raw}).headers
    assert headers["X-A"] == headers.get("x-a") == "1"
    assert headers.getlist("X-a") == ["1", "2"]
    assert headers.getlist("x-c") == []
    assert headers.get("x-c") is None
    assert headers["x-b"] == "é"
    assert "X-B" in headers
    assert "x-c" not in headers
    with pytest.raises(KeyError):
        headers["x-c"]
