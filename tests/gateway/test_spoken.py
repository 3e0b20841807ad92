"""Whole gateways in other protocols than OIP, and the same gate as middleware: real requests, real SDKs."""

from __future__ import annotations

import asyncio
import json
import math

import httpx
import httpx2
import numpy as np
import openai
import pytest
import yaml
from starlette.applications import Starlette
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from modeltoll import wire
from modeltoll.client.httpx import TollTransport
from modeltoll.client.purse import Purse
from modeltoll.errors import AnswerError, SettingsError, UpstreamError
from modeltoll.gateway.assembly.build import build_gateway
from modeltoll.gateway.callers.identify import hash_key
from modeltoll.gateway.middleware import TollMiddleware
from modeltoll.gateway.settings.load import load_settings
from modeltoll.gateway.upstream.application import ApplicationUpstream
from modeltoll.pricing.calibration import NewAccountToll
from modeltoll.pricing.calibration_file import save_calibration
from modeltoll.pricing.fit import CalibrationTerms, RowCosts, fit_calibration
from modeltoll.records import Answer, Leaks
from modeltoll.testing.model_servers import FakeUpstream, serving

ENTROPY = {"output": {"kind": "probabilities"}, "measures": [{"name": "entropy"}]}
TOKENS = {"output": {"kind": "tokens"}, "measures": [{"name": "tokens"}], "protocol": "openai-chat"}
HELLO = [{"role": "user", "content": "hi"}]
SURE = [0.97, 0.01, 0.01, 0.01]


def tariff(model, measure, path, new_account_units):
    """A tariff whose honest rows leak between 0 and 1, for a unit of some hundred hashes."""
    leaks = Leaks((measure,), np.random.default_rng(0).random((400, 1)))
    terms = CalibrationTerms(new_account_toll=NewAccountToll(anonymous_units=new_account_units))
    save_calibration(fit_calibration(model, leaks, RowCosts(undefended_seconds=1e-4, unit_seconds=1e-4), terms), path)


@pytest.fixture
def written(tmp_path):
    """Writes settings of some models, each with a tariff of its own, and gives their path."""

    def write(url="http://127.0.0.1:1", new_account_units=0.0, **models):
        for name, model in models.items():
            tariff(name, model["measures"][0]["name"], tmp_path / f"{name}.json", new_account_units)
            models[name] = {"tariff": f"{name}.json", "puzzle": {"allow": ["sha256"]}, **model}
        keys = [{"name": "sdk", "sha256": hash_key("sk-1")}]
        callers = {"keys": keys}
        document = {"upstream": {"url": url}, "callers": callers, "ledger": {"url": "memory://"}, "models": models}
        path = tmp_path / "modeltoll.yaml"
        path.write_text(yaml.safe_dump(document))
        return path

    return write


def gateway(settings, says):
    """A gateway in front of a double, its ledger open; and the double."""
    upstream = FakeUpstream(says)
    gateway = build_gateway(load_settings(settings), upstream)
    asyncio.run(gateway.ledger.open())
    return gateway.public, upstream


def answers(document):
    return lambda path, body: Answer(200, "application/json", json.dumps(document).encode())


def completion():
    known = [{"token": w, "logprob": math.log(p), "bytes": list(w.encode())} for w, p in (("hello", 0.6), ("bye", 0.3))]
    choice = {
        "index": 0,
        "message": {"role": "assistant", "content": "hello"},
        "finish_reason": "stop",
        "logprobs": {"content": [{**known[0], "top_logprobs": known}]},
    }
    return {"id": "1", "object": "chat.completion", "created": 1, "model": "chat", "choices": [choice]}


def test_the_openai_sdk_gets_its_chat_through_a_real_gateway(written):
    app, upstream = gateway(written(chat=TOKENS), answers(completion()))
    purse = Purse()
    with serving(app) as url:
        transport = TollTransport(purse=purse, transport=httpx2.HTTPTransport())
        with openai.OpenAI(
            base_url=url + "/v1", api_key="sk-1", http_client=httpx2.Client(transport=transport), max_retries=0
        ) as client:
            plain = client.chat.completions.create(model="chat", messages=HELLO)
            shown = client.chat.completions.create(model="chat", messages=HELLO, logprobs=True, top_logprobs=1)
            with pytest.raises(openai.NotFoundError, match="no such model"):
                client.chat.completions.create(model="other", messages=HELLO)
    assert plain.choices[0].message.content == "hello"
    assert plain.choices[0].logprobs is None
    assert [one.token for one in shown.choices[0].logprobs.content[0].top_logprobs] == ["hello"]
    assert len(purse.payments) == 2
    assert all(json.loads(body)["top_logprobs"] == 20 for _, body in upstream.requests)


