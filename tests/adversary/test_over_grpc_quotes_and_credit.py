"""Thieves over gRPC who read quotes, forge names, change between HTTP and gRPC, or ask for answers that nobody can write."""

from __future__ import annotations

import json
import math
from contextlib import ExitStack

import grpc
import httpx
import numpy as np
import pytest
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route

from grpc_gateway import (
    ACCEPT,
    ALICE,
    BOB,
    CLASSES,
    MODEL,
    GrpcModelServer,
    grpc_gateway,
    infer_request,
    infer_response,
    opened,
    proof_for,
    rows_of,
    settings_document,
)
from grpc_thieves import CREDIT, LEVELS, OK, UNPAID, levelled, objects, row, thieves_calibration
from modeltoll import open_inference_messages as messages
from modeltoll import wire
from modeltoll.records import Caller
from modeltoll.testing.model_servers import serving

POOR, RICH = {"seconds": 1e-9, "units": CREDIT}, {"seconds": 1000.0}
BLIND = {"disclose": "blind", "blind_seconds": 0.2}
FAST_HASH = "sha256; mode=sealed; memory=64MiB; receipts"


@pytest.fixture(scope="module")
def model_server():
    with GrpcModelServer(levelled).serving() as server:
        yield server


@pytest.fixture
def gateway(tmp_path, model_server):
    """``gateway(credit, anonymous_units=0, puzzle={}, upstream=None, inputs=(), **sections)``: a gateway with a ledger of its own."""
    with ExitStack() as stack:

        def start(credit, anonymous_units=0.0, puzzle=(), upstream=None, inputs=(), **sections):
            folder = tmp_path / f"gateway{len(list(tmp_path.iterdir()))}"
            folder.mkdir()
            puzzles = {"allow": ["argon2id", "sha256"], "sha256_below_ms": 1000.0} | dict(puzzle)
            model = {"puzzle": puzzles} | ({"inputs": list(inputs)} if inputs else {})
            callers = {"credit": credit, "anonymous_credit": credit}
            document = settings_document(
                folder,
                upstream or model_server.address,
                thieves_calibration(anonymous_units),
                model=model,
                callers=callers,
                **sections,
            )
            return stack.enter_context(grpc_gateway(folder, document))

        yield start


def json_row(gateway, level=0, label=0, key=ALICE, accept=ACCEPT):
    """The reply to the same row over HTTP."""
    tensor = {"name": "x", "shape": [1, 2], "datatype": "FP32", "data": [level, label]}
    headers = {"x-api-key": key, "toll-accept": accept}
    return httpx.post(f"{gateway.url}/v2/models/{MODEL}/infer", json={"inputs": [tensor]}, headers=headers)


# Guesses


def test_the_work_for_one_toll_is_a_fresh_draw_and_the_payload_shows_nothing(gateway):
    with ExitStack() as stack:
        served = gateway(RICH)
        clients = [stack.enter_context(served.client(key, accept=way)) for key, way in ((ALICE, None), (BOB, ACCEPT))]
        replies = [client.infer(row(1)) for client in clients for _ in range(20)]
    seeds = [part.seed for reply in replies for part in reply.toll.challenge.parts]
    assert len(set(seeds)) == len(seeds)
    plain = infer_response([LEVELS[1]]).raw_output_contents[0]
    assert not any(plain in reply.toll.payload or plain in (reply.body or b"") for reply in replies)


# Prices


@pytest.mark.parametrize("accept", [None, ACCEPT, FAST_HASH])
def test_blind_tolls_are_all_alike_whatever_the_row_and_the_caller(gateway, accept):
    served, seen = gateway(RICH, puzzle=BLIND), []
    with served.client(ALICE, accept=accept) as thief:
        for level in (0, 1, 2, *[2] * 60, 0, 2):  # the last ones of a suspect, where the rows are rare enough
            reply = thief.infer(row(level))
            seen.append((objects(reply), len(reply.toll.payload), reply.code, reply.details))
    assert all(one == seen[0] for one in seen)


@pytest.mark.parametrize("accept", [None, FAST_HASH])
def test_coarse_quotes_are_powers_of_two(gateway, accept):
    served = gateway(RICH, puzzle={"disclose": "coarse"})
    with served.client(ALICE, accept=accept) as thief:
        quotes = [objects(thief.infer(row(level, label)))["seconds"] for level in range(3) for label in range(CLASSES)]
    assert len(set(quotes)) > 1
    for quote in quotes:  # a puzzle of few evaluations rounds it once more
        assert math.log2(quote) == pytest.approx(round(math.log2(quote)), abs=0.5)
    assert len({tuple(quotes[start : start + CLASSES]) for start in (0, CLASSES, 2 * CLASSES)}) > 1
    assert all(len(set(quotes[start : start + CLASSES])) == 1 for start in (0, CLASSES, 2 * CLASSES))


