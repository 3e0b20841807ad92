"""Who is under suspicion: since when, honest for how long before, and which cells speak against them and which do not."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from modeltoll.gateway.admin.dashboard.suspected_since import suspected_since
from modeltoll.gateway.core.suspect_monitor import LONG_STANDING_ROWS
from modeltoll.pricing.explain import explain_caller
from modeltoll.settlement_records import Standing

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
    "MAX_SUSPECTS",
    "Finding",
    "Suspect",
    "SuspectList",
    "SuspicionEvidence",
    "evidence_of",
    "findings",
    "suspects",
]

MAX_SUSPECTS = 50  # who are shown
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


def suspects(
    found: Mapping[str, Finding], day: DayLog, tariff: ConformalTariff, long_standing_seconds: float
) -> SuspectList:
    """The callers whom the evidence in their account suspects now, or without an account of this tariff the log did last."""
    since = suspected_since(day)
    hashes = [hashed for hashed, each in found.items() if each.evidence.suspected]
    listed = [_suspect(hashed, found[hashed], since.get(hashed), long_standing_seconds) for hashed in hashes]
    listed += _by_log({hashed: each for hashed, each in since.items() if hashed not in found}, day)
    listed.sort(key=lambda each: (-(each.since.at if each.since else 0.0), -each.work, each.hash))
    detailed = [_with_cells(each, found.get(each.hash), tariff) for each in listed[:MAX_SUSPECTS]]
    present = {day.hashes[index] for index in set(day.callers.tolist())}
    return SuspectList(
        tuple(detailed + listed[MAX_SUSPECTS:]), len(present | found.keys()), tariff.calibration.coordinates
    )


def _by_log(since: Mapping[str, SuspectedSince], day: DayLog) -> list[Suspect]:
    """Suspects whose accounts are not known, with their rows and work of the day."""
    count = len(day.hashes)
    columns = np.bincount(day.callers, day.rows, count).astype(np.int64), np.bincount(day.callers, day.seconds, count)
    totals = dict(zip(day.hashes, zip(*(column.tolist() for column in columns), strict=True), strict=True))
    return [
        Suspect(hashed, None, each, None, None, rows, work, None)
        for hashed, each in since.items()
        for rows, work in [totals.get(hashed, (0, 0.0))]
    ]


def _suspect(hashed: str, finding: Finding, since: SuspectedSince | None, long_standing_seconds: float) -> Suspect:
    account, exact = finding.account, since is not None and since.exact
    # Not exact: suspected for at least as long as the log was read, and of unknown standing before.
    seconds = None if since is None else max(0.0, since.at - account.first_seen)
    rows = max(0, account.rows - since.rows) if since is not None and exact else None
    of_long_standing = seconds is not None and seconds >= long_standing_seconds and not account.caller.anonymous
    return Suspect(
        hash=hashed,
        name=account.caller.name,
        since=since,
        known_seconds=seconds if exact else None,
        known_rows=rows,
        rows=account.rows,
        work=account.work,
        evidence=finding.evidence,
        long_standing=of_long_standing and (rows is None or rows >= LONG_STANDING_ROWS),
    )


def _with_cells(suspect: Suspect, finding: Finding | None, tariff: ConformalTariff) -> Suspect:
    """The suspect with the cells of the test that has most of the evidence, and the kind nearest to them."""
    if finding is None:
        return suspect
    explanation = explain_caller(tariff, finding.account, Standing(), suspect.hash)
    return replace(
        suspect,
        against=tuple(cell for cell in explanation.cells if cell.against)[:_SHOWN_CELLS],
        others=tuple(cell for cell in reversed(explanation.cells) if not cell.against)[:_SHOWN_CELLS],
        nearest=explanation.kinds[0] if explanation.kinds else None,
    )
