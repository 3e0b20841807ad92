"""Settlement at the gate: what is reserved before the model server is asked, and what receipts take away again."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from dataclasses import replace

import httpx
import pytest

from modeltoll import wire
from modeltoll.errors import (
    AnswerError,
    LedgerError,
    RequestError,
    TokenExpired,
    TokenRefused,
    UpstreamBusy,
    UpstreamError,
    UpstreamRefused,
    UpstreamTimeout,
)
from modeltoll.gateway.assembly.callers import build_credit_terms
from modeltoll.gateway.core.credit import Credit, CreditTerms
from modeltoll.gateway.core.gate import Gate
from modeltoll.gateway.core.puzzle_selector import OfferedPuzzle, PuzzleSelector
from modeltoll.gateway.core.receipts import RECEIPT_SECONDS, decrypt_receipts
from modeltoll.gateway.core.tolls import AdmittedRequest, redeem
from modeltoll.gateway.settings.gateway import Settings
from modeltoll.pricing.calibration import NewAccountToll
from modeltoll.pricing.conformal_tariff import ConformalTariff
from modeltoll.puzzle import seal
from modeltoll.puzzle.counter import Sha256Counter
from modeltoll.puzzle.machine_profile import DEFAULT_PROFILE
from modeltoll.puzzle.registry import PUZZLES
from modeltoll.records import Answer, Caller
from modeltoll.testing.model_servers import serving

ANONYMOUS = Caller("net:203.0.113.7")
UNIT = 1e-4  # reference seconds, of the harness's calibration
CREDIT = 10 * UNIT


@pytest.fixture
def harness(harness):
    """A gate with a credit of ten units for everybody."""
    credit = Credit(1e-9, 10.0)
    harness.credit = CreditTerms(credit, credit)
    return harness


def rows(harness, count, start=0):
    return harness.infer_body([[start + row, 2] for row in range(count)])


def admit(harness, result, caller=None, **members):
    """Pay an admission toll, and send its request again."""
    admitted, receipt = redeem(harness.runtime, caller or harness.alice, harness.redemption(result.toll))
    assert isinstance(admitted, AdmittedRequest)
    assert admitted.payment == receipt
    return harness.handle(admitted.body, caller, payment=admitted.payment, **members)


# What is asked


def test_a_request_within_the_credit_is_answered_with_a_sealed_toll_that_holds_a_receipt(harness):
    result = harness.handle(rows(harness, 5))
    assert (result.mode, result.toll.settles) == ("sealed", True)
    assert harness.standing().unsettled >= 5 * UNIT
    opened = harness.opened(result.toll)
    assert opened.answer == harness.answer(harness.confident_scores(5))
    asyncio.run(harness.gate().settle(harness.alice, [opened.receipt]))
    standing = harness.standing()
    assert (standing.unsettled, standing.settled_rows) == (pytest.approx(0.0, abs=1e-15), 5)


def test_without_receipts_the_model_server_works_for_one_credit_and_no_longer(harness):
    gate = harness.gate()
    modes = [harness.handle(rows(harness, 1, start), gate=gate).mode for start in range(40)]
    answered = modes.count("sealed")
    assert 1 <= answered <= 10
    assert set(modes[answered:]) == {"admission"}
    assert len(harness.upstream.requests) == len(harness.log()) == answered


def test_receipts_in_the_next_request_make_room_for_it(harness):
    gate, receipts = harness.gate(), ()
    for start in range(0, 60, 6):
        result = harness.handle(rows(harness, 6, start), gate=gate, receipts=receipts)
        assert result.mode == "sealed"
        receipts = (harness.opened(result.toll).receipt,)
    assert harness.standing().settled_rows == 54


def test_a_receipt_counts_once_and_for_its_caller_alone(harness):
    gate = harness.gate()
    first, second = (harness.handle(rows(harness, 3, start), gate=gate) for start in (0, 3))
    receipt = harness.opened(first.toll).receipt
    asyncio.run(gate.settle(harness.bob, [receipt]))
    before = harness.standing().unsettled
    for _ in range(3):
        asyncio.run(gate.settle(harness.alice, [receipt, receipt]))
        harness.handle(rows(harness, 1, 90), gate=gate, receipts=(receipt,))
    after = harness.standing()
    assert after.settled_rows == 3
    assert before / 2 <= after.unsettled
    assert harness.standing(harness.bob).settled_rows == 0
    assert harness.opened(second.toll).receipt != receipt


def test_a_receipt_expires(harness):
    result = harness.handle(rows(harness, 3))
    harness.clock.advance(RECEIPT_SECONDS + 1)
    asyncio.run(harness.gate().settle(harness.alice, [harness.opened(result.toll).receipt]))
    assert harness.standing().settled_rows == 0


def test_one_credit_a_day_drains_by_itself(harness):
    gate = harness.gate()
    while harness.handle(rows(harness, 1), gate=gate).mode == "sealed":
        pass
    harness.clock.advance(43_200)
    modes = [harness.handle(rows(harness, 1, start), gate=gate).mode for start in range(20)]
    assert 1 <= modes.count("sealed") <= 6


def test_a_dear_toll_that_is_refused_adds_half_a_credit_at_most(harness):
    gate = harness.gate()
    harness.upstream.handler = lambda path, body: harness.answer(harness.uncertain_scores(1))
    result = harness.handle(rows(harness, 1), gate=gate)
    assert result.work.seconds > 1.5 * CREDIT
    assert harness.standing().unsettled == pytest.approx(UNIT + CREDIT / 2)
    assert harness.handle(rows(harness, 1, 50), gate=gate).mode == "sealed"


# Admission tolls


def test_what_is_missing_is_asked_before_the_model_server_is_and_nothing_is_charged(harness):
    result = harness.handle(rows(harness, 30))
    assert (result.mode, result.toll.mode, result.toll.admission) == ("admission", "redeem", True)
    assert result.work.seconds == pytest.approx(20 * UNIT)
    assert (harness.upstream.requests, harness.account(), harness.log()) == ([], None, [])


def test_a_toll_that_holds_a_huge_request_is_made_where_huge_bodies_are_read(harness, monkeypatch):
    """One after the other, so that many of them never need more memory than one; small ones do not wait there."""
    made_in, seal_token = [], seal.seal_token

    def noted(*args, **options):
        made_in.append(threading.current_thread().name)
        return seal_token(*args, **options)

    monkeypatch.setattr("modeltoll.gateway.core.tolls.seal.seal_token", noted)
    large = rows(harness, 50)
    for limit in (len(large), len(large) - 1):
        monkeypatch.setattr("modeltoll.gateway.threads.HUGE_BYTES", limit)
        assert harness.handle(large).mode == "admission"
    assert [name.startswith("modeltoll-huge-bodies") for name in made_in] == [False, True]


def test_what_was_paid_for_admission_is_taken_off_the_tolls_that_follow(harness):
    gate = harness.gate()
    result = harness.handle(rows(harness, 30), gate=gate)
    answered = admit(harness, result, gate=gate)
    price = harness.log()[0].work.seconds
    assert answered.mode == ("sealed" if price > 20 * UNIT else "prepaid")
    if answered.toll is not None:
        asyncio.run(gate.settle(harness.alice, [harness.opened(answered.toll).receipt]))
    assert harness.standing().settled_rows == (30 if answered.toll else 20)
    standing = harness.standing()
    assert standing.prepaid == pytest.approx(max(0.0, 20 * UNIT - price))
    if answered.toll is None:
        assert answered.answer == harness.answer(harness.confident_scores(30))
        assert standing.unsettled == 0.0


@pytest.mark.parametrize("scores", ["confident", "uncertain"])
def test_a_large_batch_pays_its_price_once(harness, scores):
    """Whether its rows cost less than was reserved, or more."""
    gate, given = harness.gate(), getattr(harness, f"{scores}_scores")
    harness.upstream.handler = lambda path, body: harness.answer(given(40))
    result = harness.handle(rows(harness, 40), gate=gate)
    answered = admit(harness, result, gate=gate)
    price, prepaid = answered.work.seconds, result.work.seconds
    assert prepaid == pytest.approx(30 * UNIT)
    assert harness.standing().prepaid == pytest.approx(max(0.0, prepaid - price))
    assert (answered.toll is None) == (price <= prepaid)
    if answered.toll is not None:  # what is left, as far as a toll discloses it
        assert price - prepaid <= 2 * answered.toll.typical_seconds <= 4.2 * (price - prepaid)


def test_an_admission_that_is_shown_twice_pays_once(harness):
    gate = harness.gate()
    result = harness.handle(rows(harness, 30), gate=gate)
    admit(harness, result, gate=gate)
    again = admit(harness, result, gate=gate)
    assert again.mode == "admission"
    assert len(harness.upstream.requests) == 1


def test_an_admission_token_belongs_to_its_caller_and_expires(harness):
    result = harness.handle(rows(harness, 30))
    redemption = harness.redemption(result.toll)
    with pytest.raises(TokenRefused):
        redeem(harness.runtime, harness.bob, redemption)
    with pytest.raises(TokenRefused):
        redeem(harness.runtime, harness.alice, wire.encode_redemption(result.toll.payload, proof=bytes(32)))
    harness.clock.advance(120)
    with pytest.raises(TokenExpired):
        redeem(harness.runtime, harness.alice, redemption)


def test_a_bad_request_is_refused_before_an_admission_toll_is_asked(harness):
    with pytest.raises(RequestError, match="JSON"):
        harness.handle(b"{")
    assert harness.standing().unsettled == 0.0


@pytest.mark.parametrize("case", ["shadow", "exempt"])
def test_shadow_mode_and_exempt_callers_reserve_nothing(harness, case):
    harness.mode = "shadow" if case == "shadow" else "enforce"
    caller = harness.vip if case == "exempt" else harness.alice
    assert harness.handle(rows(harness, 30), caller).mode == case
    assert harness.standing(caller).unsettled == 0.0


# New accounts


@pytest.fixture
def new_account_harness(harness):
    """The new-account toll is 50 units."""
    calibration = replace(harness.tariff.calibration, new_account_toll=NewAccountToll(anonymous_units=50.0))
    harness.tariff = ConformalTariff(calibration)
    return harness


def test_the_new_account_toll_is_owed_until_it_is_paid_and_throwing_it_away_pays_nothing(new_account_harness):
    harness = new_account_harness
    gate = harness.gate()
    for start in range(20):
        result = harness.handle(rows(harness, 1, start), ANONYMOUS, gate=gate)
        assert (result.mode, result.work.new_account_seconds) == ("admission", pytest.approx(5 * UNIT))
    assert harness.upstream.requests == []
    assert harness.handle(rows(harness, 1), gate=gate).mode == "sealed"  # a key owes none


def test_ten_rows_pay_all_of_it_once(new_account_harness):
    harness = new_account_harness
    gate = harness.gate()
    paid = 0.0
    for start in range(10):
        result = harness.handle(rows(harness, 1, start), ANONYMOUS, gate=gate)
        paid += result.work.seconds
        answered = admit(harness, result, ANONYMOUS, gate=gate)
        asyncio.run(gate.settle(ANONYMOUS, [harness.opened(answered.toll).receipt]))
    assert paid == pytest.approx(50 * UNIT)
    assert sum(entry.work.new_account_seconds for entry in harness.log()) == pytest.approx(50 * UNIT)
    assert harness.handle(rows(harness, 1, 77), ANONYMOUS, gate=gate).mode == "sealed"


# Blind models, whose tolls ask no more than a bound


def blind_gate(harness, seconds):
    puzzle = Sha256Counter(DEFAULT_PROFILE, disclose="blind", blind_seconds=seconds)
    offer = OfferedPuzzle(PUZZLES.find(puzzle.name), puzzle)
    selector = PuzzleSelector((offer,), disclose="blind", blind_seconds=seconds)
    config = replace(harness.gate().config, selector=selector)
    return Gate(config, harness.upstream, harness.ledger, harness.runtime)


def test_an_admission_of_a_blind_model_counts_for_no_more_than_its_toll_asks(harness):
    """What was paid for one model is good for all of them: 30 units of prepaid work for the work of two."""
    gate = blind_gate(harness, 2 * UNIT)
    while (result := harness.handle(rows(harness, 40), gate=gate)).mode != "admission":
        pass
    harness.upstream.handler = lambda path, body: Answer(400, "application/json", b"{}")
    assert result.work.seconds <= 2 * UNIT
    with pytest.raises(UpstreamRefused):
        admit(harness, result, gate=gate)
    assert harness.standing().prepaid <= 2 * UNIT


def test_a_large_batch_of_a_blind_model_costs_its_bound_and_no_more(harness):
    gate, paid = blind_gate(harness, 2 * UNIT), 0.0
    for start in range(0, 400, 40):
        result = harness.handle(rows(harness, 40, start), gate=gate)
        while result.mode == "admission":
            paid += result.work.seconds
            result = admit(harness, result, gate=gate)
    assert paid <= 10 * 2 * UNIT
    assert harness.standing().unsettled <= CREDIT * 1.001


def test_the_new_account_toll_of_a_blind_model_is_paid_in_tolls_of_its_bound(new_account_harness):
    harness = new_account_harness
    gate, tolls = blind_gate(harness, 2 * UNIT), 0
    result = harness.handle(rows(harness, 30), ANONYMOUS, gate=gate)
    while result.mode == "admission":
        tolls += 1
        assert result.work.seconds <= 2 * UNIT
        result = admit(harness, result, ANONYMOUS, gate=gate)
    assert tolls <= 3  # as many as clients pay for one request
    assert harness.standing(ANONYMOUS).new_account == pytest.approx(2 * UNIT)


# Failures


FAILURES = {
    "down": UpstreamError("down"),
    "busy": UpstreamBusy("the queue is full"),
    "busy itself": lambda path, body: Answer(429, "application/json", b'{"error": "later"}'),
    "loading": lambda path, body: Answer(503, "application/json", b'{"error": "later"}'),
    "broken": lambda path, body: Answer(500, "application/json", b""),
}


@pytest.mark.parametrize("failure", FAILURES.values(), ids=FAILURES)
def test_a_request_for_which_the_model_did_not_work_is_given_back(harness, failure):
    honest, harness.upstream.handler = harness.upstream.handler, failure
    gate = harness.gate()
    for _ in range(30):
        with pytest.raises((UpstreamError, UpstreamBusy, RequestError, AnswerError)):
            harness.handle(rows(harness, 5), gate=gate)
    harness.upstream.handler = honest
    assert harness.standing().unsettled == pytest.approx(0.0, abs=1e-15)
    assert harness.handle(rows(harness, 5), gate=gate).mode == "sealed"


@pytest.mark.parametrize("status", [400, 404, 413, 422])
@pytest.mark.parametrize("batch", [1, 5])
def test_a_refusal_keeps_the_price_of_one_row_so_that_it_cannot_be_asked_without_end(harness, status, batch):
    """Whether a row is refused may tell of the model. A large batch that is refused costs no more than a row."""
    harness.upstream.handler = lambda path, body: Answer(status, "application/json", b'{"error": "no"}')
    gate = harness.gate()
    for number in range(4):
        with pytest.raises(UpstreamRefused):
            harness.handle(rows(harness, batch), gate=gate)
        assert harness.standing().unsettled == pytest.approx((number + 1) * UNIT)
    for _ in range(10):
        with contextlib.suppress(UpstreamRefused):
            result = harness.handle(rows(harness, batch), gate=gate)
    asked = len(harness.upstream.requests)
    assert (result.mode, asked) == ("admission", 10 if batch == 1 else asked)
    with pytest.raises(
        UpstreamRefused
    ):  # who pays for admission may go on; what was paid beyond a row's price is kept for them
        admit(harness, result, gate=gate)
    assert len(harness.upstream.requests) == asked + 1
    assert harness.standing().prepaid == pytest.approx(max(0.0, result.work.seconds - UNIT), abs=UNIT)


SPENT = {
    "too slow": UpstreamTimeout("the model server did not answer in time"),
    "not measurable": lambda path, body: Answer(200, "application/json", b'{"outputs": []}'),
}


@pytest.mark.parametrize("failure", SPENT.values(), ids=SPENT)
def test_where_the_model_worked_for_nothing_the_credit_bounds_it(harness, failure):
    harness.upstream.handler = failure
    gate = harness.gate()
    for _ in range(10):
        with pytest.raises((UpstreamTimeout, AnswerError)):
            harness.handle(rows(harness, 1), gate=gate)
    assert harness.handle(rows(harness, 1), gate=gate).mode == "admission"
    assert len(harness.upstream.requests) == 10


def test_a_caller_who_hangs_up_has_used_the_model_servers_time(harness):
    gate = harness.gate()

    async def hang_up():
        asked = asyncio.Event()

        async def forever(path, body, content_type, head):
            asked.set()
            await asyncio.sleep(60)

        harness.upstream.predict = forever
        task = asyncio.create_task(gate.handle(harness.request(rows(harness, 5))))
        await asked.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(hang_up())
    assert harness.standing().unsettled == pytest.approx(5 * UNIT)


def test_without_the_ledger_answers_are_refused_or_priced_as_the_settings_say(harness):
    class Down(type(harness.ledger)):
        async def settle(self, *args):
            raise LedgerError("down")

        bill = charge = adjust = settle

    down = Down()
    asyncio.run(down.open())
    harness.ledger = down
    with pytest.raises(LedgerError):
        harness.handle(rows(harness, 30))
    assert harness.upstream.requests == []
    harness.without_ledger = True
    result = harness.handle(rows(harness, 30))
    assert (result.mode, result.in_ledger) == ("sealed", False)
    with pytest.raises(LedgerError):  # the client returns it later
        asyncio.run(harness.gate().settle(harness.alice, [harness.opened(result.toll).receipt]))


@pytest.mark.parametrize("way", ["header", "redeemed"])
def test_receipts_that_come_without_the_ledger_count_later_and_once(harness, way):
    """Their client has an answer and takes them for delivered."""

    class Flaky(type(harness.ledger)):
        down = False

        async def settle(self, *args):
            if self.down:
                raise LedgerError("down")
            return await super().settle(*args)

    harness.ledger, harness.without_ledger = Flaky(), True
    asyncio.run(harness.ledger.open())
    gate = harness.gate()
    result = harness.handle(rows(harness, 6), gate=gate)
    unsettled, receipt = harness.standing().unsettled, harness.opened(result.toll).receipt
    harness.ledger.down = True
    if way == "header":
        assert harness.handle(rows(harness, 1, 50), gate=gate, receipts=(receipt,)).mode == "sealed"
    else:
        (counted,) = decrypt_receipts(harness.ledger.derived_key("receipts"), harness.alice, [receipt])
        asyncio.run(gate.settle_redeemed(harness.alice, counted))
    assert harness.standing().settled_rows == 0
    before, harness.ledger.down = harness.standing().unsettled, False
    harness.upstream.handler = UpstreamError("down")
    for _ in range(2):
        with pytest.raises(UpstreamError):
            harness.handle(rows(harness, 1, 60), gate=gate, receipts=(receipt,))
        assert harness.standing().settled_rows == 6
        assert harness.standing().unsettled == pytest.approx(before - unsettled, abs=1e-15)


def test_a_receipt_of_a_toll_that_the_ledger_does_not_know_takes_nothing_from_others(harness):
    """While the ledger is away, answers go out at the row price. What was not added is not taken away."""

    class Away(type(harness.ledger)):
        away = True

        async def _step(self, step):
            if self.away:
                step.close()
                raise LedgerError("down")
            return await step

        async def settle(self, *args):
            return await self._step(super().settle(*args))

        async def charge(self, *args):
            return await self._step(super().charge(*args))

        async def bill(self, *args):
            return await self._step(super().bill(*args))

    harness.ledger, harness.without_ledger = Away(), True
    asyncio.run(harness.ledger.open())
    gate = harness.gate()
    receipts = [harness.opened(harness.handle(rows(harness, 8, n), gate=gate).toll).receipt for n in (0, 8)]
    harness.ledger.away = False
    harness.handle(rows(harness, 5, 20), gate=gate)
    before = harness.standing().unsettled
    asyncio.run(gate.settle(harness.alice, receipts))
    assert (harness.standing().unsettled, harness.standing().settled_rows) == (before, 16)


@pytest.mark.parametrize("case", ["shadow", "exempt"])
def test_receipts_count_with_requests_that_reserve_nothing(harness, case):
    """A client of two models returns them with its next request to either, and takes any answer for a confirmation."""
    result = harness.handle(rows(harness, 5))
    receipt = harness.opened(result.toll).receipt
    harness.mode = "shadow" if case == "shadow" else "enforce"
    caller = replace(harness.alice, exempt=case == "exempt")
    assert harness.handle(rows(harness, 1, 50), caller, receipts=(receipt,)).mode == case
    assert (harness.standing().settled_rows, harness.standing().unsettled) == (5, 0.0)


# Over HTTP


def post(url, harness, count, **headers):
    accept = {wire.ACCEPT_HEADER: "sha256, argon2id; mode=sealed; memory=64MiB; receipts"}
    headers = {"x-api-key": "alice-key", "content-type": "application/json"} | accept | headers
    return httpx.post(url + harness.path, content=rows(harness, count), headers=headers)


def test_receipts_are_returned_in_the_header_or_by_post(harness):
    key = {"x-api-key": "alice-key", "content-type": "application/json"}
    with serving(harness.application()) as url:
        first = wire.decode_toll(post(url, harness, 6).content)
        assert str(httpx.URL(url + harness.path).join(first.settle)) == url + wire.SETTLE_PATH
        assert wire.decode_toll(post(url, harness, 6).content).admission
        receipt = harness.opened(first).receipt
        second = wire.decode_toll(post(url, harness, 6, **{wire.SETTLE_HEADER: wire.format_settle([receipt])}).content)
        assert not second.admission
        body = wire.encode_settlement((harness.opened(second).receipt, receipt))
        response = httpx.post(url + wire.SETTLE_PATH, content=body, headers=key)
        assert (response.status_code, response.content) == (204, b"")
        for bad in (b"", b"{", b"[]", b'{"receipts": []}', b'{"receipts": [1]}', b'{"receipts": "x"}'):
            assert httpx.post(url + wire.SETTLE_PATH, content=bad, headers=key).status_code == 400
        assert httpx.post(url + wire.SETTLE_PATH, content=b"x" * 100_000, headers=key).status_code == 413
    assert harness.standing().settled_rows == 12


def test_a_client_that_knows_no_receipts_redeems_and_redeeming_settles(harness):
    with serving(harness.application()) as url:
        for _ in range(5):
            response = post(url, harness, 8, **{wire.ACCEPT_HEADER: "sha256"})
            toll = wire.decode_toll(response.content)
            assert (toll.mode, toll.admission) == ("redeem", False)
            place = httpx.URL(url + harness.path).join(toll.redeem)
            headers = {"x-api-key": "alice-key", "content-type": "application/json"}
            answers = [httpx.post(place, content=harness.redemption(toll), headers=headers) for _ in range(2)]
            assert {answer.content for answer in answers} == {harness.answer(harness.confident_scores(8)).body}
    standing = harness.standing()
    assert (standing.settled_rows, standing.unsettled) == (40, pytest.approx(0.0, abs=1e-15))


def test_lengths_of_tolls_do_not_depend_on_the_answer(harness):
    sizes = set()
    for scores in (harness.confident_scores(1), [[0.123456789012345, 0.3, 0.276543210987655, 0.3]]):
        harness.upstream.handler = lambda path, body, scores=scores: harness.answer(scores)
        for mode in ("sealed", "redeem"):
            toll = harness.handle(rows(harness, 1), accept=wire.Accept(mode=mode, receipts=True)).toll
            sizes.add((mode, len(toll.payload)))
    assert len(sizes) == 2


# Settings

MODEL = {"tariff": "t", "output": {"name": "p", "kind": "logits"}, "measures": [{"name": "gap"}]}


def settings(callers=None, **model):
    return Settings(upstream={"url": "http://a"}, models={"m": MODEL | model}, callers=callers or {})


def test_the_credit_is_the_larger_of_seconds_and_units():
    terms = build_credit_terms(settings())
    assert (terms.at(Caller("key:a"), 0.001), terms.at(Caller("key:a"), 1.0)) == (10.0, 200.0)
    assert (terms.at(ANONYMOUS, 0.001), terms.at(ANONYMOUS, 1.0)) == (2.0, 50.0)
    terms = build_credit_terms(settings({"credit": {"seconds": 3}, "anonymous_credit": {"units": 7}}))
    assert (terms.at(Caller("key:a"), 0.001), terms.at(ANONYMOUS, 1.0)) == (3.0, 7.0)


def test_enforcing_needs_redeem_mode():
    with pytest.raises(ValueError, match=r"models\.m\.puzzle\.modes: add redeem"):
        settings(mode="enforce", puzzle={"modes": ["sealed"]})
    assert settings(mode="shadow", puzzle={"modes": ["sealed"]})
