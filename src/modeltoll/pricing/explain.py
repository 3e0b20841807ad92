"""How a price came about: of one row, or of one caller."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from modeltoll.errors import CalibrationError
from modeltoll.records import Leaks

if TYPE_CHECKING:
    from modeltoll.pricing.conformal import ConformalTariff
    from modeltoll.records import Account

__all__ = [
    "BinReading",
    "CallerExplanation",
    "GroupReading",
    "MeasureReading",
    "RowExplanation",
    "explain_caller",
    "explain_row",
]


@dataclass(frozen=True, slots=True)
class MeasureReading:
    """What one measure adds to a row's price: weight * (1 - g) p^(-g), p = (1 + ``at_least``) / (honest + 1).

    ``at_least`` of ``honest`` calibration rows leak as much or more.
    """

    measure: str
    leak: float
    at_least: int
    honest: int
    p_value: float
    weight: float
    factor: float


@dataclass(frozen=True, slots=True)
class RowExplanation:
    """One row's price, without the entry toll.

    ``seconds`` = ``unit_seconds`` * ``factor`` * the larger of ``surcharge`` and ``group_surcharge`` * ``markup`` * (1 - ``discount``).
    ``rare`` says whether a caller's surcharge applies to it at all; the surcharges are 1 where there is none.
    """

    readings: tuple[MeasureReading, ...]
    g: float
    factor: float
    rarest: float
    rare: bool
    surcharge: float
    group_surcharge: float
    markup: float
    discount: float
    unit_seconds: float
    seconds: float


@dataclass(frozen=True, slots=True)
class BinReading:
    """One bin of a caller's histogram: rows with p in ``low``..``high``, and how many an honest caller would have."""

    measure: str
    low: float
    high: float
    rows: float
    expected: float


@dataclass(frozen=True, slots=True)
class GroupReading:
    """What a group of the caller's adds: all of its callers' rows are one histogram, with evidence of its own."""

    group: str
    rows: int
    counted: float
    log_evidence: float
    surcharge: float


@dataclass(frozen=True, slots=True)
class CallerExplanation:
    """One caller's standing.

    ``log_bayes_factors`` are one per measure; ``log_tolerance`` is what a tolerated caller could have earned; their
    mean (of the factors, not of the logs) less the tolerance is ``log_evidence``. From ``log_threshold`` = ln(1/alpha)
    on rare rows cost ``surcharge`` times as much; rows below ``group_rare_below`` cost ``group_surcharge`` times as
    much where that is more. ``markup`` multiplies the rows' price; ``discount`` is the part of it that he is let off, 0
    under suspicion.
    ``entry_units`` are still to be paid with the next ``entry_rows``.
    """

    caller: str
    model: str
    rows: int
    counted: float
    work_seconds: float
    log_bayes_factors: tuple[float, ...]
    log_tolerance: float
    log_evidence: float
    log_threshold: float
    surcharge: float
    rare_below: float
    group_surcharge: float
    group_rare_below: float
    groups: tuple[GroupReading, ...]
    markup: float
    discount: float
    entry_units: float
    entry_rows: int
    bins: tuple[BinReading, ...]

    @property
    def suspected(self) -> bool:
        """Whether the caller is under suspicion."""
        return self.surcharge > 1.0


def explain_row(tariff: ConformalTariff, leaks: Leaks, standing: CallerExplanation | None = None) -> RowExplanation:
    """How the price of the one row in ``leaks`` came about, for a caller of that standing or a new one.

    Raises:
        CalibrationError: the leaks are of other measures, or not of one row. AnswerError: a leak is negative or not finite.
    """
    if len(leaks.values) != 1:
        raise CalibrationError(f"one row is explained at a time, not {len(leaks.values)}")
    assessment = tariff.assess(leaks, np.random.default_rng(0))  # chance decides what is counted, never the price
    calibration = tariff.calibration
    counts = tariff.at_least(leaks)[0]
    p_values = (1.0 + counts) / (calibration.honest + 1.0)
    factors = (1.0 - calibration.g) * p_values**-calibration.g
    readings = tuple(
        MeasureReading(name, float(leak), int(count), calibration.honest, float(p_value), weight, float(factor))
        for name, leak, count, p_value, weight, factor in zip(
            tariff.measures, leaks.values[0], counts, p_values, calibration.weights, factors, strict=True
        )
    )
    rarest, factor = float(assessment.rarest[0]), float(assessment.factors[0])
    rare = rarest < calibration.suspicion.rare_below
    surcharge, group_surcharge, markup, discount = 1.0, 1.0, 1.0, 0.0
    if standing is not None:
        markup, discount = standing.markup, standing.discount
        surcharge = float(tariff.multipliers(assessment, standing.surcharge)[0])
        group_surcharge = float(tariff.multipliers(assessment, 1.0, standing.group_surcharge)[0])
    unit = calibration.unit_seconds
    seconds = unit * factor * max(surcharge, group_surcharge) * markup * (1.0 - discount)
    return RowExplanation(
        readings, calibration.g, factor, rarest, rare, surcharge, group_surcharge, markup, discount, unit, seconds
    )


def explain_caller(tariff: ConformalTariff, account: Account) -> CallerExplanation:
    """How a caller stands, from an account whose counts are faded to now, and its groups' likewise.

    Raises:
        CalibrationError: an account was kept under another tariff or for another model.
    """
    for kept in (account, *account.groups):
        if kept.tariff != tariff.identity or kept.model != tariff.calibration.model:
            raise CalibrationError(
                f"{kept.caller.name}: the account was kept under another tariff; "
                "explain it with the one that the gateway uses"
            )
    suspicion, entry = tariff.suspicion, tariff.calibration.new_account_toll
    counts = np.array(account.counts)
    counted = float(counts[0].sum())
    edges = suspicion.edges
    bins = tuple(
        BinReading(measure, low, high, float(rows), counted * (high - low))
        for measure, histogram in zip(tariff.measures, counts, strict=True)
        for (low, high), rows in zip(pairwise(edges), histogram, strict=True)
    )
    surcharge = float(suspicion.surcharge(counts))
    groups = tuple(_group_reading(tariff, shared) for shared in account.groups)
    entry_rows = max(0, entry.rows - account.rows)
    return CallerExplanation(
        caller=account.caller.name,
        model=account.model,
        rows=account.rows,
        counted=counted,
        work_seconds=account.work,
        log_bayes_factors=tuple(suspicion.log_bayes_factors(counts).tolist()),
        log_tolerance=counted * math.log1p(suspicion.terms.rho),
        log_evidence=float(suspicion.log_evidence(counts)),
        log_threshold=-math.log(suspicion.terms.alpha),
        surcharge=surcharge,
        rare_below=suspicion.terms.rare_below,
        group_surcharge=max((group.surcharge for group in groups), default=1.0),
        group_rare_below=suspicion.terms.group_rare_below,
        groups=groups,
        markup=account.caller.markup,
        discount=account.caller.discount if surcharge <= 1.0 else 0.0,
        entry_units=entry.whole(account.caller) * entry_rows / entry.rows,
        entry_rows=entry_rows,
        bins=bins,
    )


def _group_reading(tariff: ConformalTariff, account: Account) -> GroupReading:
    log_evidence = tariff.suspicion.log_evidence_of(account.counts)
    return GroupReading(
        group=account.caller.name,
        rows=account.rows,
        counted=sum(account.counts[0]),
        log_evidence=log_evidence,
        surcharge=float(tariff.suspicion.surcharge_at(log_evidence, group=True)),
    )
