"""A model server over gRPC behind callers of HTTP and gRPC, and a model server over HTTP behind callers of gRPC."""

from __future__ import annotations

import asyncio
import json
import threading

import grpc
import httpx
import numpy as np
import pytest
import yaml
from google.rpc.error_details_pb2 import RetryInfo
from google.rpc.status_pb2 import Status
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route
from typer.testing import CliRunner

from grpc_gateway import (
    ACCEPT,
    CLASSES,
    CONFIDENT,
    MODEL,
    VIP,
    GrpcModelServer,
    grpc_gateway,
    infer_request,
    infer_response,
    opened,
    settings_document,
)
from modeltoll import open_inference_messages as messages
from modeltoll.cli import app
from modeltoll.errors import AnswerError, UpstreamError, UpstreamTimeout
from modeltoll.gateway.upstream.deadline import caller_waits
from modeltoll.gateway.upstream.grpc_upstream import GrpcUpstream
from modeltoll.testing.model_servers import serving
from served_gateway import wait_until

OK, UNPAID = grpc.StatusCode.OK, grpc.StatusCode.FAILED_PRECONDITION
VIP_HEADERS = {"x-api-key": VIP}
_rows = iter(np.random.default_rng(5).random((10_000, 2)))


@pytest.fixture(scope="module")
def model_server():
    with GrpcModelServer().serving() as server:
        yield server


@pytest.fixture(scope="module")
def gateway(tmp_path_factory, model_server, calibration):
    folder = tmp_path_factory.mktemp("grpc")
    upstream = {
        "url": model_server.address,
        "timeout_seconds": 2.0,
        "api_key": "secret",
        "answer_headers": ["x-version"],
    }
    document = settings_document(folder, upstream, calibration)
    with grpc_gateway(folder, document) as gateway:
        yield gateway


@pytest.fixture
def answering(model_server):
    """Sets what the model server answers, until the test ends."""
    before = model_server.answer

    def set_answer(answer):
        model_server.answer = answer

    yield set_answer
    model_server.answer = before


def json_body(**members):
    tensor = {"name": "x", "shape": [1, 2], "datatype": "FP32", "data": next(_rows).astype("<f4").tolist()}
    return {"inputs": [tensor]} | members


# A caller over HTTP, a model server over gRPC


def test_a_caller_over_http_gets_json(gateway):
    url = f"{gateway.url}/v2/models/{MODEL}"
    answer = httpx.post(f"{url}/infer", json=json_body(id="7"), headers=VIP_HEADERS)
    assert answer.status_code == 200, answer.text
    found = answer.json()
    assert found["outputs"][0]["data"] == pytest.approx(CONFIDENT)
    assert (found["model_name"], found["outputs"][0]["datatype"]) == (MODEL, "FP32")
    assert httpx.post(f"{url}/infer", json=json_body(), headers={"x-api-key": "bob-key"}).status_code == 402
    described = httpx.get(url, headers=VIP_HEADERS).json()
    assert described["inputs"] == [{"name": "x", "datatype": "FP32", "shape": [-1, 2]}]
    for path in ("/v2/health/live", "/v2/health/ready", f"/v2/models/{MODEL}/ready", "/v2"):
        assert httpx.get(f"{gateway.url}{path}", headers=VIP_HEADERS).status_code == 200


def test_a_caller_over_http_gets_raw_tensors_where_it_asks_for_them(gateway):
    body = json_body(outputs=[{"name": "p", "parameters": {"binary_data": True}}])
    answer = httpx.post(f"{gateway.url}/v2/models/{MODEL}/infer", json=body, headers=VIP_HEADERS)
    length = int(answer.headers["inference-header-content-length"])
    assert np.frombuffer(answer.content[length:], "<f4").tolist() == pytest.approx(CONFIDENT)


def test_the_server_gets_the_key_and_the_trace_and_not_the_callers_key(gateway, model_server):
    trace = {"traceparent": "00-" + "a" * 32 + "-" + "b" * 16 + "-01"}
    httpx.post(f"{gateway.url}/v2/models/{MODEL}/infer", json=json_body(), headers=VIP_HEADERS | trace)
    sent = dict(model_server.metadata[-1])
    assert (sent["authorization"], sent["traceparent"]) == ("Bearer secret", trace["traceparent"])
    with gateway.client(VIP) as client:
        client.infer(infer_request(next(_rows)), [*trace.items(), ("x-other", "1")])
    sent = dict(model_server.metadata[-1])
    assert (sent["authorization"], sent["traceparent"]) == ("Bearer secret", trace["traceparent"])
    assert not {"x-api-key", "x-other", "toll-accept"} & sent.keys()


