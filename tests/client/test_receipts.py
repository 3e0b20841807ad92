"""Receipts: kept per account, returned with its next requests, put back when they were not delivered."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from modeltoll import wire
from modeltoll.client.purse import Purse
from modeltoll.client.receipts import Account, Receipts
from modeltoll.client.toll_call import TollCall
from modeltoll.testing.clock import FakeClock

ALICE = Account("https://h", "Bearer alice")
BOB = Account("https://h", "Bearer bob")
ELSEWHERE = Account("https://other", "Bearer alice")
SETTLE = wire.SETTLE_PATH


@pytest.fixture
def clock():
    return FakeClock(1000.0)


@pytest.fixture
def receipts(clock):
    return Receipts(clock)


def contents(taken):
    return [one.receipt for one in taken]


def test_a_receipt_goes_to_its_account_only_and_once(receipts):
    receipts.add(ALICE, SETTLE, b"a")
    for other in (BOB, ELSEWHERE, Account("https://h", "Bearer alice", "key")):
        assert receipts.take_for_request(other, "/infer") == ()
    assert contents(receipts.take_for_request(ALICE, "/infer")) == [b"a"]
    assert receipts.take_for_request(ALICE, "/infer") == ()


def test_a_request_takes_the_oldest_sixteen(receipts, clock):
    for number in range(20):
        receipts.add(ALICE, SETTLE, bytes([number]))
        clock.advance(1.0)
    taken = receipts.take_for_request(ALICE, "/infer")
    assert contents(taken) == [bytes([number]) for number in range(16)]
    receipts.put_back(taken[:2])
    assert contents(receipts.take_for_request(ALICE, "/infer")) == [bytes([n]) for n in (0, 1, 16, 17, 18, 19)]


def test_a_receipt_goes_back_to_the_gateway_it_came_from(receipts):
    """Several gateways may live below one origin."""
    receipts.add(ALICE, "/eu" + SETTLE, b"eu")
    receipts.add(ALICE, "/us" + SETTLE, b"us")
    assert contents(receipts.take_for_request(ALICE, "/us/infer")) == [b"us"]
    for path in ("/infer", "/euro/infer", "/"):
        assert receipts.take_for_request(ALICE, path) == ()
    assert contents(receipts.take_for_request(ALICE, "/eu/v2/models/m/infer")) == [b"eu"]


def test_a_receipt_is_dropped_after_a_day(receipts, clock):
    receipts.add(ALICE, SETTLE, b"a")
    clock.advance(24 * 3600.0)
    receipts.add(ALICE, SETTLE, b"b")
    taken = receipts.take_for_request(ALICE, "/")
    assert contents(taken) == [b"a", b"b"]
    clock.advance(1.0)
    receipts.put_back(taken)
    assert contents(receipts.take_for_request(ALICE, "/")) == [b"b"]


def test_the_oldest_above_a_thousand_are_dropped(receipts, clock):
    receipts.add(BOB, SETTLE, b"oldest")
    for number in range(1000):
        clock.advance(0.1)
        receipts.add(ALICE, SETTLE, number.to_bytes(2, "big"))
    assert len(receipts) == 1000
    assert receipts.take_for_request(BOB, "/") == ()
    taken = receipts.take_for_request(ALICE, "/")
    clock.advance(0.1)
    for _ in range(16):
        receipts.add(BOB, SETTLE, b"new")
    receipts.put_back(taken)
    assert len(receipts) == 1000
    assert receipts.take_for_request(ALICE, "/")[0].receipt == (16).to_bytes(2, "big")


def test_a_settlement_is_of_one_owner_one_url_and_at_most_64_receipts(receipts, clock):
    for number in range(70):
        receipts.add(ALICE, SETTLE, bytes([number]), "me")
    receipts.add(ALICE, "/eu" + SETTLE, b"eu", "me")
    receipts.add(BOB, SETTLE, b"bob", "me")
    receipts.add(ALICE, SETTLE, b"other", "you")
    taken = []
    while (settlement := receipts.take_for_settlement("me")) is not None:
        taken.append((settlement.url, settlement.account, len(settlement.held)))
    url = "https://h" + SETTLE
    assert taken == [(url, ALICE, 64), (url, ALICE, 6), ("https://h/eu" + SETTLE, ALICE, 1), (url, BOB, 1)]
    assert contents(receipts.take_for_request(ALICE, "/")) == [b"other"]


def test_a_settlement_takes_receipts_of_an_age(receipts, clock):
    receipts.add(ALICE, SETTLE, b"old", "me")
    clock.advance(1.5)
    receipts.add(ALICE, SETTLE, b"young", "me")
    assert receipts.seconds_until("me", 2.0) == pytest.approx(0.5)
    assert receipts.take_for_settlement("me", 2.0) is None
    clock.advance(0.5)
    assert contents(receipts.take_for_settlement("me", 2.0).held) == [b"old"]
    assert receipts.seconds_until("you", 2.0) is None


def test_no_receipt_is_lost_or_given_twice_among_threads(receipts):
    start, given = threading.Barrier(8), []

    def work(number):
        start.wait()
        for index in range(40):
            receipts.add(ALICE, SETTLE, bytes([number, index]))
            taken = receipts.take_for_request(ALICE, "/")
            if index % 2:
                receipts.put_back(taken)
            else:
                given.extend(contents(taken))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))
    while taken := receipts.take_for_request(ALICE, "/"):
        given.extend(contents(taken))
    assert sorted(given) == sorted(bytes([number, index]) for number in range(8) for index in range(40))


@pytest.fixture
def call():
    purse = Purse()
    made = TollCall(purse, "http://h/infer", {})
    purse.receipts.add(made.account, SETTLE, b"a")
    return made


@pytest.mark.parametrize(
    ("status", "answer", "delivered"),
    [
        (200, {"Toll-Receipt": "rows=1; work=0; mode=free"}, 1),
        (200, {"toll-receipt": ""}, 1),
        (402, {}, 1),
        (200, {}, 0),
        (204, {}, 0),
        (307, {}, 0),
        (401, {}, 0),
        (503, {}, 0),
    ],
)
def test_a_gateway_has_the_receipts_if_it_answers_or_asks_for_a_toll(call, status, answer, delivered):
    """It reads none before it refuses a request or passes one on; and another server reads none."""
    headers = {}
    with call.receipts_in(headers) as delivery:
        assert wire.parse_settle(headers[wire.SETTLE_HEADER]) == (b"a",)
        delivery.confirm(status, answer)
    assert headers == {}
    assert len(call.purse.receipts) == 1 - delivered


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt, GeneratorExit])
def test_receipts_are_put_back_whatever_ends_the_request(call, error):
    headers = {}
    with pytest.raises(error), call.receipts_in(headers):
        raise error
    assert (headers, len(call.purse.receipts)) == ({}, 1)


def test_a_toll_settle_header_of_the_caller_is_kept(call):
    headers = {wire.SETTLE_HEADER: "own"}
    with call.receipts_in(headers):
        assert headers == {wire.SETTLE_HEADER: "own"}
    assert (headers, len(call.purse.receipts)) == ({wire.SETTLE_HEADER: "own"}, 1)


def test_no_account_shows_its_credentials():
    account = Account("https://h", "Bearer secret", "other")
    assert "secret" not in repr(account)
    assert "other" not in repr(account)