@pytest.mark.parametrize("puzzle", [{"disclose": "coarse"}, BLIND], ids=["coarse", "blind"])
def test_the_receipt_of_a_paid_answer_tells_what_its_toll_told(gateway, puzzle):
    served = gateway(RICH, puzzle=puzzle)
    with served.client(ALICE) as client:
        request = row(1, name="receipt")
        paid = client.pay(request, client.infer(request))
    assert paid.code is OK
    members = dict(member.partition("=")[::2] for member in paid.trailing["toll-receipt"].split("; "))
    told = float(members["work"])
    expected = 0.2 if puzzle == BLIND else 2.0 ** round(math.log2(told))
    assert told == pytest.approx(expected, rel=1e-3)


def test_an_admission_tells_neither_by_its_length_nor_by_its_puzzle_what_is_owed(gateway):
    served, seen = gateway(POOR, puzzle=BLIND), set()
    with served.client(ALICE, accept=ACCEPT) as thief:
        for level in (0, 2, 0, 2):
            thief.infer(row(level))
            reply = thief.infer(row(0, count=3 * CREDIT))
            assert reply.toll.admission
            seen.add((len(reply.toll.payload), str(objects(reply))))
    assert len(seen) == 1


# Who somebody is


FORGED = [
    ("x-forwarded-for", "198.51.100.7"),
    ("forwarded", "for=198.51.100.8"),
    ("x-real-ip", "198.51.100.9"),
    ("x-forwarded-for", "198.51.100.10, 127.0.0.1"),
    ("x-forwarded-for", "not an address"),
    ("grpc-peer", "198.51.100.11"),
]


def test_metadata_of_proxies_that_are_not_trusted_make_nobody_else(gateway, model_server):
    served, since = gateway(POOR), len(model_server.bodies)
    with served.client(None) as thief:
        for number in range(4):
            for name, value in FORGED:
                thief.infer(row(0, number % CLASSES), [(name, value)])
    assert sum(map(rows_of, model_server.bodies[since:])) <= CREDIT


def test_a_new_account_pays_before_the_model_is_asked_and_what_is_thrown_away_pays_nothing(gateway, model_server):
    served, since = gateway(RICH, anonymous_units=200.0), len(model_server.bodies)
    for accept in (None, ACCEPT):
        with served.client(None, accept=accept) as thief:
            tolls = [thief.infer(row(0, count=3, name=f"{number}")).toll for number in range(12)]
        assert all(toll.admission for toll in tolls)
        bounds = [sum(part.bound for part in toll.challenge.parts) for toll in tolls]
        assert max(bounds) <= 2 * min(bounds)  # none of them was taken off
    assert len(model_server.bodies) == since


def test_credit_belongs_to_the_caller_and_not_to_the_way(gateway, model_server):
    served, since = gateway(POOR), len(model_server.bodies)
    with served.client(ALICE) as plain, served.client(ALICE, accept=ACCEPT) as announced:
        for number in range(CREDIT):
            plain.infer(row(0, number % CLASSES))
            announced.infer(row(0, number % CLASSES))
            json_row(served, 0, number % CLASSES)
        assert sum(map(rows_of, model_server.bodies[since:])) <= CREDIT
        assert plain.infer(row()).toll.admission
        assert announced.infer(row()).toll.admission
    refused = json_row(served)
    assert wire.decode_toll(refused.content).admission


def test_a_thief_who_changes_ways_has_one_account(gateway):
    """The evidence of rows over HTTP and over gRPC is one; a row that comes both ways counts once."""
    served = gateway(RICH)
    with served.client(ALICE, accept=ACCEPT) as announced:
        for number in range(10):
            announced.infer(infer_request([[2, number / 50]]))
            json_row(served, 2, number / 50)
            json_row(served, 2, number / 50 + 1)
    account = served.run(served.ledger.account(Caller("key:alice"), MODEL))
    assert account.rows == 3 * 10
    assert sum(account.evidence.counts) == 2 * 10


@pytest.mark.parametrize("accept", [ACCEPT.replace("64MiB", "8MiB"), "argon2id; mode=sealed; memory=8MiB; receipts"])
def test_a_suspect_with_a_small_machine_pays_and_is_answered(gateway, accept):
    served = gateway(RICH)
    with served.client(ALICE, accept=accept) as client:
        for number in range(40):
            client.infer(infer_request([[2, number / 100]] * 20))
        reply = client.infer(row(2, 3))
        puzzle = json.loads(reply.response.parameters["toll"].string_param)["puzzle"]
        assert puzzle["m_kib"] <= 8 << 10
        assert messages.ModelInferResponse.FromString(opened(reply.toll).answer.body).outputs[0].name == "p"


