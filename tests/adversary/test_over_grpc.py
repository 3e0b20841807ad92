"""The same thieves over gRPC: guesses, replays, receipts, thrown-away tolls, lengths and prices."""

from __future__ import annotations

import contextlib
import json
import secrets
import time
from concurrent.futures import ThreadPoolExecutor

import grpc
import httpx
import numpy as np
import pytest

from grpc_gateway import (
    ACCEPT,
    ALICE,
    BOB,
    CLASSES,
    GrpcModelServer,
    grpc_gateway,
    infer_request,
    infer_response,
    opened,
    proof_for,
    rows_of,
    settings_document,
)
from modeltoll import open_inference_messages as messages
from modeltoll import wire
from modeltoll.gateway.callers.identify import hash_key
from modeltoll.pricing.calibration import NewAccountToll
from modeltoll.pricing.fit import CalibrationTerms, RowCosts, fit_calibration
from modeltoll.puzzle.proof import proof_of
from modeltoll.records import Leaks
from modeltoll.toll_records import Solution

OK, UNPAID, DENIED = grpc.StatusCode.OK, grpc.StatusCode.FAILED_PRECONDITION, grpc.StatusCode.PERMISSION_DENIED
UNIT, CREDIT = 0.0001, 10  # reference seconds of an average honest row, and units
AT_ONCE = 16
CAROL = "carol-key"
LEVELS = ([0.97, 0.01, 0.01, 0.01], [0.4, 0.3, 0.2, 0.1], [0.25, 0.25, 0.25, 0.25])  # cheap, dear, dearest


def calibration():
    """Honest rows whose entropies lie between 0 and 1, and no new-account toll."""
    leaks = Leaks(("entropy",), np.random.default_rng(0).random((400, 1)))
    terms = CalibrationTerms(new_account_toll=NewAccountToll(anonymous_units=0.0))
    return fit_calibration("digits", leaks, RowCosts(undefended_seconds=UNIT, unit_seconds=UNIT), terms)


def levelled(body, _context):
    """An answer whose scores the first number of each row chooses, and whose label the second one."""
    request = messages.ModelInferRequest.FromString(body)
    rows = np.frombuffer(request.raw_input_contents[0], "<f4").reshape(-1, 2)
    scores = [np.roll(LEVELS[int(level)], int(label)) for level, label in rows]
    return infer_response(scores, id=request.id).SerializeToString()


@pytest.fixture(scope="module")
def model_server():
    with GrpcModelServer(levelled).serving() as server:
        yield server


@pytest.fixture(scope="module")
def document(tmp_path_factory, model_server):
    """Settings of gateways that share a ledger and a key ring. The credit is ten units."""
    folder = tmp_path_factory.mktemp("thieves")
    credit = {"seconds": 1e-9, "units": CREDIT}
    shared = {"ledger": {"url": f"sqlite:///{folder / 'ledger.db'}"}, "secrets": ["ab" * 32]}
    keys = [{"name": key.removesuffix("-key"), "sha256": hash_key(key)} for key in (ALICE, BOB, CAROL)]
    callers = {"keys": keys, "credit": credit, "anonymous_credit": credit}
    return folder, settings_document(folder, model_server.address, calibration(), callers=callers, **shared)


@pytest.fixture(scope="module")
def gateways(document):
    """Two of them."""
    folder, settings = document
    with contextlib.ExitStack() as stack:
        found = []
        for name in ("one", "other"):
            (folder / name).mkdir()
            found.append(stack.enter_context(grpc_gateway(folder / name, settings)))
        yield found


@pytest.fixture
def client(gateways):
    """``client(number=0, key=ALICE, accept=None)``: a client of one of the gateways."""
    with contextlib.ExitStack() as stack:
        yield lambda number=0, key=ALICE, accept=None: stack.enter_context(gateways[number].client(key, accept=accept))


