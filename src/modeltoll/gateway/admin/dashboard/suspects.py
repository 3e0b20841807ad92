"""Who is under suspicion: since when, honest for how long before, and which cells speak against them and which do not."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from modeltoll.gateway.admin.dashboard.suspected_since import suspected_since
from modeltoll.gateway.core.suspect_monitor import LONG_STANDING_ROWS
from modeltoll.pricing.explain import cell_readings, kind_distances

if TYPE_CHECKING:
    from collections.abc import Mapping

    from modeltoll.evidence_records import Verdict
    from modeltoll.gateway.admin.dashboard.ledger_reader import LedgerSnapshot
    from modeltoll.gateway.admin.dashboard.log_arrays import DayLog
    from modeltoll.gateway.admin.dashboard.suspected_since import SuspectedSince
    from modeltoll.pricing.conformal_tariff import ConformalTariff
    from modeltoll.pricing.explanations import CellReading, KindDistance
    from modeltoll.records import Account

__all__ = [
    "Finding",
    "Suspect",
    "SuspectList",
    "SuspicionEvidence",
    "cells_of",
    "evidence_of",
    "findings",
    "suspects",
]

MAX_SUSPECTS = 50  # of whom the cells are shown
_SHOWN_CELLS = 3
_LOG_10 = math.log(10.0)


@dataclass(frozen=True, slots=True)
class SuspicionEvidence:
    """The evidence against a caller and the threshold of suspicion, as decimal logarithms, and the surcharge.

    ``power`` is at least this much. ``known_honest``: the caller's own log is a kind.
    """

    power: float
    threshold: float
    surcharge: float
    known_honest: bool = False

    @property
    def suspected(self) -> bool:
        """Whether the evidence has reached the threshold."""
        return self.surcharge > 1.0


@dataclass(frozen=True, slots=True, eq=False)
class Finding:
    """What a tariff concludes from an account of its own."""

    account: Account
    verdict: Verdict
    evidence: SuspicionEvidence


@dataclass(frozen=True, slots=True)
class Suspect:
    """A caller under suspicion.

    ``hash``, ``name``: in the log and of the account; the name is None where the account is not known. ``since``: None where
    no line says so. ``known_seconds``, ``known_rows``: for how long and with how many rows it was not suspected before; None
    where that is not known. ``against``, ``others``: the cells that speak most against it, and those that speak least.
    """

    hash: str
    name: str | None
    since: SuspectedSince | None
    known_seconds: float | None
    known_rows: int | None
    rows: int
    work: float
    evidence: SuspicionEvidence | None
    against: tuple[CellReading, ...] = ()
    others: tuple[CellReading, ...] = ()
    nearest: KindDistance | None = None
    long_standing: bool = False


@dataclass(frozen=True, slots=True)
class SuspectList:
    """The suspects, those who have become so last first. ``alarms``: those of them who had been customers for long.

    ``callers``: all whose evidence or log was looked at. ``coordinates``: the measures of the cells.
    """

    suspects: tuple[Suspect, ...]
    callers: int
    coordinates: tuple[str, ...]

    @property
    def alarms(self) -> tuple[Suspect, ...]:
        """The suspects of long standing."""
        return tuple(each for each in self.suspects if each.long_standing)


def evidence_of(account: Account, tariff: ConformalTariff, hashed: str) -> SuspicionEvidence | None:
    """The evidence in an account; None if it belongs to another tariff."""
    found = _finding(account, tariff, hashed)
    return None if found is None else found.evidence


def _finding(account: Account, tariff: ConformalTariff, hashed: str) -> Finding | None:
    if account.tariff != tariff.identity:
        return None
    verdict, own = tariff.verdict(account, hashed), tariff.own_kind(hashed)
    threshold = -math.log10(tariff.calibration.suspicion.alpha)
    evidence = SuspicionEvidence(verdict.log_evidence / _LOG_10, threshold, verdict.surcharge, own is not None)
    return Finding(account, verdict, evidence)


def findings(snapshot: LedgerSnapshot, model: str, tariff: ConformalTariff | None) -> dict[str, Finding]:
    """By hash, what the tariff concludes from the accounts of a model; those of other tariffs are left out."""
    if tariff is None:
        return {}
    accounts = zip(snapshot.hashes, snapshot.accounts, strict=True)
    found = {hashed: _finding(account, tariff, hashed) for hashed, account in accounts if account.model == model}
    return {hashed: each for hashed, each in found.items() if each is not None}


def cells_of(
    tariff: ConformalTariff, account: Account, hashed: str
) -> tuple[tuple[CellReading, ...], tuple[CellReading, ...], KindDistance | None]:
    """The cells of all rows of an account that speak most against the caller, those that speak least, and the nearest kind."""
    own, counts = tariff.own_kind(hashed), account.evidence.counts
    cells = cell_readings(tariff, counts, own)
    against = tuple(cell for cell in cells if cell.against)[:_SHOWN_CELLS]
    others = tuple(cell for cell in reversed(cells) if not cell.against)[:_SHOWN_CELLS]
    distances = kind_distances(tariff, counts, own)
    return against, others, distances[0] if distances else None


def suspects(
    found: Mapping[str, Finding], day: DayLog, tariff: ConformalTariff, long_standing_seconds: float
) -> SuspectList:
    """The callers whom the evidence in their account suspects now, or without an account of this tariff the log did last."""
    since = suspected_since(day)
    hashes = [hashed for hashed, each in found.items() if each.evidence.suspected]
    hashes += [hashed for hashed in since if hashed not in found]
    listed = [_suspect(hashed, found.get(hashed), since.get(hashed), day, long_standing_seconds) for hashed in hashes]
    listed.sort(key=lambda each: (-(each.since.at if each.since else 0.0), -each.work, each.hash))
    detailed = [_with_cells(each, found.get(each.hash), tariff) for each in listed[:MAX_SUSPECTS]]
    present = {day.hashes[index] for index in set(day.callers.tolist())}
    return SuspectList(
        tuple(detailed + listed[MAX_SUSPECTS:]), len(present | found.keys()), tariff.calibration.coordinates
    )


def _suspect(
    hashed: str, finding: Finding | None, since: SuspectedSince | None, day: DayLog, long_standing_seconds: float
) -> Suspect:
    if finding is None:
        lines = day.callers == (day.hashes.index(hashed) if hashed in day.hashes else -1)
        rows, work = int(day.rows[lines].sum()), float(day.seconds[lines].sum())
        return Suspect(hashed, None, since, None, None, rows, work, None)
    account = finding.account
    known_seconds = known_rows = None
    if since is not None and since.exact:
        known_seconds = max(0.0, since.at - account.first_seen)
        known_rows = max(0, account.rows - since.rows)
    elif since is not None:  # suspected for at least as long as the log was read; of unknown standing before
        known_seconds = max(0.0, since.at - account.first_seen)
    long_standing = (
        not account.caller.anonymous
        and known_seconds is not None
        and known_seconds >= long_standing_seconds
        and (known_rows is None or known_rows >= LONG_STANDING_ROWS)
    )
    return Suspect(
        hash=hashed,
        name=account.caller.name,
        since=since,
        known_seconds=known_seconds if since is not None and since.exact else None,
        known_rows=known_rows,
        rows=account.rows,
        work=account.work,
        evidence=finding.evidence,
        long_standing=long_standing,
    )


def _with_cells(suspect: Suspect, finding: Finding | None, tariff: ConformalTariff) -> Suspect:
    if finding is None:
        return suspect
    against, others, nearest = cells_of(tariff, finding.account, suspect.hash)
    return replace(suspect, against=against, others=others, nearest=nearest)
