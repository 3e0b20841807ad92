"""One request at the gate: nothing is released unpriced, and the ledger agrees with the answer."""

from __future__ import annotations

import asyncio
import json
import threading
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from modeltoll import wire
from modeltoll.errors import (
    AnswerError,
    LedgerError,
    RequestError,
    TokenExpired,
    TokenRefused,
    UpstreamError,
    UpstreamRefused,
    UpstreamTimeout,
)
from modeltoll.gateway.core.request import GateRequest
from modeltoll.gateway.core.tolls import redeem
from modeltoll.gateway.protocols.oip import OpenInference
from modeltoll.ledger.memory import MemoryLedger
from modeltoll.pricing.calibration import NewAccountToll
from modeltoll.pricing.conformal_tariff import ConformalTariff
from modeltoll.puzzle import seal
from modeltoll.records import Answer, Caller, Evidence, Work


def test_a_sealed_answer_opens_to_the_model_servers_answer_byte_for_byte(harness):
    body = harness.infer_body([[1, 2], [3, 4]])
    result = harness.handle(body)
    assert result.answer is None
    assert result.mode == result.toll.mode == "sealed"
    assert result.toll.rows == result.work.rows == 2
    assert harness.opened(result.toll).answer == harness.answer(harness.confident_scores(2))
    assert harness.upstream.requests == [(harness.path, body)]


def test_the_log_holds_the_charge_and_nothing_of_the_payload(harness):
    result = harness.handle(harness.infer_body([[1, 2], [3, 4]]))
    account, (bill,) = harness.account(), harness.log()
    assert (account.rows, account.requests, account.work) == (2, 1, result.work.seconds)
    assert account.evidence.rows == 2
    assert (bill.rows, bill.work, bill.mode, bill.measures) == (2, result.work, "sealed", ("entropy",))
    assert account.leaks[0] == pytest.approx(sum(leak for (leak,) in bill.leaks))
    assert len(bill.rarest) == 2
    assert bill.at == account.first_seen == harness.clock()


def test_rare_rows_cost_more_than_common_ones(harness):
    common = harness.handle(harness.infer_body([1, 2])).work.seconds
    harness.upstream.handler = lambda path, body: harness.answer(harness.uncertain_scores(1))
    assert harness.handle(harness.infer_body([3, 4])).work.seconds > 20 * common


def test_a_repeated_row_is_priced_but_not_counted(harness):
    works = [harness.handle(harness.infer_body([1, 2])).work.seconds for _ in range(3)]
    assert works[0] == works[1] == works[2] > 0
    assert (harness.account().rows, harness.account().evidence.rows) == (3, 1)


def test_the_row_of_another_version_is_another_row(harness):
    gate, body = harness.gate(), harness.infer_body([1, 2])
    for version in ("", "/versions/1", "/versions/2", "/versions/1"):
        request = replace(harness.request(body), path=f"/v2/models/{harness.model}{version}/infer")
        asyncio.run(gate.handle(request))
    assert (harness.account().rows, harness.account().evidence.rows) == (4, 3)


def test_the_same_row_has_another_fingerprint_in_another_ledger(harness):
    """Without the ledger's key nobody finds rows that count as one."""
    charges = []

    class Recording(MemoryLedger):
        async def charge(self, caller, charge):
            charges.append(charge)
            return await super().charge(caller, charge)

    for salt in (b"a" * 32, b"a" * 32, b"b" * 32):
        harness.ledger = Recording(salt=salt)
        asyncio.run(harness.ledger.open())
        harness.handle(harness.infer_body([1, 2]))
    (first,), (second,), (third,) = (charge.fingerprints for charge in charges)
    assert first == second != third


def test_a_hundred_parallel_requests_of_one_caller_see_a_hundred_accounts(harness, monkeypatch):
    """The charge is one step: no two requests get the price of the same row count."""
    gate, seen = harness.gate(), []
    monkeypatch.setattr(
        ConformalTariff,
        "work",
        lambda tariff, assessment, account, verdict, clean: seen.append(account) or Work(1e-5, 1, 1e-5),
    )
    requests = [GateRequest(harness.alice, harness.path, harness.infer_body([n, 0]), wire.Accept()) for n in range(100)]

    async def all_at_once():
        return await asyncio.gather(*(gate.handle(request) for request in requests))

    results = asyncio.run(all_at_once())
    assert sorted(account.rows for account in seen) == list(range(1, 101))
    assert len({result.toll.payload for result in results}) == 100
    assert (harness.account().rows, len(harness.log())) == (100, 100)


