"""What an application does around an answer goes on behind the gate as it does without: tasks, time limits, disconnects, errors."""

from __future__ import annotations

import asyncio
import json
from contextvars import ContextVar

import httpx
import pytest
from fastapi import BackgroundTasks, FastAPI, HTTPException, Request
from fastapi.exceptions import RequestValidationError
from starlette.applications import Starlette
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.middleware.cors import CORSMiddleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Mount, Route
from starlette.testclient import TestClient

from modeltoll.client.httpx import AsyncTollTransport
from modeltoll.errors import SettingsError
from modeltoll.gateway.middleware import TollMiddleware
from modeltoll.gateway.settings.load import load_settings

SURE = [0.97, 0.01, 0.01, 0.01]
ROWS = {"rows": [[1, 2]]}
ANSWER = {"scores": [SURE]}
SHADOW = {"mode": "shadow"}


def guarded(settings, endpoint, *inside, outside=()):
    """An application that serves the model by ``endpoint``; middleware inside and outside of the gate."""
    app = FastAPI()
    app.add_api_route("/predict", endpoint, methods=["POST"])
    for middleware, options in inside:
        app.add_middleware(middleware, **options)
    app.add_middleware(TollMiddleware, settings=settings)
    for middleware, options in outside:
        app.add_middleware(middleware, **options)
    return app


def predict(body: dict):
    return {"scores": [SURE] * len(body["rows"])}


class Call:
    """One request as a server hands it over. ``answered`` is set with the response's last byte."""

    def __init__(self, app, path="/predict", document=ROWS, headers=(), **scope):
        self._app, self._body = app, json.dumps(document).encode()
        self._received = [{"type": "http.request", "body": self._body, "more_body": False}]
        self.gone, self.answered, self.status, self.body, self.headers = asyncio.Event(), asyncio.Event(), 0, b"", {}
        self.scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "scheme": "http",
            "method": "POST",
            "path": path,
            "raw_path": path.encode(),
            "root_path": "",
            "query_string": b"",
            "headers": [(b"host", b"toll"), (b"content-type", b"application/json"), *headers],
            "client": ("127.0.0.1", 1),
            "server": ("127.0.0.1", 80),
            "state": {},
        } | scope

    def start(self):
        """The task that handles the request."""
        return asyncio.ensure_future(self._app(self.scope, self._receive, self._send))

    async def _receive(self):
        if self._received:
            return self._received.pop()
        await self.gone.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message):
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self.headers = {name.decode(): value.decode() for name, value in message["headers"]}
        else:
            self.body += message.get("body", b"")
            if not message.get("more_body", False):
                self.answered.set()


# After the answer


@pytest.mark.parametrize("inside", [(), ((BaseHTTPMiddleware, {"dispatch": lambda request, go: go(request)}),)])
def test_a_background_task_runs_after_the_answer_and_does_not_delay_it(application_settings, inside):
    may_end, ended = asyncio.Event(), []

    async def later():
        await may_end.wait()
        ended.append(True)

    def endpoint(body: dict, tasks: BackgroundTasks):
        tasks.add_task(later)
        return predict(body)

    async def story():
        call = Call(guarded(application_settings(SHADOW), endpoint, *inside))
        handling = call.start()
        await call.answered.wait()
        assert (call.status, json.loads(call.body), ended, handling.done()) == (200, ANSWER, [], False)
        may_end.set()
        await handling
        assert ended == [True]

    asyncio.run(story())


@pytest.mark.parametrize(("model", "status"), [(SHADOW, 200), ({}, 402)])
def test_a_background_task_that_fails_leaves_the_answer_and_is_reported_to_the_server(
    application_settings, model, status
):
    async def broken():
        raise OSError("the analytics database is away")

    def endpoint(body: dict, tasks: BackgroundTasks):
        tasks.add_task(broken)
        return predict(body)

    app = guarded(application_settings(model), endpoint)
    with pytest.raises(OSError, match="analytics"):
        TestClient(app, client=("127.0.0.1", 1)).post("/predict", json=ROWS)
    answer = TestClient(app, client=("127.0.0.1", 1), raise_server_exceptions=False).post("/predict", json=ROWS)
    assert answer.status_code == status
    assert status != 200 or answer.json() == ANSWER


def test_an_application_that_fails_is_502_with_its_reason_for_the_operator_alone(application_settings):
    def endpoint(body: dict):
        raise RuntimeError(f"secret {SURE}")

    app = guarded(application_settings(), endpoint)
    answer = TestClient(app, client=("127.0.0.1", 1), raise_server_exceptions=False).post("/predict", json=ROWS)
    assert (answer.status_code, "secret" in answer.text, "0.97" in answer.text) == (502, False, False)
    with pytest.raises(RuntimeError, match="secret"):
        TestClient(app, client=("127.0.0.1", 1)).post("/predict", json=ROWS)


# Time limits and disconnects


