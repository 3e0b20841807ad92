"""Fits a tariff to the rows of an operator's sources: sent, recorded or logged."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from modeltoll.cli.calibrate.inputs import recorded_samples, rows_to_send
from modeltoll.cli.terminal import stage, warn
from modeltoll.errors import SettingsError
from modeltoll.pricing.kinds import DECLARED

if TYPE_CHECKING:
    from modeltoll.cli.calibrate.sources import RowSources
    from modeltoll.cli.calibrate.target import CalibrationTarget
    from modeltoll.pricing.calibration import CalibrationProvenance
    from modeltoll.pricing.fit import Fit
    from modeltoll.pricing.fit_terms import CalibrationTerms, HoldoutSplit, RowCosts

__all__ = ["FitPlan", "fitted"]

_NO_INPUTS = (
    "generic strangers are made of inputs, which recorded leaks and the log do not hold; in their place are tried callers who "
    "send only rows like the rarest tenth of all traffic's, so give --strangers to see what kinds cost against others"
)
_UNTIMED = (
    "--undefended-ms: give the model server's time for a row in ms, for rows that are not sent are not timed; modeltoll check "
    "SETTINGS.yaml shows it. Or give the unit itself, --unit-ms"
)
_BUSY = 0.5  # load per core, above which measured times are doubtful


@dataclass(frozen=True, slots=True)
class FitPlan:
    """What a tariff is fitted for."""

    terms: CalibrationTerms
    costs: RowCosts
    split: HoldoutSplit
    provenance: CalibrationProvenance


def fitted(sources: RowSources, target: CalibrationTarget, plan: FitPlan) -> tuple[Fit, tuple[str, ...] | None]:
    """The fit, and the caller of each honest row where they are named.

    Raises:
        SettingsError: the options contradict each other.
        CalibrationError: the rows cannot carry a tariff.
    """
    from modeltoll.gateway.setup.calibrate import CalibrationRequest, fit_model, input_measures  # noqa: PLC0415
    from modeltoll.gateway.setup.row_requests import Refusals  # noqa: PLC0415
    from modeltoll.pricing.fit import fit_with_rows_held_back  # noqa: PLC0415

    if sources.sent:
        if target.loaded is None:
            raise SettingsError(["--inputs and --requests: give the gateway's settings, which name the model server"])
        inputs, refusals = rows_to_send(sources, target), Refusals(sources.leave_out)
        warn(busy_machine())
        request = CalibrationRequest(plan.terms, plan.costs, plan.split, plan.provenance)
        with stage("Sending rows") as progress:
            fit, callers = asyncio.run(fit_model(target.loaded, target.model, inputs, request, progress, refusals))
        warn(refusals.summary(inputs.rows))
        warn(doubtful_novelty(fit, input_measures(target.loaded, target.model)))
        return fit, callers
    samples, terms = recorded_samples(sources, target), plan.terms
    if plan.costs.unit_seconds is None and plan.costs.undefended_seconds <= 0.0:
        raise SettingsError([_UNTIMED])
    if not samples.strangers:
        warn([_NO_INPUTS])
    if plan.costs.unit_seconds is None:
        warn(
            ["the gateway's own time was not measured; give a smaller --overhead, or --unit-ms, so that it is included"]
        )
    if target.loaded is not None:
        terms = replace(terms, input_measures=input_measures(target.loaded, target.model))
    fit = fit_with_rows_held_back(target.model, samples, plan.costs, terms, plan.provenance, plan.split)
    warn(doubtful_novelty(fit, terms.input_measures))
    return fit, samples.callers


def doubtful_novelty(fit: Fit, of_inputs: Sequence[str]) -> list[str]:
    """A warning where kinds are declared and no measure of inputs was fitted with kinds, or the other way round."""
    declared = any(kind.role == DECLARED for kind in fit.calibration.kinds)
    with_kinds = fit.calibration.clean_scores is not None
    names = " and ".join(name for name in fit.calibration.measures if name in of_inputs)
    if declared and not with_kinds and names:
        return [f"{names} was fitted without kinds and takes rows of kinds for strange: fit it with the same --kinds"]
    if with_kinds and not declared:
        return ["a measure was fitted with kinds, and none are declared here: give the same --kinds"]
    return []


def busy_machine() -> list[str]:
    """A warning where the machine has other work, so that measured times would be too long; nothing where it is idle."""
    load, cores = os.getloadavg()[0], os.cpu_count() or 1
    if load <= _BUSY * cores:
        return []
    return [
        f"this machine is busy: a load of {load:.1f} on {cores} cores; measured times may be too long, and the unit with them"
    ]
