"""The gateway's side over gRPC: what clients get, for what, and what a thief does not get."""

from __future__ import annotations

import grpc
import httpx
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

from grpc_gateway import (
    ACCEPT,
    BOB,
    CONFIDENT,
    MODEL,
    VIP,
    GrpcModelServer,
    grpc_gateway,
    infer_request,
    infer_response,
    opened,
    proof_for,
    settings_document,
)
from modeltoll import open_inference_messages as messages
from modeltoll import wire
from modeltoll.records import Caller

OK, UNPAID = grpc.StatusCode.OK, grpc.StatusCode.FAILED_PRECONDITION
INVALID = grpc.StatusCode.INVALID_ARGUMENT


@pytest.fixture(scope="module")
def model_server():
    with GrpcModelServer().serving() as server:
        yield server


@pytest.fixture(scope="module")
def gateway(tmp_path_factory, model_server, calibration):
    folder = tmp_path_factory.mktemp("grpc")
    with grpc_gateway(folder, settings_document(folder, model_server.address, calibration)) as gateway:
        yield gateway


@pytest.fixture
def plain(gateway):
    """A client of the field, which knows nothing of tolls."""
    with gateway.client() as client:
        yield client


@pytest.fixture
def announced(gateway):
    """A client that announces itself."""
    with gateway.client(accept=ACCEPT) as client:
        yield client


_rows = iter(np.random.default_rng(3).random((10_000, 2)))


def fresh(**options):
    """A request for a row that nobody has asked for."""
    return infer_request(next(_rows), **options)


def test_a_sealed_answer_is_the_model_servers_byte_for_byte(announced, model_server):
    request = fresh(id="7")
    reply = announced.infer(request)
    assert reply.code is OK
    assert (reply.response.model_name, reply.response.id, len(reply.response.outputs)) == (MODEL, "7", 0)
    toll = reply.toll
    assert (toll.mode, toll.rows, toll.settles) == ("sealed", 1, True)
    answer = opened(toll).answer
    assert (answer.status, answer.content_type) == (200, messages.CONTENT_TYPE)
    assert answer.body == infer_response([CONFIDENT]).SerializeToString()
    assert model_server.bodies[-1] == request.SerializeToString(deterministic=True)


def test_any_other_client_pays_the_whole_price_and_gets_the_plain_answer_once(plain):
    request = fresh()
    first = plain.infer(request)
    assert first.code is UNPAID
    assert "\n" not in first.details
    assert len(first.trailing["toll-bin"]) <= 7 << 10
    assert first.toll.admission
    paid = plain.pay(request, first)
    assert paid.code is OK
    assert paid.body == infer_response([CONFIDENT]).SerializeToString()
    assert "mode=prepaid" in paid.trailing["toll-receipt"] or "prepaid" in paid.trailing["toll-receipt"]
    again = plain.pay(request, first)
    assert again.code is UNPAID
    assert again.toll.challenge != first.toll.challenge


def test_an_exempt_caller_gets_the_plain_answer_with_a_receipt(gateway):
    with gateway.client(VIP) as client:
        reply = client.infer(fresh())
    assert reply.code is OK
    assert reply.body == infer_response([CONFIDENT]).SerializeToString()
    assert "exempt" in reply.trailing["toll-receipt"]


def test_rows_are_the_same_over_http_and_over_grpc_written_in_any_way(gateway, plain):
    """One fingerprint: the ledger counts the row once."""
    row = next(_rows).astype("<f4")
    caller = {"x-api-key": "alice-key"}
    tensor = {"name": "x", "shape": [1, 2], "datatype": "FP32", "data": [float(value) for value in row]}
    known = account_rows(gateway)
    assert (
        httpx.post(f"{gateway.url}/v2/models/{MODEL}/infer", json={"inputs": [tensor]}, headers=caller).status_code
        == 402
    )
    assert account_rows(gateway) == known + 1
    for request in (infer_request(row), infer_request(row, raw=False), infer_request(row, id="other")):
        assert plain.infer(request).code is UNPAID
    assert account_rows(gateway) == known + 1