def at_once(send, *places):
    """The replies to the same call, sent many times at once to several places."""
    with ThreadPoolExecutor(AT_ONCE) as pool:
        return list(pool.map(send, places * (AT_ONCE // len(places))))


def standing(gateway, key):
    """What the ledger keeps of a caller."""
    account = httpx.get(f"{gateway.admin}/api/account", params={"caller": f"key:{key.removesuffix('-key')}"})
    return account.json() if account.is_success else {}


def row(level=0, label=0, count=1, name="1"):
    return infer_request([[level, label]] * count, id=name)


def guesses(toll):
    """Proofs that can be made of what is published, without an evaluation."""
    parts = toll.challenge.parts
    checks, seeds = b"".join(part.check for part in parts), b"".join(part.seed for part in parts)
    zeros = tuple([0] * len(parts))
    for secret in (checks, seeds, bytes(16 * len(parts))):
        yield wire.encode_redemption(toll.payload, proof=proof_of(Solution(zeros, secret)))
    for proof in ((checks * 2)[:32], (seeds * 2)[:32], bytes(32), toll.payload[:32], secrets.token_bytes(32)):
        yield wire.encode_redemption(toll.payload, proof=proof)
    for counter in range(20):
        yield wire.encode_redemption(toll.payload, counters=(counter,) * len(parts))


def test_nothing_that_is_published_buys_an_answer(client, model_server):
    thief, request = client(), row(name="guess")
    toll = thief.infer(request).toll
    asked = len(model_server.bodies)
    for guess in guesses(toll):
        assert thief.infer(request, [(wire.GRPC_PROOF_KEY, guess)]).code is DENIED
    assert len(model_server.bodies) == asked


def test_one_proof_buys_one_answer_however_often_and_wherever_it_is_shown(client, document, model_server):
    """At two gateways at the same moment, and at one that starts afterwards, as after a kill."""
    request, (folder, settings) = row(1, name="replay"), document
    toll = client(key=BOB).infer(request).toll
    assert toll.admission
    paid = [(wire.GRPC_PROOF_KEY, proof_for(toll))]
    replies = at_once(lambda one: one.infer(request, paid), client(0, BOB), client(1, BOB))
    assert [reply.code for reply in replies].count(OK) == 1
    assert {reply.code for reply in replies} == {OK, UNPAID}
    (folder / "later").mkdir(exist_ok=True)
    with grpc_gateway(folder / "later", settings) as later, later.client(BOB) as again:
        assert again.infer(request, paid).code is UNPAID


def test_a_proof_is_worth_nothing_to_others_and_with_other_bytes(client):
    request = row(1, name="traded")
    toll = client(key=BOB).infer(request).toll
    paid = [(wire.GRPC_PROOF_KEY, proof_for(toll))]
    for other in (ALICE, None):
        assert client(1, other).infer(request, paid).code is DENIED
    bodies = (
        request.SerializeToString() + b"\x0a\x06digits",  # the model's name again: the same message, other bytes
        row(1, name="traded", count=2).SerializeToString(),
        row(2, name="traded").SerializeToString(),
    )
    for body in bodies:
        assert client(1, BOB).infer(body, paid).code is DENIED


def test_one_receipt_counts_once_wherever_and_in_whatever_way_it_is_returned(gateways, client):
    announced = client(key=CAROL, accept=ACCEPT)
    receipt = opened(announced.infer(row(name="settled")).toll).receipt
    text = wire.format_settle([receipt])
    stranger = client(1, ALICE)
    settled = standing(gateways[0], ALICE).get("settled_rows", 0)
    assert stranger.call(messages.SERVER_LIVE, metadata=[("toll-settle", text)]).code is OK
    assert standing(gateways[0], ALICE).get("settled_rows", 0) == settled

    def settle(gateway):
        with gateway.client(CAROL) as one:
            one.call(messages.SERVER_LIVE, metadata=[("toll-settle", text)])
        body = wire.encode_settlement((receipt,))
        return httpx.post(gateway.url + wire.SETTLE_PATH, content=body, headers={"x-api-key": CAROL}).status_code

    at_once(settle, *gateways)
    assert standing(gateways[1], CAROL)["settled_rows"] == 1


@pytest.mark.parametrize("accept", [None, ACCEPT])
def test_what_nobody_pays_ends_with_the_credit(document, model_server, accept):
    """Quotes and fillers, one after the other and many at once, with tolls in messages and in metadata."""
    folder, settings = document
    name = f"poor-{accept is None}"
    (folder / name).mkdir()
    poor = settings | {"ledger": {"url": f"sqlite:///{folder / name / 'ledger.db'}"}}
    with grpc_gateway(folder / name, poor) as gateway, gateway.client(ALICE, accept=accept) as thief:
        since = len(model_server.bodies)
        at_once(lambda _: thief.infer(row()), None)
        tolls = [thief.infer(row(2, number)).toll for number in range(CLASSES)] * 5
        tolls += [thief.infer(row(0, number % CLASSES)).toll for number in range(30)]
        assert sum(map(rows_of, model_server.bodies[since:])) <= CREDIT
        assert all(toll.admission for toll in tolls[-20:])


def test_a_caller_who_cancels_owes_the_rows_that_reached_the_model_server(document, model_server):
    folder, settings = document
    (folder / "gone").mkdir()
    gone = settings | {"ledger": {"url": f"sqlite:///{folder / 'gone' / 'ledger.db'}"}}
    with grpc_gateway(folder / "gone", gone) as gateway, gateway.client(ALICE, accept=ACCEPT) as thief:
        since = len(model_server.bodies)
        for pause in (0.0, 0.01, 0.05) * 8:
            call = thief.start(messages.MODEL_INFER, row().SerializeToString())
            time.sleep(pause)
            call.cancel()
        time.sleep(0.3)
        assert sum(map(rows_of, model_server.bodies[since:])) <= CREDIT
        answered = thief.infer(row(count=CREDIT))
        assert answered.toll.admission


@pytest.mark.parametrize("accept", [None, ACCEPT])
@pytest.mark.parametrize("level", range(len(LEVELS)))
def test_a_reply_is_as_long_whatever_the_label(document, accept, level):
    """The message with a seal, and everything that comes with a toll in metadata."""
    folder, settings = document
    name = f"lengths-{level}-{accept is None}"
    (folder / name).mkdir()
    free = {"callers": settings["callers"] | {"credit": {"seconds": 1000.0}}, "ledger": {"url": "memory://"}}
    with grpc_gateway(folder / name, settings | free) as gateway, gateway.client(ALICE, accept=accept) as thief:
        replies = [thief.infer(row(level, label)) for label in range(CLASSES)]
        assert {reply.code for reply in replies} == {OK if accept else UNPAID}
        assert len({reply.details for reply in replies}) == 1
        payloads = [len(reply.toll.payload) for reply in replies]
        assert len(set(payloads)) == 1
        assert all(set(reply.trailing) == set(replies[0].trailing) for reply in replies)
        texts = [objects(reply) for reply in replies]
        assert len({json.dumps(text, sort_keys=True) for text in texts}) == 1


def objects(reply):
    """What a toll says beside its random members and its payload."""
    if reply.code is UNPAID:
        members = json.loads(reply.trailing[wire.GRPC_TOLL_KEY])
        assert len(reply.trailing[wire.GRPC_TOLL_KEY]) <= 7 << 10
    else:
        members = json.loads(reply.response.parameters["toll"].string_param)
        assert not reply.response.outputs
    puzzle = members["puzzle"]
    parts = [part["n"] for part in puzzle["parts"]]
    return {"mode": members["mode"], "rows": members["rows"], "seconds": members["typical_seconds"], "n": parts}


def test_a_quote_in_metadata_tells_no_more_than_the_seal(document):
    """The whole price of a dear and of a dearest row, as both kinds of client see it."""
    folder, settings = document
    (folder / "quotes").mkdir()
    free = {"callers": settings["callers"] | {"credit": {"seconds": 1000.0}}, "ledger": {"url": "memory://"}}
    with grpc_gateway(folder / "quotes", settings | free) as gateway:
        seen = {}
        for accept in (None, ACCEPT):
            with gateway.client(BOB if accept else ALICE, accept=accept) as thief:
                tolls = [thief.infer(row(level)).toll for level in range(len(LEVELS))]
                seen[accept] = [sum(part.bound for part in toll.challenge.parts) for toll in tolls]
        for quoted, sealed in zip(seen[None], seen[ACCEPT], strict=True):
            assert sealed / 2 <= quoted <= 2 * sealed