def test_models_that_share_a_path_are_told_apart_by_their_names(written):
    app, _ = gateway(written(chat=TOKENS, other=TOKENS), answers(completion()))
    with serving(app) as url:
        tolls = [
            httpx.post(url + "/v1/chat/completions", json={"model": name, "messages": HELLO})
            for name in ("chat", "other", "third", None)
        ]
        garbage = httpx.post(url + "/v1/chat/completions", content=b"{", headers={"content-type": "application/json"})
    assert [toll.status_code for toll in tolls] == [402, 402, 404, 404]
    assert garbage.status_code == 404
    assert [toll.headers["www-authenticate"].split('realm="')[1].split('"')[0] for toll in tolls[:2]] == [
        "chat",
        "other",
    ]
    assert tolls[0].json()["error"]["code"] == "toll"


def test_each_route_answers_in_its_own_protocol(written):
    models = {
        "digits": ENTROPY | {"protocol": "v1"},
        "chat": TOKENS,
        "frame": ENTROPY | {"protocol": "mlflow"},
    }
    app, _ = gateway(written(**models), answers({"predictions": [SURE]}))
    with serving(app) as url:
        assert httpx.post(url + "/v1/models/digits:predict", json={"instances": [[1, 2]]}).status_code == 402
        assert httpx.post(url + "/invocations", json={"inputs": [[1, 2]]}).status_code == 402
        fault = httpx.post(url + "/v1/models/digits:predict", json={"instances": []})
        frame = httpx.post(url + "/invocations", content=b"1,2\n", headers={"content-type": "text/csv"})
        chat = httpx.post(url + "/v1/chat/completions", json={"model": "chat"})
        for path in (
            "/v1/models/frame:predict",
            "/v1/models/digits:classify",
            "/v1/embeddings",
            "/v2/models/digits/infer",
        ):
            assert httpx.post(url + path, json={}).status_code == 404
    assert (fault.status_code, fault.json()) == (400, {"error": "the request has no rows"})
    assert (frame.status_code, frame.json()["error_code"]) == (415, "BAD_REQUEST")
    assert (chat.status_code, chat.json()["error"]["type"]) == (400, "invalid_request_error")


RAW = {"output": {"name": "p", "kind": "probabilities"}, "measures": [{"name": "entropy"}]}


def raw_question():
    """One row as raw bytes, and how long its JSON is."""
    tensor = {"name": "x", "shape": [1, 2], "datatype": "FP32", "parameters": {"binary_data_size": 8}}
    head = json.dumps({"inputs": [tensor]}).encode()
    return head + np.array([1, 2], "<f4").tobytes(), str(len(head))


def raw_answer(path, body):
    """One row of scores as raw bytes, however it was asked."""
    output = {"name": "p", "shape": [1, 4], "datatype": "FP32", "parameters": {"binary_data_size": 16}}
    head = json.dumps({"outputs": [output]}).encode()
    kind = wire.with_binary_length("application/octet-stream", str(len(head)))
    return Answer(200, kind, head + np.array(SURE, "<f4").tobytes())


@pytest.mark.parametrize("mode", ["sealed", "redeem"])
def test_raw_tensors_go_in_and_come_out_with_the_length_of_their_json(written, mode):
    app, upstream = gateway(written(digits=RAW), raw_answer)
    question, length = raw_question()
    headers = {"Inference-Header-Content-Length": length, "Toll-Accept": f"sha256; mode={mode}"}
    with serving(app) as url, httpx.Client(transport=TollTransport(), headers=headers) as client:
        path = url + "/v2/models/digits/infer"
        found = client.post(path, content=question)
        lies = [{"Inference-Header-Content-Length": said} for said in ("x", "9999")]
        wrong = [client.post(path, content=question[: int(length)], headers=lie) for lie in lies]
    assert (found.status_code, found.content) == (200, raw_answer("", b"").body)
    assert found.headers["content-type"] == "application/octet-stream"
    json_length = int(found.headers["inference-header-content-length"])
    assert json.loads(found.content[:json_length])["outputs"][0]["name"] == "p"
    assert upstream.content_types == [wire.with_binary_length("application/octet-stream", length)]
    assert [answer.status_code for answer in wrong] == [400, 400]


