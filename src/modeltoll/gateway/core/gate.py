"""The whole business of one request, without HTTP.

A request walks through once: question, answer, evidence, leaks, assessment, charge, work, toll. Each step's result is
the next one's argument; nothing calls back.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ParamSpec

from modeltoll.errors import AnswerError, LedgerError, RequestError
from modeltoll.gateway.callers.quotas import DailyQuotas
from modeltoll.gateway.core.early_measurement import EarlyMeasurement
from modeltoll.gateway.core.request import ENTRY, EXEMPT, FREE, SHADOW, GateConfig, GateRequest, GateResult, GateRuntime
from modeltoll.gateway.core.threads import LARGE_BYTES, LARGE_ROWS, off_loop
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
class _Priced:
    leaks: Leaks
    assessment: Assessment


class Gate:
    """The toll house of one model."""

    def __init__(self, road: GateConfig, upstream: Upstream, ledger: Ledger, chance: GateRuntime) -> None:
        self.road = road
        self._upstream = upstream
        self._ledger = ledger
        self._chance = chance
        self._allowances = DailyQuotas(ledger, chance.clock)
        self._foresight = EarlyMeasurement(road.subject.measures)

    async def visit(self, visit: GateRequest) -> GateResult:
        """Let one request through.

        Raises:
            RequestError, AnswerError, UpstreamError, LedgerError, AllowanceSpent, TokenRefused: nothing of the answer may
                be shown.
        """
        subject, tariff = self.road.subject, self.road.tariff_in_force
        question = await off_loop(
            len(visit.body) > LARGE_BYTES, subject.protocol.read, visit.body, subject.service, visit.content_type
        )
        await self._within(self._allowances.check, visit.caller, len(question.fingerprints))
        if (entry := self._entry(visit, len(question.fingerprints))) is not None:
            ticket = await off_loop(
                True, admission_toll, self._chance, self.road.menu, visit, subject.service.model, entry
            )
            return GateResult(entry, ENTRY, answer=None, toll=ticket)
        answer, foreseen = await self._foresight.beside(self._predict(visit, question), question)
        large = len(question.fingerprints) > LARGE_ROWS or len(visit.body) + len(answer.body) > LARGE_BYTES
        priced = await off_loop(large, self._price, tariff, question, answer, foreseen)
        if question.strip is not None:
            answer = await off_loop(large, question.strip, answer)
        account, remembered = await self._charge(visit.caller, question, priced)
        work = tariff.work(priced.assessment, account)
        if not remembered:  # nobody is a newcomer, or known for anything, while nothing is remembered
            work = replace(work, seconds=work.rows_seconds, entry_seconds=0.0)
        if self.road.monitor is not None:
            self.road.monitor.saw(visit.caller, question.fingerprints, priced.assessment, work)
        mode = self._mode(visit.caller, work)
        asked = work.seconds if mode is None else 0.0
        remembered = await self._within(self._allowances.take, visit.caller, work.rows, asked) and remembered
        toll = await answer_toll(self._chance, self.road.menu, visit, answer, work) if mode is None else None
        settled = toll.mode if toll else mode or FREE
        if self.road.entrance is not None:
            self.road.entrance.let_in(visit.caller, asked)
        remembered = remembered and await self._bill(visit.caller, priced, work, settled)
        return GateResult(work, settled, answer=None if toll else answer, toll=toll, remembered=remembered)

    def _entry(self, visit: GateRequest, rows: int) -> Work | None:
        """The work of the puzzle that this caller solves before the model server is asked; None where he need not."""
        entrance = self.road.entrance
        if entrance is None or visit.caller.exempt or self.road.mode == SHADOW:
            return None
        if visit.ticket is not None:
            entrance.take(visit.ticket)
            return None
        return entrance.work(visit.caller, rows)

    async def _within(self, ask: Callable[P, Awaitable[None]], *args: P.args, **kwargs: P.kwargs) -> bool:
        """Ask for a caller's allowance, which shadow mode does not; False where the ledger does not answer."""
        if self.road.mode == SHADOW:
            return True
        try:
            await ask(*args, **kwargs)
        except LedgerError:
            if not self.road.without_ledger:
                raise
            return False
        return True

    async def _predict(self, visit: GateRequest, question: ParsedRequest) -> Answer:
        body = visit.body if question.forward is None else question.forward
        answer = await self._upstream.predict(visit.path, body, visit.content_type)
        if answer.status == 200:
            return answer
        if 400 <= answer.status < 500:
            said = self.road.subject.protocol.error_text(answer)
            raise RequestError(f"the model server refused the request: {said or answer.status}")
        raise AnswerError("the model server failed", private=f"status {answer.status} from {visit.path}")

    def _price(self, tariff: Tariff, question: ParsedRequest, answer: Answer, foreseen: EarlyLeaks) -> _Priced:
        leaks = self.road.subject.leaks(question, answer, foreseen)
        return _Priced(leaks, tariff.assess(leaks, self._chance.generator))

    async def _charge(self, caller: Caller, question: ParsedRequest, priced: _Priced) -> tuple[Account, bool]:
        tariff = self.road.tariff
        entry = Charge(
            model=self.road.subject.service.model,
            rows=len(question.fingerprints),
            leaks=tuple(priced.leaks.values.sum(axis=0).tolist()),
            bins=tuple(map(tuple, priced.assessment.bins.tolist())),
            fingerprints=question.fingerprints,
            shape=tariff.shape,
            tariff=tariff.identity,
            at=self._chance.clock(),
        )
        try:
            return await self._ledger.charge(caller, entry), True
        except LedgerError:
            if not self.road.without_ledger:
                raise
            return _unknown_account(caller, entry), False

    def _mode(self, caller: Caller, work: Work) -> str | None:
        """Why the answer goes out as it came, or None where it does not."""
        if caller.exempt:
            return EXEMPT
        if self.road.mode == SHADOW:
            return SHADOW
        return None if work.seconds > 0 else FREE

    async def _bill(self, caller: Caller, priced: _Priced, work: Work, mode: str) -> bool:
        """Write the log's line; False where the ledger does not answer and the road goes on without it."""
        bill = LogEntry(
            at=self._chance.clock(),
            model=self.road.subject.service.model,
            rows=work.rows,
            measures=priced.leaks.measures,
            leaks=tuple(map(tuple, priced.leaks.values.tolist())),
            rarest=tuple(priced.assessment.rarest.tolist()),
            work=work,
            mode=mode,
        )
        try:
            await self._ledger.bill(caller, bill)
        except LedgerError:
            if not self.road.without_ledger:
                raise
            return False
        return True


def _unknown_account(caller: Caller, entry: Charge) -> Account:
    """The account of a caller of whom nothing is remembered."""
    measures, bins = entry.shape
    counts = ((0.0,) * bins,) * measures
    return Account(caller, entry.model, entry.rows, 1, entry.leaks, counts, 0.0, entry.tariff, entry.at, entry.at)
