"""The published tariff, exact: Dziedzic et al., ICLR 2022 (arXiv 2201.09243), section 4 and its evaluation.

A caller's leak is compared with what a standard user would have leaked by now, and the excess x is exponentiated:
T = clip(a^x, shortest, longest) seconds. Kept as a reference and for comparison; its faults are known.
"""

from __future__ import annotations

import csv
import hashlib
import json
import math
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from modeltoll.errors import CalibrationError
from modeltoll.pricing.tariff import checked_values
from modeltoll.records import Assessment, Work

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from modeltoll.records import Account, Floats, Leaks

__all__ = [
    "ModeCost",
    "PublishedTariff",
    "PublishedTerms",
    "StandardLine",
    "Trace",
    "fit_standard",
    "leading_zero_bits",
    "read_trace",
    "replay",
]

_QUERIES_PER_BATCH = 1000 / 16  # the evaluation's: a row of 16 batches counts as 1000 queries
_SECONDS = {"": 1.0, "s": 1.0, "sec": 1.0, "seconds": 1.0, "ms": 1e-3, "min": 60.0, "h": 3600.0}
_NAMES = {"privacy": "leak", "privacy cost": "leak", "diff queries": "batches"}


@dataclass(frozen=True, slots=True)
class PublishedTerms:
    """``base`` a, ``shortest`` and ``longest`` T in seconds: those of the PATE cost on MNIST and CIFAR-10.

    ``signed`` lets a caller who leaks less than the standard user pay less; False takes the absolute value, as the
    authors do. One puzzle of T seconds is charged per ``rows_per_step`` rows.
    """

    base: float = 1.0075
    shortest: float = 0.1
    longest: float = 2948.468
    signed: bool = True
    rows_per_step: int = 1000

    def seconds(self, leak: Floats, predicted: Floats) -> Floats:
        """T of cumulative leaks against the standard user's, any shape, in seconds."""
        excess = leak - predicted if self.signed else np.abs(leak - predicted)
        exponent = np.minimum(excess * math.log(self.base), math.log(self.longest))
        seconds: Floats = np.clip(np.exp(exponent), self.shortest, self.longest)
        return seconds


@dataclass(frozen=True, slots=True)
class StandardLine:
    """The standard user's cumulative leak after so many queries: slope * queries + intercept."""

    slope: float
    intercept: float

    def leak(self, queries: Floats) -> Floats:
        """The predicted cumulative leak, in the shape of ``queries``."""
        return self.slope * queries + self.intercept


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


def leading_zero_bits(seconds: Floats) -> Floats:
    """The authors' difficulty for a wait: floor(3.51429 log10 T + 18.53175), at least 16 leading zero bits."""
    bits: Floats = np.maximum(np.floor(3.51429 * np.log10(seconds) + 18.53175), 16.0)
    return bits


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


def _trace(mode: str, rows: Sequence[Mapping[str, float]]) -> Trace:
    def column(name: str) -> Floats:
        return np.array([row[name] for row in rows])

    if "queries" in rows[0]:
        return Trace(mode, column("time"), column("queries"), column("leak"))
    batches = column("batches")
    batches[0] = 0.0  # the evaluation begins to count after the first row
    return Trace(mode, column("time"), _QUERIES_PER_BATCH * np.cumsum(batches), column("leak"))


def read_trace(path: Path) -> tuple[Trace, ...]:
    """The runs in a CSV file, by mode, in the order in which the modes first occur.

    Columns: ``time`` (s, or a unit in brackets), ``privacy cost`` or ``privacy`` (both cumulative), either ``queries``
    (cumulative) or ``diff queries`` (batches of 64 in the row), and ``mode`` (without it: ``standard``).

    Raises:
        CalibrationError: the file cannot be read, lacks a column, or holds something that is not a finite number.
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
    modes: dict[str, list[dict[str, float]]] = {}
    for count, row in enumerate(lines[1:], start=2):
        if not row:
            continue
        numbers = {name: _number(row, column, f"{path}, line {count}") for name, column in wanted.items()}
        mode = "standard" if place is None else "".join(row[place : place + 1]).strip()
        modes.setdefault(mode, []).append(numbers)
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


def replay(
    traces: Iterable[Trace], line: StandardLine, terms: PublishedTerms, at: Sequence[int] = ()
) -> list[ModeCost]:
    """Charge one puzzle per row of each trace, as the authors' evaluation does.

    One cost per trace at its end, and before it one per count in ``at`` below its end, at the last row that does not
    exceed the count. In the first row leak and queries are taken as 0, and a second is taken off its puzzle.
    """
    costs = []
    for trace in traces:
        leaks, queries = trace.leaks.copy(), trace.queries.copy()
        leaks[0] = queries[0] = 0.0
        puzzles = terms.seconds(leaks, line.leak(queries))
        puzzles[0] -= 1.0
        with_work = trace.seconds + np.cumsum(puzzles)
        ends = {int(np.searchsorted(trace.queries, count, "right")) - 1 for count in at if count < trace.queries[-1]}
        for end in sorted({end for end in ends if end > 0} | {len(queries) - 1}):
            without, paid = float(trace.seconds[end]), float(with_work[end])
            ratio = paid / without if without > 0.0 else math.inf
            costs.append(ModeCost(trace.mode, round(float(trace.queries[end])), without, paid, ratio))
    return costs


@dataclass(frozen=True, slots=True)
class PublishedTariff:
    """The published tariff behind a gateway: each row pays its share, T / rows_per_step, of the puzzle of its step.

    T is taken at the caller's cumulative leak and rows after that row. The price of a request is thus the increase of
    one running total, so that batching changes nothing and parallel requests pay for different rows; the price of the
    caller's history is the published one. The rows of an account do not start anew with its leaks when the tariff
    changes: reset accounts that were kept under another tariff, or a signed tariff will charge them too little.
    """

    measure: str
    line: StandardLine
    terms: PublishedTerms = field(default_factory=PublishedTerms)

    @property
    def identity(self) -> str:
        """SHA-256, in hexadecimal, of measure, line and terms."""
        members = {"tariff": "published"} | asdict(self)
        return hashlib.sha256(json.dumps(members, sort_keys=True).encode("ascii")).hexdigest()

    @property
    def measures(self) -> tuple[str, ...]:
        """The one measure that it prices."""
        return (self.measure,)

    @property
    def shape(self) -> tuple[int, int]:
        """One bin: this tariff keeps no p-values."""
        return (1, 1)

    def assess(self, leaks: Leaks, rng: np.random.Generator) -> Assessment:  # noqa: ARG002  the plug's signature
        """The factors are the rows' leaks themselves; no row is rare, since nothing is compared with honest rows.

        Raises:
            CalibrationError: the leaks are of another measure.
            AnswerError: a leak is negative or not finite.
        """
        values = checked_values(leaks, self.measures)
        rows = len(values)
        return Assessment(values[:, 0].copy(), np.ones(rows), np.zeros((rows, 1), dtype=np.int64))

    def work(self, assessment: Assessment, account: Account) -> Work:
        """The sum over the request's rows of T / rows_per_step, at the totals after each row."""
        rows = len(assessment.factors)
        leaks = account.leaks[0] - assessment.factors.sum() + np.cumsum(assessment.factors)
        queries = np.arange(account.rows - rows + 1, account.rows + 1, dtype=np.float64)
        seconds = float(self.terms.seconds(leaks, self.line.leak(queries)).sum()) / self.terms.rows_per_step
        return Work(seconds, rows, seconds)
