"""The steps of a gate from an answer to its toll: leaks, assessment, charge, verdict, work, toll, bill."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from modeltoll.gateway.core.fingerprints import keyed
from modeltoll.gateway.core.measured_answer import MeasuredAnswer
from modeltoll.gateway.core.padding import answer_bound, dither
from modeltoll.gateway.core.request import EXEMPT, FREE, PREPAID, SHADOW, GateResult
from modeltoll.gateway.core.settlement import with_new_account
from modeltoll.gateway.core.tolls import TollContent, admission_toll, answer_toll
from modeltoll.gateway.core.unmeasured import stripped_if_possible
from modeltoll.gateway.threads import LARGE_BYTES, LARGE_ROWS, off_loop
from modeltoll.record_init import quick_init

if TYPE_CHECKING:
    from modeltoll.evidence_records import Verdict
    from modeltoll.gateway.callers.quotas import DailyQuotas
    from modeltoll.gateway.core.early_measurement import EarlyLeaks
    from modeltoll.gateway.core.ledger_steps import LedgerSteps
    from modeltoll.gateway.core.request import GateConfig, GateRequest, GateRuntime
    from modeltoll.gateway.core.settlement import Settlement
    from modeltoll.gateway.core.unmeasured import Unmeasured
    from modeltoll.gateway.core.upstream_steps import Answered
    from modeltoll.gateway.protocols.protocol import ParsedRequest
    from modeltoll.pricing.tariff import Tariff
    from modeltoll.records import Account, Answer, Caller, Work
    from modeltoll.settlement_records import Adjustment, Admission, Receipt
    from modeltoll.toll_records import Toll

__all__ = ["PriceSteps"]


@quick_init
@dataclass(frozen=True, slots=True)
class _PaddedAnswer:
    """An answer as it is released, with its ``answer_bound`` and its ``dither``."""

    answer: Answer
    bound: int | None
    dither: float


@quick_init
@dataclass(frozen=True, slots=True)
class _OwedWork:
    """The work of an answer.

    ``unit_seconds``: of the tariff that priced it. ``admission``: what is reserved for it. ``in_ledger``: whether the ledger
    has answered so far.
    """

    work: Work
    unit_seconds: float
    admission: Admission
    in_ledger: bool


class PriceSteps:
    """Prices the answers of one model."""

    def __init__(
        self,
        runtime: GateRuntime,
        steps: LedgerSteps,
        settlement: Settlement,
        quotas: DailyQuotas,
        unmeasured: Unmeasured,
    ) -> None:
        self._ledger = steps.ledger
        self._runtime = runtime
        self._steps = steps
        self._settlement = settlement
        self._quotas = quotas
        self._unmeasured = unmeasured

    @property
    def _config(self) -> GateConfig:
        return self._steps.config

    @property
    def _model(self) -> str:
        return self._config.served_model.service.model

    async def price(
        self,
        request: GateRequest,
        tariff: Tariff,
        parsed: ParsedRequest,
        answered: tuple[Answered, EarlyLeaks],
        admission: Admission,
    ) -> GateResult:
        """Measure, charge, price and bill an answer, and make its toll.

        Raises:
            AnswerError, RequestError: it cannot be measured. In shadow mode it goes out all the same.
        """
        released, size = answered[0].released, len(request.body) + len(answered[0].measured.body)
        large = len(parsed.fingerprints) > LARGE_ROWS or size > LARGE_BYTES
        try:
            measured = await off_loop(large, self._measure, tariff, parsed, answered)
        except Exception as error:  # noqa: BLE001  raised again in enforce mode
            rows = len(parsed.fingerprints)
            await self._settlement.give_back_excess(request.caller, admission, rows, tariff.unit_seconds)
            reason = self._unmeasured.reason(error)
            answer = await off_loop(large, stripped_if_possible, parsed, answered[0].measured)
            return await self._unmeasured.result(request.caller, released or answer, len(parsed.fingerprints), reason)
        answer = released or answered[0].measured
        if released is None and parsed.strip is not None:
            answer = await off_loop(large, parsed.strip, answer)
        account, in_ledger = await self._charge(request, parsed, measured)
        account = account.with_settled_rows(admission.settled_rows)
        verdict = tariff.verdict(account, self._ledger.logged_as(request.caller))
        work = await self._work(tariff, measured, account, verdict)
        self._monitor(parsed, measured, account, verdict)
        if not request.whole_price:
            in_ledger = await self._spend_quota(request.caller, work) and in_ledger
        offset = self._dither(parsed)
        padded = _PaddedAnswer(answer, answer_bound(parsed, measured.evidence, offset), offset)
        owed = _OwedWork(work, tariff.unit_seconds, admission, in_ledger)
        toll, mode, adjustment = await self._toll(request, padded, owed)
        if request.whole_price and toll is None:  # else the request comes again
            in_ledger = await self._spend_quota(request.caller, work) and in_ledger
        work = with_new_account(work, request.payment)
        entry = measured.log_entry(self._model, work, mode, self._runtime.clock(), clean=self._config.mode == SHADOW)
        in_ledger = in_ledger and await self._steps.bill(request.caller, entry, adjustment, verdict.updates)
        return GateResult(
            work, mode, answer=None if toll else answer, toll=toll, in_ledger=in_ledger, headers=answer.headers
        )

    async def _spend_quota(self, caller: Caller, work: Work) -> bool:
        asked = work.seconds if self._mode_without_toll(caller, work) is None else 0.0
        return await self._steps.with_quota(self._quotas.spend, caller, work.rows, asked)

    async def _toll(
        self, request: GateRequest, padded: _PaddedAnswer, owed: _OwedWork
    ) -> tuple[Toll | None, str, Adjustment | None]:
        """The toll of an answer, None where none is due; the mode; and what changes in the caller's standing."""
        caller, work = request.caller, owed.work
        mode = self._mode_without_toll(caller, work)
        if mode in (EXEMPT, SHADOW):
            return None, mode, None
        rows = work.rows - (request.payment.rows if request.payment else 0)  # those are settled already
        priced = self._settlement.price(caller, owed.admission, work.seconds, rows, owed.unit_seconds)
        priced = priced if owed.in_ledger else priced.unbilled()
        if priced.receipt is None:
            return None, mode or PREPAID, priced.adjustment
        asked = work if priced.asked == work.seconds else replace(work, seconds=priced.asked)
        if request.whole_price:
            payment = self._settlement.whole_price(priced, owed.admission, in_ledger=owed.in_ledger)
            toll = await self.admission_toll(request, asked, payment)
            return toll, toll.mode, priced.adjustment
        encrypted = self._settlement.encrypt(caller, priced.receipt)
        content = TollContent(
            padded.answer, priced.receipt, encrypted, padded.bound, padded.dither, self._runtime.max_answer
        )
        toll = await answer_toll(self._runtime, self._config.selector, request, content, asked)
        return toll, toll.mode, priced.adjustment

    async def admission_toll(self, request: GateRequest, work: Work, payment: Receipt) -> Toll:
        """A toll for the admission of a request; ``payment``: what it counts for."""
        selector = self._config.selector
        return await admission_toll(self._runtime, selector, request, self._model, work, payment)

    async def with_least_toll(self, request: GateRequest, result: GateResult) -> GateResult:
        """A result without a toll, with its answer in a toll of the least work, whose receipt counts for nothing."""
        assert result.answer is not None  # a result without a toll has an answer
        receipt = self._settlement.nothing_owed()
        encrypted = self._settlement.encrypt(request.caller, receipt)
        content = TollContent(result.answer, receipt, encrypted, None, 0.0, self._runtime.max_answer)
        least = replace(result.work, seconds=0.0)
        toll = await answer_toll(self._runtime, self._config.selector, request, content, least)
        return replace(result, answer=None, toll=toll)

    def _dither(self, parsed: ParsedRequest) -> float:
        return dither(self._ledger.derived_key("padding"), parsed.fingerprints)

    def _measure(self, tariff: Tariff, parsed: ParsedRequest, answered: tuple[Answered, EarlyLeaks]) -> MeasuredAnswer:
        model, (answer, early) = self._config.served_model, answered
        if answer.fault is not None:
            raise answer.fault
        evidence = model.evidence(parsed, answer.measured)
        leaks = model.leaks_of(evidence, early)
        measured = MeasuredAnswer(evidence, early, leaks, tariff.assess(leaks, self._runtime.generator))
        return measured.with_clean(model) if self._config.mode == SHADOW else measured

    async def _charge(
        self, request: GateRequest, parsed: ParsedRequest, measured: MeasuredAnswer
    ) -> tuple[Account, bool]:
        """Charge the caller's account. Returns the account, and False where the ledger does not answer."""
        read = (request.path, request.head.query, request.head.read_headers)
        fingerprints = keyed(self._ledger.derived_key("fingerprints"), read, parsed.fingerprints)
        charge = measured.charge(self._model, self._config.tariff, fingerprints, self._runtime.clock())
        return await self._steps.charge(request.caller, charge)

    async def _work(self, tariff: Tariff, measured: MeasuredAnswer, account: Account, verdict: Verdict) -> Work:
        """The work. A suspected caller's rows are measured once more, by the measures that were fitted without kinds."""
        model = self._config.served_model
        if verdict.suspected and measured.clean is None and model.clean_measures:
            measured = await off_loop(True, measured.with_clean, model)
        return tariff.work(measured.assessment, account, verdict, measured.clean_values(model))

    def _monitor(self, parsed: ParsedRequest, measured: MeasuredAnswer, account: Account, verdict: Verdict) -> None:
        if self._config.drift_monitor is not None:
            self._config.drift_monitor.record(account.caller, parsed.fingerprints, measured.assessment)
        if self._config.suspect_monitor is not None:
            # In shadow mode nothing is settled.
            settled = account.rows if self._config.mode == SHADOW else account.settled_rows
            self._config.suspect_monitor.record(account, verdict, settled)

    def _mode_without_toll(self, caller: Caller, work: Work) -> str | None:
        """The mode of an answer that goes out without a toll; None where a toll is due."""
        if caller.exempt:
            return EXEMPT
        if self._config.mode == SHADOW:
            return SHADOW
        return None if work.seconds > 0 else FREE