def waiting(heard, *, heeds, begun=None):
    """An endpoint that works for ever, until it sees a disconnect (where it ``heeds`` that) or is cancelled.

    ``begun``: a list to which it adds something when it begins.
    """

    async def endpoint(request: Request):
        await request.json()
        if begun is not None:
            begun.append(True)
        try:
            while not (heeds and await request.is_disconnected()):  # noqa: ASYNC110  as applications do
                await asyncio.sleep(0.001)
            heard.append("disconnect")
        except asyncio.CancelledError:
            heard.append("cancelled")
            raise

    return endpoint


async def until(begun):
    """Wait until the endpoint has begun."""
    async with asyncio.timeout(20):
        while not begun:  # noqa: ASYNC110  it runs in the same loop
            await asyncio.sleep(0.01)


@pytest.mark.parametrize(("heeds", "last"), [(True, "disconnect"), (False, "cancelled")])
def test_a_caller_who_hangs_up_ends_the_applications_work(application_settings, heeds, last):
    heard, begun = [], []

    async def story():
        call = Call(guarded(application_settings(), waiting(heard, heeds=heeds, begun=begun)))
        handling = call.start()
        await until(begun)
        call.gone.set()
        await asyncio.wait_for(handling, 10)

    asyncio.run(story())
    assert heard == [last]


@pytest.mark.parametrize(("heeds", "last"), [(True, "disconnect"), (False, "cancelled")])
def test_the_upstreams_time_limit_is_the_applications(application_settings, heeds, last):
    heard = []
    app = guarded(application_settings(upstream={"timeout_seconds": 0.05}), waiting(heard, heeds=heeds))
    answer = TestClient(app, client=("127.0.0.1", 1)).post("/predict", json=ROWS)
    assert (answer.status_code, heard) == (504, [last])


def test_a_server_that_stops_cancels_the_applications_work(application_settings):
    heard, begun = [], []

    async def story():
        call = Call(guarded(application_settings(), waiting(heard, heeds=False, begun=begun)))
        handling = call.start()
        await until(begun)
        handling.cancel()
        await asyncio.wait((handling,))
        await asyncio.sleep(0)
        assert heard == ["cancelled"]

    asyncio.run(story())


# Responses of other forms


async def streamed(request: Request):
    await request.json()

    async def parts():
        for part in json.dumps(ANSWER).split():
            await asyncio.sleep(0)
            yield part + " "

    return StreamingResponse(parts(), media_type="application/json")


async def without_length(request: Request):
    await request.json()
    response = JSONResponse(ANSWER)
    response.raw_headers = [pair for pair in response.raw_headers if pair[0] != b"content-length"]
    return response


RESPONSES = {
    "streamed": (streamed, ()),
    "without a length": (without_length, ()),
    "behind gzip": (predict, ((GZipMiddleware, {"minimum_size": 1}),)),
    "behind BaseHTTPMiddleware": (predict, ((BaseHTTPMiddleware, {"dispatch": lambda request, go: go(request)}),)),
}


@pytest.mark.parametrize(("endpoint", "inside"), RESPONSES.values(), ids=RESPONSES)
def test_responses_of_other_forms_are_sealed_and_opened_whole(application_settings, endpoint, inside):
    app = guarded(application_settings(), endpoint, *inside)

    async def story():
        transport = AsyncTollTransport(transport=httpx.ASGITransport(app, client=("127.0.0.1", 1)))
        async with httpx.AsyncClient(transport=transport, base_url="http://toll") as client:
            answer = await client.post("/predict", json=ROWS, headers={"accept-encoding": "gzip"})
            assert (answer.status_code, answer.json()) == (200, ANSWER)
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app, client=("127.0.0.1", 1))) as client:
            bare = await client.post("http://toll/predict", json=ROWS)
            assert (bare.status_code, "0.97" in bare.text) == (402, False)

    asyncio.run(story())


@pytest.mark.parametrize("length", ["1", "999"])
def test_a_response_that_is_not_as_long_as_it_says_is_refused(application_settings, length):
    async def endpoint(request: Request):
        await request.json()
        return Response(json.dumps(ANSWER), media_type="application/json", headers={"content-length": length})

    app = guarded(application_settings(SHADOW), endpoint)
    answer = TestClient(app, client=("127.0.0.1", 1)).post("/predict", json=ROWS)
    assert (answer.status_code, "0.97" in answer.text) == (502, False)


def test_a_response_by_an_extension_of_the_server_is_not_offered_to_the_application(application_settings):
    seen = []

    async def endpoint(request: Request):
        seen.append(request.scope["extensions"])
        return predict(await request.json())

    async def story():
        extensions = {"http.response.pathsend": {}, "http.response.zerocopysend": {}}
        call = Call(guarded(application_settings(SHADOW), endpoint), extensions=extensions)
        await call.start()
        assert json.loads(call.body) == ANSWER

    asyncio.run(story())
    assert seen[-1] == {}


# What is around the gate


outer_value = ContextVar("outer_value", default="none")