def account_rows(gateway, caller="key:alice"):
    """The fresh rows of a caller's account."""
    account = gateway.run(gateway.ledger.account(Caller(caller), MODEL))
    return sum(account.evidence.counts) if account else 0


def standing(gateway, caller="key:alice"):
    return gateway.run(gateway.ledger.standing(Caller(caller)))


# Thieves


def test_a_proof_is_for_its_caller_its_bytes_and_its_model_alone(gateway, plain):
    request = fresh()
    proof = (wire.GRPC_PROOF_KEY, proof_for(plain.infer(request).toll))
    with gateway.client(BOB) as bob:
        assert bob.infer(request, [proof]).code is grpc.StatusCode.PERMISSION_DENIED
    for other in (fresh(), infer_request([0.5, 0.5]), same_row_other_bytes(request)):
        assert plain.infer(other, [proof]).code is grpc.StatusCode.PERMISSION_DENIED
    before = standing(gateway).prepaid
    assert plain.infer(request, [proof]).code is OK
    assert standing(gateway).prepaid == pytest.approx(before)


def same_row_other_bytes(request):
    """The same request with an id: the model would answer the same."""
    other = messages.ModelInferRequest()
    other.CopyFrom(request)
    other.id = "x"
    return other


def test_one_proof_sent_many_times_at_once_buys_one_answer(gateway, plain):
    request = fresh()
    proof = (wire.GRPC_PROOF_KEY, proof_for(plain.infer(request).toll))
    body = request.SerializeToString(deterministic=True)
    calls = [plain.start(messages.MODEL_INFER, body, [proof]) for _ in range(12)]
    codes = [call.code() for call in calls]
    assert codes.count(OK) == 1
    assert codes.count(UNPAID) == len(codes) - 1


def test_a_forged_or_unsolved_proof_buys_nothing(plain):
    request = fresh()
    toll = plain.infer(request).toll
    wrong = wire.encode_redemption(toll.payload, proof=bytes(32))
    cut = wire.encode_redemption(toll.payload[:-1], proof=bytes(32))
    for proof in (wrong, cut):
        assert plain.infer(request, [(wire.GRPC_PROOF_KEY, proof)]).code is grpc.StatusCode.PERMISSION_DENIED
    for proof in (b"", b"{}", b"\xff" * 9):
        assert plain.infer(request, [(wire.GRPC_PROOF_KEY, proof)]).code is INVALID


def test_tokens_of_http_and_of_grpc_are_worth_nothing_on_the_other_side(gateway, plain):
    headers = {"x-api-key": "alice-key"}
    request = fresh()
    body = proof_for(plain.infer(request).toll)
    redeemed = httpx.post(f"{gateway.url}{wire.REDEEM_PATH}", content=body, headers=headers)
    assert redeemed.status_code == 403
    tensor = {"name": "x", "shape": [1, 2], "datatype": "FP32", "data": next(_rows).tolist()}
    document = {"inputs": [tensor]}
    asked = httpx.post(f"{gateway.url}/v2/models/{MODEL}/infer", json=document, headers=headers)
    proof = proof_for(wire.find_toll(asked.content))
    assert plain.infer(fresh(), [(wire.GRPC_PROOF_KEY, proof)]).code is grpc.StatusCode.PERMISSION_DENIED


def test_paying_leaves_nothing_behind_but_what_was_too_much(gateway, plain):
    """What a proof prepays is used by its answer: it is no credit for others."""
    request = fresh()
    before = standing(gateway)
    first = plain.infer(request)
    assert plain.pay(request, first).code is OK
    after = standing(gateway)
    assert after.prepaid == pytest.approx(before.prepaid)
    assert after.unsettled <= before.unsettled + 1e-9
    assert after.settled_rows == before.settled_rows + 1


def test_metadata_that_comes_twice_is_refused(plain):
    for pair in (("x-api-key", BOB), ("toll-accept", ACCEPT)):
        assert plain.infer(fresh(), [pair] if pair[0] == "x-api-key" else [pair, pair]).code is INVALID
    proof = (wire.GRPC_PROOF_KEY, b"{}")
    assert plain.infer(fresh(), [proof, proof]).code is INVALID
    bearer = ("authorization", "Bearer alice-key")
    assert plain.infer(fresh(), [bearer, bearer]).code is INVALID


