"""Measures the leaks and times of honest rows, by sending them to the running model server."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from modeltoll import wire
from modeltoll.errors import CalibrationError, SettingsError
from modeltoll.files import read_numbers
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
from modeltoll.gateway.setup.plugin_exceptions import plugin_exceptions
from modeltoll.gateway.upstream.http_upstream import HttpUpstream
from modeltoll.ledger.from_url import ledger_from_url
from modeltoll.pricing.calibration import Calibration
from modeltoll.pricing.conformal_tariff import ConformalTariff
from modeltoll.pricing.fit import RowCosts, fit_calibration
from modeltoll.records import Caller, Leaks

if TYPE_CHECKING:
    from modeltoll.gateway.core.request import ServedModel
    from modeltoll.gateway.public.app import AppComponents
    from modeltoll.gateway.settings.gateway import Settings
    from modeltoll.gateway.upstream.upstream import Upstream
    from modeltoll.pricing.calibration import CalibrationProvenance
    from modeltoll.pricing.fit import CalibrationTerms, HoldoutSplit
    from modeltoll.records import Answer, Floats, Progress

__all__ = [
    "CalibrationRequest",
    "HonestSample",
    "ask_leaks",
    "calibrate_model",
    "fit_tariff",
    "measure_rows",
    "read_rows",
]

_ANSWERED = 200  # in shadow mode, or where a row costs nothing
_KEY = "calibration"  # of the caller whose rows measure the gateway's own time
_CALLER = CallerIdentifier({hash_key(_KEY): Caller(f"key:{_KEY}")}, anonymous=False)
_CALLER_HEADERS = {"X-Api-Key": _KEY, wire.ACCEPT_HEADER: wire.format_accept(wire.Accept(receipts=True))}
_UNBOUNDED = Credit(1e9, 1.0)  # so that no row waits for admission, though no toll is paid
_WARM_UP = 20
_TIMED_REQUESTS = 100


@dataclass(frozen=True, slots=True, eq=False)
class HonestSample:
    """The leaks of honest rows, and the seconds that each took, (rows,), with one row in each request."""

    model: str
    leaks: Leaks
    seconds: Floats
    requests: tuple[bytes, ...] = field(repr=False)

    @property
    def undefended_seconds(self) -> float:
        """The median time of one row without a gateway."""
        return float(np.median(self.seconds))


def read_rows(path: Path) -> Floats:
    """Rows from an .npy file, (rows, dimensions); further dimensions are flattened.

    Raises:
        CalibrationError: no such file, or no table of finite numbers.
    """
    rows = read_numbers(path)
    if rows.ndim < 2 or not rows.size or not np.isfinite(rows).all():
        raise CalibrationError(f"{path} does not hold one row of finite numbers per input")
    return rows.reshape(len(rows), -1)


async def measure_rows(
    served_model: ServedModel, upstream: Upstream, inputs: Floats, progress: Progress | None = None
) -> HonestSample:
    """Send honest rows, (rows, dimensions), to the model server, one at a time.

    Raises:
        UpstreamError, AnswerError: the model server does not answer, or not as its settings declare.
        CalibrationError: it refused a row, or the protocol or a measure failed.
    """
    model, path, described = served_model.service.model, served_model.infer_path, served_model.metadata_path
    metadata = b"" if described is None else (await upstream.fetch(described)).body
    with plugin_exceptions(served_model):
        requests = [served_model.protocol.ask(row[None], metadata, served_model.service) for row in inputs]
    for body in requests[:_WARM_UP]:
        await upstream.predict(path, body)
    seconds, leaks = [], []
    for done, body in enumerate(requests, start=1):
        begin = time.perf_counter()
        answer = await upstream.predict(path, body)
        seconds.append(time.perf_counter() - begin)
        if answer.status != 200:
            reason = served_model.protocol.error_text(answer)
            raise CalibrationError(f"the model server refused row {done} with status {answer.status}: {reason}")
        with plugin_exceptions(served_model):
            parsed = served_model.read(body)
            leaks.append(served_model.leaks(parsed, answer))
        if progress is not None:
            progress(done, len(requests))
    values = np.vstack([leak.values for leak in leaks])
    return HonestSample(model, Leaks(leaks[0].measures, values), np.array(seconds), tuple(requests))


async def _own_seconds(requests: Sequence[bytes], path: str, upstream: Upstream, components: AppComponents) -> float:
    """The seconds that a gateway adds to one row: the difference of the medians with it and without it.

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
            for body in requests:
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
    observation: HonestSample, request: CalibrationRequest, own_seconds: Callable[[ConformalTariff], Awaitable[float]]
) -> Calibration:
    """A calibration whose unit leaves room for the gateway's own time, which is measured with that tariff in force.

    Raises:
        CalibrationError: the rows cannot carry a tariff.
    """

    def fitted(own: float) -> Calibration:
        costs = replace(request.costs, undefended_seconds=observation.undefended_seconds, gate_seconds=own)
        return fit_calibration(
            observation.model, observation.leaks, costs, request.terms, request.provenance, request.split
        )

    return fitted(await own_seconds(ConformalTariff(fitted(0.0))))


async def calibrate_model(
    settings: Settings, model: str, inputs: Floats, request: CalibrationRequest, progress: Progress | None = None
) -> Calibration:
    """Fit a tariff to honest rows, (rows, dimensions), that the running model server was not trained on.

    Raises:
        SettingsError: there is no such model, or its measures or files cannot be used.
        UpstreamError, AnswerError: the model server does not answer, or not as its settings declare.
        CalibrationError: the rows cannot carry a tariff.
    """
    profile = build_profile(settings)
    async with _opened(settings, model) as (served_model, upstream):
        observation = await measure_rows(served_model, upstream, inputs, progress)

        async def own_seconds(tariff: ConformalTariff) -> float:
            with tempfile.TemporaryDirectory() as folder:  # these requests must not enter the real ledger
                ledger = ledger_from_url(f"sqlite:///{folder}/calibration.db")
                await ledger.open()
                try:
                    selector = build_puzzle_selector(
                        settings.models[model].puzzle, profile, build_precomputed_pool(settings)
                    )
                    config = build_gate_config(settings, served_model, tariff, selector)
                    config = replace(config, credit=CreditTerms(_UNBOUNDED, _UNBOUNDED))
                    runtime, ingress = build_runtime(settings, profile), build_ingress(settings, _CALLER)
                    components = single_model_components(config, upstream, ledger, runtime, ingress)
                    requests = observation.requests[:_TIMED_REQUESTS]
                    return await _own_seconds(requests, served_model.infer_path, upstream, components)
                finally:
                    await ledger.close()

        return await fit_tariff(observation, request, own_seconds)


async def ask_leaks(settings: Settings, model: str, inputs: Floats, progress: Progress | None = None) -> Leaks:
    """The leaks of some rows, (rows, dimensions); raises as ``calibrate_model``."""
    async with _opened(settings, model) as (served_model, upstream):
        return (await measure_rows(served_model, upstream, inputs, progress)).leaks


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
