"""Recorded runs of attacks, and what the published tariff would have charged for them.

Source: the authors' traces and evaluation, Dziedzic et al., ICLR 2022 (arXiv 2201.09243), Table 2.
"""

from __future__ import annotations

import csv
import math
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from modeltoll.errors import CalibrationError
from modeltoll.pricing.published import PublishedTerms, StandardLine

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from modeltoll.records import Floats

__all__ = ["CHECKPOINTS", "ModeCost", "Trace", "fit_standard", "read_trace", "replay_modes"]

CHECKPOINTS = (9_000, 10_000, 30_000)  # the counts of queries at which the paper reports a cost
_QUERIES_PER_BATCH = 1000 / 16  # the evaluation's: a row of 16 batches counts as 1000 queries
_SECONDS = {"": 1.0, "s": 1.0, "sec": 1.0, "seconds": 1.0, "ms": 1e-3, "min": 60.0, "h": 3600.0}
_NAMES = {"privacy": "leak", "privacy cost": "leak", "diff queries": "batches"}
_WORDS = {"time": "time", "leak": "privacy cost", "queries": "number of queries"}
_GAP = 1.5  # a step so many times the usual one is taken for two, with a row missing between


@dataclass(frozen=True, slots=True, eq=False)
class Trace:
    """One attack's run. Cumulative seconds, queries and leak, each of shape (steps,)."""

    mode: str
    seconds: Floats
    queries: Floats
    leaks: Floats


@dataclass(frozen=True, slots=True)
class ModeCost:
    """What one mode costs up to ``queries`` queries, in seconds without and with the proof of work."""

    mode: str
    queries: int
    seconds_without: float
    seconds_with: float
    ratio: float


def _columns(header: Sequence[str], path: Path) -> dict[str, tuple[int, float]]:
    """Where each column stands and what scales it to seconds; a unit may follow the name in brackets."""
    columns = {}
    for place, title in enumerate(header):
        name, _, bracket = title.strip().lower().partition("(")
        name, unit = name.strip(), bracket.partition(")")[0].strip()
        if name == "time" and unit not in _SECONDS:
            raise CalibrationError(f"{path}: the time's unit {unit!r} is not one of s, ms, min, h")
        columns[_NAMES.get(name, name)] = (place, _SECONDS[unit] if name == "time" else 1.0)
    for name in ("time", "leak"):
        if name not in columns:
            raise CalibrationError(f"{path}: the column '{name if name == 'time' else 'privacy cost'}' is missing")
    if not {"queries", "batches"} & set(columns):
        raise CalibrationError(f"{path}: the column 'queries' or 'diff queries' is missing")
    return columns


