"""Fits a tariff to rows that are sent to the running model server, and measures the gateway's own time with it."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

from modeltoll import wire
from modeltoll.errors import CalibrationError, SettingsError
from modeltoll.gateway.assembly.build import (
    build_gate_config,
    build_ingress,
    build_runtime,
    build_upstream,
    single_model_components,
)
from modeltoll.gateway.assembly.components import build_profile, build_served_model
from modeltoll.gateway.assembly.puzzles import build_precomputed_pool, build_puzzle_selector
from modeltoll.gateway.callers.identify import CallerIdentifier, hash_key
from modeltoll.gateway.core.credit import Credit, CreditTerms
from modeltoll.gateway.public.app import application
from modeltoll.gateway.server.serve import temporary_server
from modeltoll.gateway.setup.honest_rows import CalibrationInputs
from modeltoll.gateway.setup.measured_rows import HonestSample, measure_rows, sample_rows
from modeltoll.gateway.setup.row_requests import Refusals
from modeltoll.gateway.setup.row_sender import RowSender
from modeltoll.gateway.upstream.http_upstream import HttpUpstream
from modeltoll.leak.registry import INPUTS, MEASURES
from modeltoll.ledger.from_url import ledger_from_url
from modeltoll.pricing.conformal_tariff import ConformalTariff
from modeltoll.pricing.fit import FitSamples, fit_with_rows_held_back
from modeltoll.pricing.kinds import DECLARED, KindSample, StrangerSample
from modeltoll.records import Caller, Leaks

if TYPE_CHECKING:
    from modeltoll.gateway.core.request import ServedModel
    from modeltoll.gateway.public.app import AppComponents
    from modeltoll.gateway.settings.gateway import Settings
    from modeltoll.gateway.setup.honest_rows import RowsToSend
    from modeltoll.gateway.setup.row_table import RowTable
    from modeltoll.gateway.upstream.upstream import Upstream
    from modeltoll.pricing.calibration import Calibration, CalibrationProvenance
    from modeltoll.pricing.fit import CalibrationTerms, Fit, HoldoutSplit, RowCosts
    from modeltoll.records import Answer, Floats, Progress

__all__ = [
    "CalibrationRequest",
    "HonestSample",
    "calibrate_model",
    "fit_model",
    "fit_tariff",
    "input_measures",
    "measure_rows",
    "sample_leaks",
]

_ANSWERED = 200  # in shadow mode, or where a row costs nothing
_KEY = "calibration"  # of the caller whose rows measure the gateway's own time
_CALLER = CallerIdentifier({hash_key(_KEY): Caller(f"key:{_KEY}")}, anonymous=False)
_CALLER_HEADERS = {"X-Api-Key": _KEY, wire.ACCEPT_HEADER: wire.format_accept(wire.Accept(receipts=True))}
_UNBOUNDED = Credit(1e9, 1.0)  # so that no row waits for admission, though no toll is paid


async def _own_seconds(requests: Sequence[tuple[str, bytes]], upstream: Upstream, components: AppComponents) -> float:
    """The seconds that a gateway adds to one row: the difference of the medians with it and without it.

    ``requests`` are paths and bodies.

    Both are measured in turns, over HTTP as callers use it, so that the model server works in between. A gateway that
    serves one request after another, with nothing else going on, is faster than it is in service.

    Raises:
        CalibrationError: the gateway did not answer a row, or asked for admission before it asked the model server.
    """
    without, within = [], []
    async with temporary_server(application(components)) as address:
        caller = HttpUpstream(address, headers=lambda: _CALLER_HEADERS)
        await caller.open()
        try:
            for path, body in requests:
                without.append(await _timed(upstream, path, body))
                within.append(await _timed(caller, path, body, _check_priced))
        finally:
            await caller.close()
    return max(0.0, statistics.median(within) - statistics.median(without))


async def _timed(upstream: Upstream, path: str, body: bytes, check: Callable[[Answer], None] = lambda _: None) -> float:
    """The seconds of one request, whose answer is checked after them."""
    begin = time.perf_counter()
    answer = await upstream.predict(path, body)
    seconds = time.perf_counter() - begin
    check(answer)
    return seconds


def _check_priced(answer: Answer) -> None:
    """Whether a gateway's answer is one that the model server was asked for: a refusal or an admission is faster."""
    if answer.status == wire.STATUS and not wire.decode_toll(answer.body).admission:
        return
    if answer.status != _ANSWERED:
        raise CalibrationError(f"the gateway's own time cannot be measured: it answered a row with {answer.status}")


@dataclass(frozen=True, slots=True)
class CalibrationRequest:
    """What a tariff is fitted for. The times in ``costs`` are replaced by measured ones."""

    terms: CalibrationTerms
    costs: RowCosts
    split: HoldoutSplit
    provenance: CalibrationProvenance


async def fit_tariff(
    samples: FitSamples,
    observation: HonestSample,
    request: CalibrationRequest,
    own_seconds: Callable[[ConformalTariff], Awaitable[float]],
) -> Fit:
    """A calibration whose unit leaves room for the gateway's own time, which is measured with that tariff in force.

    Raises:
        CalibrationError: the rows cannot carry a tariff.
    """

    def fitted(own: float) -> Fit:
        costs = replace(request.costs, undefended_seconds=observation.undefended_seconds, gate_seconds=own)
        return fit_with_rows_held_back(
            observation.model, samples, costs, request.terms, request.provenance, request.split
        )

    return fitted(await own_seconds(ConformalTariff(fitted(0.0).calibration)))


