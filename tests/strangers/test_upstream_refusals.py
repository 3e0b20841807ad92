"""What a model server says with its status reaches the caller, and the OpenAI SDK does with it what it does without a gateway."""

from __future__ import annotations

import json
from email.utils import formatdate
from time import time

import httpx
import httpx2
import openai
import pytest
from fastapi import FastAPI
from pydantic import BaseModel
from starlette.applications import Starlette
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from modeltoll.gateway.callers.identify import hash_key
from modeltoll.gateway.middleware import TollMiddleware
from modeltoll.testing.model_servers import serving
from served_gateway import CHAT, CLASSIFIER, ROWS, served_gateway

HELLO = [{"role": "user", "content": "hi"}]
TOKEN = {
    "token": "hello",
    "logprob": -0.5,
    "bytes": list(b"hello"),
    "top_logprobs": [{"token": "hello", "logprob": -0.5, "bytes": list(b"hello")}],
}
COMPLETION = {
    "id": "c1",
    "object": "chat.completion",
    "created": 1,
    "model": "chat",
    "choices": [
        {
            "index": 0,
            "message": {"role": "assistant", "content": "hello"},
            "finish_reason": "stop",
            "logprobs": {"content": [TOKEN], "refusal": None},
        }
    ],
    "usage": {"prompt_tokens": 3, "completion_tokens": 1, "total_tokens": 4},
}
LABELS = {
    "protocol": "labels",
    "output": {"kind": "probabilities", "labels": ["a", "b"]},
    "measures": [{"name": "entropy"}],
    "mode": "shadow",
    "tariff": "none.json",
}


class Rows(BaseModel):
    """The body of a request to FastAPI."""

    rows: list[list[float]]


class Server:
    """A model server whose next responses a test writes: (status, headers, document); afterwards it answers chats."""

    def __init__(self):
        self.script, self.asked = [], 0

    def then(self, *responses):
        self.script, self.asked = list(responses), 0

    async def say(self, request):
        self.asked += 1
        status, headers, document = self.script.pop(0) if self.script else (200, {}, COMPLETION)
        if isinstance(document, bytes):
            return Response(document, status, headers)
        return JSONResponse(document, status, headers)

    def application(self):
        return Starlette(routes=[Route("/{path:path}", self.say, methods=["GET", "POST"])])


@pytest.fixture(scope="module")
def setup(tmp_path_factory):
    server = Server()
    with (
        serving(server.application()) as url,
        served_gateway(tmp_path_factory.mktemp("gateway"), url, {"chat": CHAT, "cls": LABELS}) as gate,
    ):
        yield server, url, gate


def chat(base):
    return httpx.post(f"{base}/v1/chat/completions", json={"model": "chat", "messages": HELLO})


KEPT = (400, 404, 409, 413, 415, 422, 429, 499, 503, 504)


@pytest.mark.parametrize("status", KEPT)
def test_a_status_is_kept_with_the_servers_own_error(setup, status):
    server, url, gate = setup
    error = {
        "error": {"message": "too long by 12 tokens", "type": "some_error", "param": "messages", "code": "too_long"}
    }
    server.then(*((status, {}, error),) * 2)
    direct, found = chat(url), chat(gate.url)
    assert (found.status_code, found.json()) == (status, error)
    assert found.json() == direct.json()


@pytest.mark.parametrize(("status", "becomes"), [(410, 404), (418, 400), (451, 400), (529, 503)])
def test_another_status_becomes_the_one_that_clients_know(setup, status, becomes):
    server, _, gate = setup
    server.then((status, {}, {"error": {"message": "no"}}))
    assert chat(gate.url).status_code == becomes


@pytest.mark.parametrize("status", [401, 402, 403, 405, 407])
def test_what_is_the_operators_fault_is_a_bad_gateway_and_logged_once(setup, status, caplog):
    server, _, gate = setup
    server.then()
    chat(gate.url)
    server.then(*((status, {"WWW-Authenticate": "Bearer"}, {"error": {"message": "key sk-4711 is bad"}}),) * 3)
    for _ in range(3):
        found = chat(gate.url)
        assert found.status_code == 502
        assert "sk-4711" not in found.text
        assert "www-authenticate" not in found.headers
    assert [record.levelname for record in caplog.records].count("ERROR") == 1
    assert f"answers /v1/chat/completions with {status}" in caplog.text