class Around:
    """A middleware outside of the gate that hands values in, and reads what the application and its router leave."""

    def __init__(self, app, seen):
        self._app, self._seen = app, seen

    async def __call__(self, scope, receive, send):
        if scope["type"] == "http":
            scope.setdefault("state", {})["tenant"] = "acme"
            outer_value.set("from outside")
        await self._app(scope, receive, send)
        if scope["type"] == "http":
            route = getattr(scope.get("route"), "path", None) or getattr(scope.get("endpoint"), "__name__", None)
            self._seen.append((route, scope["state"].get("user")))


@pytest.mark.parametrize("model", [SHADOW, {}])
def test_state_context_and_route_pass_between_the_application_and_what_is_around_the_gate(application_settings, model):
    inside, seen = [], []

    async def endpoint(request: Request):
        inside.append((request.state.tenant, outer_value.get()))
        request.state.user = "ada"
        return predict(await request.json())

    app = guarded(application_settings(model), endpoint, outside=[(Around, {"seen": seen})])
    TestClient(app, client=("127.0.0.1", 1)).post("/predict", json=ROWS)
    assert inside == [("acme", "from outside")]
    assert seen == [("/predict", "ada")]


PAGE = "https://page.example"
CORS = (
    CORSMiddleware,
    {
        "allow_origins": [PAGE],
        "allow_methods": ["POST"],
        "allow_headers": ["Content-Type", "Toll-Accept", "Toll-Settle"],
    },
)
ASKED = {"origin": PAGE, "access-control-request-method": "POST", "access-control-request-headers": "toll-accept"}


@pytest.mark.parametrize("place", ["inside", "outside"])
@pytest.mark.parametrize("document", [ROWS, {"rows": []}], ids=["a toll", "a refusal"])
def test_a_page_may_read_what_the_gate_answers_wherever_the_cors_middleware_is(application_settings, place, document):
    inside, outside = ((CORS,), ()) if place == "inside" else ((), (CORS,))
    client = TestClient(guarded(application_settings(), predict, *inside, outside=outside), client=("127.0.0.1", 1))
    preflight = client.options("/predict", headers=ASKED)
    answer = client.post("/predict", json=document, headers={"origin": PAGE})
    foreign = client.post("/predict", json=document, headers={"origin": "https://other.example"})
    assert (preflight.status_code, preflight.headers["access-control-allow-origin"]) == (200, PAGE)
    assert answer.headers.get_list("access-control-allow-origin") == [PAGE]
    assert answer.status_code == (402 if document["rows"] else 400)
    assert "access-control-allow-origin" not in foreign.headers


def test_two_gates_for_one_model_are_refused_at_the_start(application_settings):
    app = guarded(application_settings(), predict, outside=[(TollMiddleware, {"settings": application_settings()})])
    with pytest.raises(SettingsError, match="remove one of the two"):
        TestClient(app, client=("127.0.0.1", 1)).post("/predict", json=ROWS)
    exact = {"settings": application_settings(), "exact_paths": True}
    app = guarded(application_settings(), predict, outside=[(TollMiddleware, exact)])
    answer = TestClient(app, client=("127.0.0.1", 1), raise_server_exceptions=False).post("/predict", json=ROWS)
    assert (answer.status_code, "0.97" in answer.text) == (502, False)


def test_gates_for_two_models_in_an_application_and_in_its_mount_do_not_meet(application_settings):
    inner = guarded(load_settings(application_settings()), predict)
    model = {"json_path": {"route": "/other", "inputs": "rows", "scores": "scores"}}

    async def other(request):
        return JSONResponse({"scores": [SURE] * len((await request.json())["rows"])})

    outer = Starlette(routes=[Mount("/inner", app=inner), Route("/other", other, methods=["POST"])])
    outer.add_middleware(TollMiddleware, settings=load_settings(application_settings(model)))
    client = TestClient(outer, client=("127.0.0.1", 1))
    answers = [client.post(path, json=ROWS) for path in ("/inner/predict", "/other")]
    assert [(answer.status_code, "0.97" in answer.text) for answer in answers] == [(402, False)] * 2


# Refusals of the application


REFUSALS = {
    "no such thing": (HTTPException(404, "no such model"), 404, None),
    "a conflict": (HTTPException(409, "being retrained"), 409, None),
    "its own validation": (
        RequestValidationError([{"loc": ("body", "rows"), "msg": "too long", "type": "x"}]),
        422,
        None,
    ),
    "too many requests": (HTTPException(429, "slow down", {"Retry-After": "7"}), 429, "7"),
    "busy": (HTTPException(503, "loading the model", {"Retry-After": "9"}), 503, "9"),
}


@pytest.mark.parametrize("model", [SHADOW, {}])
@pytest.mark.parametrize(("error", "status", "retry_after"), REFUSALS.values(), ids=REFUSALS)
def test_what_the_application_says_reaches_the_caller_with_its_status(
    application_settings, model, error, status, retry_after
):
    def endpoint(body: dict):
        raise error

    app = guarded(application_settings(model), endpoint)
    answer = TestClient(app, client=("127.0.0.1", 1)).post("/predict", json=ROWS)
    assert (answer.status_code, answer.headers.get("retry-after")) == (status, retry_after)
    assert "www-authenticate" not in answer.headers
