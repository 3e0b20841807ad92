"""The gate: takes one request through all its steps, without HTTP.

The steps are: parse, admission, upstream, evidence, leaks, assessment, charge, work, toll, bill. Each step's result is the
next one's argument; nothing calls back.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ParamSpec

from modeltoll.errors import AnswerError, CallerGone, LedgerError, RequestError, UpstreamTimeout
from modeltoll.gateway.callers.quotas import DailyQuotas
from modeltoll.gateway.core.early_measurement import EarlyMeasurement
from modeltoll.gateway.core.fingerprints import keyed
from modeltoll.gateway.core.padding import dither
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
    unknown_account,
)
from modeltoll.gateway.core.settlement import Settlement, with_new_account
from modeltoll.gateway.core.threads import LARGE_BYTES, LARGE_ROWS, off_loop, read_off_loop
from modeltoll.gateway.core.tolls import TollContent, admission_toll, answer_toll
from modeltoll.records import Account, Answer, Caller, Charge, Leaks, LogEntry, Work
from modeltoll.settlement_records import Adjustment, Admission

if TYPE_CHECKING:
    from modeltoll.gateway.core.early_measurement import EarlyLeaks
    from modeltoll.gateway.core.settlement import DeferredReceipts
    from modeltoll.gateway.protocols.protocol import ParsedRequest
    from modeltoll.gateway.upstream.upstream import Upstream
    from modeltoll.ledger.ledger import Ledger
    from modeltoll.pricing.tariff import Tariff
    from modeltoll.records import Assessment, Toll
    from modeltoll.settlement_records import Receipt

__all__ = ["Gate"]

P = ParamSpec("P")
_NOTHING_RESERVED = Admission(admitted=True)


@dataclass(frozen=True, slots=True, eq=False)
class _Measured:
    """What one answer leaks, and how the tariff assesses it."""

    leaks: Leaks
    assessment: Assessment


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
        self._early_measurement = EarlyMeasurement(config.served_model.measures)

    async def handle(self, request: GateRequest) -> GateResult:
        """Take one request through the gate.

        Raises:
            RequestError, AnswerError, UpstreamError, LedgerError, AllowanceSpent, TokenRefused: nothing of the answer may
                be released.
        """
        model, tariff = self.config.served_model, self.config.current_tariff
        parsed = await read_off_loop(len(request.body), model.read, request.body, request.content_type)
        rows = len(parsed.fingerprints)
        await self._with_quota(self._quotas.check, request.caller, rows)
        admission = await self._admit(request, tariff, rows)
        if not admission.admitted:
            return await self._ask_for_admission(request, tariff, admission, rows)
        answer, early = await self._ask(request, parsed, admission)
        return await self._price(request, tariff, parsed, (answer, early), admission)

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
        model, selector = self.config.served_model.service.model, self.config.selector
        toll = await off_loop(True, admission_toll, self._runtime, selector, request, model, work, payment)
        return GateResult(work, ADMISSION, answer=None, toll=toll)

    async def _ask(
        self, request: GateRequest, parsed: ParsedRequest, admission: Admission
    ) -> tuple[Answer, EarlyLeaks]:
        """Ask the upstream, and measure meanwhile. Gives the reservation back where the model did not work for it.

        It has worked where the caller hangs up, where it is too slow, and where its answer cannot be measured.
        """
        try:
            return await self._early_measurement.measure_during(self._ask_upstream(request, parsed), parsed)
        except (UpstreamTimeout, CallerGone):
            raise
        except Exception:
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
        measured = await off_loop(large, self._measure, tariff, parsed, answer, early)
        if parsed.strip is not None:
            answer = await off_loop(large, parsed.strip, answer)
        account, in_ledger = await self._charge(request, parsed, measured)
        work = tariff.work(measured.assessment, replace(account, settled_rows=admission.settled_rows))
        if self.config.drift_monitor is not None:
            self.config.drift_monitor.record(request.caller, parsed.fingerprints, measured.assessment, work)
        in_ledger = await self._spend_quota(request.caller, work) and in_ledger
        toll, mode, adjustment = await self._toll(request, tariff, parsed, answer, (work, admission, in_ledger))
        work = with_new_account(work, request.payment)
        in_ledger = in_ledger and await self._bill(request.caller, measured, work, (mode, adjustment))
        return GateResult(work, mode, answer=None if toll else answer, toll=toll, in_ledger=in_ledger)

    async def _spend_quota(self, caller: Caller, work: Work) -> bool:
        asked = work.seconds if self._mode_without_toll(caller, work) is None else 0.0
        return await self._with_quota(self._quotas.spend, caller, work.rows, asked)

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
        content = TollContent(
            answer,
            priced.receipt,
            self._settlement.seal(caller, priced.receipt),
            parsed.answer_bound,
            dither(self._ledger.derived_key("padding"), parsed.fingerprints),
            self._runtime.max_answer,
        )
        asked = replace(work, seconds=priced.asked)
        toll = await answer_toll(self._runtime, self.config.selector, request, content, asked)
        return toll, toll.mode, priced.adjustment

    async def _with_quota(self, ask: Callable[P, Awaitable[None]], *args: P.args, **kwargs: P.kwargs) -> bool:
        """Call a method of the quotas, except in shadow mode; False where the ledger does not answer."""
        if self.config.mode == SHADOW:
            return True
        try:
            await ask(*args, **kwargs)
        except LedgerError:
            if not self.config.without_ledger:
                raise
            return False
        return True

    async def _ask_upstream(self, request: GateRequest, parsed: ParsedRequest) -> Answer:
        body = request.body if parsed.forward is None else parsed.forward
        answer = await self._upstream.predict(request.path, body, request.content_type)
        if answer.status == 200:
            return answer
        if 400 <= answer.status < 500:
            message = self.config.served_model.protocol.error_text(answer)
            raise RequestError(f"the model server refused the request: {message or answer.status}")
        raise AnswerError("the model server failed", private=f"status {answer.status} from {request.path}")

    def _measure(self, tariff: Tariff, parsed: ParsedRequest, answer: Answer, early: EarlyLeaks) -> _Measured:
        leaks = self.config.served_model.leaks(parsed, answer, early)
        return _Measured(leaks, tariff.assess(leaks, self._runtime.generator))

    async def _charge(self, request: GateRequest, parsed: ParsedRequest, measured: _Measured) -> tuple[Account, bool]:
        """Charge the caller's account. Returns the account, and False where the ledger does not answer."""
        tariff = self.config.tariff
        charge = Charge(
            model=self.config.served_model.service.model,
            rows=len(parsed.fingerprints),
            leaks=tuple(measured.leaks.values.sum(axis=0).tolist()),
            bins=tuple(map(tuple, measured.assessment.bins.tolist())),
            fingerprints=keyed(self._ledger.derived_key("fingerprints"), request.path, parsed.fingerprints),
            shape=tariff.shape,
            tariff=tariff.identity,
            at=self._runtime.clock(),
        )
        try:
            return await self._ledger.charge(request.caller, charge), True
        except LedgerError:
            if not self.config.without_ledger:
                raise
            return unknown_account(request.caller, charge), False

    def _mode_without_toll(self, caller: Caller, work: Work) -> str | None:
        """The mode of an answer that goes out without a toll; None where a toll is due."""
        if caller.exempt:
            return EXEMPT
        if self.config.mode == SHADOW:
            return SHADOW
        return None if work.seconds > 0 else FREE

    async def _bill(
        self, caller: Caller, measured: _Measured, work: Work, outcome: tuple[str, Adjustment | None]
    ) -> bool:
        """Bill the request; False where the ledger does not answer and ``without_ledger`` allows that.

        ``outcome``: the mode, and what changes in the caller's standing.
        """
        mode, adjustment = outcome
        entry = LogEntry(
            at=self._runtime.clock(),
            model=self.config.served_model.service.model,
            rows=work.rows,
            measures=measured.leaks.measures,
            leaks=tuple(map(tuple, measured.leaks.values.tolist())),
            rarest=tuple(measured.assessment.rarest.tolist()),
            work=work,
            mode=mode,
        )
        try:
            await self._ledger.bill(caller, entry, adjustment)
        except LedgerError:
            if not self.config.without_ledger:
                raise
            return False
        return True