def test_what_is_admitted_for_its_toll_keeps_its_type_and_its_protocols_errors(written):
    def says(path, body):
        return (
            Answer(400, "application/json", b'{"error": {"message": "no"}}')
            if "chat" in path
            else raw_answer(path, body)
        )

    app, upstream = gateway(written(new_account_units=20.0, digits=RAW, chat=TOKENS), says)
    question, length = raw_question()
    purse = Purse()
    with serving(app) as url, httpx.Client(transport=TollTransport(purse=purse)) as client:
        headers = {"Inference-Header-Content-Length": length}
        found = client.post(url + "/v2/models/digits/infer", content=question, headers=headers)
        fault = client.post(url + "/v1/chat/completions", json={"model": "chat", "messages": HELLO})
    assert (found.status_code, found.content) == (200, raw_answer("", b"").body)
    assert upstream.content_types[0] == wire.with_binary_length("application/octet-stream", length)
    assert (fault.status_code, fault.json()["error"]["type"]) == (400, "invalid_request_error")
    assert [payment.mode for payment in purse.payments] == [
        "redeem",
        "sealed",
        "redeem",
    ]  # admission, answer, admission


def test_a_protocol_without_raw_tensors_says_so(written):
    app, _ = gateway(written(digits=ENTROPY | {"protocol": "v1"}), answers({"predictions": [SURE]}))
    with serving(app) as url:
        headers = {"Inference-Header-Content-Length": "2"}
        answer = httpx.post(url + "/v1/models/digits:predict", content=b"{}", headers=headers)
    assert (answer.status_code, "not served" in answer.json()["error"]) == (400, True)


FAULTS = {
    "a path for another protocol": ({"a": ENTROPY | {"json_path": {"route": "/p"}, "protocol": "v1"}}, "json_path"),
    "no path": ({"a": ENTROPY | {"protocol": "json"}}, "json_path"),
    "a path that climbs": ({"a": ENTROPY | {"protocol": "json", "json_path": {"route": "/../p"}}}, "not a path"),
    "an expression that is none": (
        {"a": ENTROPY | {"protocol": "json", "json_path": {"route": "/p", "inputs": "x["}}},
        "JMESPath",
    ),
    "no output": ({"a": ENTROPY}, "output.name"),
    "labels that are not listed": ({"a": ENTROPY | {"protocol": "labels"}}, "output.labels"),
    "tokens of another protocol": ({"a": TOKENS | {"protocol": "v1"}}, "protocol v1 has no tokens"),
    "a measure that does not fit": ({"a": TOKENS | {"measures": [{"name": "entropy"}]}}, "cannot measure tokens"),
    "one path for two models": (
        {"a": ENTROPY | {"protocol": "mlflow"}, "b": ENTROPY | {"protocol": "mlflow"}},
        "nothing says which",
    ),
    "one path for two protocols": (
        {
            "a": ENTROPY | {"protocol": "mlflow"},
            "b": ENTROPY | {"protocol": "json", "json_path": {"route": "/invocations"}},
        },
        "nothing says which",
    ),
    "one name for two models": ({"a": TOKENS | {"served_as": "m"}, "b": TOKENS | {"served_as": "m"}}, "same name"),
    "partial answers without classes": (
        {"a": ENTROPY | {"protocol": "v1", "output": {"kind": "probabilities", "partial": True}}},
        "needs classes",
    ),
}


@pytest.mark.parametrize(("models", "fault"), FAULTS.values(), ids=FAULTS)
def test_settings_that_do_not_fit_together_are_refused(written, models, fault):
    path = written(**models)
    with pytest.raises(SettingsError, match=fault):
        build_gateway(load_settings(path))


