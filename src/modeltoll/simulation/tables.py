"""Tables of the commands: headings and cells."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from modeltoll.formatting import count, times
from modeltoll.pricing.suspicion import GROUP_SETTLED_ROWS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from modeltoll.pricing.explain import CallerExplanation, RowExplanation
    from modeltoll.simulation.attack_traces import ModeCost
    from modeltoll.simulation.replay import ReplayLine

__all__ = ["LINE_HEADINGS", "MODE_HEADINGS", "caller_cells", "line_cells", "mode_cells", "row_cells"]

Cells = list[tuple[str, ...]]

MODE_HEADINGS = ("mode", "queries", "s without", "s with", "ratio")
LINE_HEADINGS = ("tariff", "mode", *MODE_HEADINGS[1:], "p99 wait, s", "suspected", "from row")


def _ratio(ratio: float | None) -> str:
    return times(ratio, decimals=3, whole_from=math.inf)


def mode_cells(costs: Sequence[ModeCost]) -> Cells:
    """One line per mode and number of queries."""
    return [
        (
            cost.mode,
            f"{cost.queries:,}",
            f"{cost.seconds_without:,.1f}",
            f"{cost.seconds_with:,.1f}",
            _ratio(cost.ratio),
        )
        for cost in costs
    ]


def line_cells(lines: Sequence[ReplayLine]) -> Cells:
    """One line per scenario and tariff."""
    return [
        (
            line.tariff,
            line.mode,
            f"{line.queries:,}" if line.asked == line.queries else f"{line.queries:,} of {line.asked:,}",
            f"{line.seconds_without:,.1f}",
            f"{line.seconds_with:,.1f}",
            _ratio(line.ratio),
            f"{line.p99_seconds:.3g}",
            f"{line.suspected:.1%}",
            count(line.first_alarm),
        )
        for line in lines
    ]


def row_cells(row: RowExplanation) -> Cells:
    """The steps of the price of one row, one per line."""
    cells: Cells = []
    for reading in row.readings:
        counted = f"{reading.at_least:,} of {reading.honest:,} honest rows leak {reading.leak:.4g} or more"
        cells.append((f"{reading.measure}: {counted}", f"p = {reading.p_value:.4g}"))
        where = f"p from {reading.p_low:.4g} to {reading.p_high:.4g}"
        factor = f"  factor, the mean of (1 - g) p^-g over {where} at g = {row.g:g}, with weight {reading.weight:.3g}"
        cells.append((factor, f"{reading.factor:.4g}"))
    cells.append(("price of the row, units: the weighted mean", f"{row.factor:.4g}"))
    if row.surcharge > 1.0:
        cells.append(
            (f"the caller is under suspicion and the row is rare (p = {row.rarest:.3g}): times", f"{row.surcharge:.3g}")
        )
    if row.group_surcharge > row.surcharge:
        cells.append(
            (
                "a group of the caller's is under suspicion and the row is rare enough: times, instead",
                f"{row.group_surcharge:.3g}",
            )
        )
    if row.markup > 1.0:
        cells.append(("the caller's tier: times", f"{row.markup:.3g}"))
    if row.discount:
        cells.append(("the caller's discount: less", f"{row.discount:.1%}"))
    cells.append(("one unit, ms", f"{1000 * row.unit_seconds:.4g}"))
    cells.append(("work of the row, s", f"{row.seconds:.4g}"))
    return cells


def caller_cells(caller: CallerExplanation) -> Cells:
    """The state of a caller, one fact per line; of its histogram the three bins with the largest excess."""
    cells: Cells = [
        ("rows asked, ever", f"{caller.rows:,}"),
        ("rows that count now (each input once, decayed by age)", f"{caller.counted:,.1f}"),
        ("work issued, s", f"{caller.work_seconds:,.1f}"),
    ]
    bins = iter(caller.bins)
    per_measure = len(caller.bins) // max(1, len(caller.log_bayes_factors))
    for log_factor in caller.log_bayes_factors:
        own = [next(bins) for _ in range(per_measure)]
        cells.append((f"{own[0].measure}: ln of the Bayes factor against honesty", f"{log_factor:.2f}"))
        for reading in sorted(own, key=lambda reading: reading.expected - reading.rows)[:3]:
            if reading.rows > reading.expected:
                where = f"  p in {reading.low:g}..{reading.high:g}: rows, and an honest caller's"
                cells.append((where, f"{reading.rows:,.1f}, {reading.expected:,.1f}"))
    cells += [
        ("ln of the tolerance", f"-{caller.log_tolerance:.2f}"),
        ("ln M, the total evidence", f"{caller.log_evidence:.2f}"),
        ("suspicion begins at", f"{caller.log_threshold:.2f}"),
        (
            f"surcharge on rows with p below {caller.rare_below:g}",
            f"{caller.surcharge:.3g}x" if caller.suspected else "none",
        ),
        ("rows whose tolls were paid", f"{caller.settled_rows:,}"),
        (f"new-account toll still owed, units, with {caller.entry_rows} rows", f"{caller.entry_units:.4g}"),
    ]
    ended = f", ended by {GROUP_SETTLED_ROWS} paid rows" if caller.settled_rows >= GROUP_SETTLED_ROWS else ""
    for group in caller.groups:
        counted = f"{group.counted:,.1f} rows of all its callers count, ln M"
        surcharge = f"{group.surcharge:.3g}x" if group.surcharge > 1.0 else "none"
        cells += [
            (f"{group.group}: {counted}", f"{group.log_evidence:.2f}"),
            (f"  its surcharge on rows with p below {caller.group_rare_below:g}{ended}", surcharge),
        ]
    if caller.markup > 1.0:
        cells.append(("multiplier on the price of rows", f"{caller.markup:.3g}"))
    if caller.discount:
        cells.append(("discount on the price of rows", f"{caller.discount:.1%}"))
    return cells
