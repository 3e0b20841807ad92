"""Settlement of a whole gateway under any order of events, against books that are kept at its doors.

Models share a ledger: two with different units, one that answers without the ledger, and one in shadow mode. Callers ask,
pay, throw away, return receipts late, twice and for each other, pay for admission once or again, and hang up; the model
server and the ledger fail; days pass.
"""

from __future__ import annotations

import asyncio
import json
import random
from dataclasses import dataclass, field, replace

import pytest
from hypothesis import HealthCheck, note, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from modeltoll import wire
from modeltoll.errors import LedgerError, RequestError, TokenExpired, TokenRefused, UpstreamError, UpstreamRefused
from modeltoll.gateway.core.credit import Credit, CreditTerms
from modeltoll.gateway.core.gate import Gate
from modeltoll.gateway.core.puzzle_selector import OfferedPuzzle, PuzzleSelector
from modeltoll.gateway.core.receipts import RECEIPT_SECONDS
from modeltoll.gateway.core.tolls import AdmittedRequest, redeem
from modeltoll.ledger.memory import MemoryLedger
from modeltoll.pricing.calibration import NewAccountToll
from modeltoll.pricing.conformal_tariff import ConformalTariff
from modeltoll.puzzle.counter import Sha256Counter
from modeltoll.puzzle.hashcash import Hashcash
from modeltoll.puzzle.machine_profile import DEFAULT_PROFILE
from modeltoll.puzzle.registry import PUZZLES
from modeltoll.records import Answer, Caller
from modeltoll.settlement_records import Admission

UNIT = 1e-4  # reference seconds: some hundred hashes
UNITS = (UNIT, 3 * UNIT, UNIT, UNIT)  # of the models
RELEASE, SHADOW = 2, 3  # the model that is answered without the ledger, and the one in shadow mode
CREDIT_UNITS, NEW_ACCOUNT_UNITS = 10.0, 40.0
CREDIT = CREDIT_UNITS * max(UNITS)
DAY = 86_400.0
ROUNDING = 1e-12
FEW_HASHES = 4 / DEFAULT_PROFILE.sha256
DEAR = 0.1  # reference seconds of a toll that nobody pays here
CALLERS = (Caller("key:alice"), Caller("net:203.0.113.7"))
CLIENTS = {
    "receipts": wire.Accept((wire.SHA256,), receipts=True),
    "redeem": wire.Accept((wire.SHA256,), mode="redeem", receipts=True),
    "hashcash": wire.Accept((wire.HASHCASH,)),
}
SCORES = ([0.97, 0.01, 0.01, 0.01], [0.7, 0.28, 0.01, 0.01], [0.25, 0.25, 0.25, 0.25])  # of cheap to dear rows
KINDS = range(len(SCORES))
FAILURES = {"down": UpstreamError("down"), "refused": lambda *_: Answer(400, "application/json", b'{"error": "no"}')}
FAULTS = st.sampled_from([("", False)] * 6 + [(step, done) for step in ("settle", "charge", "bill") for done in (0, 1)])
callers, gates = st.sampled_from(CALLERS), st.sampled_from(range(len(UNITS)))
requests, clients = st.tuples(st.integers(1, 14), st.sampled_from(KINDS)), st.sampled_from(list(CLIENTS))
indices = st.lists(st.integers(0, 30), max_size=5)


def _rows_of(body):
    return json.loads(body)["inputs"][0]["data"]


def _now(step):
    """The result of a step of a ledger in memory, which does not wait."""
    try:
        step.send(None)
    except StopIteration as end:
        return end.value
    raise AssertionError("it waits")


class FailingLedger(MemoryLedger):
    """A ledger in memory. ``fault``: the next step of that name fails, whether or not it was done nevertheless.

    ``admission`` and ``adjustment``: what the last request has changed in the standing.
    """

    fault = ("", False)
    admission = adjustment = None

    def forget(self):
        self.admission = self.adjustment = None

    async def _step(self, name, step):
        failing, done = self.fault
        if name != failing:
            return await step
        if done:
            await step
        step.close()
        raise LedgerError("down")

    async def settle(self, *arguments):
        async def noted():
            self.admission = await super(FailingLedger, self).settle(*arguments)
            return self.admission

        return await self._step("settle", noted())

    async def charge(self, *arguments):
        return await self._step("charge", super().charge(*arguments))

    async def bill(self, caller, entry, adjustment=None, updates=()):
        async def noted():
            self.adjustment = adjustment
            await super(FailingLedger, self).bill(caller, entry, adjustment, updates)

        await self._step("bill", noted())


