"""Tries settings against the running model server and the ledger: what each model's route measures and costs."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from modeltoll.errors import LedgerError, ModeltollError
from modeltoll.gateway.assembly.build import build_gateway
from modeltoll.gateway.protocols.probe import described_inputs
from modeltoll.gateway.setup.honest_rows import read_rows
from modeltoll.gateway.setup.plugin_exceptions import plugin_exceptions
from modeltoll.gateway.setup.sample_requests import sample_request
from modeltoll.ledger.from_url import ledger_spec, open_ledger
from modeltoll.pricing.conformal_tariff import ConformalTariff

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from modeltoll.gateway.assembly.gateway import Gateway
    from modeltoll.gateway.core.gate import Gate
    from modeltoll.gateway.protocols.protocol import DeclaredInput
    from modeltoll.gateway.settings.gateway import Settings
    from modeltoll.gateway.upstream.upstream import Upstream
    from modeltoll.records import Floats

__all__ = ["CheckReport", "RouteCheck", "check_gateway"]

_NONE_YET = "there is no ledger in"  # as all of them say


@dataclass(frozen=True, slots=True)
class RouteCheck:
    """The check of one model's route.

    ``leaks`` are the mean leaks of the sample's rows by measure. ``seconds`` is the time of the model server for the
    sample, ``price_seconds`` the mean price of its rows before suspicion. ``waits`` are (share of honest rows, seconds at
    most), as calibrated. ``faults`` are the reasons why the route would not work; empty: it works.
    """

    model: str
    route: str
    mode: str
    rows: int = 0
    leaks: Mapping[str, float] = field(default_factory=dict)
    seconds: float = 0.0
    price_seconds: float | None = None
    unit_seconds: float | None = None
    waits: tuple[tuple[float, float], ...] = ()
    faults: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class CheckReport:
    """The result of a check. ``ledger`` describes its state; ``notices`` are warnings: what works, but perhaps not as meant."""

    models: tuple[RouteCheck, ...]
    ledger: str
    notices: tuple[str, ...]
    faults: tuple[str, ...] = ()

    @property
    def good(self) -> bool:
        """Whether a gateway with these settings would serve all its models."""
        return not (self.faults or any(check.faults for check in self.models))


async def check_gateway(settings: Settings, inputs: Path | None = None) -> CheckReport:
    """Send a sample to every model: rows of ``inputs`` (.npy) where they take numbers, else made-up ones.

    Raises:
        SettingsError: a gateway cannot be built from the settings. CalibrationError: the rows cannot be read.
    """
    rows = None if inputs is None else read_rows(inputs)[:8]
    gateway = build_gateway(settings)
    ledger, fault = await _ledger(settings)
    await gateway.upstream.open()
    try:
        checks = [await _check_route(gateway, name, gate, rows) for name, gate in gateway.gates.items()]
    finally:
        await gateway.upstream.close()
    return CheckReport(tuple(checks), ledger, gateway.warnings, (fault,) if fault else ())


async def _ledger(settings: Settings) -> tuple[str, str]:
    """The state of the ledger, and what is wrong with it. A ledger that does not exist yet is not made."""
    if not ledger_spec(settings.ledger.url).shared:
        return "in memory: forgotten when the gateway stops", ""
    try:
        async with open_ledger(settings.ledger.url, create=False) as ledger:
            await ledger.check_writable()
    except LedgerError as error:
        if str(error).startswith(_NONE_YET):
            return "not there yet: made when the gateway starts", ""
        return "", f"ledger: {error}"
    return "answers", ""


async def _check_route(gateway: Gateway, name: str, gate: Gate, rows: Floats | None) -> RouteCheck:
    served_model, tariff = gate.config.served_model, gate.config.tariff
    calibration = tariff.calibration if isinstance(tariff, ConformalTariff) else None
    check = RouteCheck(
        name,
        served_model.infer_path,
        gate.config.mode,
        unit_seconds=calibration.unit_seconds if calibration else None,
        waits=calibration.report.waits if calibration and calibration.report else (),
    )
    try:
        return await _measured(gateway.upstream, gate, check, _sample(gateway.settings, name, rows))
    except ModeltollError as error:
        fault = f"{error} ({error.private})" if error.private else str(error)
        return _with_fault(check, fault)


def _sample(settings: Settings, name: str, rows: Floats | None) -> Floats | None:
    """The rows to send: the given ones, or else some of the measures' own private data."""
    raw = [measure.file for measure in settings.models[name].measures if measure.file and measure.file.suffix == ".npy"]
    if rows is not None or not raw or settings.models[name].output.kind == "embeddings":
        return rows
    return read_rows(raw[0])[:4]


async def _measured(upstream: Upstream, gate: Gate, check: RouteCheck, rows: Floats | None) -> RouteCheck:
    served_model, tariff = gate.config.served_model, gate.config.tariff
    ready = await upstream.fetch(served_model.ready_path)
    if ready.status != 200:
        return _with_fault(check, f"the model server is not ready: {served_model.ready_path} has status {ready.status}")
    described = served_model.metadata_path
    metadata = b"" if described is None else (await upstream.fetch(described)).body
    if fault := _other_inputs(served_model.service.inputs, described_inputs(metadata)):
        return _with_fault(check, fault)
    with plugin_exceptions(served_model):
        body = sample_request(served_model, metadata, rows)
        parsed = served_model.read(body)
    begin = time.perf_counter()
    answer = await upstream.predict(check.route, parsed.forward or body)
    seconds = time.perf_counter() - begin
    if answer.status != 200:
        reason = served_model.protocol.error_text(answer)
        return _with_fault(check, f"the model server refused a sample with status {answer.status}: {reason}")
    with plugin_exceptions(served_model):
        leaks = served_model.leaks(parsed, answer)
    price = None
    if check.unit_seconds is not None:
        factors = tariff.assess(leaks, np.random.default_rng(0)).factors
        price = check.unit_seconds * float(factors.mean())
    means = dict(zip(leaks.measures, leaks.values.mean(axis=0).tolist(), strict=True))
    return replace(check, rows=len(parsed.fingerprints), leaks=means, seconds=seconds, price_seconds=price)


def _other_inputs(declared: Sequence[DeclaredInput], described: Sequence[DeclaredInput]) -> str:
    """How the settings' inputs differ from those of the model's metadata; empty where they do not, or one says nothing."""
    if not declared or not described:
        return ""
    theirs = {one.name: one for one in described}
    if theirs.keys() != {one.name for one in declared}:
        return f"inputs: the model has {', '.join(theirs)}; declare exactly these"
    for one in declared:
        other = theirs[one.name]
        if one.datatype and other.datatype and one.datatype != other.datatype:
            return f"inputs: the model's {one.name} is of datatype {other.datatype}, not {one.datatype}"
        if one.width and other.width and one.width != other.width:
            return f"inputs: a row of the model's {one.name} has {other.width} values, not {one.width}"
    return ""


def _with_fault(check: RouteCheck, fault: str) -> RouteCheck:
    return replace(check, faults=(fault,))
