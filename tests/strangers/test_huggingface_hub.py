"""Hugging Face's own client gets through the gateway what it gets directly: classes, chats, errors, and raw bytes in shadow mode."""

from __future__ import annotations

import asyncio
import json

import httpx2
import numpy as np
import pytest
from huggingface_hub import AsyncInferenceClient, InferenceClient, set_async_client_factory, set_client_factory
from huggingface_hub.errors import HfHubHTTPError
from huggingface_hub.utils import close_session
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route

from modeltoll.client.httpx import AsyncTollTransport, TollTransport
from modeltoll.pricing.calibration import NewAccountToll
from modeltoll.pricing.calibration_file import save_calibration
from modeltoll.pricing.fit import CalibrationTerms, RowCosts, fit_calibration
from modeltoll.records import Leaks
from modeltoll.testing.model_servers import serving
from served_gateway import CHAT, served_gateway

HELLO = [{"role": "user", "content": "hi"}]
LABELS = {"protocol": "labels", "output": {"kind": "probabilities", "labels": ["neg", "pos"]}}
PUZZLE = {"allow": ["sha256"]}


def class_scores(text):
    positive = 0.9 if "good" in text else 0.2
    pairs = [{"label": "pos", "score": positive}, {"label": "neg", "score": 1 - positive}]
    return sorted(pairs, key=lambda pair: -pair["score"])


def chat(document):
    top = [{"token": "hello", "logprob": -0.1, "bytes": None}, {"token": "bye", "logprob": -3.0, "bytes": None}]
    wanted = document.get("top_logprobs") or 0
    token = {"token": "hello", "logprob": -0.1, "bytes": None, "top_logprobs": top[:wanted]}
    message = {"role": "assistant", "content": "hello"}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    choice["logprobs"] = {"content": [token]} if document.get("logprobs") else None
    usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
    return {"id": "c", "object": "chat.completion", "created": 1, "model": "chat", "choices": [choice], "usage": usage}


class Server:
    """Text classification and chats, as Text Embeddings Inference and its like serve them; ``refusal`` comes instead."""

    refusal = None

    async def say(self, request):
        if self.refusal:
            status, document, headers = self.refusal
            return JSONResponse(document, status, headers)
        body = await request.body()
        if request.headers.get("content-type") != "application/json":
            return JSONResponse([{"label": f"{len(body)} bytes", "score": 1.0}])
        document = json.loads(body)
        if "messages" in document:
            return JSONResponse(chat(document))
        parameters = document.get("parameters") or {}
        return JSONResponse([class_scores(document["inputs"])[: parameters.get("top_k")]])

    def application(self):
        return Starlette(routes=[Route("/{path:path}", self.say, methods=["GET", "POST"])])


def tariffs(folder):
    for name, measure in (("cls", "entropy"), ("chat", "tokens")):
        leaks = Leaks((measure,), np.random.default_rng(0).random((400, 1)))
        terms = CalibrationTerms(new_account_toll=NewAccountToll(anonymous_units=0.0))
        save_calibration(fit_calibration(name, leaks, RowCosts(1e-4, 1e-4), terms), folder / f"{name}.json")


@pytest.fixture(scope="module")
def setup(tmp_path_factory):
    """The server, its address, and those of gateways in enforce mode and in shadow mode."""
    server = Server()
    enforced, shadow = (tmp_path_factory.mktemp(name) for name in ("enforced", "shadow"))
    tariffs(enforced)
    entropy, tokens = [{"name": "entropy"}], [{"name": "tokens"}]
    models = {
        "cls": LABELS | {"measures": entropy, "tariff": "cls.json", "puzzle": PUZZLE},
        "chat": CHAT | {"mode": "enforce", "measures": tokens, "tariff": "chat.json", "puzzle": PUZZLE},
    }
    open_models = {"cls": LABELS | {"measures": entropy, "tariff": "none.json", "mode": "shadow"}}
    with (
        serving(server.application()) as url,
        served_gateway(enforced, url, models) as gate,
        served_gateway(shadow, url, open_models) as passing,
    ):
        yield server, url, gate.url, passing.url


@pytest.fixture(autouse=True)
def _paying():
    """The library's clients pay tolls: its own hook for a transport of the caller's."""
    set_client_factory(lambda: httpx2.Client(transport=TollTransport()))
    set_async_client_factory(lambda: httpx2.AsyncClient(transport=AsyncTollTransport()))
    yield
    close_session()
    set_client_factory(httpx2.Client)
    set_async_client_factory(httpx2.AsyncClient)


@pytest.mark.parametrize("options", [{}, {"top_k": 1}, {"function_to_apply": "softmax"}], ids=str)
@pytest.mark.parametrize("path", ["", "/", "/predict", "/models/cls"])
def test_classes_are_what_they_are_directly(setup, options, path):
    _, url, gate, _ = setup
    seen = [InferenceClient(base + path).text_classification("a good film", **options) for base in (url, gate)]
    assert seen[0] == seen[1]
    assert seen[1][0].label == "pos"


def test_the_async_client_pays_too(setup):
    _, url, gate, _ = setup

    async def ask():
        async with AsyncInferenceClient(gate) as client:
            return await asyncio.gather(*(client.text_classification(f"film {number}") for number in range(4)))

    assert asyncio.run(ask()) == [InferenceClient(url).text_classification("film")] * 4


@pytest.mark.parametrize("logprobs", [None, True])
def test_a_chat_is_what_it_is_directly(setup, logprobs):
    _, url, gate, _ = setup
    seen = []
    for base in (url, gate):
        client = InferenceClient(base_url=base)
        seen.append(client.chat_completion(HELLO, model="chat", logprobs=logprobs, max_tokens=5))
    assert seen[0] == seen[1]
    assert seen[1].choices[0].message.content == "hello"


REFUSALS = {
    "overloaded": (429, {"error": "Model is overloaded", "error_type": "overloaded"}, {"Retry-After": "1"}),
    "too long": (413, {"error": "`inputs` must have less than 512 tokens", "error_type": "validation"}, {}),
    "malformed": (422, {"error": "Input validation error", "error_type": "validation"}, {}),
    "loading": (503, {"error": "Model cls is currently loading", "estimated_time": 20.0}, {"Retry-After": "20"}),
}


@pytest.mark.parametrize("refusal", REFUSALS.values(), ids=REFUSALS)
def test_a_refusal_is_the_same_error(setup, refusal):
    server, url, gate, _ = setup
    server.refusal, raised = refusal, []
    try:
        for base in (url, gate):
            with pytest.raises(HfHubHTTPError) as caught:
                InferenceClient(base).text_classification("a film")
            response = caught.value.response
            raised.append((response.status_code, response.json()["error"], response.headers.get("retry-after")))
    finally:
        server.refusal = None
    assert raised[0] == raised[1]


def test_raw_bytes_pass_in_shadow_mode_and_are_refused_in_words_where_they_cannot_be_priced(setup, tmp_path):
    """The client gives a file its content type by its name, and bytes none at all."""
    _, url, gate, passing = setup
    image = tmp_path / "cat.png"
    image.write_bytes(b"\x89PNG....")
    for given, status in ((image.read_bytes(), 400), (image, 415)):
        seen = [InferenceClient(f"{base}/predict").image_classification(given) for base in (url, passing)]
        assert seen[0] == seen[1]
        assert seen[1][0].label == "8 bytes"
        with pytest.raises(HfHubHTTPError) as caught:
            InferenceClient(f"{gate}/predict").image_classification(given)
        assert caught.value.response.status_code == status
        assert "JSON" in caught.value.response.json()["error"]