@dataclass(eq=False)
class Held:
    """A toll for an answer that a caller has. ``added``: to its unsettled work. ``prepaid``: what was used for it."""

    caller: Caller
    toll: object
    added: float
    prepaid: float
    rows: int
    worth: float  # rows times unit
    expires: float
    receipt: bytes = b""
    counted: bool = False


@dataclass
class Books:
    """What the gate must hold against one caller, and for it, in reference seconds.

    ``unpaid``: what was added to its unsettled work for what it did not pay since. ``worth``: rows times unit of the
    answers that it did not pay, of which ``worth_prepaid`` was paid for admission. ``lost``: paid for admission, for a
    request that came to nothing.
    """

    unpaid: float = 0.0
    worth: float = 0.0
    worth_prepaid: float = 0.0
    prepaid: float = 0.0
    new_account: float = 0.0
    settled_rows: int = 0
    payments: set = field(default_factory=set)
    excess: float = 0.0  # that a receipt takes away, and the ledger failed to add

    def add_unanswered(self, admission, adjustment, worth):
        """A request that was admitted and gave no answer."""
        self.unpaid += admission.from_credit + (adjustment.unsettled if adjustment else 0.0)
        self.prepaid += (adjustment.prepaid if adjustment else 0.0) - admission.from_prepaid
        answered = adjustment and (adjustment.unsettled < 0.0 or adjustment.prepaid > 0.0)  # prepaid work sufficed
        if not answered:
            self.worth += worth
            self.worth_prepaid += admission.from_prepaid

    def add(self, held):
        self.unpaid += held.added
        self.prepaid -= held.prepaid
        self.worth += held.worth
        self.worth_prepaid += held.prepaid

    def count(self, held):
        held.counted = True
        self.unpaid -= held.added
        self.worth -= held.worth
        self.worth_prepaid -= held.prepaid
        self.settled_rows += held.rows

    def count_payment(self, payment, now):
        if payment.identity not in self.payments and now < payment.expires:
            self.payments.add(payment.identity)
            self.prepaid += payment.prepaid
            self.new_account += payment.new_account
            self.settled_rows += payment.rows