UPSTREAM_FAULTS = {
    "down": UpstreamError("the model server does not answer"),
    "slow": UpstreamTimeout("the model server did not answer in time"),
    "garbage": lambda path, body: Answer(200, "text/html", b"<html>"),
    "failed": lambda path, body: Answer(500, "application/json", b'{"error":"secret 4711"}'),
    "no answer": lambda path, body: Answer(204, "application/json", b""),
    "elsewhere": lambda path, body: Answer(307, "application/json", b'{"outputs":[]}'),
}


@pytest.mark.parametrize("says", UPSTREAM_FAULTS.values(), ids=UPSTREAM_FAULTS)
def test_a_failing_model_server_gives_a_502_and_nothing_is_charged(harness, says):
    harness.upstream.handler = says
    with pytest.raises((AnswerError, UpstreamError)) as caught:
        harness.handle(harness.infer_body([1, 2]))
    assert caught.value.status in (502, 504)
    assert "4711" not in str(caught.value) + caught.value.private
    assert (harness.account(), harness.log()) == (None, [])


def test_a_refusal_of_the_model_server_is_the_callers_to_read(harness):
    harness.upstream.handler = lambda path, body: Answer(422, "application/json", b'{"error":"expected 64 numbers"}')
    with pytest.raises(UpstreamRefused, match="expected 64 numbers") as caught:
        harness.handle(harness.infer_body([1, 2]))
    assert (caught.value.status, json.loads(caught.value.body)) == (422, {"error": "expected 64 numbers"})
    harness.upstream.handler = lambda path, body: Answer(
        400, "application/json", json.dumps({"error": "x" * 9999}).encode()
    )
    with pytest.raises(UpstreamRefused) as caught:
        harness.handle(harness.infer_body([1, 2]))
    assert 200 < len(str(caught.value)) < 700
    harness.upstream.handler = lambda path, body: Answer(404, "text/html", b"<html>")
    with pytest.raises(UpstreamRefused, match="404"):
        harness.handle(harness.infer_body([1, 2]))
    assert harness.account() is None


SCORES = {
    "not summing to 1": [[0.5, 0.1, 0.1, 0.1]],
    "negative": [[1.2, -0.2, 0, 0]],
    "other classes": [[0.5, 0.5]],
    "a row more": [[0.97, 0.01, 0.01, 0.01]] * 2,
}


@pytest.mark.parametrize("caller", ["alice", "vip"])
@pytest.mark.parametrize("scores", SCORES.values(), ids=SCORES)
def test_an_answer_that_cannot_be_measured_is_never_released(harness, scores, caller):
    harness.upstream.handler = lambda path, body: harness.answer(scores)
    with pytest.raises(AnswerError):
        harness.handle(harness.infer_body([1, 2]), getattr(harness, caller))
    assert harness.log() == []


@pytest.mark.parametrize("leak", [np.nan, np.inf, -1.0])
def test_a_leak_that_is_no_price_releases_nothing(harness, leak):
    class Broken:
        name = "entropy"

        def measure(self, evidence):
            return np.full(evidence.rows, leak)

    harness.measures = (Broken(),)
    with pytest.raises(AnswerError) as caught:
        harness.handle(harness.infer_body([1, 2]))
    assert caught.value.private == "by entropy"
    assert (harness.account(), harness.log()) == (None, [])


LEAKS = {
    "a row less": np.zeros(0),
    "a row more": np.zeros(2),
    "a column": np.zeros((1, 1)),
    "a list": [0.5],
    "nothing": None,
    "one number": 0.5,
    "texts": np.array(["a"]),
    "complex numbers": np.array([1j]),
    "objects": np.array([0.5], object),
}


@pytest.mark.parametrize("leaks", LEAKS.values(), ids=LEAKS)
def test_leaks_that_are_no_number_for_each_row_release_nothing(harness, leaks):
    harness.measures = (SimpleNamespace(name="entropy", measure=lambda evidence: leaks),)
    with pytest.raises(AnswerError, match="cannot be measured") as caught:
        harness.handle(harness.infer_body([1, 2]))
    assert caught.value.private.startswith("entropy gave ")
    assert (harness.account(), harness.log()) == (None, [])


@pytest.mark.parametrize("rows", [0, 1, 3])
def test_evidence_of_other_rows_than_the_request_releases_nothing(harness, rows, monkeypatch):
    found = Evidence(tuple(bytes([row]) for row in range(rows)), scores=np.full((rows, 4), 0.25))
    monkeypatch.setattr(OpenInference, "evidence", lambda self, parsed, answer, service: found)
    with pytest.raises(AnswerError, match="cannot be measured") as caught:
        harness.handle(harness.infer_body([[1, 2], [3, 4]]))
    assert caught.value.private == f"oip gave evidence of {rows} rows for a request of 2"
    assert (harness.account(), harness.log()) == (None, [])


