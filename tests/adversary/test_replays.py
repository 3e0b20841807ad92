"""A thief who pays once: admissions and receipts shown again, at the same moment, at other gateways, by other callers."""

from __future__ import annotations

import contextlib
import socket
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from laboratory import KEYS, MODEL, UNIT
from modeltoll import wire
from modeltoll.puzzle.proof import proof_of
from modeltoll.puzzle.puzzle import SolveControl
from modeltoll.puzzle.seal import open_answer
from modeltoll.puzzle.solver import solve

AT_ONCE = 16
ROWS = 12  # more than the credit


@pytest.fixture(scope="module")
def gateways(laboratory):
    """Two gateways of one ledger, and of one key ring. The credit is ten units."""
    shared = {
        "ledger": {"url": f"sqlite:///{laboratory.folder / 'replays.db'}"},
        "secrets": ["ab" * 32],
    }
    with contextlib.ExitStack() as stack:
        found = []
        for _ in range(2):
            settings = laboratory.settings(**shared)
            settings["callers"] |= {
                "credit": {"seconds": 1e-6, "units": 10},
                "anonymous_credit": {"seconds": 1e-6, "units": 10},
            }
            found.append(stack.enter_context(laboratory.gateway(settings=settings)))
        yield found


def standing(gateway, key):
    """What the ledger keeps of a caller."""
    return httpx.get(f"{gateway.admin}/api/account", params={"caller": f"key:{key}"}).json()


def at_once(send, *places):
    """The responses to the same request, sent many times at once."""
    with ThreadPoolExecutor(AT_ONCE) as pool:
        return list(pool.map(send, places * (AT_ONCE // len(places))))


def paid(toll):
    return wire.encode_redemption(toll.payload, proof=proof_of(solve(toll.challenge, SolveControl())))


def kind(response):
    """What a response is: an answer, a toll for one, or one more admission toll."""
    if response.status_code != 402:
        return response.status_code
    return "admission" if wire.decode_toll(response.content).admission else "toll"


def test_one_admission_admits_once_however_often_and_wherever_it_is_shown(gateways, laboratory, thief, victim):
    clients = [thief(gateway, KEYS[0]) for gateway in gateways]
    toll = wire.decode_toll(clients[0].ask(victim.test[:ROWS]).content)
    assert toll.admission
    asked, body = len(laboratory.server.bodies), paid(toll)
    responses = at_once(lambda one: one.client.post(wire.REDEEM_PATH, content=body), *clients)
    assert len(laboratory.server.bodies) == asked + 1
    assert [kind(response) for response in responses].count("admission") == AT_ONCE - 1
    assert standing(gateways[0], KEYS[0])["prepaid_seconds"] <= (ROWS - 10) * UNIT


def test_one_receipt_counts_once_wherever_and_in_whatever_way_it_is_returned(gateways, thief, victim):
    one, other = (thief(gateway, KEYS[1]) for gateway in gateways)
    tolls = [wire.decode_toll(one.ask(victim.test[start : start + 3]).content) for start in (0, 3)]
    associated = wire.canonical_challenge(tolls[0].challenge, tolls[0].mode)
    opened = open_answer(tolls[0].payload, solve(tolls[0].challenge, SolveControl()), associated)
    before = standing(gateways[0], KEYS[1])["unsettled_seconds"]
    assert before >= 6 * UNIT * 0.999  # a little has drained
    body = wire.encode_settlement((opened.receipt,))
    stranger = thief(gateways[1], KEYS[2])
    assert stranger.client.post(wire.SETTLE_PATH, content=body).status_code == 204
    assert {r.status_code for r in at_once(lambda to: to.client.post(wire.SETTLE_PATH, content=body), one, other)} == {
        204
    }
    after = standing(gateways[1], KEYS[1])
    assert after["settled_rows"] == 3
    assert after["unsettled_seconds"] >= 3 * UNIT * 0.999
    header = {wire.SETTLE_HEADER: wire.format_settle([opened.receipt])}
    at_once(lambda to: to.ask(victim.test[:9], **header), one, other)
    assert standing(gateways[0], KEYS[1])["settled_rows"] == 3
    assert standing(gateways[0], KEYS[2]).get("settled_rows", 0) == 0


def test_many_requests_at_once_reserve_no_more_than_the_credit(gateways, laboratory, thief, victim):
    clients, asked = [thief(gateway, KEYS[3]) for gateway in gateways], len(laboratory.server.bodies)
    responses = at_once(lambda one: one.ask(victim.test[:2]), *clients)
    answered = [kind(response) for response in responses].count("toll")
    assert len(laboratory.server.bodies) - asked == answered <= 5


def test_tolls_are_not_traded(gateways, thief, victim):
    toll = wire.decode_toll(thief(gateways[0], KEYS[4]).ask(victim.test[:ROWS]).content)
    body = paid(toll)
    for other in (KEYS[5], None):
        assert thief(gateways[1], other).client.post(wire.REDEEM_PATH, content=body).status_code == 403
    assert kind(thief(gateways[1], KEYS[4]).client.post(wire.REDEEM_PATH, content=body)) in ("toll", 200)


def test_a_caller_who_hangs_up_owes_the_rows_that_reached_the_model_server(
    gateways, laboratory, thief, infer_body, victim
):
    """Quotes are not free for those who do not read them."""
    body, asked = infer_body(victim.test[:2]), len(laboratory.server.bodies)
    fields = f"Host: a\r\nX-Api-Key: {KEYS[6]}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
    for pause in (0.0, 0.02, 0.05, 0.1) * 3:
        with contextlib.closing(connected(httpx.URL(gateways[0].url))) as connection:
            connection.sendall(f"POST /v2/models/{MODEL}/infer HTTP/1.1\r\n{fields}\r\n\r\n".encode() + body)
            time.sleep(pause)
    time.sleep(0.5)
    rows = 2 * (len(laboratory.server.bodies) - asked)
    assert 2 <= rows <= 10
    assert kind(thief(gateways[1], KEYS[6]).ask(victim.test[: 11 - rows])) == "admission"


def connected(url):
    return socket.create_connection((url.host, url.port), timeout=10)
