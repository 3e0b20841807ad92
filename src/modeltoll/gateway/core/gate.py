"""The gate: takes one request through all its steps, without HTTP.

The steps are: parse, admission, upstream, evidence, leaks, assessment, charge, verdict, work, toll, bill. Each step's result
is the next one's argument; nothing calls back.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

from modeltoll.errors import AnswerUnusable, CallerGone, RequestError, StreamBroken, UpstreamRefused, UpstreamTimeout
from modeltoll.gateway.callers.quotas import DailyQuotas
from modeltoll.gateway.core.early_measurement import EarlyMeasurement
from modeltoll.gateway.core.ledger_steps import LedgerSteps
from modeltoll.gateway.core.price_steps import PriceSteps
from modeltoll.gateway.core.refused_answers import RefusedAnswers
from modeltoll.gateway.core.request import ADMISSION, SHADOW, GateConfig, GateRequest, GateResult, GateRuntime
from modeltoll.gateway.core.settlement import Settlement
from modeltoll.gateway.core.unmeasured import Unmeasured, reason_of
from modeltoll.gateway.core.upstream_steps import NOTHING, Answered, LiveAnswer, UnreadStream, UpstreamSteps, is_live
from modeltoll.gateway.threads import off_loop_by_size
from modeltoll.records import Answer, Caller, Work
from modeltoll.settlement_records import Admission

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from modeltoll.gateway.core.early_measurement import EarlyLeaks
    from modeltoll.gateway.core.settlement import DeferredReceipts
    from modeltoll.gateway.protocols.protocol import ParsedRequest
    from modeltoll.gateway.upstream.upstream import Upstream
    from modeltoll.ledger.ledger import Ledger
    from modeltoll.pricing.tariff import Tariff
    from modeltoll.settlement_records import Receipt

__all__ = ["Gate"]

_WORKED = (499, 504)  # statuses of a model server that has begun to work: its client hung up, or it was too slow
_IN_VAIN = (UpstreamTimeout, CallerGone, StreamBroken, AnswerUnusable)  # the model has worked, and nothing is released
_JUDGED = (400, 404, 409, 413, 415, 422)  # statuses of a model server that has looked at the request and refuses it
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
        self._upstream_steps = UpstreamSteps(upstream, self._unmeasured, self.refused_answers, runtime.max_answer)
        self._price_steps = PriceSteps(runtime, self._steps, self._settlement, self._quotas, self._unmeasured)

    @property
    def config(self) -> GateConfig:
        """The configuration of all steps."""
        return self._steps.config

    @property
    def _model(self) -> str:
        return self.config.served_model.service.model

    async def handle(self, request: GateRequest) -> GateResult | LiveAnswer:
        """Take one request through the gate.

        In shadow mode a request or an answer that cannot be measured goes through as it came. A stream that is not priced,
        in shadow mode or for an exempt caller, goes out as it comes, and is measured when it has ended.

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
        if parsed.stream is not None and self._is_unpriced(request.caller):
            return await self._pass(request, tariff, parsed)
        answered, early = await self._ask(request, tariff, parsed, admission)
        return await self._priced_result(request, tariff, parsed, (answered, early), admission)

    async def _priced_result(
        self,
        request: GateRequest,
        tariff: Tariff,
        parsed: ParsedRequest,
        answered: tuple[Answered, EarlyLeaks],
        admission: Admission,
    ) -> GateResult:
        """The result of an answer; in shadow mode one of success that is no prediction is not measured."""
        measured = answered[0].measured
        if reason := self._unmeasured.answered_otherwise(measured):
            return await self._unmeasured.result(request.caller, measured, len(parsed.fingerprints), reason)
        return await self._price_steps.price(request, tariff, parsed, answered, admission)

    async def _read(self, request: GateRequest) -> ParsedRequest:
        if request.unread:
            raise RequestError(request.unread)
        read = self.config.served_model.read
        return await off_loop_by_size(len(request.body), read, request.body, request.content_type)

    async def _pass_unread(self, request: GateRequest, tariff: Tariff, reason: str) -> GateResult | LiveAnswer:
        """In shadow mode: the answer to a request that cannot be read, as it comes."""
        await self._admit(request, tariff, 0)
        reason = request.unread or reason
        async with self._upstream_steps.opened(request, None) as (stream, opened):
            if is_live(stream):
                conclude = partial(self._conclude_unread, request, reason)
                return LiveAnswer(stream, opened.pop_all(), UnreadStream(reason), conclude)
            answer = self._upstream_steps.checked(await stream.whole(), request.path)
        return await self._unmeasured.result(request.caller, answer, 0, reason)

    async def _conclude_unread(self, request: GateRequest, reason: str, _: object) -> GateResult:
        return await self._unmeasured.result(request.caller, NOTHING, 0, reason)

    async def _pass(self, request: GateRequest, tariff: Tariff, parsed: ParsedRequest) -> GateResult | LiveAnswer:
        """A stream that nobody pays for, as it comes; or the whole answer that the server gives in its place."""
        assert parsed.stream is not None  # the request is for a stream
        async with self._upstream_steps.opened(request, parsed.forward) as (stream, opened):
            if is_live(stream):
                conclude = partial(self._conclude, request, tariff, parsed)
                return LiveAnswer(stream, opened.pop_all(), parsed.stream(), conclude)
            answer = self._upstream_steps.checked(await stream.whole(), request.path)
        return await self._priced_result(request, tariff, parsed, (Answered(answer), {}), _NOTHING_RESERVED)

    async def _conclude(
        self, request: GateRequest, tariff: Tariff, parsed: ParsedRequest, whole: Callable[[], Awaitable[Answer]]
    ) -> GateResult:
        """Measure and bill a stream that has gone out."""
        try:
            answered = Answered(await whole(), NOTHING)
        except StreamBroken as error:
            raise self.refused_answers.of_stream(error) from None
        except Exception as error:  # noqa: BLE001  raised again in enforce mode
            reason = self._unmeasured.reason(error)
            return await self._unmeasured.result(request.caller, NOTHING, len(parsed.fingerprints), reason)
        return await self._price_steps.price(request, tariff, parsed, (answered, {}), _NOTHING_RESERVED)

    async def with_least_toll(self, request: GateRequest, result: GateResult) -> GateResult:
        """A result without a toll as one with a toll of the least work: the head of a toll went out before it."""
        return result if result.toll else await self._price_steps.with_least_toll(request, result)

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
        if self._is_unpriced(request.caller):
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
        toll = await self._price_steps.admission_toll(request, work, payment)
        return GateResult(work, ADMISSION, answer=None, toll=toll)

    async def _ask(
        self, request: GateRequest, tariff: Tariff, parsed: ParsedRequest, admission: Admission
    ) -> tuple[Answered, EarlyLeaks]:
        """Ask the upstream, and measure meanwhile. Gives the reservation back where the model did not work for it.

        Where it has worked in vain, what was prepaid for the answer itself is given back. It has worked where the caller
        hangs up, where it is or says that it is too slow, where it says that the caller hung up, and where its answer breaks
        off with an error or cannot be taken, written for the caller or measured. Where it has judged the request, as much as
        an average honest row costs is not given back: a refusal may tell of the model, and must not be had for nothing.
        """
        try:
            return await self._early_measurement.measure_during(self._upstream_steps.ask(request, parsed), parsed)
        except Exception as error:
            status = error.status if isinstance(error, UpstreamRefused) else 0
            if status in _WORKED or isinstance(error, _IN_VAIN):
                rows, unit = len(parsed.fingerprints), tariff.unit_seconds
                await self._settlement.give_back_excess(request.caller, admission, rows, unit)
            else:
                kept = tariff.unit_seconds if status in _JUDGED else 0.0
                await self._settlement.give_back(request.caller, admission, kept)
            raise

    def _is_unpriced(self, caller: Caller) -> bool:
        """Whether the caller's answers go out whatever they cost."""
        return caller.exempt or self.config.mode == SHADOW
