"""Tables of the commands: headings and cells."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from modeltoll.formatting import count, moment, times
from modeltoll.pricing.suspicion import GROUP_SETTLED_ROWS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from modeltoll.pricing.explanations import CallerExplanation, MeasureReading, RowExplanation
    from modeltoll.simulation.attack_traces import ModeCost
    from modeltoll.simulation.replay import ReplayLine

__all__ = ["LINE_HEADINGS", "MODE_HEADINGS", "caller_cells", "line_cells", "mode_cells", "row_cells"]

Cells = list[tuple[str, ...]]

_SHOWN_CELLS, _NEAREST_KINDS = 4, 3

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
        cells += _reading_cells(reading, row.g)
    cells.append(("rarity: the weighted mean", f"{row.rarity:.4g}"))
    if row.cell_price is not None:
        cells.append(
            (
                f"price of its cell, {_bounds(row.coordinates, row.cell_bounds)}, against strangers",
                f"{row.cell_price:.4g}",
            )
        )
    if row.own_factor is not None:
        cells.append(("rarity with the caller's own log as a kind; the smaller one counts", f"{row.own_factor:.4g}"))
    mean = "" if row.cell_price is None else ": the mean of rarity and price of the cell"
    cells.append((f"price of the row, units{mean}", f"{row.factor:.4g}"))
    cells.append(("clean price, among all traffic alone, units", f"{row.clean_factor:.4g}"))
    if row.surcharged:
        reason = (
            "its cell speaks against the caller" if row.frequent else f"its clean p = {row.clean_rarest:.3g} is low"
        )
        cells += [
            ("under suspicion: the largest of price, clean price and 1", f"{row.price_factor:.4g}"),
            (f"  {reason}: times", f"{row.surcharge:.3g}"),
        ]
    if row.group_surcharge > row.surcharge:
        cells.append(
            (
                "a group of the caller's is under suspicion and the row is rare enough: price times, instead",
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


def _reading_cells(reading: MeasureReading, g: float) -> Cells:
    """One measure's part of a row's price: its p-value among each kind, and the factor of the largest."""
    cells: Cells = [(f"{reading.measure}: leak", f"{reading.leak:.4g}")]
    for kind in reading.kinds:
        decides = ", which decides" if kind.kind == reading.decisive else ""
        among = f"  p among {kind.kind}{decides}: {kind.at_least:,} of {kind.rows:,} rows leak as much"
        cells.append((among, f"{kind.p_value:.4g}"))
    where = f"p from {reading.p_low:.4g} to {reading.p_high:.4g}"
    factor = f"  factor, the mean of (1 - g) p^-g over {where} at g = {g:g}, with weight {reading.weight:.3g}"
    return [*cells, (factor, f"{reading.factor:.4g}")]


def _bounds(coordinates: Sequence[str], bounds: Sequence[tuple[float, float]]) -> str:
    """A cell in words: ``entropy p 0..0.01, novelty p 0.1..0.35``."""
    pairs = zip(coordinates, bounds, strict=True)
    return ", ".join(f"{measure} p {low:g}..{high:g}" for measure, (low, high) in pairs)


def caller_cells(caller: CallerExplanation) -> Cells:
    """The state of a caller, one fact per line: totals, evidence by test, cells, nearest kinds, tolls and groups."""
    cells: Cells = [
        ("rows asked, ever", f"{caller.rows:,}"),
        (f"rows that count as evidence (each input once), since {moment(caller.since)}", f"{caller.counted:,}"),
        ("work issued, s", f"{caller.work_seconds:,.1f}"),
        *_evidence_cells(caller),
        *_cell_cells(caller),
    ]
    for number, kind in enumerate(caller.kinds[:_NEAREST_KINDS]):
        title = "nearest kind" if number == 0 else "  next"
        cells.append((f"{title}: {kind.label or kind.kind} ({kind.rows:,} rows), nats a row away", f"{kind.nats:.3f}"))
    if caller.own_kind is not None:
        cells.append(("its own log is a kind, for this caller alone: known honest", "yes"))
    cells += [
        ("rows whose tolls were paid", f"{caller.settled_rows:,}"),
        (f"new-account toll still owed, units, with {caller.entry_rows} rows", f"{caller.entry_units:.4g}"),
    ]
    ended = f", ended by {GROUP_SETTLED_ROWS} paid rows" if caller.settled_rows >= GROUP_SETTLED_ROWS else ""
    for group in caller.groups:
        counted = f"{group.counted:,} rows of all its callers since {moment(group.since)} count, ln M"
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


def _evidence_cells(caller: CallerExplanation) -> Cells:
    """The tests and what else the evidence is the mean of, and what follows from it."""
    cells: Cells = []
    for test in caller.tests:
        if test.block_rows == 0:
            title = f"ln M of all {test.rows:,} rows"
        else:
            which = "finished" if test.finished else "current"
            title = f"ln M of the {which} block of {test.block_rows:,}, number {test.number:,}, {test.rows:,} rows"
        cells.append((f"{title}, with weight {test.weight:.3g}", f"{test.log_evidence:.2f}"))
    if caller.finished_log is not None:
        cells.append((f"ln of what {caller.finished_blocks:,} finished blocks add", f"{caller.finished_log:.2f}"))
    if caller.carried_log is not None:
        counts = "not counted, for its own log is a kind" if caller.own_kind is not None else "half of the evidence"
        cells.append((f"ln M under earlier tariffs, {counts}", f"{caller.carried_log:.2f}"))
    surcharge = f"surcharge on rows in cells against the caller, and with clean p below {caller.rare_below:g}"
    return [
        *cells,
        ("ln M, the total evidence", f"{caller.log_evidence:.2f}"),
        ("suspicion begins at", f"{caller.log_threshold:.2f}"),
        (surcharge, f"{caller.surcharge:.3g}x" if caller.suspected else "none"),
    ]


def _cell_cells(caller: CallerExplanation) -> Cells:
    """The cells of the leading test that speak most against the caller, and those that speak most for it."""
    against = [cell for cell in caller.cells if cell.against][:_SHOWN_CELLS]
    others = [cell for cell in reversed(caller.cells) if not cell.against][:_SHOWN_CELLS]
    cells: Cells = []
    for title, chosen in (("against the caller", against), ("not against the caller", others)):
        for cell in chosen:
            shares = f"{cell.share:.1%} of its rows, {cell.honest:.1%} fitted"
            cells.append((f"{title}: {_bounds(caller.coordinates, cell.bounds)}: {shares}", f"{cell.log_ratio:+.2f}"))
    return cells
