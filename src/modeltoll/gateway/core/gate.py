"""The gate: takes one request through all its steps, without HTTP.

The steps are: parse, upstream, evidence, leaks, assessment, charge, work, toll. Each step's result is the next one's
argument; nothing calls back.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ParamSpec

from modeltoll.errors import AnswerError, LedgerError, RequestError
from modeltoll.gateway.callers.quotas import DailyQuotas
from modeltoll.gateway.core.early_measurement import EarlyMeasurement
from modeltoll.gateway.core.request import (
    ADMISSION,
    EXEMPT,
    FREE,
    SHADOW,
    GateConfig,
    GateRequest,
    GateResult,
    GateRuntime,
)
from modeltoll.gateway.core.threads import LARGE_BYTES, LARGE_ROWS, off_loop, read_off_loop
from modeltoll.gateway.core.tolls import admission_toll, answer_toll
from modeltoll.records import Account, Answer, Caller, Charge, Leaks, LogEntry, Work

if TYPE_CHECKING:
    from modeltoll.gateway.core.early_measurement import EarlyLeaks
    from modeltoll.gateway.protocols.protocol import ParsedRequest
    from modeltoll.gateway.upstream.upstream import Upstream
    from modeltoll.ledger.ledger import Ledger
    from modeltoll.pricing.tariff import Tariff
    from modeltoll.records import Assessment

__all__ = ["Gate"]

P = ParamSpec("P")


@dataclass(frozen=True, slots=True, eq=False)
class _Measured:
    """What one answer leaks, and how the tariff assesses it."""

    leaks: Leaks
    assessment: Assessment


class Gate:
    """The gate of one model."""

    def __init__(self, config: GateConfig, upstream: Upstream, ledger: Ledger, runtime: GateRuntime) -> None:
        self.config = config
        self._upstream = upstream
        self._ledger = ledger
        self._runtime = runtime
        self._quotas = DailyQuotas(ledger, runtime.clock)
        self._early_measurement = EarlyMeasurement(config.served_model.measures)

    async def handle(self, request: GateRequest) -> GateResult:
        """Take one request through the gate.

        Raises:
            RequestError, AnswerError, UpstreamError, LedgerError, AllowanceSpent, TokenRefused: nothing of the answer may
                be released.
        """
        model, tariff = self.config.served_model, self.config.current_tariff
        parsed = await read_off_loop(
            len(request.body), model.protocol.read, request.body, model.service, request.content_type
        )
        await self._with_quota(self._quotas.check, request.caller, len(parsed.fingerprints))
        if (admission := self._admission_work(request, len(parsed.fingerprints))) is not None:
            ticket_toll = await off_loop(
                True, admission_toll, self._runtime, self.config.selector, request, model.service.model, admission
            )
            return GateResult(admission, ADMISSION, answer=None, toll=ticket_toll)
        answer, early = await self._early_measurement.measure_during(self._ask_upstream(request, parsed), parsed)
        large = len(parsed.fingerprints) > LARGE_ROWS or len(request.body) + len(answer.body) > LARGE_BYTES
        measured = await off_loop(large, self._measure, tariff, parsed, answer, early)
        if parsed.strip is not None:
            answer = await off_loop(large, parsed.strip, answer)
        account, in_ledger = await self._charge(request.caller, parsed, measured)
        work = tariff.work(measured.assessment, account)
        if not in_ledger:  # without the ledger no caller is new or suspected: the rows' own price is charged
            work = replace(work, seconds=work.rows_seconds, new_account_seconds=0.0)
        if self.config.drift_monitor is not None:
            self.config.drift_monitor.record(request.caller, parsed.fingerprints, measured.assessment, work)
        mode = self._mode_without_toll(request.caller, work)
        asked = work.seconds if mode is None else 0.0
        in_ledger = await self._with_quota(self._quotas.spend, request.caller, work.rows, asked) and in_ledger
        toll = await answer_toll(self._runtime, self.config.selector, request, answer, work) if mode is None else None
        mode = toll.mode if toll else mode or FREE
        if self.config.admission is not None:
            self.config.admission.record(request.caller, asked)
        in_ledger = in_ledger and await self._log(request.caller, measured, work, mode)
        return GateResult(work, mode, answer=None if toll else answer, toll=toll, in_ledger=in_ledger)

    def _admission_work(self, request: GateRequest, rows: int) -> Work | None:
        """The work of the admission puzzle for this request; None where none is asked."""
        admission = self.config.admission
        if admission is None or request.caller.exempt or self.config.mode == SHADOW:
            return None
        if request.ticket is not None:
            admission.use_ticket(request.ticket)
            return None
        return admission.required_work(request.caller, rows)

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

    async def _charge(self, caller: Caller, parsed: ParsedRequest, measured: _Measured) -> tuple[Account, bool]:
        """Charge the caller's account. Returns the account, and False where the ledger does not answer."""
        tariff = self.config.tariff
        charge = Charge(
            model=self.config.served_model.service.model,
            rows=len(parsed.fingerprints),
            leaks=tuple(measured.leaks.values.sum(axis=0).tolist()),
            bins=tuple(map(tuple, measured.assessment.bins.tolist())),
            fingerprints=parsed.fingerprints,
            shape=tariff.shape,
            tariff=tariff.identity,
            at=self._runtime.clock(),
        )
        try:
            return await self._ledger.charge(caller, charge), True
        except LedgerError:
            if not self.config.without_ledger:
                raise
            return _unknown_account(caller, charge), False

    def _mode_without_toll(self, caller: Caller, work: Work) -> str | None:
        """The mode of an answer that goes out without a toll; None where a toll is due."""
        if caller.exempt:
            return EXEMPT
        if self.config.mode == SHADOW:
            return SHADOW
        return None if work.seconds > 0 else FREE

    async def _log(self, caller: Caller, measured: _Measured, work: Work, mode: str) -> bool:
        """Write the ledger's log entry; False where the ledger does not answer and ``without_ledger`` allows that."""
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
            await self._ledger.bill(caller, entry)
        except LedgerError:
            if not self.config.without_ledger:
                raise
            return False
        return True


def _unknown_account(caller: Caller, charge: Charge) -> Account:
    """The account of a caller of whom only this charge is known."""
    measures, bins = charge.shape
    counts = ((0.0,) * bins,) * measures
    return Account(caller, charge.model, charge.rows, 1, charge.leaks, counts, 0.0, charge.tariff, charge.at, charge.at)
