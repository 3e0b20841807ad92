"""Tries settings against the running model server and the ledger: what each model's route measures and costs."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from modeltoll.errors import AnswerError, LedgerError, ModeltollError, SettingsError, UpstreamError
from modeltoll.gateway.assembly.build import build_gateway
from modeltoll.gateway.protocols.probe import described_inputs
from modeltoll.gateway.server.listening import listen
from modeltoll.gateway.setup.plugin_exceptions import plugin_exceptions
from modeltoll.gateway.setup.route_samples import RowTime, ask_many, proposed_tolerance, time_of_row
from modeltoll.gateway.setup.row_files import read_table
from modeltoll.gateway.setup.row_requests import row_requests
from modeltoll.gateway.setup.row_table import RecordedRequests
from modeltoll.gateway.setup.sample_requests import sample_requests
from modeltoll.ledger.from_url import ledger_spec, open_ledger
from modeltoll.pricing.conformal_tariff import ConformalTariff

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from modeltoll.gateway.assembly.gateway import Gateway
    from modeltoll.gateway.core.gate import Gate
    from modeltoll.gateway.protocols.protocol import ServiceDescription
    from modeltoll.gateway.settings.gateway import Settings
    from modeltoll.gateway.setup.row_requests import RowsOfFile
    from modeltoll.gateway.upstream.upstream import Upstream

__all__ = ["CheckReport", "RouteCheck", "check_gateway"]

_SAMPLES = 64  # rows that are sent to each route
_NONE_YET = "there is no ledger in"  # as all of them say


@dataclass(frozen=True, slots=True)
class RouteCheck:
    """The check of one model's route.

    ``rows`` is how many rows were sent, ``leaks`` are the means of theirs by measure, ``row_time`` is the model server's own
    for one of them. ``price_seconds`` is the mean price of these rows before suspicion. ``waits`` are (share of honest rows,
    seconds at most), as calibrated. ``tolerance`` is the ``output.tolerance`` that the answers need, None where it does not
    apply. ``faults`` are the reasons why the route would not work; empty: it works.
    """

    model: str
    route: str
    mode: str
    rows: int = 0
    leaks: Mapping[str, float] = field(default_factory=dict)
    row_time: RowTime | None = None
    price_seconds: float | None = None
    unit_seconds: float | None = None
    waits: tuple[tuple[float, float], ...] = ()
    tolerance: float | None = None
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


async def check_gateway(settings: Settings, rows: RowsOfFile | None = None) -> CheckReport:
    """Send samples to every model: these rows or recorded requests, or made-up ones. Says what ``serve`` says at its start.

    Raises:
        SettingsError: a gateway cannot be built from the settings. CalibrationError: the rows are not the model's.
    """
    gateway = build_gateway(settings)
    ledger, fault = await _ledger(settings)
    faults = [fault] if fault else []
    await gateway.upstream.open()
    try:
        if down := await _down(gateway):
            return CheckReport((), ledger, gateway.warnings, (*faults, down))
        checks = [await _check_route(gateway, name, gate, rows) for name, gate in gateway.gates.items()]
    finally:
        await gateway.upstream.close()
    return CheckReport(tuple(checks), ledger, (*gateway.warnings, *_taken(settings)), tuple(faults))


async def _down(gateway: Gateway) -> str:
    """Why the model server cannot be reached, in one line; empty where it can."""
    ready = next(iter(gateway.gates.values())).config.served_model.ready_path
    try:
        await gateway.upstream.fetch(ready)
    except UpstreamError as error:
        reason = " ".join((error.private or "").split())
        return f"{error} at {gateway.settings.upstream.url}: is it running? {f'({reason})' if reason else ''}".rstrip()
    except ModeltollError:
        return ""
    return ""


def _taken(settings: Settings) -> Iterator[str]:
    """Addresses that are taken, perhaps by this gateway, which runs already."""
    addresses = [("listen", one) for one in settings.listen_addresses if not one.startswith("unix:")]
    if settings.listen_grpc is not None:
        addresses.append(("listen_grpc", settings.listen_grpc))
    for setting, address in (*addresses, ("admin", settings.admin)):
        try:
            listen(setting, address).close()
        except SettingsError as error:
            yield f"{error}; no fault if that is this gateway"


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


async def _check_route(gateway: Gateway, name: str, gate: Gate, rows: RowsOfFile | None) -> RouteCheck:
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


def _sample(settings: Settings, name: str, rows: RowsOfFile | None) -> RowsOfFile | None:
    """The rows to send: the given ones, or else some of the measures' own private data."""
    raw = [measure.file for measure in settings.models[name].measures if measure.file and measure.file.suffix == ".npy"]
    if rows is not None:
        return rows if isinstance(rows, RecordedRequests) else rows.take(np.arange(min(len(rows), _SAMPLES)))
    if not raw or settings.models[name].output.kind == "embeddings":
        return None
    table = read_table(raw[0])
    return table.take(np.arange(min(len(table), _SAMPLES)))


async def _measured(upstream: Upstream, gate: Gate, check: RouteCheck, rows: RowsOfFile | None) -> RouteCheck:
    served_model, tariff = gate.config.served_model, gate.config.tariff
    ready = await upstream.fetch(served_model.ready_path)
    if ready.status != 200:
        return _with_fault(check, f"the model server is not ready: {served_model.ready_path} has status {ready.status}")
    described = served_model.metadata_path
    metadata = b"" if described is None else (await upstream.fetch(described)).body
    if fault := _other_inputs(served_model.service, metadata):
        return _with_fault(check, fault)
    with plugin_exceptions(served_model):
        if rows is None:
            bodies = sample_requests(served_model, metadata)
        else:
            bodies = [each.body for each in row_requests(served_model, metadata, rows)][:_SAMPLES]
        exchanges = await ask_many(served_model, upstream, bodies)
    check = replace(check, rows=min(len(bodies), len(exchanges)), row_time=time_of_row(exchanges))
    exchanges = exchanges[: len(bodies)]
    if served_model.service.kind == "probabilities":
        check = replace(check, tolerance=proposed_tolerance(served_model, exchanges))
    try:
        with plugin_exceptions(served_model):
            each_leaks = [served_model.leaks(each.parsed, each.answer) for each in exchanges]
    except AnswerError as error:
        if check.tolerance is None or check.tolerance <= served_model.service.tolerance:
            raise
        fault = f"{error} output.tolerance: {check.tolerance:g} suits these {check.rows} answers"
        return _with_fault(check, fault)
    price = None
    if check.unit_seconds is not None:
        rng = np.random.default_rng(0)
        factors = np.concatenate([tariff.assess(leaks, rng).factors for leaks in each_leaks])
        price = check.unit_seconds * float(factors.mean())
    values = np.vstack([leaks.values for leaks in each_leaks])
    means = dict(zip(each_leaks[0].measures, values.mean(axis=0).tolist(), strict=True))
    return replace(check, leaks=means, price_seconds=price)


def _other_inputs(service: ServiceDescription, metadata: bytes) -> str:
    """How the settings' inputs differ from those of the model's metadata; empty where they do not, or one says nothing."""
    declared, described = service.inputs, described_inputs(metadata, batched=service.batched)
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