def test_a_bad_request_never_reaches_the_model_server(harness):
    with pytest.raises(RequestError):
        harness.handle(b'{"inputs": [')
    assert harness.upstream.requests == []


def test_shadow_mode_gives_the_answer_and_logs_the_price(harness):
    harness.mode = "shadow"
    result = harness.handle(harness.infer_body([1, 2]))
    assert result.toll is None
    assert result.answer == harness.answer(harness.confident_scores(1))
    assert result.mode == harness.log()[0].mode == "shadow"
    assert result.work.seconds > 0


def test_an_exempt_caller_is_measured_and_not_charged(harness):
    result = harness.handle(harness.infer_body([1, 2]), harness.vip)
    assert result.answer == harness.answer(harness.confident_scores(1))
    assert result.mode == harness.log()[0].mode == "exempt"
    assert harness.account(harness.vip).rows == 1


def test_work_of_zero_is_free(harness, monkeypatch):
    monkeypatch.setattr(ConformalTariff, "work", lambda *_: Work(0.0, 1, 0.0))
    result = harness.handle(harness.infer_body([1, 2]))
    assert result.answer == harness.answer(harness.confident_scores(1))
    assert result.mode == harness.log()[0].mode == "free"


def priced(harness, monkeypatch, seconds, surcharge=1.0):
    monkeypatch.setattr(ConformalTariff, "work", lambda *_: Work(seconds, 1, seconds, 0.0, surcharge))
    return lambda accept: (
        harness.handle(harness.infer_body([1, 2]), accept=wire.parse_accept(f"{accept}; receipts")).toll
    )


def test_small_work_is_sha256_and_the_client_may_ask_for_argon2id(harness, monkeypatch):
    toll = priced(harness, monkeypatch, 1e-4)
    assert toll("").challenge.puzzle == "sha256"
    assert toll("argon2id").challenge.puzzle == "argon2id"
    assert toll("hashcash").challenge.puzzle == "sha256"  # the route does not allow hashcash
    assert toll("nonsense;;;=;mode=free;memory=-1").challenge.puzzle == "sha256"


def test_dear_work_is_argon2ids_whatever_the_client_says(harness, monkeypatch):
    harness.sha256_below = 1e-5
    toll = priced(harness, monkeypatch, 1e-4)
    assert toll("sha256").challenge.puzzle == "argon2id"
    assert toll("hashcash; mode=redeem").challenge.puzzle == "argon2id"


def test_suspected_callers_get_argon2id_whatever_memory_they_offer(harness, monkeypatch):
    seconds = 0.004  # ten evaluations at 512 KiB
    honest, suspected = priced(harness, monkeypatch, seconds), "sha256; memory=0MiB"
    assert honest(suspected).challenge.puzzle == "sha256"
    assert honest("argon2id; memory=0MiB").challenge.memory_kib == 64
    toll = priced(harness, monkeypatch, seconds, surcharge=2.0)(suspected)
    assert (toll.challenge.puzzle, toll.challenge.memory_kib) == ("argon2id", 512)


def test_a_client_only_chooses_among_what_the_route_allows(harness, monkeypatch):
    harness.allowed_puzzles = ("sha256",)
    harness.modes = ("redeem",)
    toll = priced(harness, monkeypatch, 1.0)("argon2id; mode=sealed")
    assert (toll.challenge.puzzle, toll.mode) == ("sha256", "redeem")
    harness.modes = ("sealed",)
    assert priced(harness, monkeypatch, 1e-5)("sha256; mode=redeem").mode == "sealed"


def test_hashcash_is_redeemed_and_never_seals(harness, monkeypatch):
    harness.allowed_puzzles = ("hashcash", "sha256")
    toll = priced(harness, monkeypatch, 1e-5)
    redeemed, sealed = toll("hashcash; mode=redeem"), toll("hashcash; mode=sealed")
    assert (redeemed.challenge.puzzle, redeemed.mode) == ("hashcash", "redeem")
    assert (sealed.challenge.puzzle, sealed.mode) == ("sha256", "sealed")


def test_a_time_lock_is_used_where_the_route_has_one_and_the_client_asks_for_it(harness, monkeypatch):
    harness.allowed_puzzles = ("argon2id", "sha256", "timelock")
    toll = priced(harness, monkeypatch, 0.05)
    assert toll("").challenge.puzzle == "argon2id"
    locked = toll("timelock")
    assert (locked.challenge.puzzle, locked.mode, locked.expires) == ("timelock", "sealed", None)
    assert harness.opened(locked).answer.status == 200
    redeemed = toll("timelock; mode=redeem")
    assert (redeemed.challenge.puzzle, redeemed.mode) == ("timelock", "redeem")
    assert priced(harness, monkeypatch, 0.05, surcharge=2.0)("timelock").challenge.puzzle == "argon2id"


