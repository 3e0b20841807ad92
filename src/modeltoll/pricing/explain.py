"""Explain a price step by step: of one row, or of one caller."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from modeltoll.errors import CalibrationError
from modeltoll.evidence_records import RESTART_ROWS
from modeltoll.pricing.explain_cells import cell_readings, kind_distances
from modeltoll.pricing.explanations import (
    CallerExplanation,
    CellReading,
    GroupReading,
    KindPValue,
    MeasureReading,
    RowExplanation,
    TestReading,
)
from modeltoll.pricing.kinds import CALLER, CLASS
from modeltoll.pricing.leak_ranks import rounded_leaks
from modeltoll.pricing.suspicion import GROUP_SETTLED_ROWS, SuspicionTerms
from modeltoll.pricing.tariff import NEW_ACCOUNT_ROWS
from modeltoll.records import Leaks

if TYPE_CHECKING:
    from collections.abc import Sequence

    from modeltoll.pricing.conformal_tariff import ConformalTariff
    from modeltoll.pricing.evidence_test import Component
    from modeltoll.pricing.kinds import FittedKind
    from modeltoll.records import Account, Bools, Floats
    from modeltoll.settlement_records import Standing

__all__ = ["explain_caller", "explain_row"]


def explain_row(
    tariff: ConformalTariff, leaks: Leaks, caller: CallerExplanation | None = None, clean: Floats | None = None
) -> RowExplanation:
    """Explain the price of the single row in ``leaks``, for a caller in that state, or for a new one if None.

    ``clean`` (1, measures): its leaks by the measures fitted without kinds; by default, and where the calibration has no clean
    scores, those in ``leaks``.

    Raises:
        CalibrationError: the leaks are of other measures, or not of one row.
        AnswerError: a leak is negative or not finite.
    """
    if len(leaks.values) != 1:
        raise CalibrationError(f"one row is explained at a time, not {len(leaks.values)}")
    terms = tariff.calibration.suspicion
    general = tariff.assess(leaks, np.random.default_rng(0))  # the generator decides among tied cells, not the price
    own = tariff.own_kind(caller.own_kind) if caller is not None and caller.own_kind else None
    priced = general if own is None else tariff.for_own_kind(general, own.name)
    readings, own_factor = _measure_readings(tariff, leaks, own, clean)
    rarity = sum(reading.weight * reading.factor for reading in readings)
    cell, factor, rarest = int(priced.cells[0]), float(priced.factors[0]), float(priced.rarest[0])
    clean_factor, clean_rarest = (float(each[0]) for each in tariff.clean_prices(leaks, clean))
    frequent, surcharged, surcharge, group_surcharge = _surcharges(caller, terms, cell, rarest, clean_rarest)
    units = tariff.row_units(priced, surcharge, np.array([frequent]), group_surcharge, clean)
    markup, discount = (1.0, 0.0) if caller is None else (caller.markup, caller.discount)
    return RowExplanation(
        readings=readings,
        g=tariff.calibration.g,
        rarity=rarity,
        cell_price=None if tariff.cell_prices is None else 2.0 * float(general.factors[0]) - rarity,
        own_factor=own_factor,
        factor=factor,
        rarest=rarest,
        coordinates=tariff.calibration.coordinates,
        cell=cell,
        cell_bounds=tariff.cells.bounds(cell),
        clean_factor=clean_factor,
        clean_rarest=clean_rarest,
        frequent=frequent,
        surcharged=surcharged,
        price_factor=max(1.0, factor, clean_factor) if surcharged else factor,
        surcharge=surcharge,
        group_surcharge=group_surcharge,
        markup=markup,
        discount=discount,
        unit_seconds=tariff.unit_seconds,
        seconds=tariff.unit_seconds * float(units[0]) * markup * (1.0 - discount),
    )


def _priced_samples(tariff: ConformalTariff, predicted: int | None) -> list[tuple[str, str, Floats]]:
    """Name, role and scores (measures, n) of the kinds by which a row of this predicted class is priced."""
    calibration = tariff.calibration
    first = calibration.kinds[0]
    samples = [(first.name, str(first.role), calibration.scores)]
    samples += [
        (kind.name, str(kind.role), kind.scores)
        for kind in calibration.kinds
        if kind.scores is not None and kind.role != CALLER
    ]
    for priced in calibration.priced_classes:
        if predicted in priced.classes:
            name = f"class {predicted}" if len(priced.classes) == 1 else f"{len(priced.classes)} rare classes"
            samples.append((name, CLASS, priced.scores))
    return samples


def _among(scores: Floats, leak: float) -> tuple[int, int, float]:
    """How many of the scores (n,) are at or above a leak, how many there are, and the p-value of the leak."""
    rounded = rounded_leaks(np.array([leak]))[0]
    at_least = len(scores) - int(rounded_leaks(scores).searchsorted(rounded, "left"))
    return at_least, len(scores), (1.0 + at_least) / (len(scores) + 1.0)


def _measure_readings(
    tariff: ConformalTariff, leaks: Leaks, own: FittedKind | None, clean: Floats | None
) -> tuple[tuple[MeasureReading, ...], float | None]:
    """One reading per measure, and the factor of the row among the caller's own rows too; None without them."""
    calibration, bins = tariff.calibration, tariff.row_prices.price_bins
    samples = _priced_samples(tariff, None if leaks.classes is None else int(leaks.classes[0]))
    clean = None if calibration.clean_scores is None else clean  # there is nothing to rank them among
    readings, own_factor = [], 0.0
    for column, (measure, weight) in enumerate(zip(tariff.measures, calibration.weights, strict=True)):
        leak = float(leaks.values[0, column])
        kinds = [KindPValue(name, role, *_among(scores[column], leak)) for name, role, scores in samples]
        decisive = max(kinds, key=lambda kind: kind.p_value)
        if own is not None and own.scores is not None:
            kinds.append(KindPValue(own.label or own.name, CALLER, *_among(own.scores[column], leak)))
        clean_leak, clean_p = leak, kinds[0].p_value
        if clean is not None and calibration.clean_scores is not None:
            clean_leak = float(clean[0, column])
            clean_p = min(clean_p, _among(calibration.clean_scores[column], clean_leak)[2])
        largest = max(kind.p_value for kind in kinds)
        factor, clean_factor, with_own = bins.factors(
            np.array([decisive.p_value, clean_p, largest]), calibration.g
        ).tolist()
        own_factor += weight * with_own
        low, high = (float(end[0]) for end in bins.bounds(np.array([decisive.p_value])))
        reading = MeasureReading(
            measure=measure,
            leak=leak,
            kinds=tuple(kinds),
            decisive=decisive.kind,
            p_value=decisive.p_value,
            p_low=low,
            p_high=high,
            weight=weight,
            factor=factor,
            clean_leak=clean_leak,
            clean_p_value=clean_p,
            clean_factor=clean_factor,
        )
        readings.append(reading)
    return tuple(readings), None if own is None or own.scores is None else own_factor


