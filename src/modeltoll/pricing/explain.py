"""Explain a price step by step: of one row, or of one caller."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from modeltoll.errors import CalibrationError
from modeltoll.pricing.suspicion import GROUP_SETTLED_ROWS
from modeltoll.pricing.tariff import NEW_ACCOUNT_ROWS
from modeltoll.records import Leaks
from modeltoll.settlement_records import Standing

if TYPE_CHECKING:
    from modeltoll.pricing.conformal_tariff import ConformalTariff
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
    """One measure's term of a row's price: weight * factor, where p = (1 + ``at_least``) / (``honest`` + 1).

    ``at_least`` of the ``honest`` calibration rows have a leak of ``leak`` or more. ``factor``: the mean of (1 - g) p^(-g)
    over the bin of p, from ``p_low`` to ``p_high``.
    """

    measure: str
    leak: float
    at_least: int
    honest: int
    p_value: float
    p_low: float
    p_high: float
    weight: float
    factor: float


@dataclass(frozen=True, slots=True)
class RowExplanation:
    """The price of one row, without the new-account toll.

    ``seconds`` = ``unit_seconds`` * ``factor`` * max(``surcharge``, ``group_surcharge``) * ``markup`` *
    (1 - ``discount``). ``rarest``: smallest p-value. ``rare``: whether a caller's surcharge can apply to the row. The
    surcharges are 1 without suspicion.
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
    """One bin of a caller's histogram: the count of rows with p in ``low``..``high``, and its expectation if honest."""

    measure: str
    low: float
    high: float
    rows: float
    expected: float


@dataclass(frozen=True, slots=True)
class GroupReading:
    """The state of a group of the caller: ``rows`` ever, ``counted`` after decay, evidence and surcharge."""

    group: str
    rows: int
    counted: float
    log_evidence: float
    surcharge: float


@dataclass(frozen=True, slots=True)
class CallerExplanation:
    """The state of one caller of one model.

    ``rows``: total. ``counted``: rows in the histogram, after decay. ``log_evidence`` is the log of the mean of the
    Bayes factors (``log_bayes_factors``, one log per measure) less ``log_tolerance``. At ``log_threshold`` =
    ln(1/alpha) suspicion starts: rows with p below ``rare_below`` cost ``surcharge`` times as much, or those below
    ``group_rare_below`` ``group_surcharge`` times, if that is more; it is 1 from ``GROUP_SETTLED_ROWS`` ``settled_rows`` on.
    ``markup`` multiplies the price of rows; ``discount`` is taken off it, and is 0 under suspicion. ``entry_units``: the
    part of the new-account toll that is not paid; requests with ``entry_rows`` rows together owe it.
    """

    caller: str
    model: str
    rows: int
    settled_rows: int
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


def explain_row(tariff: ConformalTariff, leaks: Leaks, caller: CallerExplanation | None = None) -> RowExplanation:
    """Explain the price of the single row in ``leaks``, for a caller in that state, or for a new one if None.

    Raises:
        CalibrationError: the leaks are of other measures, or not of one row.
        AnswerError: a leak is negative or not finite.
    """
    if len(leaks.values) != 1:
        raise CalibrationError(f"one row is explained at a time, not {len(leaks.values)}")
    assessment = tariff.assess(leaks, np.random.default_rng(0))  # the generator affects bins only, not the price
    calibration = tariff.calibration
    counts = tariff.count_at_least(leaks)[0]
    p_values = (1.0 + counts) / (calibration.honest_rows + 1.0)
    factors = tariff.price_bins.factors(calibration.g)[counts]
    columns = (counts.tolist(), p_values.tolist(), *(ends.tolist() for ends in tariff.price_bins.bounds(counts)))
    readings = tuple(
        MeasureReading(name, leak, count, calibration.honest_rows, p_value, low, high, weight, factor)
        for name, leak, count, p_value, low, high, weight, factor in zip(
            tariff.measures, leaks.values[0].tolist(), *columns, calibration.weights, factors.tolist(), strict=True
        )
    )
    rarest, factor = float(assessment.rarest[0]), float(assessment.factors[0])
    rare = rarest < calibration.suspicion.rare_below
    surcharge, group_surcharge, markup, discount = 1.0, 1.0, 1.0, 0.0
    if caller is not None:
        markup, discount = caller.markup, caller.discount
        surcharge = float(tariff.multipliers(assessment, caller.surcharge)[0])
        group_surcharge = float(tariff.multipliers(assessment, 1.0, caller.group_surcharge)[0])
    unit = calibration.unit_seconds
    seconds = unit * factor * max(surcharge, group_surcharge) * markup * (1.0 - discount)
    return RowExplanation(
        readings, calibration.g, factor, rarest, rare, surcharge, group_surcharge, markup, discount, unit, seconds
    )


def explain_caller(tariff: ConformalTariff, account: Account, standing: Standing) -> CallerExplanation:
    """Explain the state of a caller. The counts of its account and of its groups must be decayed to the present.

    ``standing``: what the caller has paid, as ``Ledger.standing`` returns it.

    Raises:
        CalibrationError: an account belongs to another tariff or another model.
    """
    for one in (account, *account.groups):
        if one.tariff != tariff.identity or one.model != tariff.calibration.model:
            raise CalibrationError(
                f"{one.caller.name}: the account belongs to another tariff; explain it with the one that the gateway uses"
            )
    suspicion = tariff.suspicion
    counts = np.array(account.counts)
    counted = float(counts[0].sum())
    edges = suspicion.edges
    bins = tuple(
        BinReading(measure, low, high, float(rows), counted * (high - low))
        for measure, histogram in zip(tariff.measures, counts, strict=True)
        for (low, high), rows in zip(pairwise(edges), histogram, strict=True)
    )
    surcharge = float(suspicion.surcharge(counts))
    groups = tuple(_group_reading(tariff, group) for group in account.groups)
    of_groups = [group.surcharge for group in groups] if standing.settled_rows < GROUP_SETTLED_ROWS else []
    new_account = tariff.new_account_seconds(account.caller)
    owed = max(0.0, new_account - standing.new_account)
    return CallerExplanation(
        caller=account.caller.name,
        model=account.model,
        rows=account.rows,
        settled_rows=standing.settled_rows,
        counted=counted,
        work_seconds=account.work,
        log_bayes_factors=tuple(suspicion.log_bayes_factors(counts).tolist()),
        log_tolerance=counted * math.log1p(suspicion.terms.rho),
        log_evidence=float(suspicion.log_evidence(counts)),
        log_threshold=-math.log(suspicion.terms.alpha),
        surcharge=surcharge,
        rare_below=suspicion.terms.rare_below,
        group_surcharge=max(of_groups, default=1.0),
        group_rare_below=suspicion.terms.group_rare_below,
        groups=groups,
        markup=account.caller.markup,
        discount=account.caller.discount if surcharge <= 1.0 else 0.0,
        entry_units=owed / tariff.unit_seconds,
        entry_rows=math.ceil(NEW_ACCOUNT_ROWS * owed / new_account) if owed else 0,
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