@pytest.mark.parametrize("status", [500, 501, 502, 507, 599])
def test_a_failure_without_meaning_is_a_bad_gateway_without_text(setup, status):
    server, _, gate = setup
    server.then((status, {}, {"error": {"message": "at 0x7f model.layers.4711"}}))
    found = chat(gate.url)
    assert (found.status_code, "4711" in found.text) == (502, False)


def test_when_to_try_again_is_passed_on_in_one_form(setup):
    server, _, gate = setup
    cases = [
        ({"Retry-After": "20"}, {"retry-after": "20"}),
        ({"Retry-After": formatdate(time() + 100, usegmt=True)}, {"retry-after": "100"}),
        ({"Retry-After": "99999999"}, {"retry-after": "86400"}),
        ({"Retry-After": "soon"}, {}),
        ({"retry-after-ms": "1500", "x-should-retry": "false"}, {"retry-after-ms": "1500", "x-should-retry": "false"}),
        ({"retry-after-ms": "1e3", "x-should-retry": "0.93"}, {}),
        ({"X-Ratelimit-Remaining-Requests": "3", "Set-Cookie": "a=b", "Server-Timing": "model;dur=4"}, {}),
    ]
    for headers, expected in cases:
        server.then((429, headers, {"error": {"message": "slow down"}}))
        found = chat(gate.url).headers
        named = ("retry-after", "retry-after-ms", "x-should-retry", "x-ratelimit-remaining-requests", "set-cookie")
        kept = {name: found[name] for name in (*named, "server-timing") if name in found}
        assert kept.keys() == expected.keys()
        if kept.get("retry-after") != "99":  # a second has begun since
            assert kept == expected


def test_each_protocol_keeps_the_shape_of_its_servers_errors(setup):
    server, _, gate = setup
    error = {"error": "Model is overloaded", "error_type": "overloaded"}
    server.then((429, {}, error))
    found = httpx.post(f"{gate.url}/predict", json={"inputs": "x"})
    assert (found.status_code, found.json()) == (429, error)
    server.then((503, {"Retry-After": "20"}, {"error": "Model is loading", "estimated_time": 20.0}))
    found = chat(gate.url)
    assert (found.status_code, found.json()["error"]["message"]) == (503, "Model is loading")


PREDICTIONS = [
    {"error": {"message": "no"}, "choices": COMPLETION["choices"], "scores": [0.93117, 0.06883]},
    {"error": {"message": "scores 0.93117 and 6.883e-2", "type": "0.93117", "param": [0.93117], "code": 93117}},
    {"error": {"message": {"scores": [0.93117]}, "type": {"a": 0.93117}, "param": "0.93117 ", "code": 0.93117}},
    {"detail": [{"loc": ["body"], "msg": "no", "input": [0.93117], "ctx": {"score": 0.93117}}]},
    {"error": {"message": "x" * 299 + "0.93117"}},
    {"error": {"message": "no " * 200 + "93117"}},
    [0.93117],
    b"0.93117",
]


@pytest.mark.parametrize("document", PREDICTIONS, ids=range(len(PREDICTIONS)))
@pytest.mark.parametrize("status", [400, 422, 429, 503])
def test_an_error_carries_no_prediction(setup, document, status):
    server, _, gate = setup
    server.then((status, {}, document))
    found = chat(gate.url)
    assert found.status_code == status
    for part in ("93117", "06883", "6.88", 'scores":'):
        assert part not in found.text
    assert len(found.content) < 1000
    assert found.json()["error"].keys() == {"message", "type", "param", "code"}


