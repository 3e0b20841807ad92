"""Replays the log of the last day under other settings: what it costs, and who would be freed or caught."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from modeltoll.gateway.admin.dashboard.honest_waits import SHARES, quantile, row_waits
from modeltoll.records import Assessment, Leaks

if TYPE_CHECKING:
    from modeltoll.gateway.admin.dashboard.log_arrays import DayLog
    from modeltoll.gateway.admin.dashboard.suspects import Finding
    from modeltoll.pricing.conformal_tariff import ConformalTariff
    from modeltoll.records import Bools, Floats, Integers

__all__ = ["ReplayCost", "WhatIfComparison", "WhoChanges", "compare"]

_MAX_NAMES = 100  # of callers who are listed


@dataclass(frozen=True, slots=True)
class ReplayCost:
    """What the day cost under one set of settings, in reference seconds, without new-account tolls.

    Suspects are callers who are suspected in the log, by their account, or by the settings in force; all others are the
    rest. ``waits`` are the waits of the rest's rows at the shares of ``SHARES``, None without rows. ``false_alarms``: the
    number of the rest, ``detected`` that of suspects, whom these settings suspect.
    """

    name: str
    honest_work: float
    honest_mean: float | None
    waits: tuple[float | None, ...]
    false_alarms: int
    suspect_work: float
    suspect_mean: float | None
    detected: int


@dataclass(frozen=True, slots=True)
class WhoChanges:
    """A caller whom one of two settings suspects. ``name``: of its account, None where that is not known.

    ``before``, ``after``: whether the settings in force and the others suspect it. ``mean_before``, ``mean_after``: the mean
    price of its rows of the day in reference seconds, replayed; None without rows. ``from_account``: judged by all the
    evidence in its account, and not only by the rows of the day.
    """

    hash: str
    name: str | None
    before: bool
    after: bool
    mean_before: float | None
    mean_after: float | None
    from_account: bool

    @property
    def freed(self) -> bool:
        """Whether only the settings in force suspect it."""
        return self.before and not self.after

    @property
    def caught(self) -> bool:
        """Whether only the other settings suspect it."""
        return self.after and not self.before


@dataclass(frozen=True, slots=True)
class WhatIfComparison:
    """The costs as charged, replayed with the settings in force, and replayed with the other settings, if any.

    ``who``: the callers whom either settings suspect, those who would be freed or caught first; without others, those whom
    the settings in force suspect.
    """

    honest_callers: int
    honest_rows: int
    suspects: int
    suspect_rows: int
    costs: tuple[ReplayCost, ...]
    who: tuple[WhoChanges, ...]


@dataclass(frozen=True, slots=True, eq=False)
class _Replay:
    """A replay of the paying rows: ``work`` (rows,) and whether the row's caller is suspected at that row, (rows,)."""

    tariff: ConformalTariff
    work: Floats
    suspected: Bools


def compare(
    day: DayLog,
    found: Mapping[str, Finding],
    tariff: ConformalTariff,
    assessment: Assessment,
    other: tuple[ConformalTariff, Assessment] | None,
) -> WhatIfComparison:
    """Costs of the day under the settings in force, and under others, each with its assessment of the day's rows.

    ``found``: what the settings in force conclude from the accounts, by hash. Exempt callers are left out. Every caller is
    replayed as new at the start of the day, without markup, discount and groups; a row with the same leaks as an earlier row
    of the same caller counts as a repetition.
    """
    paying, count = day.rows_of(~day.exempt), len(day.hashes)
    callers = day.callers[day.row_lines][paying]
    logged = day.rows_of(day.suspected)[paying]
    settings = [(tariff, assessment)] if other is None else [(tariff, assessment), other]
    replays = [_replayed(each, rated, day, paying) for each, rated in settings]
    by_account = np.array([hashed in found and found[hashed].evidence.suspected for hashed in day.hashes], np.bool_)
    present = _any_of(np.ones(len(callers), np.bool_), callers, count)
    suspects = _any_of(logged | replays[0].suspected, callers, count) | (by_account & present)
    suspect_rows = suspects[callers]
    columns = [("as charged", row_waits(day, tariff, assessment)[paying], logged)]
    names = ("replayed, settings in force", "replayed, these settings")
    columns += [(name, each.work, each.suspected) for name, each in zip(names, replays, strict=False)]
    return WhatIfComparison(
        honest_callers=int((present & ~suspects).sum()),
        honest_rows=int((~suspect_rows).sum()),
        suspects=int(suspects.sum()),
        suspect_rows=int(suspect_rows.sum()),
        costs=tuple(
            _replay_cost(name, work, _any_of(suspected_rows, callers, count), suspects, suspect_rows)
            for name, work, suspected_rows in columns
        ),
        who=_who_changes(day, found, replays, callers),
    )