@pytest.mark.parametrize("puzzle", ["argon2id", "sha256", "hashcash", "hashcash-sha1", "timelock"])
def test_a_redeemed_toll_says_when_it_expires_and_is_not_good_before_it_was_issued(harness, monkeypatch, puzzle):
    harness.allowed_puzzles = (puzzle,)
    harness.modes = ("redeem",)
    toll = priced(harness, monkeypatch, 1e-5)(puzzle)
    assert toll.challenge.puzzle == puzzle
    assert 3600 <= toll.expires - harness.clock() < 3700
    body = harness.redemption(toll)
    assert redeem(harness.runtime, harness.alice, body)[0].status == 200
    harness.clock.advance(-3600)
    with pytest.raises(TokenRefused):
        redeem(harness.runtime, harness.alice, body)
    harness.clock.advance(2 * 3600 + 3700)
    with pytest.raises(TokenExpired):
        redeem(harness.runtime, harness.alice, body)


class FailingLedger(MemoryLedger):
    """Fails in the methods that are named."""

    def __init__(self, *fails):
        super().__init__()
        self.fails = fails

    async def charge(self, caller, entry):
        if "charge" in self.fails:
            raise LedgerError("the ledger's disk is full; make room")
        return await super().charge(caller, entry)

    async def bill(self, *args):
        if "bill" in self.fails:
            raise LedgerError("the ledger's disk is full; make room")
        await super().bill(*args)

    async def settle(self, *args):
        if "settle" in self.fails:
            raise LedgerError("the ledger's disk is full; make room")
        return await super().settle(*args)


@pytest.mark.parametrize("fails", ["settle", "charge", "bill"])
def test_a_ledger_that_does_not_answer_releases_nothing(calibration, harness, fails):
    harness.ledger = FailingLedger(fails)
    asyncio.run(harness.ledger.open())
    for caller in (harness.alice, harness.vip)[: 1 if fails == "settle" else 2]:  # exempt callers settle nothing
        with pytest.raises(LedgerError) as caught:
            harness.handle(harness.infer_body([1, 2]), caller)
        assert caught.value.status == 503
    assert harness.log() == []


@pytest.mark.parametrize("fails", ["settle", "charge", "bill"])
def test_with_release_the_row_price_is_charged_without_the_ledger_and_the_result_says_so(harness, fails):
    usual = harness.handle(harness.infer_body([1, 2]))
    assert usual.in_ledger
    harness.ledger, harness.without_ledger = FailingLedger(fails), True
    asyncio.run(harness.ledger.open())
    result = harness.handle(harness.infer_body([1, 2]))
    assert result.in_ledger == (fails == "settle")
    assert result.toll is not None
    assert result.work.seconds == usual.work.seconds
    assert harness.opened(result.toll).answer == harness.answer(harness.confident_scores(1))


def test_there_is_no_new_account_toll_without_the_ledger(calibration, harness):
    """The toll is for callers that the ledger does not know; without the ledger it is charged to none."""
    harness.tariff = ConformalTariff(replace(calibration, new_account_toll=NewAccountToll(anonymous_units=200.0)))
    anonymous = Caller("net:198.51.100.7")
    asked = harness.handle(harness.infer_body([1, 2]), anonymous)
    assert (asked.mode, asked.work.new_account_seconds > 0) == ("admission", True)
    harness.ledger, harness.without_ledger = FailingLedger("settle", "charge", "bill"), True
    asyncio.run(harness.ledger.open())
    result = harness.handle(harness.infer_body([1, 2]), anonymous)
    assert (result.mode, result.work.new_account_seconds, result.in_ledger) == ("sealed", 0.0, False)


@pytest.mark.parametrize(("rows", "beside"), [(1, False), (1000, True)])
def test_large_batches_are_read_measured_and_sealed_beside_the_event_loop(harness, monkeypatch, rows, beside):
    threads = {}

    def noting(name, function):
        def noted(*args, **kwargs):
            threads[name] = threading.get_ident() != threading.main_thread().ident
            return function(*args, **kwargs)

        return noted

    gate = harness.gate()
    monkeypatch.setattr(
        gate.config.served_model.protocol, "read", noting("read", gate.config.served_model.protocol.read), raising=False
    )
    monkeypatch.setattr(ConformalTariff, "assess", noting("price", ConformalTariff.assess))
    monkeypatch.setattr(seal, "seal_answer", noting("seal", seal.seal_answer))
    rng = np.random.default_rng(0)
    harness.handle(harness.infer_body(rng.random((rows, 2)).tolist()) + b" " * 70_000 * beside, gate=gate)
    assert threads == {"read": beside, "price": beside, "seal": beside}