def test_a_text_that_is_hidden_by_the_settings_reaches_nobody(tmp_path):
    server = Server()
    with serving(server.application()) as url:
        section = {"url": url, "error_texts": False}
        with served_gateway(tmp_path, section, {"chat": CHAT}) as gate:
            server.then((422, {"Retry-After": "1"}, {"error": {"message": "it is a cat", "code": "cat"}}))
            found = chat(gate.url)
    assert (found.status_code, found.headers["retry-after"], "cat" in found.text) == (422, "1", False)


def sdk(base, **options):
    return openai.OpenAI(base_url=f"{base}/v1", api_key="sk-1", http_client=httpx2.Client(), **options)


@pytest.fixture
def keyed(setup, tmp_path):
    """The server, and a gateway in front of it that knows the SDK's key."""
    server, url, _ = setup
    keys = [{"name": "sdk", "sha256": hash_key("sk-1")}]
    with served_gateway(tmp_path, url, {"chat": CHAT}, callers={"keys": keys}) as gate:
        yield server, url, gate.url


@pytest.mark.parametrize("status", [409, 429, 503])
@pytest.mark.parametrize("headers", [{}, {"Retry-After": "0"}, {"retry-after-ms": "1"}], ids=["none", "s", "ms"])
def test_the_sdk_tries_again_as_it_does_without_a_gateway(keyed, status, headers):
    server, url, gate = keyed
    for base in (url, gate):
        server.then((status, headers, {"error": {"message": "slow down"}}))
        with sdk(base) as client:
            created = client.chat.completions.create(model="chat", messages=HELLO)
        assert (created.choices[0].message.content, server.asked) == ("hello", 2)


def test_the_sdk_heeds_that_it_should_not_try_again(keyed):
    server, url, gate = keyed
    for base in (url, gate):
        server.then((429, {"x-should-retry": "false"}, {"error": {"message": "quota", "code": "insufficient_quota"}}))
        with sdk(base) as client, pytest.raises(openai.RateLimitError) as caught:
            client.chat.completions.create(model="chat", messages=HELLO)
        assert (caught.value.code, server.asked) == ("insufficient_quota", 1)


def test_the_sdk_raises_the_same_error(keyed):
    server, url, gate = keyed
    raised = []
    for base in (url, gate):
        error = {
            "message": "The model does not exist",
            "type": "not_found",
            "param": "model",
            "code": "model_not_found",
        }
        server.then((404, {}, {"error": error}))
        with sdk(base) as client, pytest.raises(openai.NotFoundError) as caught:
            client.chat.completions.create(model="chat", messages=HELLO)
        raised.append((str(caught.value), caught.value.body))
    assert raised[0] == raised[1]


def test_a_validation_error_of_fastapi_names_the_place(tmp_path):
    app = FastAPI()

    @app.post("/predict")
    def predict(request: Rows):
        return {"scores": [[0.6, 0.3, 0.1]] * len(request.rows)}

    with serving(app) as url, served_gateway(tmp_path, url, {"m": CLASSIFIER}) as gate:
        assert httpx.post(f"{gate.url}/predict", json=ROWS).status_code == 200
        found = httpx.post(f"{gate.url}/predict", json={"rows": [["a secret", 2]]})
    assert found.status_code == 422
    assert found.json()["detail"].startswith("body.rows.0.0: Input should be a valid number")
    assert "a secret" not in found.text
    assert json.loads(found.content).keys() == {"error", "detail"}


@pytest.mark.parametrize("status", [401, 403])
def test_an_application_that_asks_its_own_callers_for_credentials_says_so(application_settings, status):
    """Behind the middleware the application sees its callers' headers, so that its 401 is theirs."""

    async def predict(request):
        return JSONResponse({"detail": "who are you?"}, status, {"WWW-Authenticate": "Basic"})

    app = Starlette(routes=[Route("/predict", predict, methods=["POST"])])
    app.add_middleware(TollMiddleware, settings=application_settings({"mode": "shadow"}))
    with serving(app) as url:
        found = httpx.post(f"{url}/predict", json=ROWS)
    assert (found.status_code, found.headers["www-authenticate"]) == (status, "Basic")
    assert found.json()["detail"] == "who are you?"