# What reaches the model


def test_the_ledger_does_not_grow_with_calls_that_nobody_pays(gateway, tmp_path):
    path = tmp_path / "growth.db"
    served = gateway(POOR, ledger={"url": f"sqlite:///{path}"})

    def size():
        return sum(file.stat().st_size for file in tmp_path.glob("growth.db*"))

    with served.client(ALICE) as plain, served.client(ALICE, accept=ACCEPT) as announced:
        for client in (plain, announced):
            client.infer(row(0, count=500))
        before = size()
        for number in range(30):
            for client in (plain, announced):
                assert client.infer(infer_request(np.full((500, 2), number / 64))).toll.admission
        assert size() - before <= 64 << 10


@pytest.mark.parametrize(
    "change",
    [
        lambda request: setattr(request.inputs[0], "name", "y"),
        lambda request: request.inputs.extend([request.inputs[0]]),
        lambda request: request.inputs[0].shape.__setitem__(1, 1),
        lambda request: request.outputs.add(name="hidden"),
        lambda request: request.parameters["temperature"].__setattr__("int64_param", 0),
        lambda request: request.ClearField("inputs"),
    ],
    ids=["another name", "a name twice", "another width", "another output", "a parameter", "no input"],
)
def test_requests_that_the_model_could_read_otherwise_do_not_reach_it(gateway, model_server, change):
    served, since = gateway(RICH, inputs=[{"name": "x", "width": 2}]), len(model_server.bodies)
    with served.client(ALICE) as thief:
        request = row()
        change(request)
        assert thief.infer(request).code is grpc.StatusCode.INVALID_ARGUMENT
        assert len(model_server.bodies) == since
        assert thief.infer(row()).code is UNPAID


def test_a_proof_of_a_toll_for_another_way_of_writing_the_same_row_buys_nothing(gateway):
    served = gateway(RICH)
    with served.client(ALICE) as thief:
        proof = [(wire.GRPC_PROOF_KEY, proof_for(thief.infer(row(1)).toll))]
        assert thief.infer(infer_request([[1, 0]], id="1", raw=False), proof).code is grpc.StatusCode.PERMISSION_DENIED


# The model has worked, and nobody can be told what it said


def spoiled(_body, _context):
    """An answer that no document of JSON holds."""
    return infer_response([[float("nan")] * CLASSES]).SerializeToString()


def test_answers_that_json_cannot_hold_use_up_the_credit(gateway):
    """Each of them takes the model's time, so that its reservation is not given back."""
    with GrpcModelServer(spoiled).serving() as server:
        served = gateway(POOR, upstream=server.address)
        statuses = [json_row(served, 0, number % CLASSES).status_code for number in range(2 * CREDIT)]
        assert set(statuses) == {502, 402}
        assert statuses[-1] == 402
        assert len(server.bodies) <= CREDIT


@pytest.mark.parametrize(
    "document",
    [
        {"outputs": [{"name": "p", "shape": [1, 4], "datatype": "FP64", "data": ["a"] * 4}]},
        {"outputs": [{"name": "p", "shape": [1, 5], "datatype": "FP64", "data": [0.25] * 4}]},
        {"outputs": [{"name": "p", "shape": [1, 4], "datatype": "FP63", "data": [0.25] * 4}]},
        {"outputs": 1},
        [],
    ],
    ids=["texts", "a shape", "a datatype", "no list", "no object"],
)
def test_answers_that_cannot_be_written_as_messages_use_up_the_credit(gateway, document):
    asked = []

    async def infer(request):
        asked.append(await request.body())
        return JSONResponse(document)

    with serving(Starlette(routes=[Route("/v2/models/{model}/infer", infer, methods=["POST"])])) as url:
        served = gateway(POOR, upstream=url)
        with served.client(ALICE, accept=ACCEPT) as thief:
            replies = [thief.infer(row(0, number % CLASSES)) for number in range(4 * CREDIT)]
    assert {reply.code for reply in replies} == {grpc.StatusCode.INTERNAL, OK}
    assert replies[-1].toll.admission
    assert len(asked) <= CREDIT


def test_refusals_of_the_model_server_end_with_the_credit_too(gateway):
    """A refusal may tell something of the model. It costs as much as an average honest row."""
    refuse = lambda _, context: context.abort(grpc.StatusCode.INVALID_ARGUMENT, "no")  # noqa: E731
    with GrpcModelServer(refuse).serving() as server:
        served = gateway(POOR, upstream=server.address)
        with served.client(ALICE, accept=ACCEPT) as thief:
            replies = [thief.infer(row(0, number % CLASSES)) for number in range(4 * CREDIT)]
        assert replies[-1].toll.admission
        assert len(server.bodies) <= CREDIT
