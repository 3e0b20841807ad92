"""Prints and draws a calibration: its terms, what each kind and caller pays, and what strangers pay."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modeltoll.cli.terminal import print_table, requires_extra, warn, write_json
from modeltoll.errors import CalibrationError
from modeltoll.pricing.kinds import ALL_TRAFFIC, CALLER, CLASS

if TYPE_CHECKING:
    from modeltoll.cli.calibrate.outcome import CalibrationOutcome
    from modeltoll.pricing.calibration import Calibration
    from modeltoll.pricing.rehearsal import KindTrial
    from modeltoll.pricing.remedies import Remedy, StrangerTrial
    from modeltoll.pricing.validation import CalibrationReport
    from modeltoll.records import Floats, Leaks

__all__ = ["draw_calibration", "print_outcome"]

_NAMED = 20  # callers or classes without a promise that are named in one warning
_FOUND_ROWS = 5000  # of one account, within which a stranger should be found
_HEADINGS = (
    "honest rows held back",
    "rows",
    "mean price, units",
    "95 % interval",
    "at most 1?",
    "waits, ms",
    "log evidence",
    "100,000 rows",
    "suspected",
)


def print_outcome(
    outcome: CalibrationOutcome, thieves: Mapping[str, Leaks], tariff_file: Path, json_file: str | None
) -> None:
    """Print warnings, then terms, kinds, callers, strangers and proposals as tables or JSON; ``thieves``: leaks by sample."""
    from modeltoll.pricing.conformal_tariff import price_factors  # noqa: PLC0415

    fitted = outcome.calibration
    if fitted.report is None:
        raise CalibrationError("the calibration has no report")
    warn(fitted.report.warnings)
    warn(_warnings(outcome))
    prices = {name: float(price_factors(fitted, leaks).mean()) for name, leaks in thieves.items()}
    if json_file is not None:
        write_json(_document(outcome, fitted.report, prices, tariff_file), json_file)
    if json_file == "-":
        return
    rows = _terms(fitted, fitted.report, prices)
    print_table(("", "value"), rows, title=f"{tariff_file}: {fitted.honest_rows} honest rows of {fitted.model}")
    limit = -math.log(fitted.suspicion.alpha)
    title = (
        "what honest callers pay, waits of 50 / 95 / 99 / 99.9 % of rows, the largest log evidence of any caller and of one "
        f"of 100,000 rows; suspected from {limit:.1f} on"
    )
    print_table(_HEADINGS, [_kind_line(trial) for trial in (*outcome.kinds, *outcome.callers)], title=title)
    if outcome.strangers:
        _print_strangers(outcome)
    if proposals := _proposals(outcome):
        print_table(("proposed, so that every honest caller is under the promise",), [(line,) for line in proposals])


def _terms(fitted: Calibration, report: CalibrationReport, prices: Mapping[str, float]) -> list[tuple[str, str]]:
    from modeltoll.pricing.tariff import NEW_ACCOUNT_ROWS  # noqa: PLC0415

    weights = ", ".join(f"{name} {weight:.3g}" for name, weight in zip(fitted.measures, fitted.weights, strict=True))
    terms = fitted.suspicion
    new_account = 1000 * fitted.unit_seconds * fitted.new_account_toll.anonymous_units / NEW_ACCOUNT_ROWS
    return [
        ("g, and the measures' weights", f"{fitted.g:g}; {weights}"),
        (
            "rho, rho0, alpha, largest surcharge",
            f"{terms.rho:g}, {terms.rho0:g}, {terms.alpha:g}, {terms.maximum:g}",
        ),
        ("evidence in the cells of", " and ".join(fitted.coordinates)),
        ("a row without a gateway, ms (0: not measured)", f"{1000 * fitted.undefended_seconds:.3f}"),
        ("the gateway's own time per row, ms (0: not measured)", f"{1000 * fitted.gate_seconds:.3f}"),
        ("unit, ms", f"{1000 * fitted.unit_seconds:.3f}"),
        (
            "honest rows held back: mean price, units; at most 1?",
            f"{report.mean:.3f}  [{report.low:.3f}, {report.high:.3f}]; {_side(report.low, report.high)}",
        ),
        (f"owed with each of the first {NEW_ACCOUNT_ROWS} rows of a caller without a key, ms", f"{new_account:.1f}"),
        *(("predicted classes priced among their own rows", _classes(fitted)) for _ in fitted.priced_classes[:1]),
        *((f"wait of {share:.1%} of honest rows, ms, at most", f"{1000 * wait:.1f}") for share, wait in report.waits),
        *((f"mean price of {name}, units, before suspicion", f"{mean:,.1f}") for name, mean in prices.items()),
    ]


def _classes(fitted: Calibration) -> str:
    return "; ".join(", ".join(map(str, priced.classes)) for priced in fitted.priced_classes)


def _side(low: float, high: float) -> str:
    from modeltoll.pricing.validation import side_of_one  # noqa: PLC0415

    return side_of_one(low, high)


def _kind_line(trial: KindTrial) -> tuple[str, ...]:
    report = trial.report
    low, high = report.interval
    return (
        f"{'caller ' if report.role == 'caller' else ''}{report.label or report.name}",
        str(report.rows),
        f"{report.mean_units:.2f}",
        f"{low:.2f} to {high:.2f}",
        _side(low, high),
        " / ".join(f"{1000 * wait:.1f}" for _, wait in trial.waits),
        f"{report.max_log_evidence:.1f}",
        "-" if trial.long_log_evidence is None else f"{trial.long_log_evidence:.1f}",
        "no" if report.suspected_at is None else f"from row {report.suspected_at}",
    )


def _print_strangers(outcome: CalibrationOutcome) -> None:
    """What strangers pay with all kinds, and by family what they would pay without it."""
    families = [cost.family for cost in outcome.costs]
    rho = [] if outcome.proposed_rho is None else [f"with --rho {outcome.proposed_rho:g}"]
    headings = (
        "stranger",
        "units a row",
        "before suspicion",
        "suspected",
        *(f"without {name}" for name in families),
        *rho,
    )
    lines = [
        (
            f"{trial.name}{' (generic)' if trial.generic else ''}",
            f"{trial.units:,.1f}",
            f"{trial.units_before:,.1f}",
            _suspected(trial),
            *(f"{cost.strangers[place].units:,.1f}" for cost in outcome.costs),
            *(f"{each.units:,.1f}" for each in outcome.with_rho[place : place + 1]),
        )
        for place, trial in enumerate(outcome.strangers)
    ]
    print_table(headings, lines, title="what kinds cost: the price of strangers who send 10,000 rows from one account")
    if outcome.without_callers:
        pairs = zip(outcome.without_callers, outcome.strangers, strict=True)
        costs = [(before.name, f"{before.units:,.1f}", f"{after.units:,.1f}") for before, after in pairs]
        print_table(
            ("stranger", "callers' logs for themselves", "for everyone"),
            costs,
            title="what --callers-for-all costs, units a row",
        )


def _suspected(trial: StrangerTrial) -> str:
    return "never" if trial.suspected_at is None else f"from row {trial.suspected_at}"


def _warnings(outcome: CalibrationOutcome) -> list[str]:
    from modeltoll.pricing.rehearsal import LONG_RUN_HELD_BACK  # noqa: PLC0415

    warnings = [_freed(remedy) for remedy in outcome.remedies]
    rho0 = outcome.calibration.suspicion.rho0
    if rho0 > outcome.asked_rho0:
        warnings.append(
            f"rho0 was raised from {outcome.asked_rho0:g} to {rho0:g}, because kinds would be suspected below it"
        )
    for trial in outcome.trials:
        if trial.report.interval[0] > 1.0 and trial.report.role not in {CLASS, ALL_TRAFFIC}:
            low, high = trial.report.interval
            name = trial.report.label or trial.report.name
            warnings.append(f"{name} pays {low:.2f} to {high:.2f} units a row on average, not at most 1")
    untried = [trial.report for trial in outcome.kinds if trial.long_log_evidence is None and not trial.suspected]
    names = [report.name for report in untried if report.role != CLASS]
    if names:
        warnings.append(
            f"of {', '.join(names)} fewer than {LONG_RUN_HELD_BACK} rows were held back, too few to try 100,000 rows of one caller; "
            "give 4,000 rows of all traffic and 1,800 of a declared kind"
        )
    hidden = [each.name for each in outcome.strangers if each.suspected_at is None or each.suspected_at > _FOUND_ROWS]
    if hidden:
        warnings.append(
            f"{', '.join(hidden)} would not be found in {_FOUND_ROWS:,} rows of one account: the columns 'without' say which "
            "kinds hide them; more rows of these kinds, or a measure that sees such strangers, would help"
        )
    if outcome.unpromised:
        warnings.append(f"nothing is promised to callers with fewer than 1,000 rows: {_named(outcome.unpromised)}")
    if outcome.small_classes:
        classes = _named([(str(label), rows) for label, rows in outcome.small_classes])
        warnings.append(
            "nothing is promised to callers who send rows of one of these predicted classes alone, which have too few rows "
            f"for a kind of their own: {classes}; give more rows of them, or a smaller --class-rows"
        )
    return warnings


def _named(few: Sequence[tuple[str, int]]) -> str:
    """Names and their numbers of rows, the first of them."""
    named = ", ".join(f"{name} ({rows} rows)" for name, rows in few[:_NAMED])
    more = len(few) - _NAMED
    return f"{named}{f' and {more} more' if more > 0 else ''}"


def _freed(remedy: Remedy) -> str:
    """Which caller or kind would be suspected, and what would free it."""
    ways = [f"--known-honest {remedy.label or remedy.name}"] if remedy.own_log else []
    ways += [f"--rho {remedy.rho:g} (for everyone)"] if remedy.rho is not None else []
    if remedy.role == CALLER and not ways:
        ways = ["a declared kind like its rows, or a longer log"]
    what = "caller " if remedy.role == CALLER else ""
    freed = f"; {' or '.join(ways)} would free it" if ways else "; no larger rho up to 1 frees it"
    return f"{what}{remedy.label or remedy.name} would be suspected{freed}"


def _proposals(outcome: CalibrationOutcome) -> list[str]:
    """Options of the next calibration under which nobody of those who were tried is suspected."""
    marks = [f"--known-honest {each.label or each.name}" for each in outcome.remedies if each.own_log]
    others = [each for each in outcome.remedies if not each.own_log]
    rhos = [each.rho for each in others if each.rho is not None]
    lines = [" ".join(marks)] if marks else []
    if rhos:
        lines.append(f"--rho {max(rhos):g}")
    unfree = [each.label or each.name for each in others if each.rho is None]
    if unfree:
        lines.append(f"a declared kind, --kind NAME=rows.npy, or 1,000 rows and more, of {', '.join(unfree)}")
    return lines


def _document(
    outcome: CalibrationOutcome, report: CalibrationReport, prices: Mapping[str, float], tariff_file: Path
) -> dict[str, Any]:
    fitted, terms = outcome.calibration, outcome.calibration.suspicion
    return {
        "tariff": str(tariff_file),
        "unit_seconds": fitted.unit_seconds,
        "undefended_seconds": fitted.undefended_seconds,
        "gate_seconds": fitted.gate_seconds,
        "g": fitted.g,
        "weights": dict(zip(fitted.measures, fitted.weights, strict=True)),
        "coordinates": list(fitted.coordinates),
        "suspicion": {
            "rho": terms.rho,
            "rho0": terms.rho0,
            "asked_rho0": outcome.asked_rho0,
            "alpha": terms.alpha,
            "surcharge": terms.maximum,
        },
        "thieves_units": prices,
        **asdict(report),
        "kinds": [_kind_document(trial) for trial in outcome.kinds],
        "callers": [_kind_document(trial) for trial in outcome.callers],
        "strangers": [
            asdict(trial)
            | {"units_without": {cost.family: cost.strangers[place].units for cost in outcome.costs}}
            | {"units_with_rho": outcome.with_rho[place].units if outcome.with_rho else None}
            for place, trial in enumerate(outcome.strangers)
        ],
        "strangers_without_callers": [asdict(trial) for trial in outcome.without_callers],
        "would_free": [asdict(remedy) for remedy in outcome.remedies],
        "not_promised": [{"name": name, "rows": rows} for name, rows in outcome.unpromised],
        "classes_not_promised": [{"class": label, "rows": rows} for label, rows in outcome.small_classes],
        "proposed_rho": outcome.proposed_rho,
        "proposals": _proposals(outcome),
        "failures": list(outcome.failures),
    }


def _kind_document(trial: KindTrial) -> dict[str, Any]:
    report = trial.report
    return {
        "name": report.name,
        "rows": report.rows,
        "mean_units": report.mean_units,
        "interval": list(report.interval),
        "p99_ms": 1000 * report.p99_seconds,
        "max_log_evidence": report.max_log_evidence,
        "role": report.role,
        "label": report.label,
        "suspected_at": report.suspected_at,
        "long_log_evidence": trial.long_log_evidence,
        "waits_ms": {f"{share:g}": 1000 * wait for share, wait in trial.waits},
    }


def draw_calibration(fitted: Calibration, thieves: Mapping[str, Leaks], path: Path) -> None:
    """Draw the prices of held-out honest rows and of thieves' samples to a .png file."""
    from modeltoll.pricing.conformal_tariff import price_factors  # noqa: PLC0415

    with requires_extra("demo"):
        from modeltoll.simulation.figure import draw_factors  # noqa: PLC0415
    honest = fitted.report.factors if fitted.report else ()
    samples: dict[str, Floats | Sequence[float]] = {"honest rows held out": honest}
    samples |= {name: price_factors(fitted, leaks) for name, leaks in thieves.items()}
    draw_factors(samples, fitted.unit_seconds, path, f"Prices of {fitted.model}, g = {fitted.g:g}")