class Settling(RuleBasedStateMachine):
    """The rules. ``new_harness`` makes a harness of tests of the gate."""

    new_harness = None

    def __init__(self):
        super().__init__()
        self.runner = asyncio.Runner()
        self.harness = type(self).new_harness(FailingLedger())
        self.ledger, self.clock, self.upstream = self.harness.ledger, self.harness.clock, self.harness.upstream
        self.upstream.handler = self._answer
        self.began, self.sent = self.clock(), 0
        self.gates = [self._gate(index) for index in range(len(UNITS))]
        self.books = {caller.name: Books() for caller in CALLERS}
        self.tolls, self.admissions = [], []
        self.deferred = {caller.name: [] for caller in CALLERS}  # receipts and payments, by the gate of RELEASE

    def teardown(self):
        self.runner.close()

    def _gate(self, index):
        terms = NewAccountToll(anonymous_units=NEW_ACCOUNT_UNITS)
        calibration = replace(self.harness.tariff.calibration, unit_seconds=UNITS[index], new_account_toll=terms)
        credit, service = Credit(1e-9, CREDIT_UNITS), replace(self.harness.service, model=f"model-{index}")
        terms = CreditTerms(credit, credit)
        harness = replace(self.harness, tariff=ConformalTariff(calibration), service=service, credit=terms)
        harness.mode, harness.without_ledger = "shadow" if index == SHADOW else "enforce", index == RELEASE
        harness.runtime = replace(self.harness.runtime, rng=random.Random(index))
        gate = harness.gate()
        puzzles = {
            wire.SHA256: Sha256Counter(DEFAULT_PROFILE, disclose="exact"),
            wire.HASHCASH: Hashcash(DEFAULT_PROFILE),
        }
        offers = tuple(OfferedPuzzle(PUZZLES.find(name), puzzle) for name, puzzle in puzzles.items())
        config = replace(gate.config, selector=PuzzleSelector(offers))
        return Gate(config, harness.upstream, harness.ledger, harness.runtime)

    # At the gate

    def _rows(self, count, kind):
        """The body of a request for rows that nobody has sent before; their second number decides the answer."""
        self.sent += count
        return self.harness.infer_body([[self.sent - row, kind] for row in range(count)])

    def _answer(self, _path, body):
        return self.harness.answer([SCORES[int(kind)] for _, kind in _rows_of(body)])

    def _handle(self, gate, caller, body, shown=(), fault=("", False), **members):
        """The result of a request, or its error. The books are kept."""
        self.ledger.forget()
        self.ledger.fault = fault
        asked, logged = len(self.upstream.requests), self._log_length()
        receipts = tuple(held.receipt for held in shown)
        request = self.harness.request(body, caller, receipts=receipts, **members)
        try:
            result = self.runner.run(self.gates[gate].handle(request))
        except (LedgerError, UpstreamError, RequestError) as error:
            result = error
        self.ledger.fault = ("", False)
        admission, reached = self.ledger.admission, len(self.upstream.requests) > asked
        self._count(gate, caller, [*shown, *filter(None, [request.payment])])
        if gate == SHADOW:
            assert isinstance(result, Exception) or result.mode == "shadow"
            return result
        if gate == RELEASE and fault[0] == "settle":
            if admission is not None and admission.admitted:  # it was done, and the gate does not know
                self.books[caller.name].add_unanswered(admission, None, 0.0)
            admission = Admission(admitted=True)
        if admission is None or not admission.admitted:
            assert not reached
            assert self._log_length() == logged
        elif isinstance(result, LedgerError):
            worth = UNITS[gate] * len(_rows_of(body)) if reached else 0.0
            self.books[caller.name].add_unanswered(admission, self.ledger.adjustment, worth)
        elif not isinstance(result, Exception):
            worth = 0.0 if gate == RELEASE and fault[0] == "settle" else UNITS[gate] * len(_rows_of(body))
            self._note_answer(caller, result, request.payment, admission, worth)
        return result

    def _log_length(self):
        return len(_now(self.ledger.log(0, 1_000_000)))

    def _count(self, gate, caller, returned):
        """What must count: each receipt and payment once, for its own caller, until it expires; where the ledger answers."""
        books, deferred = self.books[caller.name], self.deferred[caller.name]
        if gate == RELEASE:
            returned, deferred[:] = [*deferred, *returned], []
        if self.ledger.admission is None:
            if gate == RELEASE:
                deferred[:] = returned
            return
        for one in returned:
            if not isinstance(one, Held):
                books.count_payment(one, self.clock())
            elif one.caller == caller and not one.counted and self.clock() < one.expires:
                books.count(one)

    def _note_answer(self, caller, result, payment, admission, worth):
        """The price is paid from prepaid work, and the rest is asked."""
        books, work, adjustment = self.books[caller.name], result.work, self.ledger.adjustment
        price, rows = work.seconds - work.new_account_seconds, work.rows
        assert (result.toll is None) != (result.answer is None)
        if result.toll is None:
            assert price <= admission.from_prepaid * (1 + 1e-8)
            books.add_unanswered(admission, adjustment, 0.0)
            if adjustment is not None:
                assert adjustment.unsettled == -admission.from_credit
                assert adjustment.prepaid == pytest.approx(admission.from_prepaid - price, abs=ROUNDING)
            return
        asked = result.toll.typical_seconds
        assert asked + admission.from_prepaid == pytest.approx(price, rel=1e-9, abs=FEW_HASHES)
        added = 0.0 if adjustment is None else adjustment.unsettled
        assert added >= 0.0
        if adjustment is None:
            books.excess += CREDIT / 2
        if not worth:  # without a reservation there is no time from which it drains
            books.excess += added
        settled = rows - (payment.rows if payment else 0)
        expires = self.clock() + RECEIPT_SECONDS
        used = admission.from_prepaid
        held = Held(caller, result.toll, admission.from_credit + added, used, settled, worth, expires)
        books.add(held)
        self.tolls.append(held)

    def _chosen(self, numbers):
        """Some of the receipts that were opened."""
        opened = [held for held in self.tolls if held.receipt]
        return [opened[number % len(opened)] for number in numbers] if opened else []

    def _take_admission(self, caller, gate, result):
        if getattr(result, "mode", "") == "admission":
            assert result.toll.typical_seconds == pytest.approx(result.work.seconds, abs=FEW_HASHES)
            self.admissions.append((caller, gate, result.toll))

    def _pay_admission(self, entry, client, fault=("", False)):
        """The result of redeeming an admission toll; None where it cannot be."""
        caller, gate, toll = entry
        if toll.typical_seconds > DEAR:
            return None
        try:
            request, payment = redeem(self.harness.runtime, caller, self.harness.redemption(toll))
        except TokenExpired:
            assert self.clock() >= toll.expires
            return None
        assert isinstance(request, AdmittedRequest)
        result = self._handle(gate, caller, request.body, (), fault, payment=payment, accept=CLIENTS[client])
        self._take_admission(caller, gate, result)
        return result

    # What happens

    @rule(caller=callers, gate=gates, rows=requests, client=clients, numbers=indices, fault=FAULTS)
    def ask(self, caller, gate, rows, client, numbers, fault):
        """A request, with any receipts that anybody has opened."""
        body = self._rows(*rows)
        shown = list(dict.fromkeys(self._chosen(numbers)))
        result = self._handle(gate, caller, body, shown, fault, accept=CLIENTS[client])
        self._take_admission(caller, gate, result)

    @rule(caller=callers, gate=st.integers(0, SHADOW - 1), rows=requests)
    def ask_and_pay_for_admission_at_once(self, caller, gate, rows):
        result = self._handle(gate, caller, self._rows(*rows))
        if result.mode == "admission" and result.toll.typical_seconds <= DEAR:
            answered = self._pay_admission((caller, gate, result.toll), "receipts")
            assert answered.mode in ("sealed", "prepaid")

    @precondition(lambda self: self.admissions)
    @rule(number=st.integers(0, 30), client=clients, fault=FAULTS)
    def pay_for_admission(self, number, client, fault):
        """Late, or once more."""
        entry = self.admissions[number % len(self.admissions)]
        other = next(caller for caller in CALLERS if caller != entry[0])
        if entry[2].typical_seconds <= DEAR:
            with pytest.raises(TokenRefused):
                redeem(self.harness.runtime, other, self.harness.redemption(entry[2]))
        self._pay_admission(entry, client, fault)

    @precondition(lambda self: self.tolls)
    @rule(number=st.integers(0, 30), gate=gates, fault=FAULTS)
    def pay(self, number, gate, fault):
        """Open a seal, or redeem a token, which settles, at whatever gate; once more, too."""
        held = self.tolls[number % len(self.tolls)]
        if held.toll.typical_seconds > DEAR:
            return
        if held.toll.mode == wire.SEALED:
            opened = self.harness.opened(held.toll)
            held.receipt = opened.receipt
            return
        try:
            _, receipt = redeem(self.harness.runtime, held.caller, self.harness.redemption(held.toll))
        except TokenExpired:
            assert self.clock() >= held.toll.expires
            return
        self._settle(gate, held.caller, receipt, [held], fault)

    @precondition(lambda self: any(held.receipt for held in self.tolls))
    @rule(caller=callers, gate=gates, numbers=indices, fault=FAULTS)
    def return_receipts(self, caller, gate, numbers, fault):
        """Anybody's, in any order, also twice, to whatever gate."""
        shown = self._chosen(numbers)
        self._settle(gate, caller, [held.receipt for held in shown], shown, fault)

    @precondition(lambda self: any(held.receipt for held in self.tolls))
    @rule(number=st.integers(0, 30), done=st.booleans())
    def return_a_receipt_while_the_ledger_is_away(self, number, done):
        """It counts with the next request, where answers go out without the ledger."""
        (held,) = self._chosen([number])
        self._handle(RELEASE, held.caller, self._rows(1, 0), [held], ("settle", done))
        self._take_admission(held.caller, RELEASE, self._handle(RELEASE, held.caller, self._rows(1, 0)))

    def _settle(self, gate, caller, receipts, shown, fault):
        self.ledger.forget()
        self.ledger.fault = fault
        try:
            if isinstance(receipts, list):
                self.runner.run(self.gates[gate].settle(caller, receipts))
            else:
                self.runner.run(self.gates[gate].settle_redeemed(caller, receipts))
        except LedgerError:
            assert fault[0] == "settle"
        self.ledger.fault = ("", False)
        self._count(gate, caller, shown)

    @rule(caller=callers, gate=gates, count=st.integers(1, 14), failure=st.sampled_from(list(FAILURES)))
    def the_model_server_fails(self, caller, gate, count, failure):
        """What was reserved is given back, also after a payment for admission; of a refusal, all but one row's price."""
        body = self._rows(count, 1)
        self.upstream.handler = FAILURES[failure]
        result = self._handle(gate, caller, body)
        if getattr(result, "mode", "") == "admission" and result.toll.typical_seconds <= DEAR:
            result = self._pay_admission((caller, gate, result.toll), "receipts")
        self.upstream.handler = self._answer
        assert isinstance(result, Exception) or result.mode == "admission"
        if isinstance(result, UpstreamRefused) and gate != SHADOW:
            admission, books = self.ledger.admission, self.books[caller.name]
            of_credit = min(UNITS[gate], admission.from_credit)
            books.unpaid += of_credit
            books.prepaid -= min(UNITS[gate] - of_credit, admission.from_prepaid)

    @rule(caller=callers, gate=gates, count=st.integers(1, 14))
    def hang_up(self, caller, gate, count):
        """While the model server works."""
        self.ledger.forget()
        request, honest = self.harness.request(self._rows(count, 1), caller), self.upstream.predict

        async def go():
            asked = asyncio.Event()

            async def forever(*_):
                asked.set()
                await asyncio.sleep(60)

            self.upstream.predict = forever
            task, waiting = asyncio.create_task(self.gates[gate].handle(request)), asyncio.create_task(asked.wait())
            await asyncio.wait((task, waiting), return_when=asyncio.FIRST_COMPLETED)
            waiting.cancel()
            task.cancel()
            await asyncio.wait((task,))

        self.runner.run(go())
        self.upstream.predict = honest
        self._count(gate, caller, [])
        if gate != SHADOW and self.ledger.admission.admitted:
            self.books[caller.name].add_unanswered(self.ledger.admission, None, count * UNITS[gate])

    @rule(seconds=st.sampled_from([30.0, 3600.0, 0.4 * DAY, DAY]))
    def time_passes(self, seconds):
        self.clock.advance(seconds)

    # What holds

    @invariant()
    def the_ledger_agrees_with_the_books(self):
        drained = CREDIT * (self.clock() - self.began) / DAY
        for caller in CALLERS:
            books, standing = self.books[caller.name], _now(self.ledger.standing(caller))
            note(f"{books} {standing}")
            # What is not paid is held against the caller until it has drained.
            assert 0.0 <= standing.unsettled <= books.unpaid + ROUNDING
            assert standing.unsettled >= books.unpaid - drained - books.excess - ROUNDING
            # Rows without work are worth one credit, and one more a day.
            assert books.worth - books.worth_prepaid <= CREDIT + drained + books.excess + ROUNDING
            # Nobody pays twice, and nothing counts twice.
            assert standing.prepaid >= 0.0
            assert standing.prepaid == pytest.approx(books.prepaid, rel=1e-9, abs=ROUNDING)
            assert standing.new_account == pytest.approx(books.new_account, rel=1e-9, abs=ROUNDING)
            assert standing.settled_rows == books.settled_rows


def test_any_order_of_events_keeps_the_books(harness):
    def new_harness(ledger):
        return replace(harness, ledger=ledger, upstream=type(harness.upstream)(None), clock=type(harness.clock)())

    Settling.new_harness = staticmethod(new_harness)
    limits = settings(
        max_examples=60,
        stateful_step_count=30,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
    )
    run_state_machine_as_test(Settling, settings=limits)