def _who_changes(
    day: DayLog, found: Mapping[str, Finding], replays: list[_Replay], callers: Integers
) -> tuple[WhoChanges, ...]:
    """The callers whom one of the settings suspects, by the evidence in their account, or without one by the replay."""
    count, places = len(day.hashes), {hashed: place for place, hashed in enumerate(day.hashes)}
    rows = np.bincount(callers, minlength=count)
    works = [np.bincount(callers, each.work, count) for each in replays]
    at_day = [_any_of(each.suspected, callers, count) for each in replays]
    tariffs = [each.tariff for each in replays]
    changes = []
    for hashed in found.keys() | places.keys():
        place, finding = places.get(hashed), found.get(hashed)
        if finding is not None:
            judged = [finding.evidence.suspected, *(_suspects(each, finding, hashed) for each in tariffs[1:])]
        else:
            judged = [bool(each[places[hashed]]) for each in at_day]
        if not any(judged):
            continue
        seen = place is not None and rows[place] > 0
        means = [float(each[place] / rows[place]) if seen else None for each in works]
        name = None if finding is None else finding.account.caller.name
        changes.append(WhoChanges(hashed, name, judged[0], judged[-1], means[0], means[-1], finding is not None))
    changes.sort(key=lambda each: (each.before == each.after, each.before, each.name or each.hash))
    return tuple(changes[:_MAX_NAMES])


def _suspects(tariff: ConformalTariff, finding: Finding, hashed: str) -> bool:
    """Whether other settings suspect a caller by the evidence in its account; blocks that were added before stay as they are."""
    return tariff.suspicion.verdict(finding.account, tariff.own_kind(hashed)).suspected


def _replayed(tariff: ConformalTariff, assessment: Assessment, day: DayLog, paying: Bools) -> _Replay:
    """The paying rows of the day priced by a tariff, with suspicion from the start of the day on."""
    leaks = Leaks(day.measures, day.leaks[paying], None if not len(day.classes) else day.classes[paying])
    some = Assessment(assessment.factors[paying], assessment.rarest[paying], assessment.cells[paying], leaks)
    callers, fresh = day.callers[day.row_lines][paying], _first_occurrences(day)[paying]
    log_evidence, frequent = np.zeros(len(callers)), np.zeros(len(callers), np.bool_)
    own = {place: tariff.own_kind(hashed) for place, hashed in enumerate(day.hashes)}
    known = {place: kind for place, kind in own.items() if kind is not None}
    for kind, rows in [
        (None, ~np.isin(callers, list(known))),
        *((kind, callers == place) for place, kind in known.items()),
    ]:
        if rows.any():
            running = tariff.suspicion.running(some.cells[rows], callers[rows], fresh[rows], kind)
            log_evidence[rows], frequent[rows] = running.log_evidence, running.frequent
    surcharge = tariff.suspicion.surcharge_at(log_evidence)
    units = tariff.row_units(some, surcharge, frequent, clean=day.clean[paying])
    return _Replay(tariff, tariff.unit_seconds * units, surcharge > 1.0)


def _first_occurrences(day: DayLog) -> Bools:
    """False for rows with the same leaks as an earlier row of the same caller, (rows,)."""
    keys = (*day.leaks.T, day.callers[day.row_lines])
    order = np.lexsort(keys)  # stable: among equal rows the earliest is first
    first_occurrences = np.ones(len(order), np.bool_)
    first_occurrences[order[1:]] = np.any([key[order[1:]] != key[order[:-1]] for key in keys], axis=0)
    return first_occurrences


def _any_of(marks: Bools, callers: Integers, count: int) -> Bools:
    """Whether any row of each caller is marked, (callers,)."""
    return np.bincount(callers, marks, count) > 0


def _replay_cost(name: str, work: Floats, suspected: Bools, suspects: Bools, suspect_rows: Bools) -> ReplayCost:
    """``suspected`` and ``suspects`` are of callers, (callers,); ``work`` and ``suspect_rows`` of rows, (rows,)."""
    honest, suspect_work = work[~suspect_rows], work[suspect_rows]
    return ReplayCost(
        name=name,
        honest_work=float(honest.sum()),
        honest_mean=float(honest.mean()) if len(honest) else None,
        waits=tuple(quantile(honest, share) for share in SHARES),
        false_alarms=int((suspected & ~suspects).sum()),
        suspect_work=float(suspect_work.sum()),
        suspect_mean=float(suspect_work.mean()) if len(suspect_work) else None,
        detected=int((suspected & suspects).sum()),
    )
