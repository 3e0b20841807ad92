"""The same thieves over gRPC: guesses, replays, receipts, thrown-away tolls, lengths and prices."""

from __future__ import annotations

import contextlib
import json
import time

import httpx
import pytest

from grpc_gateway import (
    ACCEPT,
    ALICE,
    BOB,
    CLASSES,
    GrpcModelServer,
    grpc_gateway,
    opened,
    proof_for,
    rows_of,
    settings_document,
)
from grpc_thieves import (
    CREDIT,
    DENIED,
    LEVELS,
    OK,
    UNPAID,
    at_once,
    guesses,
    levelled,
    objects,
    row,
    standing,
    thieves_calibration,
)
from modeltoll import open_inference_messages as messages
from modeltoll import wire
from modeltoll.gateway.callers.identify import hash_key

CAROL = "carol-key"


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
    return folder, settings_document(folder, model_server.address, thieves_calibration(), callers=callers, **shared)


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