def test_huge_metadata_is_refused_by_the_connection(plain):
    reply = plain.infer(fresh(), [("x-large", "a" * (80 << 10))])
    assert reply.code is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert plain.infer(fresh()).code is UNPAID


def test_bytes_that_are_no_message_reach_no_model(plain, model_server):
    asked = len(model_server.bodies)
    for body in (b"\xff\xff\xff", b"\x0a\x05ab", b"garbage" * 100):
        assert plain.infer(body).code is INVALID
    assert plain.infer(b"").code is grpc.StatusCode.NOT_FOUND  # a message without a model
    assert len(model_server.bodies) == asked


UNKNOWN = bytes([0xFA, 0x3E, 0x02, 0x68, 0x69])  # field 1007, two bytes


@pytest.mark.parametrize("place", ["request", "input", "contents", "output", "parameter"])
def test_a_field_that_is_not_known_is_refused_wherever_it_stands(plain, model_server, place):
    request = fresh(raw=place != "contents")
    request.outputs.add(name="p")
    request.parameters["priority"].int64_param = 1
    holder = {
        "request": request,
        "input": request.inputs[0],
        "contents": request.inputs[0].contents,
        "output": request.outputs[0],
        "parameter": request.parameters["priority"],
    }[place]
    holder.MergeFromString(UNKNOWN)
    asked = len(model_server.bodies)
    reply = plain.infer(request)
    assert (reply.code, "field" in reply.details) == (INVALID, True)
    assert len(model_server.bodies) == asked


def test_the_model_server_gets_what_the_gateway_read(plain, model_server):
    """A message may hold a field twice, or its fields in any order: what is sent on is written anew."""
    request = fresh()
    written = request.SerializeToString(deterministic=True)
    twice = messages.ModelInferRequest(id="first").SerializeToString() + written
    late = written + messages.ModelInferRequest(id="last").SerializeToString()
    for body, identity in ((twice, "first"), (late, "last")):
        assert plain.infer(body).code is UNPAID
        sent = messages.ModelInferRequest.FromString(model_server.bodies[-1])
        assert sent.id == identity
        assert model_server.bodies[-1] == sent.SerializeToString(deterministic=True)


@pytest.mark.parametrize(
    "change",
    [
        lambda request: request.parameters["temperature"].__setattr__("double_param", 0.5),
        lambda request: request.inputs[0].parameters["shared_memory_region"].__setattr__("string_param", "r"),
        lambda request: request.parameters["binary_data_size"],
        lambda request: request.inputs[0].contents.fp32_contents.append(1.0),
        lambda request: request.raw_input_contents.append(b""),
        lambda request: request.inputs.add(name="y", datatype="FP32", shape=[1]),
        lambda request: request.outputs.add(name="hidden_layer"),
        lambda request: request.inputs[0].shape.append(9),
        lambda request: request.inputs[0].shape.__setitem__(0, -1),
        lambda request: request.inputs[0].__setattr__("datatype", "FP8"),
    ],
)
def test_what_could_change_the_answer_unseen_is_refused(plain, model_server, change):
    request = fresh()
    change(request)
    asked = len(model_server.bodies)
    assert plain.infer(request).code is INVALID
    assert len(model_server.bodies) == asked


def test_models_versions_and_methods_that_are_not_listed_are_refused(plain):
    missing = grpc.StatusCode.NOT_FOUND
    assert plain.infer(fresh(model="other")).code is missing
    assert plain.infer(fresh(model="digits/../digits")).code is missing
    assert plain.infer(fresh(model_version="2")).code is missing
    assert plain.infer(fresh(model_version="1")).code is UNPAID
    ready = messages.ModelReadyRequest(name="other")
    assert plain.call(messages.MODEL_READY, ready).code is missing
    unserved = grpc.StatusCode.UNIMPLEMENTED
    stream = plain.call(messages.MODEL_STREAM_INFER, fresh())
    assert (stream.code, "ModelStreamInfer" in stream.details) == (unserved, True)
    for method in ("RepositoryModelLoad", "ModelConfig", "SystemSharedMemoryRegister", "TraceSetting"):
        assert plain.call(messages.method_path(method)).code is unserved


