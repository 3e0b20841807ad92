"""How the callers of the day compare with the kinds of honest rows: who is nearest to which, and what they pay."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from modeltoll.formatting import grouped_count
from modeltoll.pricing.kinds import CALLER

if TYPE_CHECKING:
    from collections.abc import Mapping

    from modeltoll.gateway.admin.dashboard.log_arrays import DayLog
    from modeltoll.gateway.admin.dashboard.suspects import Finding
    from modeltoll.pricing.conformal_tariff import ConformalTariff
    from modeltoll.pricing.drift import DriftReading
    from modeltoll.records import Assessment, Floats

__all__ = ["KindLine", "KindsView", "kinds_view"]

_ENOUGH_ROWS = 1_000  # of a kind, from which on its mean price says something
_FEW_ROWS = 100  # of all callers' evidence, below which nothing can be said


@dataclass(frozen=True, slots=True)
class KindLine:
    """The callers whose rows lie nearest to one kind. ``power``: the largest evidence against one, a decimal logarithm.

    ``rows``: of the day, with the mean price ``mean_units`` before surcharges and discounts; None without rows.
    """

    name: str
    role: str
    callers: int
    suspects: int
    power: float
    rows: int
    mean_units: float | None


@dataclass(frozen=True, slots=True)
class KindsView:
    """The callers by nearest kind. ``state``: what may be said of the traffic, in words; ``good`` where it is as calibrated."""

    lines: tuple[KindLine, ...]
    state: str
    good: bool
    bad: bool


def kinds_view(
    found: Mapping[str, Finding],
    day: DayLog,
    tariff: ConformalTariff,
    assessment: Assessment,
    reading: DriftReading | None,
) -> KindsView:
    """The accounts of this tariff, sorted to their nearest kinds, with the prices of their rows of the day."""
    present = [hashed for hashed, each in found.items() if each.account.evidence.rows > 0]
    nearest = _nearest(found, present, tariff)
    rows, factors = _day_sums(day, assessment)
    lines = []
    for place, (name, role) in enumerate(_kind_names(tariff)):
        members = [hashed for hashed, index in zip(present, nearest, strict=True) if index == place]
        if not members:
            continue
        count = sum(rows.get(hashed, 0) for hashed in members)
        total = sum(factors.get(hashed, 0.0) for hashed in members)
        line = KindLine(
            name=name,
            role=role,
            callers=len(members),
            suspects=sum(found[hashed].evidence.suspected for hashed in members),
            power=max(found[hashed].evidence.power for hashed in members),
            rows=count,
            mean_units=total / count if count else None,
        )
        lines.append(line)
    counted = sum(found[hashed].account.evidence.rows for hashed in present)
    return _view(tuple(sorted(lines, key=lambda line: -line.callers)), counted, day, tariff, reading)


def _kind_names(tariff: ConformalTariff) -> list[tuple[str, str]]:
    """Name and role of the kinds that count for every caller, and last the logs of callers known to be honest."""
    kinds = [(kind.name, str(kind.role)) for kind in tariff.calibration.kinds if kind.role != CALLER]
    return [*kinds, ("a caller's own log", CALLER)]


def _nearest(found: Mapping[str, Finding], present: list[str], tariff: ConformalTariff) -> list[int]:
    """The place of the nearest kind of each caller, by the likelihood of its rows."""
    if not present:
        return []
    counts = np.array([found[hashed].account.evidence.counts for hashed in present], np.float64)
    laws: Floats = tariff.suspicion.laws.laws
    places: list[int] = (counts @ np.log(laws).T).argmax(axis=1).tolist()
    own = [tariff.own_kind(hashed) is not None for hashed in present]
    return [len(laws) if known else place for place, known in zip(places, own, strict=True)]


def _day_sums(day: DayLog, assessment: Assessment) -> tuple[dict[str, int], dict[str, float]]:
    """By hash, the measured rows of the day and the sum of their factors; without exempt callers."""
    paying = day.rows_of(~day.exempt)
    callers, count = day.callers[day.row_lines][paying], len(day.hashes)
    rows = np.bincount(callers, minlength=count).tolist()
    factors = np.bincount(callers, assessment.factors[paying], count).tolist()
    return dict(zip(day.hashes, rows, strict=True)), dict(zip(day.hashes, factors, strict=True))


def _view(
    lines: tuple[KindLine, ...], counted: int, day: DayLog, tariff: ConformalTariff, reading: DriftReading | None
) -> KindsView:
    """ "As calibrated" is said only where every caller can be honest, no kind is too dear, and the whole has not drifted."""
    tolerated = 1.0 + tariff.calibration.suspicion.rho
    suspected = sum(line.suspects for line in lines)
    suspected_today = len(set(day.callers[day.suspected].tolist()))
    dear = [line for line in lines if line.rows >= _ENOUGH_ROWS and (line.mean_units or 0.0) > tolerated]
    if suspected or suspected_today:
        number = max(suspected, suspected_today)
        return KindsView(lines, f"{grouped_count(number, 'caller')} unlike every kind", False, True)
    if dear:
        return KindsView(lines, f"dearer than calibrated: {', '.join(line.name for line in dear)}", False, True)
    if reading is not None and reading.drifted:
        return KindsView(lines, "has drifted", False, True)
    if counted < _FEW_ROWS:
        return KindsView(lines, "too few rows to tell", False, False)
    return KindsView(lines, "as calibrated", True, False)