async def calibrate_model(
    settings: Settings,
    model: str,
    inputs: Floats | RowTable | CalibrationInputs,
    request: CalibrationRequest,
    progress: Progress | None = None,
) -> Calibration:
    """``fit_model`` without the rows held back."""
    return (await fit_model(settings, model, inputs, request, progress))[0].calibration


async def fit_model(
    settings: Settings,
    model: str,
    inputs: Floats | RowTable | CalibrationInputs,
    request: CalibrationRequest,
    progress: Progress | None = None,
    refusals: Refusals | None = None,
) -> tuple[Fit, tuple[str, ...] | None]:
    """Fit a tariff to rows that are sent to the running model server, which was not trained on them.

    ``inputs``: honest rows, alone or with those of kinds and strangers. ``refusals``: whether refused rows are left out,
    and which. Returns the fit, and the callers of the rows that were not refused.

    Raises:
        SettingsError: there is no such model, or its measures or files cannot be used.
        UpstreamError, AnswerError: the model server does not answer, or not as its settings declare.
        CalibrationError: the rows cannot carry a tariff.
    """
    sent = inputs if isinstance(inputs, CalibrationInputs) else CalibrationInputs(inputs)
    terms = replace(request.terms, input_measures=input_measures(settings, model))
    async with _opened(settings, model) as (served_model, upstream):
        timed = None if progress is None else (lambda done, _: progress(done, sent.rows))
        sender = RowSender(served_model, upstream, refusals or Refusals())
        observation = await measure_rows(sender, sent.honest, timed)
        callers = None if sent.callers is None else tuple(sent.callers[row] for row in observation.kept.tolist())
        others, after = (*sent.kinds, *sent.strangers), _after(progress, sent)
        sampled = await sample_rows(sender, others, after)
        kinds = [KindSample(rows.name, DECLARED, sampled[place]) for place, rows in enumerate(sent.kinds)]
        strangers = [
            StrangerSample(rows.name, sampled[place], rows.generic)
            for place, rows in enumerate(sent.strangers, start=len(kinds))
        ]
        samples = FitSamples(observation.leaks, kinds, strangers, callers, sent.known_honest)
        measure = partial(_gateway_seconds, settings, served_model, upstream, observation)
        return await fit_tariff(samples, observation, replace(request, terms=terms), measure), callers


def _after(progress: Progress | None, sent: CalibrationInputs) -> Progress | None:
    """The progress of the rows that are sent after the honest ones."""
    return None if progress is None else lambda done, _: progress(len(sent.honest) + done, sent.rows)


def input_measures(settings: Settings, model: str) -> tuple[str, ...]:
    """Those of a model's measures that read inputs alone."""
    measures = settings.models[model].measures if model in settings.models else ()
    return tuple(measure.name for measure in measures if MEASURES.find(measure.name).reads == INPUTS)


async def _gateway_seconds(
    settings: Settings,
    served_model: ServedModel,
    upstream: Upstream,
    observation: HonestSample,
    tariff: ConformalTariff,
) -> float:
    """The gateway's own seconds per row with this tariff in force. Raises as ``_own_seconds`` does."""
    profile, model = build_profile(settings), settings.models[observation.model]
    with tempfile.TemporaryDirectory() as folder:  # these requests must not enter the real ledger
        ledger = ledger_from_url(f"sqlite:///{folder}/calibration.db")
        await ledger.open()
        try:
            selector = build_puzzle_selector(model.puzzle, profile, build_precomputed_pool(settings))
            config = build_gate_config(settings, served_model, tariff, selector)
            config = replace(config, credit=CreditTerms(_UNBOUNDED, _UNBOUNDED))
            runtime, ingress = build_runtime(settings, profile), build_ingress(settings, _CALLER)
            components = single_model_components(config, upstream, ledger, runtime, ingress)
            read, path_of = served_model.read, served_model.path_of
            requests = [(path_of(read(body)), body) for body in observation.requests]
            return await _own_seconds(requests, upstream, components)
        finally:
            await ledger.close()


async def sample_leaks(
    settings: Settings,
    model: str,
    rows: Sequence[RowsToSend],
    progress: Progress | None = None,
    refusals: Refusals | None = None,
) -> tuple[Leaks, ...]:
    """The leaks of rows that are sent to the running model server, in order; raises as ``fit_model``."""
    async with _opened(settings, model) as (served_model, upstream):
        return await sample_rows(RowSender(served_model, upstream, refusals or Refusals()), rows, progress)


@asynccontextmanager
async def _opened(settings: Settings, model: str) -> AsyncIterator[tuple[ServedModel, Upstream]]:
    """A model of the settings, and the client of its server, open within the block."""
    if model not in settings.models:
        raise SettingsError([f"models: there is no {model!r}; there are: {', '.join(settings.models)}"])
    served_model, upstream = build_served_model(settings, model), build_upstream(settings)
    await upstream.open()
    try:
        yield served_model, upstream
    finally:
        await upstream.close()