def _surcharges(
    caller: CallerExplanation | None, terms: SuspicionTerms, cell: int, rarest: float, clean_rarest: float
) -> tuple[bool, bool, float, float]:
    """Whether the caller sends this cell too often, whether the row is surcharged, its surcharge and that of the groups."""
    if caller is None:
        return False, False, 1.0, 1.0
    frequent = cell in caller.frequent
    surcharged = caller.suspected and (frequent or clean_rarest < terms.rare_below)
    of_groups = caller.group_surcharge if rarest < terms.group_rare_below else 1.0
    return frequent, surcharged, caller.surcharge if surcharged else 1.0, of_groups


def _check_same_tariff(tariff: ConformalTariff, account: Account) -> None:
    for one in (account, *account.groups):
        if one.tariff != tariff.identity or one.model != tariff.calibration.model:
            raise CalibrationError(
                f"{one.caller.name}: the account belongs to another tariff; explain it with the one that the gateway uses"
            )


def explain_caller(
    tariff: ConformalTariff, account: Account, standing: Standing, logged_as: str = ""
) -> CallerExplanation:
    """Explain the state of a caller.

    ``standing``: of ``Ledger.standing``. ``logged_as``: its pseudonym in the log, for callers whose own log is a kind.

    Raises:
        CalibrationError: an account belongs to another tariff or another model.
    """
    _check_same_tariff(tariff, account)
    own, state, terms = tariff.own_kind(logged_as), account.evidence, tariff.calibration.suspicion
    verdict = tariff.verdict(account, logged_as)
    tests = [(_test_reading(part, log), part) for part, log in tariff.suspicion.components(state, own)]
    tests.sort(key=lambda test: test[0].block_rows)
    (leading, part), cells = _leading(tariff, tests, own, verdict.frequent)
    groups = tuple(_group_reading(tariff, group) for group in account.groups)
    of_groups = [group.surcharge for group in groups] if standing.settled_rows < GROUP_SETTLED_ROWS else []
    new_account = tariff.new_account_seconds(account.caller)
    owed = max(0.0, new_account - standing.new_account)
    return CallerExplanation(
        caller=account.caller.name,
        model=account.model,
        rows=account.rows,
        settled_rows=standing.settled_rows,
        counted=state.rows,
        first_seen=account.first_seen,
        since=state.since,
        work_seconds=account.work,
        own_kind=None if own is None else own.name,
        tests=tuple(test for test, _ in tests),
        leading=leading,
        finished_blocks=sum(state.numbers) - len(state.numbers) - sum(block is not None for block in state.finished),
        finished_log=None if state.finished_log == -math.inf else state.finished_log,
        carried_log=state.carried_log,
        log_evidence=tariff.suspicion.log_evidence(state, own),
        log_threshold=-math.log(terms.alpha),
        surcharge=verdict.surcharge,
        rare_below=terms.rare_below,
        group_surcharge=max(of_groups, default=1.0),
        group_rare_below=terms.group_rare_below,
        groups=groups,
        markup=account.caller.markup,
        discount=0.0 if verdict.suspected else account.caller.discount,
        entry_units=owed / tariff.unit_seconds,
        entry_rows=math.ceil(NEW_ACCOUNT_ROWS * owed / new_account) if owed else 0,
        coordinates=tariff.calibration.coordinates,
        cells=cells,
        kinds=kind_distances(tariff, part.counts, own),
    )


