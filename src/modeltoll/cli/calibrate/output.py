"""A calibration on the screen and in a figure."""

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


def print_calibration(fitted: Calibration, thieves: Mapping[str, Leaks], target: Path, json_file: str | None) -> None:
    """Its warnings, then what was chosen and promised as a table, or as JSON; ``thieves`` are samples by name."""
    from modeltoll.pricing.conformal import price_factors  # noqa: PLC0415

    report = fitted.report
    if report is None:
        raise CalibrationError("the calibration carries no report")
    warn(report.warnings)
    stolen = {name: float(price_factors(fitted, leaks).mean()) for name, leaks in thieves.items()}
    if json_file is not None:
        chosen = {"g": fitted.g, "weights": dict(zip(fitted.measures, fitted.weights, strict=True))}
        head = {"tariff": str(target), "unit_seconds": fitted.unit_seconds, **chosen, "thieves_units": stolen}
        write_json(head | asdict(report), json_file)
    if json_file == "-":
        return
    weights = ", ".join(f"{name} {weight:.3g}" for name, weight in zip(fitted.measures, fitted.weights, strict=True))
    rows = [
        ("g, and the measures' weights", f"{fitted.g:g}; {weights}"),
        ("honest rows kept back", f"{report.held_back}"),
        (
            "their mean price, units (at most 1 is promised)",
            f"{report.mean:.3f}  [{report.low:.3f}, {report.high:.3f}]",
        ),
        ("unit, ms", f"{1000 * fitted.unit_seconds:.3f}"),
        (
            f"each of the first {fitted.new_account_toll.rows} rows of a caller without a key, on top, ms",
            f"{1000 * fitted.unit_seconds * fitted.new_account_toll.anonymous_units / fitted.new_account_toll.rows:.1f}",
        ),
        *((f"wait of {share:.1%} of honest rows, ms, at most", f"{1000 * wait:.1f}") for share, wait in report.waits),
        *((f"mean price of {name}, units, before suspicion", f"{mean:,.1f}") for name, mean in stolen.items()),
    ]
    print_table(("", "value"), rows, title=f"{target}: {fitted.honest_rows} honest rows of {fitted.model}")


def draw_calibration(fitted: Calibration, thieves: Mapping[str, Leaks], path: Path) -> None:
    """The prices of honest rows that were kept back, and of thieves' samples, as a picture."""
    from modeltoll.pricing.conformal import price_factors  # noqa: PLC0415

    with requires_extra("demo"):
        from modeltoll.simulation.figure import draw_factors  # noqa: PLC0415
    honest = fitted.report.factors if fitted.report else ()
    samples: dict[str, Floats | Sequence[float]] = {"honest rows kept back": honest}
    samples |= {name: price_factors(fitted, leaks) for name, leaks in thieves.items()}
    draw_factors(samples, fitted.unit_seconds, path, f"Prices of {fitted.model}, g = {fitted.g:g}")