def _number(row: Sequence[str], column: tuple[int, float], where: str) -> float:
    place, scale = column
    try:
        number = scale * float(row[place])
    except (IndexError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        raise CalibrationError(f"{where}: column {place + 1} is not a finite number")
    return number


@dataclass(frozen=True, slots=True)
class _Row:
    """One line of a file: where it stands, and its numbers by column."""

    where: str
    numbers: Mapping[str, float]


def _check_order(mode: str, rows: Sequence[_Row]) -> None:
    """Refuse a run whose rows do not follow one another: totals grow, time and queries always, leak never falls."""
    if rows[-1].numbers["time"] <= 0.0:
        raise CalibrationError(f"{rows[-1].where}: mode '{mode}' has taken no time")
    cumulative = [name for name in ("time", "queries", "leak") if name in rows[0].numbers]
    for before, after in pairwise(rows):
        grown = {name: after.numbers[name] - before.numbers[name] for name in cumulative}
        grown.setdefault("queries", after.numbers.get("batches", 0.0))
        for name, more in grown.items():
            if more < 0.0 or (more == 0.0 and name != "leak"):
                raise CalibrationError(
                    f"{after.where}: the {_WORDS[name]} of mode '{mode}' does not grow; "
                    "a run's rows must stand in the order in which they were asked, each once"
                )


def _check_whole(trace: Trace, rows: Sequence[_Row], *, counted: bool) -> None:
    """Refuse a run in which a row seems to be missing.

    Where queries are ``counted`` over the whole run, a missing row is a step of about twice as many queries; where
    only the row's own batches stand in the file, it is a step of about twice the seconds and twice the leak per query.
    """
    asked = np.diff(trace.queries)
    if len(asked) < 3:
        return
    steps = (asked,) if counted else (np.diff(trace.seconds) / asked, np.diff(trace.leaks) / asked)
    wide = np.all([step > _GAP * np.median(step) for step in steps], axis=0)
    if wide.any():
        where = rows[int(np.flatnonzero(wide)[0]) + 1].where
        raise CalibrationError(
            f"{where}: a row of mode '{trace.mode}' seems to be missing before it; put it back, or cut the run there"
        )


def _trace(mode: str, rows: Sequence[_Row]) -> Trace:
    def column(name: str) -> Floats:
        return np.array([row.numbers[name] for row in rows])

    _check_order(mode, rows)
    counted = "queries" in rows[0].numbers
    if counted:
        queries = column("queries")
    else:
        batches = column("batches")
        batches[0] = 0.0  # the evaluation begins to count after the first row
        queries = _QUERIES_PER_BATCH * np.cumsum(batches)
    trace = Trace(mode, column("time"), queries, column("leak"))
    _check_whole(trace, rows, counted=counted)
    return trace


def read_trace(path: Path) -> tuple[Trace, ...]:
    """The runs in a CSV file, by mode, in the order in which the modes first occur.

    Columns: ``time`` (s, or a unit in brackets), ``privacy cost`` or ``privacy`` (both cumulative), either ``queries``
    (cumulative) or ``diff queries`` (batches of 64 in the row), and ``mode`` (without it: ``standard``).

    Raises:
        CalibrationError: the file cannot be read, lacks a column, holds something that is not a finite number, or a
            mode's rows are not in order, are repeated, or some seem to be missing.
    """
    try:
        lines = list(csv.reader(path.read_text("utf-8-sig").splitlines()))
    except OSError as error:
        raise CalibrationError(f"cannot read {path}: {error.strerror}") from None
    except (UnicodeDecodeError, csv.Error):
        raise CalibrationError(f"{path} is not a CSV file") from None
    columns = _columns(lines[0] if lines else [], path)
    place, _ = columns.pop("mode", (None, 1.0))
    wanted: dict[str, tuple[int, float]] = {
        name: columns[name] for name in ("time", "leak", "queries", "batches") if name in columns
    }
    modes: dict[str, list[_Row]] = {}
    for count, row in enumerate(lines[1:], start=2):
        if not row:
            continue
        where = f"{path}, line {count}"
        numbers = {name: _number(row, column, where) for name, column in wanted.items()}
        mode = "standard" if place is None else "".join(row[place : place + 1]).strip()
        modes.setdefault(mode, []).append(_Row(where, numbers))
    if not modes:
        raise CalibrationError(f"{path} holds no rows")
    return tuple(_trace(mode, rows) for mode, rows in modes.items())


def fit_standard(path: Path) -> StandardLine:
    """Least squares through the standard user's trace: cumulative leak over queries.

    Raises:
        CalibrationError: as for ``read_trace``; or the file holds several modes, or only one count of queries.
    """
    traces = read_trace(path)
    if len(traces) > 1 or np.ptp(traces[0].queries) == 0.0:
        raise CalibrationError(f"{path} must hold one mode, at two or more counts of queries")
    slope, intercept = np.polyfit(traces[0].queries, traces[0].leaks, 1)
    return StandardLine(float(slope), float(intercept))


def _puzzles(trace: Trace, line: StandardLine, terms: PublishedTerms) -> Floats:
    """Seconds of proof of work at each row of a trace, (steps,).

    In the first row leak and queries are taken as 0. Where the terms name no step, each row is charged one puzzle,
    and a second is taken off the first: the authors' evaluation. Else a row pays for its own queries' share of steps.
    """
    leaks, queries = trace.leaks.copy(), trace.queries.copy()
    leaks[0] = queries[0] = 0.0
    puzzles = terms.seconds(leaks, line.leak(queries))
    if terms.rows_per_step is not None:
        shares: Floats = puzzles * np.diff(trace.queries, prepend=0.0) / terms.rows_per_step
        return shares
    puzzles[0] -= 1.0
    return puzzles


def replay_modes(
    traces: Iterable[Trace], line: StandardLine, terms: PublishedTerms, at: Sequence[int] = CHECKPOINTS
) -> list[ModeCost]:
    """What each trace costs under the published tariff.

    One cost per trace at its end, and before it one per count in ``at`` below its end, at the last row that does not
    exceed the count.
    """
    costs = []
    for trace in traces:
        with_work = trace.seconds + np.cumsum(_puzzles(trace, line, terms))
        last = len(trace.queries) - 1
        ends = {int(np.searchsorted(trace.queries, count, "right")) - 1 for count in at if count < trace.queries[-1]}
        for end in sorted({end for end in ends if end > 0} | {last}):
            without, paid = float(trace.seconds[end]), float(with_work[end])
            costs.append(ModeCost(trace.mode, round(float(trace.queries[end])), without, paid, paid / without))
    return costs
