"""The command ``calibrate``: fit a tariff to honest rows that are sent, recorded or logged."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import typer
from rich.markup import escape

from modeltoll.cli.calibrate.fitting import FitPlan, fitted
from modeltoll.cli.calibrate.inputs import thief_rows
from modeltoll.cli.calibrate.options import CalibrateOptions
from modeltoll.cli.calibrate.outcome import rehearsed
from modeltoll.cli.calibrate.output import draw_calibration, print_outcome
from modeltoll.cli.calibrate.sources import RowSources, leaves_out, named_files, seconds_with_unit
from modeltoll.cli.calibrate.target import next_step, target_from_settings
from modeltoll.cli.option_records import takes_options
from modeltoll.cli.terminal import note, requires_extra, with_exit_codes
from modeltoll.errors import CalibrationError

if TYPE_CHECKING:
    from modeltoll.cli.calibrate.target import CalibrationTarget
    from modeltoll.pricing.fit_terms import CalibrationTerms, RowCosts
    from modeltoll.records import Leaks

__all__ = ["commands"]

commands = typer.Typer()


@commands.command(epilog="Example: modeltoll calibrate modeltoll.yaml --inputs honest.npy")
@with_exit_codes
@takes_options
def calibrate(options: CalibrateOptions) -> None:
    """Fit a tariff to honest rows, rehearse it on rows held back, and print what callers and strangers will pay.

    The rows are sent to the model server (--inputs, --requests), recorded (--leaks), or logged in shadow mode (--from-ledger).
    Nothing is written, and the exit code is 1, where a kind would be suspected or --p99-wait is not met.
    """
    with requires_extra("gateway"):
        from modeltoll.pricing.calibration import CalibrationProvenance  # noqa: PLC0415
        from modeltoll.pricing.calibration_file import save_calibration  # noqa: PLC0415
        from modeltoll.pricing.fit_terms import HoldoutSplit  # noqa: PLC0415
    sources = _sources(options)
    wait = None if options.p99_wait is None else seconds_with_unit(options.p99_wait, "--p99-wait")
    target = target_from_settings(options.settings, options.model, options.leaks, options.tariff, options.measures)
    thief_leaks = {} if options.thieves is None else thief_rows(options.thieves, target, inputs_given=sources.sent)
    terms = _terms(options, target, wait, thief_leaks)
    provenance = CalibrationProvenance(
        source=sources.description or f"the shadow log of {target.model}",
        command=shlex.join(["modeltoll", *sys.argv[1:]]),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    fit, callers = fitted(sources, target, FitPlan(terms, _costs(options), HoldoutSplit(seed=options.seed), provenance))
    outcome = rehearsed(fit, callers, for_all=options.callers_for_all, p99_wait=wait, seed=options.seed)
    if not outcome.failures:
        save_calibration(outcome.calibration, target.tariff)
    print_outcome(outcome, thief_leaks, target.tariff, options.json_file)
    if outcome.failures:
        raise CalibrationError(f"no tariff was written: {'; '.join(outcome.failures)}")
    if options.figure is not None:
        draw_calibration(outcome.calibration, thief_leaks, options.figure)
    note.print(escape(f"wrote {target.tariff}{next_step(target, options.settings)}"), soft_wrap=True)


def _sources(options: CalibrateOptions) -> RowSources:
    return RowSources(
        options.inputs,
        options.leaks,
        options.from_ledger,
        tuple(options.trained_on or ()),
        options.kinds,
        options.kind_rows,
        named_files(options.kind, "--kind", need_name=True),
        named_files(options.strangers, "--strangers", need_name=False),
        tuple(options.known_honest or ()),
        options.shape,
        options.seed,
        options.requests,
        leaves_out(options.refused),
    )


def _terms(
    options: CalibrateOptions, target: CalibrationTarget, wait: float | None, thief_leaks: Mapping[str, Leaks]
) -> CalibrationTerms:
    """The terms of the tariff. ``wait``: seconds within which 99 % of honest rows shall be paid."""
    from modeltoll.pricing.fit_terms import CalibrationTerms  # noqa: PLC0415  an extra
    from modeltoll.pricing.selection import PriceTargets  # noqa: PLC0415
    from modeltoll.pricing.suspicion import SuspicionTerms  # noqa: PLC0415

    return CalibrationTerms(
        g=options.g,
        weights=None if thief_leaks else target.weights,
        suspicion=SuspicionTerms(alpha=options.alpha, rho=options.rho, rho0=options.rho0, maximum=options.surcharge),
        new_account_queries=options.new_account_toll,
        targets=PriceTargets(wait, tuple(thief_leaks.values())) if thief_leaks or wait is not None else None,
        coordinates=target.coordinates,
        class_rows=options.class_rows,
    )


def _costs(options: CalibrateOptions) -> RowCosts:
    from modeltoll.pricing.fit_terms import RowCosts  # noqa: PLC0415  an extra

    return RowCosts(
        options.undefended_ms / 1000,
        overhead=options.overhead,
        unit_seconds=None if options.unit_ms is None else options.unit_ms / 1000,
    )