# The same gate as middleware


async def predict(request):
    document = await request.json()
    return JSONResponse({"scores": [SURE] * len(document["rows"]), "key": request.headers.get("authorization", "")})


async def crash(_request):
    raise RuntimeError("secret reason")


def guarded(settings, **options):
    app = Starlette(
        routes=[
            Route("/predict", predict, methods=["POST"]),
            Route("/crash", crash, methods=["POST"]),
            Route("/about", lambda _: Response("about")),
        ]
    )
    app.add_middleware(TollMiddleware, settings=settings, **options)
    return app


def own_service(route="/predict"):
    output = {"kind": "probabilities", "unmeasured": ["key"]}
    json_path = {"route": route, "inputs": "rows", "scores": "scores"}
    return ENTROPY | {"protocol": "json", "json_path": json_path, "output": output}


def test_an_application_is_guarded_from_within(written):
    with serving(guarded(written("app", digits=own_service()))) as url:
        bare = httpx.post(url + "/predict", json={"rows": [[1, 2]]})
        with httpx.Client(transport=TollTransport()) as client:
            paid = client.post(url + "/predict", json={"rows": [[1, 2], [3, 4]]})
        about = httpx.get(url + "/about")
        wrong = httpx.post(url + "/predict", json={"rows": []})
    assert (bare.status_code, paid.status_code, about.text, wrong.status_code) == (402, 200, "about", 400)
    assert paid.json() == {"scores": [SURE, SURE], "key": ""}
    assert wrong.json()["detail"] == "the request has no rows"


def test_an_application_that_fails_releases_nothing_and_keeps_its_reason(written):
    with serving(guarded(written("app", digits=own_service("/crash")))) as url:
        answer = httpx.post(url + "/crash", json={"rows": [[1, 2]]})
    assert answer.status_code == 502
    assert "secret" not in answer.text


def test_the_gate_opens_and_closes_with_the_applications_lifespan(written):
    heard = []

    async def app(scope, receive, send):
        assert scope["type"] == "lifespan"
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})

    async def main():
        middleware = TollMiddleware(app, settings=written("app", digits=own_service()), exact_paths=True)
        messages = iter(["lifespan.startup", "lifespan.shutdown"])

        async def receive():
            return {"type": next(messages)}

        async def send(message):
            heard.append((message["type"], middleware._lifetime.is_open))

        await middleware({"type": "lifespan"}, receive, send)

    asyncio.run(main())
    assert heard == [("lifespan.startup.complete", True), ("lifespan.shutdown.complete", False)]


def test_a_gateway_of_its_own_needs_a_model_servers_address(written):
    with pytest.raises(SettingsError, match="TollMiddleware"):
        build_gateway(load_settings(written("app", digits=own_service())))


BROKEN_APPS = {
    "silent": [],
    "cut short": [{"type": "http.response.start", "status": 200, "headers": []}],
    "never done": [
        {"type": "http.response.start", "status": 200, "headers": []},
        {"type": "http.response.body", "body": b"{", "more_body": True},
    ],
}


@pytest.mark.parametrize("messages", BROKEN_APPS.values(), ids=BROKEN_APPS)
def test_an_application_that_breaks_off_is_an_upstream_error(messages):
    async def app(_scope, _receive, send):
        for message in messages:
            await send(message)

    with pytest.raises(UpstreamError, match="did not complete its response"):
        asyncio.run(ApplicationUpstream(app).predict("/p", b"{}"))


HEADERS = {
    "too large": ([], b"x" * 11, "larger than 10 bytes"),
    "compressed": ([(b"content-encoding", b"gzip")], b"x", "compressed"),
    "of a type that cannot be read": ([(b"content-type", b"text/\xff")], b"x", "content type"),
}


@pytest.mark.parametrize(("headers", "body", "fault"), HEADERS.values(), ids=HEADERS)
def test_an_answer_of_the_application_that_cannot_be_handed_on_is_refused(headers, body, fault):
    async def app(_scope, _receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    with pytest.raises(AnswerError, match=fault):
        asyncio.run(ApplicationUpstream(app, max_body=10).predict("/p", b"{}"))
