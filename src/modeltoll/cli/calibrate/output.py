"""Prints and draws a calibration."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from modeltoll.cli.terminal import print_table, requires_extra, warn, write_json
from modeltoll.errors import CalibrationError

if TYPE_CHECKING:
    from modeltoll.pricing.calibration import Calibration
    from modeltoll.records import Floats, Leaks

__all__ = ["draw_calibration", "print_calibration"]


def print_calibration(
    fitted: Calibration, thieves: Mapping[str, Leaks], tariff_file: Path, json_file: str | None
) -> None:
    """Print warnings, then the terms and the report as a table or JSON; ``thieves`` are leaks by sample name."""
    from modeltoll.pricing.conformal_tariff import price_factors  # noqa: PLC0415
    from modeltoll.pricing.tariff import NEW_ACCOUNT_ROWS  # noqa: PLC0415

    report = fitted.report
    if report is None:
        raise CalibrationError("the calibration has no report")
    warn(report.warnings)
    thief_prices = {name: float(price_factors(fitted, leaks).mean()) for name, leaks in thieves.items()}
    if json_file is not None:
        chosen = {"g": fitted.g, "weights": dict(zip(fitted.measures, fitted.weights, strict=True))}
        head = {
            "tariff": str(tariff_file),
            "unit_seconds": fitted.unit_seconds,
            **chosen,
            "thieves_units": thief_prices,
        }
        write_json(head | asdict(report), json_file)
    if json_file == "-":
        return
    weights = ", ".join(f"{name} {weight:.3g}" for name, weight in zip(fitted.measures, fitted.weights, strict=True))
    rows = [
        ("g, and the measures' weights", f"{fitted.g:g}; {weights}"),
        ("honest rows held out", f"{report.held_back}"),
        (
            "their mean price, units (at most 1 expected)",
            f"{report.mean:.3f}  [{report.low:.3f}, {report.high:.3f}]",
        ),
        ("unit, ms", f"{1000 * fitted.unit_seconds:.3f}"),
        (
            f"owed with each of the first {NEW_ACCOUNT_ROWS} rows of a caller without a key, ms",
            f"{1000 * fitted.unit_seconds * fitted.new_account_toll.anonymous_units / NEW_ACCOUNT_ROWS:.1f}",
        ),
        *((f"wait of {share:.1%} of honest rows, ms, at most", f"{1000 * wait:.1f}") for share, wait in report.waits),
        *((f"mean price of {name}, units, before suspicion", f"{mean:,.1f}") for name, mean in thief_prices.items()),
    ]
    print_table(("", "value"), rows, title=f"{tariff_file}: {fitted.honest_rows} honest rows of {fitted.model}")


def draw_calibration(fitted: Calibration, thieves: Mapping[str, Leaks], path: Path) -> None:
    """Draw the prices of held-out honest rows and of thieves' samples to a .png file."""
    from modeltoll.pricing.conformal_tariff import price_factors  # noqa: PLC0415

    with requires_extra("demo"):
        from modeltoll.simulation.figure import draw_factors  # noqa: PLC0415
    honest = fitted.report.factors if fitted.report else ()
    samples: dict[str, Floats | Sequence[float]] = {"honest rows held out": honest}
    samples |= {name: price_factors(fitted, leaks) for name, leaks in thieves.items()}
    draw_factors(samples, fitted.unit_seconds, path, f"Prices of {fitted.model}, g = {fitted.g:g}")