def _test_reading(part: Component, log_evidence: float) -> TestReading:
    block_rows = 0 if part.restart is None else RESTART_ROWS[part.restart]
    return TestReading(
        block_rows, part.number, part.finished, sum(part.counts), log_evidence, math.exp(part.log_weight)
    )


def _leading(
    tariff: ConformalTariff,
    tests: Sequence[tuple[TestReading, Component]],
    own: FittedKind | None,
    frequent: Bools | None,
) -> tuple[tuple[TestReading, Component], tuple[CellReading, ...]]:
    """The test whose cells are shown, with them: that of all rows or, of a suspect, the one with most of the evidence.

    That is the strongest test whose cells against the caller are those of the verdict (``frequent``): a verdict searches no
    further than it needs to, so that of several strong tests it may have taken another.
    """
    whole = tests[0], cell_readings(tariff, tests[0][1].counts, own)
    if frequent is None:
        return whole
    wanted = set(np.flatnonzero(frequent).tolist())
    for test in sorted(tests, key=lambda test: -(math.log(test[0].weight) + test[0].log_evidence)):
        cells = cell_readings(tariff, test[1].counts, own)
        if {cell.cell for cell in cells if cell.against} == wanted:
            return test, cells
    return whole


def _group_reading(tariff: ConformalTariff, account: Account) -> GroupReading:
    log_evidence = tariff.verdict(account).log_evidence
    return GroupReading(
        group=account.caller.name,
        rows=account.rows,
        counted=account.evidence.rows,
        since=account.evidence.since,
        log_evidence=log_evidence,
        surcharge=float(tariff.suspicion.surcharge_at(log_evidence, group=True)),
    )