# Callers


def test_callers_are_known_by_their_metadata(gateway):
    with gateway.client(None) as nobody:
        assert nobody.infer(fresh(), [("authorization", "Bearer alice-key")]).code is UNPAID
        assert nobody.infer(fresh(), [("x-api-key", "wrong")]).code is grpc.StatusCode.UNAUTHENTICATED
        rows = account_rows(gateway, "net:127.0.0.1")
        assert nobody.infer(fresh()).code is UNPAID
        assert account_rows(gateway, "net:127.0.0.1") == rows + 1


def test_a_receipt_may_return_with_a_call_that_asks_for_nothing(gateway, announced):
    receipt = opened(announced.infer(fresh()).toll).receipt
    before = standing(gateway)
    settle = [("toll-settle", wire.format_settle([receipt]))]
    for _ in range(2):  # it counts once
        live = announced.call(messages.SERVER_LIVE, b"", settle)
        assert messages.ServerLiveResponse.FromString(live.body).live
    after = standing(gateway)
    assert after.settled_rows == before.settled_rows + 1
    assert after.unsettled < before.unsettled


# Limits


def test_a_message_that_is_too_large_is_refused(plain):
    reply = plain.infer(infer_request(np.zeros((1, 3 << 20))))
    assert reply.code is grpc.StatusCode.RESOURCE_EXHAUSTED


@pytest.mark.parametrize("compression", [grpc.Compression.Gzip, grpc.Compression.Deflate])
def test_a_compressed_message_is_refused(plain, model_server, compression):
    """It could be of any size."""
    asked = len(model_server.bodies)
    reply = plain.infer(infer_request(np.zeros((64, 2))), compression=compression)
    assert reply.code in (grpc.StatusCode.UNIMPLEMENTED, grpc.StatusCode.INTERNAL)
    assert len(model_server.bodies) == asked


def test_too_many_rows_are_refused(plain):
    assert plain.infer(infer_request(np.zeros((1025, 2)))).code is INVALID


# Health, metadata and reflection


def test_the_model_servers_health_and_metadata_pass(plain):
    live = plain.call(messages.SERVER_LIVE)
    assert messages.ServerLiveResponse.FromString(live.body).live
    assert messages.ServerReadyResponse.FromString(plain.call(messages.SERVER_READY).body).ready
    named = messages.ModelReadyRequest(name=MODEL)
    assert messages.ModelReadyResponse.FromString(plain.call(messages.MODEL_READY, named).body).ready
    assert messages.ServerMetadataResponse.FromString(plain.call(messages.SERVER_METADATA).body).name == "s"
    reply = plain.call(messages.MODEL_METADATA, messages.ModelMetadataRequest(name=MODEL, version="1"))
    described = messages.ModelMetadataResponse.FromString(reply.body)
    assert (described.name, list(described.versions), described.inputs[0].shape[0]) == (MODEL, ["1"], -1)
    assert plain.call(messages.SERVER_LIVE, b"\x0a" * 5000).code is grpc.StatusCode.RESOURCE_EXHAUSTED


def test_the_standard_health_service_says_whether_the_gateway_serves(gateway):
    with grpc.insecure_channel(gateway.address) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        for service in ("", messages.SERVICE):
            status = stub.Check(health_pb2.HealthCheckRequest(service=service)).status
            assert status == health_pb2.HealthCheckResponse.SERVING


def test_reflection_describes_the_services(gateway):
    with grpc.insecure_channel(gateway.address) as channel:
        database = ProtoReflectionDescriptorDatabase(channel)
        assert {messages.SERVICE, "grpc.health.v1.Health"} <= set(database.get_services())
        file = database.FindFileContainingSymbol(messages.SERVICE)
    assert file == messages.FILE


def test_calls_are_counted_by_method_and_code(gateway, plain):
    plain.infer(b"\xff")
    plain.infer(fresh())
    page = httpx.get(f"{gateway.admin}/metrics").text
    assert 'modeltoll_grpc_calls_total{code="INVALID_ARGUMENT",method="ModelInfer"}' in page
    assert 'modeltoll_grpc_calls_total{code="FAILED_PRECONDITION",method="ModelInfer"}' in page
