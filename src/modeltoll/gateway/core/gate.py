"""The gate: takes one request through all its steps, without HTTP.

The steps are: parse, admission, upstream, evidence, leaks, assessment, charge, verdict, work, toll, bill. Each step's result
is the next one's argument; nothing calls back.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from modeltoll.errors import CallerGone, RequestError, UpstreamRefused, UpstreamTimeout
from modeltoll.gateway.callers.quotas import DailyQuotas
from modeltoll.gateway.core.early_measurement import EarlyMeasurement
from modeltoll.gateway.core.fingerprints import keyed
from modeltoll.gateway.core.ledger_steps import LedgerSteps
from modeltoll.gateway.core.measured_answer import MeasuredAnswer
from modeltoll.gateway.core.padding import dither
from modeltoll.gateway.core.refused_answers import RefusedAnswers
from modeltoll.gateway.core.request import (
    ADMISSION,
    EXEMPT,
    FREE,
    PREPAID,
    SHADOW,
    GateConfig,
    GateRequest,
    GateResult,
    GateRuntime,
)
from modeltoll.gateway.core.settlement import Settlement, with_new_account
from modeltoll.gateway.core.threads import LARGE_BYTES, LARGE_ROWS, off_loop, read_off_loop
from modeltoll.gateway.core.tolls import TollContent, admission_toll, answer_toll
from modeltoll.gateway.core.unmeasured import Unmeasured, reason_of, stripped_if_possible
from modeltoll.records import Account, Answer, Caller, Work
from modeltoll.settlement_records import Adjustment, Admission

if TYPE_CHECKING:
    from modeltoll.evidence_records import Verdict
    from modeltoll.gateway.core.early_measurement import EarlyLeaks
    from modeltoll.gateway.core.settlement import DeferredReceipts
    from modeltoll.gateway.protocols.protocol import ParsedRequest
    from modeltoll.gateway.upstream.upstream import Upstream
    from modeltoll.ledger.ledger import Ledger
    from modeltoll.pricing.tariff import Tariff
    from modeltoll.settlement_records import Receipt
    from modeltoll.toll_records import Toll

__all__ = ["Gate"]

_NOT_UNDERSTOOD = (400, 404, 422)  # statuses for members that a server does not know
_WORKED = (499, 504)  # statuses of a model server that has begun to work: its client hung up, or it was too slow
_NOTHING_RESERVED = Admission(admitted=True)


class Gate:
    """The gate of one model."""

    def __init__(
        self,
        config: GateConfig,
        upstream: Upstream,
        ledger: Ledger,
        runtime: GateRuntime,
        deferred: DeferredReceipts | None = None,
    ) -> None:
        """``deferred``: receipts that came while the ledger did not answer, of all gates of this ledger."""
        self.config = config
        self._upstream = upstream
        self._ledger = ledger
        self._runtime = runtime
        self._quotas = DailyQuotas(ledger, runtime.clock)
        self._settlement = Settlement(
            ledger,
            runtime,
            config.credit,
            config.selector.most_seconds,
            without_ledger=config.without_ledger,
            deferred=deferred,
        )
        model = config.served_model
        self.refused_answers = RefusedAnswers(model.protocol, config.refusals, runtime.clock)
        early = (*model.measures, *model.clean_measures) if config.mode == SHADOW else model.measures
        self._early_measurement = EarlyMeasurement(early)
        self._steps = LedgerSteps(ledger, config)
        self._unmeasured = Unmeasured(self._model, config.mode, ledger, runtime.clock)

    @property
    def _model(self) -> str:
        return self.config.served_model.service.model

    async def handle(self, request: GateRequest) -> GateResult:
        """Take one request through the gate.

        In shadow mode a request or an answer that cannot be measured goes through as it came.

        Raises:
            RequestError, AnswerError, UpstreamError (UpstreamRefused with the server's own status), LedgerError,
                AllowanceSpent, TokenRefused: nothing of the answer may be released.
        """
        tariff = self.config.current_tariff
        try:
            parsed = await self._read(request)
        except Exception as error:
            if request.must_be_read:
                raise
            return await self._pass_unread(request, tariff, self._unmeasured.reason(error))
        if parsed.altered and self.config.mode == SHADOW:
            return await self._pass_unread(request, tariff, reason_of(RequestError(parsed.altered)))
        rows = len(parsed.fingerprints)
        await self._steps.with_quota(self._quotas.check, request.caller, rows)
        admission = await self._admit(request, tariff, rows)
        if not admission.admitted:
            return await self._ask_for_admission(request, tariff, admission, rows)
        answer, early = await self._ask(request, parsed, admission)
        if reason := self._unmeasured.answered_otherwise(answer):
            return await self._unmeasured.result(request.caller, answer, rows, reason)
        return await self._price(request, tariff, parsed, (answer, early), admission)

    async def _read(self, request: GateRequest) -> ParsedRequest:
        if request.unread:
            raise RequestError(request.unread)
        read = self.config.served_model.read
        return await read_off_loop(len(request.body), read, request.body, request.content_type)

    async def _pass_unread(self, request: GateRequest, tariff: Tariff, reason: str) -> GateResult:
        """In shadow mode: the answer to a request that cannot be read, as it comes."""
        await self._admit(request, tariff, 0)
        answer = await self._ask_upstream(request, None)
        return await self._unmeasured.result(request.caller, answer, 0, request.unread or reason)

    async def settle(self, caller: Caller, receipts: Sequence[bytes]) -> None:
        """Count receipts that come without a request, of any model.

        Raises:
            LedgerError: the ledger does not answer; the caller returns the receipts later.
        """
        await self._settlement.count(caller, receipts)

    async def settle_redeemed(self, caller: Caller, receipt: Receipt) -> None:
        """Count the receipt of a token that was redeemed, of any model.

        Raises:
            LedgerError: the ledger does not answer, and answers are not released without it.
        """
        await self._settlement.count_or_defer(caller, (receipt,))

    async def _admit(self, request: GateRequest, tariff: Tariff, rows: int) -> Admission:
        """Reserve the request before the upstream is asked; in shadow mode, and for exempt callers, count receipts alone."""
        if request.caller.exempt or self.config.mode == SHADOW:
            payments = () if request.payment is None else (request.payment,)
            await self._settlement.count_or_defer(request.caller, (*request.receipts, *payments))
            return _NOTHING_RESERVED
        return await self._settlement.admit(request.caller, rows, tariff, request.receipts, request.payment)

    async def _ask_for_admission(
        self, request: GateRequest, tariff: Tariff, admission: Admission, rows: int
    ) -> GateResult:
        """A toll for the admission of the request."""
        payment = self._settlement.payment(admission, rows, tariff.unit_seconds)
        work = Work(payment.prepaid + payment.new_account, rows, payment.prepaid, payment.new_account)
        toll = await self._admission_toll(request, work, payment)
        return GateResult(work, ADMISSION, answer=None, toll=toll)

    async def _admission_toll(self, request: GateRequest, work: Work, payment: Receipt) -> Toll:
        selector = self.config.selector
        return await off_loop(True, admission_toll, self._runtime, selector, request, self._model, work, payment)

    async def _ask(
        self, request: GateRequest, parsed: ParsedRequest, admission: Admission
    ) -> tuple[Answer, EarlyLeaks]:
        """Ask the upstream, and measure meanwhile. Gives the reservation back where the model did not work for it.

        It has worked where the caller hangs up, where it is or says that it is too slow, where it says that the caller hung
        up, and where its answer cannot be measured.
        """
        try:
            return await self._early_measurement.measure_during(self._ask_upstream(request, parsed.forward), parsed)
        except (UpstreamTimeout, CallerGone):
            raise
        except Exception as error:
            if isinstance(error, UpstreamRefused) and error.status in _WORKED:
                raise
            await self._settlement.give_back(request.caller, admission)
            raise

    async def _price(
        self,
        request: GateRequest,
        tariff: Tariff,
        parsed: ParsedRequest,
        answered: tuple[Answer, EarlyLeaks],
        admission: Admission,
    ) -> GateResult:
        """Measure, charge, price and bill an answer, and make its toll."""
        answer, early = answered
        large = len(parsed.fingerprints) > LARGE_ROWS or len(request.body) + len(answer.body) > LARGE_BYTES
        try:
            measured = await off_loop(large, self._measure, tariff, parsed, answer, early)
        except Exception as error:  # noqa: BLE001  raised again in enforce mode
            reason = self._unmeasured.reason(error)
            answer = await off_loop(large, stripped_if_possible, parsed, answer)
            return await self._unmeasured.result(request.caller, answer, len(parsed.fingerprints), reason)
        if parsed.strip is not None:
            answer = await off_loop(large, parsed.strip, answer)
        account, in_ledger = await self._charge(request, parsed, measured)
        account = replace(account, settled_rows=admission.settled_rows)
        verdict = tariff.verdict(account, self._ledger.logged_as(request.caller))
        work = await self._work(tariff, measured, account, verdict)
        self._monitor(parsed, measured, account, verdict)
        if not request.whole_price:
            in_ledger = await self._spend_quota(request.caller, work) and in_ledger
        toll, mode, adjustment = await self._toll(request, tariff, parsed, answer, (work, admission, in_ledger))
        if request.whole_price and toll is None:  # else the request comes again
            in_ledger = await self._spend_quota(request.caller, work) and in_ledger
        work = with_new_account(work, request.payment)
        entry = measured.log_entry(self._model, work, mode, self._runtime.clock(), clean=self.config.mode == SHADOW)
        in_ledger = in_ledger and await self._steps.bill(request.caller, entry, adjustment, verdict.updates)
        return GateResult(
            work, mode, answer=None if toll else answer, toll=toll, in_ledger=in_ledger, headers=answer.headers
        )

    async def _spend_quota(self, caller: Caller, work: Work) -> bool:
        asked = work.seconds if self._mode_without_toll(caller, work) is None else 0.0
        return await self._steps.with_quota(self._quotas.spend, caller, work.rows, asked)

    async def _toll(
        self,
        request: GateRequest,
        tariff: Tariff,
        parsed: ParsedRequest,
        answer: Answer,
        priced_work: tuple[Work, Admission, bool],
    ) -> tuple[Toll | None, str, Adjustment | None]:
        """The toll of an answer, None where none is due; the mode; and what changes in the caller's standing.

        ``priced_work``: the work, what is reserved, and whether the ledger answers.
        """
        (work, admission, in_ledger), caller = priced_work, request.caller
        mode = self._mode_without_toll(caller, work)
        if mode in (EXEMPT, SHADOW):
            return None, mode, None
        rows = work.rows - (request.payment.rows if request.payment else 0)  # those are settled already
        priced = self._settlement.price(caller, admission, work.seconds, rows, tariff.unit_seconds)
        priced = priced if in_ledger else priced.unbilled()
        if priced.receipt is None:
            return None, mode or PREPAID, priced.adjustment
        asked = replace(work, seconds=priced.asked)
        if request.whole_price:
            payment = self._settlement.whole_price(priced, admission, in_ledger=in_ledger)
            toll = await self._admission_toll(request, asked, payment)
            return toll, toll.mode, priced.adjustment
        content = TollContent(
            answer,
            priced.receipt,
            self._settlement.seal(caller, priced.receipt),
            parsed.answer_bound,
            dither(self._ledger.derived_key("padding"), parsed.fingerprints),
            self._runtime.max_answer,
        )
        toll = await answer_toll(self._runtime, self.config.selector, request, content, asked)
        return toll, toll.mode, priced.adjustment

    async def _ask_upstream(self, request: GateRequest, forward: bytes | None) -> Answer:
        """The server's answer to ``forward``, else to the request itself; raises as ``RefusedAnswers.check``."""
        path, content_type, head = request.path, request.content_type, request.head
        answer = await self._upstream.predict(path, forward or request.body, content_type, head)
        if forward is not None and answer.status in _NOT_UNDERSTOOD and self.config.mode == SHADOW:
            # The request alone, without what the measures would have read.
            answer = await self._upstream.predict(path, request.body, content_type, head)
        if self._unmeasured.answered_otherwise(answer):
            return answer
        return self.refused_answers.check(answer, path)

    def _measure(self, tariff: Tariff, parsed: ParsedRequest, answer: Answer, early: EarlyLeaks) -> MeasuredAnswer:
        model = self.config.served_model
        evidence = model.evidence(parsed, answer)
        leaks = model.leaks_of(evidence, early)
        measured = MeasuredAnswer(evidence, early, leaks, tariff.assess(leaks, self._runtime.generator))
        return measured.with_clean(model) if self.config.mode == SHADOW else measured

    async def _charge(
        self, request: GateRequest, parsed: ParsedRequest, measured: MeasuredAnswer
    ) -> tuple[Account, bool]:
        """Charge the caller's account. Returns the account, and False where the ledger does not answer."""
        read = (request.path, request.head.query, request.head.read_headers)
        fingerprints = keyed(self._ledger.derived_key("fingerprints"), read, parsed.fingerprints)
        charge = measured.charge(self._model, self.config.tariff, fingerprints, self._runtime.clock())
        return await self._steps.charge(request.caller, charge)

    async def _work(self, tariff: Tariff, measured: MeasuredAnswer, account: Account, verdict: Verdict) -> Work:
        """The work. A suspected caller's rows are measured once more, by the measures that were fitted without kinds."""
        model = self.config.served_model
        if verdict.suspected and measured.clean is None and model.clean_measures:
            measured = await off_loop(True, measured.with_clean, model)
        return tariff.work(measured.assessment, account, verdict, measured.clean_values(model))

    def _monitor(self, parsed: ParsedRequest, measured: MeasuredAnswer, account: Account, verdict: Verdict) -> None:
        if self.config.drift_monitor is not None:
            self.config.drift_monitor.record(account.caller, parsed.fingerprints, measured.assessment)
        if self.config.suspect_monitor is not None:
            settled = account.rows if self.config.mode == SHADOW else account.settled_rows  # nothing is settled there
            self.config.suspect_monitor.record(account, verdict, settled)

    def _mode_without_toll(self, caller: Caller, work: Work) -> str | None:
        """The mode of an answer that goes out without a toll; None where a toll is due."""
        if caller.exempt:
            return EXEMPT
        if self.config.mode == SHADOW:
            return SHADOW
        return None if work.seconds > 0 else FREE