def test_init_and_check_know_a_model_server_over_grpc(tmp_path, model_server):
    path = tmp_path / "modeltoll.yaml"
    made = CliRunner().invoke(app, ["init", model_server.address, "--out", str(path)])
    assert made.exit_code == 0, made.output
    document = yaml.safe_load(path.read_text())
    assert document["models"][MODEL]["output"] == {"name": "p", "kind": "probabilities", "classes": CLASSES}
    assert document["models"][MODEL]["inputs"] == [{"name": "x", "width": 2, "datatype": "FP32"}]
    assert document["listen_grpc"] == "127.0.0.1:8081"
    checked = CliRunner().invoke(app, ["check", str(path)])
    assert checked.exit_code == 0, checked.output
    missing = CliRunner().invoke(app, ["init", "grpc://127.0.0.1:1", "--out", str(tmp_path / "none.yaml")])
    assert missing.exit_code == 1
    assert "is it running" in missing.output


# Errors of a model server over gRPC


STATUSES = [
    (grpc.StatusCode.INVALID_ARGUMENT, 400, grpc.StatusCode.INVALID_ARGUMENT),
    (grpc.StatusCode.FAILED_PRECONDITION, 400, grpc.StatusCode.INVALID_ARGUMENT),
    (grpc.StatusCode.NOT_FOUND, 404, grpc.StatusCode.NOT_FOUND),
    (grpc.StatusCode.RESOURCE_EXHAUSTED, 429, grpc.StatusCode.RESOURCE_EXHAUSTED),
    (grpc.StatusCode.UNAVAILABLE, 502, grpc.StatusCode.UNAVAILABLE),
    (grpc.StatusCode.UNAUTHENTICATED, 502, grpc.StatusCode.INTERNAL),
    (grpc.StatusCode.PERMISSION_DENIED, 502, grpc.StatusCode.INTERNAL),
    (grpc.StatusCode.UNIMPLEMENTED, 502, grpc.StatusCode.INTERNAL),
    (grpc.StatusCode.INTERNAL, 502, grpc.StatusCode.INTERNAL),
    (grpc.StatusCode.UNKNOWN, 502, grpc.StatusCode.INTERNAL),
]


@pytest.mark.parametrize(("code", "status", "shown"), STATUSES)
def test_what_the_model_server_says_reaches_its_callers(gateway, answering, code, status, shown):
    answering(lambda _, context: context.abort(code, "no: the score is 0.123456"))
    answer = httpx.post(f"{gateway.url}/v2/models/{MODEL}/infer", json=json_body(), headers=VIP_HEADERS)
    assert answer.status_code == status
    with gateway.client(VIP) as client:
        reply = client.infer(infer_request(next(_rows)))
    assert reply.code is shown
    assert "0.123456" not in reply.details
    assert ("no: the score is" in reply.details) == (status < 500)


def test_an_answer_that_cannot_be_measured_is_not_released(gateway, answering):
    hidden = infer_response([CONFIDENT])
    hidden.outputs.add(name="hidden", datatype="FP32", shape=[1])
    hidden.raw_output_contents.append(b"1234")
    for body in (
        hidden.SerializeToString(),
        b"\xff\xff",
        b"",
        infer_response([[0.5, 0.1, 0.1, 0.1]]).SerializeToString(),
    ):
        answering(lambda *_, body=body: body)
        with gateway.client(VIP) as client:
            reply = client.infer(infer_request(next(_rows)))
        assert (reply.code, reply.body) == (grpc.StatusCode.INTERNAL, None)


def test_a_server_that_is_too_slow_is_a_deadline(gateway, answering):
    release = threading.Event()
    answering(lambda *_: release.wait(10) and b"")
    with gateway.client(VIP) as client:
        reply = client.infer(infer_request(next(_rows)))
    release.set()
    assert reply.code is grpc.StatusCode.DEADLINE_EXCEEDED


def test_the_callers_deadline_is_the_servers(gateway, model_server):
    with gateway.client(VIP) as client:
        client.infer(infer_request(next(_rows)), timeout=1.0)
        assert 0 < model_server.left[-1] < 1.5
        client.infer(infer_request(next(_rows)), timeout=30.0)
        assert 1.5 < model_server.left[-1] < 5.0  # the gateway's own


def test_a_caller_who_leaves_cancels_the_servers_work_and_frees_its_place(gateway, answering):
    came, gone = threading.Event(), threading.Event()

    def wait(_, context):
        context.add_callback(gone.set)
        came.set()
        gone.wait(20)
        return b""

    answering(wait)
    with gateway.client(VIP) as client:
        call = client.start(messages.MODEL_INFER, infer_request(next(_rows)).SerializeToString())
        assert came.wait(10)
        call.cancel()
        assert gone.wait(10)
    upstream = gateway.reloading.gateway.upstream
    wait_until(lambda: upstream.active == 0)


