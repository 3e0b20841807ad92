"""Recorded traces of attacks, and their cost under the published tariff.

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
from modeltoll.pricing.published_tariff import PublishedTerms, StandardLine

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from modeltoll.records import Floats

__all__ = ["CHECKPOINTS", "ModeCost", "Trace", "fit_standard", "read_trace", "replay_modes"]

CHECKPOINTS = (9_000, 10_000, 30_000)  # numbers of queries for which the paper reports a cost
_QUERIES_PER_BATCH = 1000 / 16  # as in the authors' evaluation, where a row of 16 batches counts as 1000 queries
_SECONDS = {"": 1.0, "s": 1.0, "sec": 1.0, "seconds": 1.0, "ms": 1e-3, "min": 60.0, "h": 3600.0}
_NAMES = {"privacy": "leak", "privacy cost": "leak", "diff queries": "batches"}
_WORDS = {"time": "time", "leak": "privacy cost", "queries": "number of queries"}
_GAP = 1.5  # a step larger than this many median steps indicates a missing row


@dataclass(frozen=True, slots=True, eq=False)
class Trace:
    """The trace of one attack: cumulative seconds, queries and leaks, each of shape (steps,)."""

    mode: str
    seconds: Floats
    queries: Floats
    leaks: Floats


@dataclass(frozen=True, slots=True)
class ModeCost:
    """The cost of one mode up to ``queries`` queries, in seconds without and with the proof of work."""

    mode: str
    queries: int
    seconds_without: float
    seconds_with: float
    ratio: float


def _columns(header: Sequence[str], path: Path) -> dict[str, tuple[int, float]]:
    """Index and scale (to seconds) of each column; a unit may follow the name in brackets."""
    columns = {}
    for index, title in enumerate(header):
        name, _, bracket = title.strip().lower().partition("(")
        name, unit = name.strip(), bracket.partition(")")[0].strip()
        if name == "time" and unit not in _SECONDS:
            raise CalibrationError(f"{path}: the time's unit {unit!r} is not one of s, ms, min, h")
        columns[_NAMES.get(name, name)] = (index, _SECONDS[unit] if name == "time" else 1.0)
    for name in ("time", "leak"):
        if name not in columns:
            raise CalibrationError(f"{path}: the column '{name if name == 'time' else 'privacy cost'}' is missing")
    if not {"queries", "batches"} & set(columns):
        raise CalibrationError(f"{path}: the column 'queries' or 'diff queries' is missing")
    return columns


def _number(row: Sequence[str], column: tuple[int, float], where: str) -> float:
    index, scale = column
    try:
        number = scale * float(row[index])
    except (IndexError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        raise CalibrationError(f"{where}: column {index + 1} is not a finite number")
    return number


@dataclass(frozen=True, slots=True)
class _Row:
    """One line of a file: its location for messages, and its numbers by column."""

    where: str
    numbers: Mapping[str, float]


def _check_order(mode: str, rows: Sequence[_Row]) -> None:
    """Check that the rows are in order: time and queries increase strictly, the leak never decreases."""
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
                    "the rows of a trace must be in the order of the queries, each once"
                )


def _check_whole(trace: Trace, rows: Sequence[_Row], *, counted: bool) -> None:
    """Check that no row seems to be missing.

    If the file has cumulative queries (``counted``), a missing row shows as a step of about twice as many queries. If
    it has batches per row, it shows as a step of about twice the seconds and twice the leak per query.
    """
    queries = np.diff(trace.queries)
    if len(queries) < 3:
        return
    steps = (queries,) if counted else (np.diff(trace.seconds) / queries, np.diff(trace.leaks) / queries)
    wide = np.all([step > _GAP * np.median(step) for step in steps], axis=0)
    if wide.any():
        where = rows[int(np.flatnonzero(wide)[0]) + 1].where
        raise CalibrationError(
            f"{where}: a row of mode '{trace.mode}' seems to be missing before it; restore it, or cut the trace there"
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
        batches[0] = 0.0  # the authors' evaluation starts to count after the first row
        queries = _QUERIES_PER_BATCH * np.cumsum(batches)
    trace = Trace(mode, column("time"), queries, column("leak"))
    _check_whole(trace, rows, counted=counted)
    return trace


def read_trace(path: Path) -> tuple[Trace, ...]:
    """The traces in a CSV file, one per mode, in the order of the first occurrence of the modes.

    Columns: ``time`` (s, or a unit in brackets), ``privacy cost`` or ``privacy`` (both cumulative), either ``queries``
    (cumulative) or ``diff queries`` (batches of 64 in the row), and ``mode`` (``standard`` if missing).

    Raises:
        CalibrationError: the file cannot be read, lacks a column, has a value that is not a finite number, or the rows
            of a mode are out of order, repeated, or seem to be incomplete.
    """
    try:
        lines = list(csv.reader(path.read_text("utf-8-sig").splitlines()))
    except OSError as error:
        raise CalibrationError(f"cannot read {path}: {error.strerror}") from None
    except (UnicodeDecodeError, csv.Error):
        raise CalibrationError(f"{path} is not a CSV file") from None
    columns = _columns(lines[0] if lines else [], path)
    index, _ = columns.pop("mode", (None, 1.0))
    wanted: dict[str, tuple[int, float]] = {
        name: columns[name] for name in ("time", "leak", "queries", "batches") if name in columns
    }
    modes: dict[str, list[_Row]] = {}
    for count, row in enumerate(lines[1:], start=2):
        if not row:
            continue
        where = f"{path}, line {count}"
        numbers = {name: _number(row, column, where) for name, column in wanted.items()}
        mode = "standard" if index is None else "".join(row[index : index + 1]).strip()
        modes.setdefault(mode, []).append(_Row(where, numbers))
    if not modes:
        raise CalibrationError(f"{path} holds no rows")
    return tuple(_trace(mode, rows) for mode, rows in modes.items())


def fit_standard(path: Path) -> StandardLine:
    """The least-squares line through the standard user's trace: cumulative leak over queries.

    Raises:
        CalibrationError: as for ``read_trace``, or the file has several modes, or a single number of queries.
    """
    traces = read_trace(path)
    if len(traces) > 1 or np.ptp(traces[0].queries) == 0.0:
        raise CalibrationError(f"{path} must have one mode, at two or more numbers of queries")
    slope, intercept = np.polyfit(traces[0].queries, traces[0].leaks, 1)
    return StandardLine(float(slope), float(intercept))


def _puzzles(trace: Trace, line: StandardLine, terms: PublishedTerms) -> Floats:
    """Seconds of proof of work for each row of a trace, (steps,).

    Leak and queries of the first row are taken as 0. Without ``rows_per_step`` each row is charged one puzzle, less a
    second for the first one, as in the authors' evaluation. With it, a row is charged in proportion to its queries.
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
    """The cost of each trace under the published tariff.

    One cost at the end of each trace, preceded by one for each number of queries in ``at`` below it, taken at the last
    row that does not exceed that number.
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