@pytest.mark.parametrize("size", [10, 100_000])
def test_an_answer_that_is_too_large_is_refused(size):
    async def ask(address):
        upstream = GrpcUpstream(address.removeprefix("grpc://"), max_body=50_000)
        await upstream.open()
        try:
            return await upstream.predict(f"/v2/models/{MODEL}/infer", b"", messages.CONTENT_TYPE)
        finally:
            await upstream.close()

    with GrpcModelServer(lambda *_: bytes(size)).serving() as server:
        if size == 10:
            assert asyncio.run(ask(server.address)).body == bytes(10)
        else:
            with pytest.raises(AnswerError, match="too large"):
                asyncio.run(ask(server.address))


def test_a_server_that_is_not_there_is_an_upstream_error():
    async def ask():
        upstream = GrpcUpstream("127.0.0.1:1", timeout=5.0)
        with pytest.raises(UpstreamError, match="not open"):
            await upstream.fetch("/v2")
        await upstream.open()
        try:
            await upstream.fetch("/v2")
        finally:
            await upstream.close()

    with pytest.raises(UpstreamError, match="does not answer"):
        asyncio.run(ask())


def test_a_caller_who_does_not_wait_is_a_deadline():
    async def ask(address):
        upstream = GrpcUpstream(address.removeprefix("grpc://"))
        await upstream.open()
        try:
            with caller_waits(0.0):
                await upstream.fetch("/v2")
        finally:
            await upstream.close()

    with GrpcModelServer().serving() as server, pytest.raises(UpstreamTimeout):
        asyncio.run(ask(server.address))


# A caller over gRPC, a model server over HTTP


@pytest.fixture(scope="module")
def http_model():
    """A model server over HTTP; yields its address and the documents that it was sent."""
    asked = []

    async def infer(request):
        document = json.loads(await request.body())
        asked.append((request.url.path, document))
        if document.get("id") == "busy":
            return JSONResponse({"error": "busy"}, 429, headers={"retry-after": "7"})
        rows = document["inputs"][0]["shape"][0]
        output = {"name": "p", "datatype": "FP64", "shape": [rows, 4], "data": [CONFIDENT] * rows}
        return JSONResponse({"model_name": MODEL, "id": document.get("id", ""), "outputs": [output]})

    async def metadata(_):
        tensors = [{"name": "x", "datatype": "FP32", "shape": [-1, 2]}]
        return JSONResponse({"name": MODEL, "platform": "test", "inputs": tensors, "outputs": []})

    async def ready(_):
        return JSONResponse({"ready": True})

    routes = [
        Route("/v2/models/{model}/infer", infer, methods=["POST"]),
        Route("/v2/models/{model}/versions/{version}/infer", infer, methods=["POST"]),
        Route("/v2/models/{model}", metadata),
        Route("/v2/health/ready", ready),
    ]
    with serving(Starlette(routes=routes)) as url:
        yield url, asked


@pytest.fixture(scope="module")
def over_http(tmp_path_factory, http_model, calibration):
    folder = tmp_path_factory.mktemp("grpc")
    with grpc_gateway(folder, settings_document(folder, http_model[0], calibration)) as gateway:
        yield gateway


@pytest.mark.parametrize("raw", [True, False])
def test_a_caller_over_grpc_gets_messages(over_http, http_model, raw):
    request = infer_request(next(_rows), raw=raw, id="7", model_version="1")
    with over_http.client(accept=ACCEPT) as client:
        reply = client.infer(request)
    assert reply.code is OK
    answer = messages.ModelInferResponse.FromString(opened(reply.toll).answer.body)
    assert (answer.id, answer.outputs[0].datatype, list(answer.outputs[0].shape)) == ("7", "FP64", [1, 4])
    assert np.frombuffer(answer.raw_output_contents[0], "<f8").tolist() == CONFIDENT
    path, sent = http_model[1][-1]
    assert path == f"/v2/models/{MODEL}/versions/1/infer"
    wanted = np.frombuffer(infer_request(np.zeros(2)).raw_input_contents[0], "<f4")
    assert len(sent["inputs"][0]["data"]) == len(wanted)


def test_a_refusal_over_http_is_a_status_with_the_time_to_wait(over_http):
    with over_http.client() as client:
        reply = client.infer(infer_request(next(_rows), id="busy"))
    assert (reply.code, reply.details) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "busy")
    assert reply.trailing["retry-after"] == "7"
    status = Status.FromString(reply.trailing["grpc-status-details-bin"])
    info = RetryInfo()
    assert status.details[0].Unpack(info)
    assert info.retry_delay.ToSeconds() == 7


def test_metadata_over_http_are_messages(over_http):
    with over_http.client() as client:
        reply = client.call(messages.MODEL_METADATA, messages.ModelMetadataRequest(name=MODEL))
        assert messages.ModelMetadataResponse.FromString(reply.body).inputs[0].name == "x"
        assert messages.ServerReadyResponse.FromString(client.call(messages.SERVER_READY).body).ready
        assert not messages.ServerLiveResponse.FromString(client.call(messages.SERVER_LIVE).body).live
        assert client.call(messages.SERVER_METADATA).code is grpc.StatusCode.NOT_FOUND
