"""Fit a conformal tariff to the leaks of honest rows, of all traffic and of declared kinds, and of strangers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from modeltoll.names import clean_name
from modeltoll.pricing.calibration import Calibration, CalibrationProvenance, default_coordinates
from modeltoll.pricing.conformal_tariff import price_factors
from modeltoll.pricing.fit_terms import MINIMUM_UNIT_SECONDS, CalibrationTerms, HoldoutSplit, RowCosts, new_account_toll
from modeltoll.pricing.kind_fit import CellSorter, TrafficClasses, ascending, traffic_kinds
from modeltoll.pricing.kinds import ALL_TRAFFIC, CALLER, CLASS, DECLARED, STRANGER, HeldBack
from modeltoll.pricing.leak_samples import clean_values, rows_of, select_measures
from modeltoll.pricing.priced_classes import priced_classes
from modeltoll.pricing.selection import select_terms
from modeltoll.pricing.validation import check_honest, check_kind, check_shape, require, validate

if TYPE_CHECKING:
    from collections.abc import Sequence

    from modeltoll.pricing.kinds import FittedKind, FittedStranger, KindSample, StrangerSample
    from modeltoll.records import Integers, Leaks

__all__ = [
    "MINIMUM_UNIT_SECONDS",
    "CalibrationTerms",
    "Fit",
    "FitSamples",
    "HoldoutSplit",
    "RowCosts",
    "fit_calibration",
    "fit_with_rows_held_back",
]


@dataclass(frozen=True, slots=True, eq=False)
class FitSamples:
    """What a calibration is fitted to. All leaks are of the same measures.

    Measures fitted without kinds (``names.clean_name``) may follow in ``honest``; they price callers under suspicion, and
    are no coordinates. ``honest``: all traffic, with the predicted classes where there are any. ``callers``: the caller of each of its
    rows, "" where unknown. ``known_honest``: names among ``callers`` whose own rows are their kind, and labels for people.
    ``kinds``: of other rows. ``strangers``: rows as thieves may send them.
    """

    honest: Leaks
    kinds: Sequence[KindSample] = ()
    strangers: Sequence[StrangerSample] = ()
    callers: tuple[str, ...] | None = None
    known_honest: Mapping[str, str] = field(default_factory=dict)

    @property
    def measures(self) -> tuple[str, ...]:
        """The measures that are priced."""
        clean = set(map(clean_name, self.honest.measures))
        return tuple(name for name in self.honest.measures if name not in clean)


@dataclass(frozen=True, slots=True, eq=False)
class Fit:
    """A calibration, and the rows that it was not fitted to.

    ``held_back``: rows of all traffic, of each kind, and of each caller of ``CALLER_ROWS`` rows or more. ``strangers``: of
    each stranger. ``unmarked``: the kinds of callers who are not marked as known to be honest, by name; they are not part of
    the calibration. ``classes``: which predicted classes are kinds.
    """

    calibration: Calibration
    held_back: tuple[HeldBack, ...]
    strangers: tuple[HeldBack, ...]
    unmarked: Mapping[str, FittedKind]
    classes: TrafficClasses


@dataclass(frozen=True, slots=True, eq=False)
class _FittedKinds:
    """Kinds and strangers of a calibration, the rest as of ``Fit``."""

    kinds: tuple[FittedKind, ...]
    strangers: tuple[FittedStranger, ...]
    held_back: tuple[HeldBack, ...]
    tried: tuple[HeldBack, ...]
    unmarked: Mapping[str, FittedKind]
    classes: TrafficClasses


@dataclass(frozen=True, slots=True, eq=False)
class _Parts:
    """The rows of all traffic, and of each declared kind in ``kinds``: to calibrate with, to choose terms on, to validate on."""

    samples: FitSamples
    measures: tuple[str, ...]
    calibration: Integers
    selection: Integers
    validation: Integers
    kinds: tuple[tuple[Integers, Integers, Integers], ...]

    def kinds_to_choose_on(self) -> list[Leaks]:
        """The leaks of rows of each kind that prices rows."""
        pairs = zip(self.samples.kinds, self.kinds, strict=True)
        return [
            rows_of(select_measures(kind.leaks, self.measures), selection)
            for kind, (_, selection, _) in pairs
            if kind.role == DECLARED and len(selection)
        ]

    def leaks(self, rows: Integers) -> Leaks:
        """The leaks of some of the rows by the priced measures, with their classes."""
        return rows_of(select_measures(self.samples.honest, self.measures), rows)

    def callers(self, rows: Integers) -> tuple[str, ...] | None:
        """The callers of some of the rows."""
        names = self.samples.callers
        return None if names is None else tuple(str(names[row]) for row in rows.tolist())


def fit_calibration(
    model: str,
    leaks: Leaks | FitSamples,
    costs: RowCosts,
    terms: CalibrationTerms | None = None,
    provenance: CalibrationProvenance | None = None,
    split: HoldoutSplit | None = None,
) -> Calibration:
    """Fit a calibration to the leaks (rows, measures) of honest rows that the victim was not trained on.

    The report validates the tariff on rows held back. The bound on the mean price (one unit) holds for callers whose
    rows are exchangeable with these or with those of a kind that is priced, on average over calibration sets.

    Raises:
        CalibrationError: too few rows, a measure that is constant over them, or terms out of range.
    """
    return fit_with_rows_held_back(model, leaks, costs, terms, provenance, split).calibration


def fit_with_rows_held_back(
    model: str,
    leaks: Leaks | FitSamples,
    costs: RowCosts,
    terms: CalibrationTerms | None = None,
    provenance: CalibrationProvenance | None = None,
    split: HoldoutSplit | None = None,
) -> Fit:
    """``fit_calibration`` with the rows that were held back, for ``rehearsal``. Raises as ``fit_calibration`` does."""
    terms, split = terms or CalibrationTerms(), split or HoldoutSplit()
    samples = leaks if isinstance(leaks, FitSamples) else FitSamples(leaks)
    check_shape(samples.honest)
    named = samples.callers is None or len(samples.callers) == len(samples.honest.values)
    require(named, "there must be one caller per row")
    warnings = check_honest(select_measures(samples.honest, samples.measures))
    for kind in samples.kinds:
        check_kind(kind.name, kind.leaks)
    for stranger in samples.strangers:
        check_kind(stranger.name, stranger.leaks)
    largest = 0.5 if terms.targets is None else 0.4
    require(0.05 <= split.holdback <= largest, f"'holdback' must lie in 0.05..{largest:g}")
    require(0.0 < terms.g < 1.0, "'g' must lie between 0 and 1")
    unit_seconds, unit_warnings = costs.unit()
    rng = np.random.default_rng(split.seed)
    choosing = terms.targets is not None
    divided = split.divide(len(samples.honest.values), rng, choosing=choosing)
    kinds = tuple(split.divide_kind(len(kind.leaks.values), rng, choosing=choosing) for kind in samples.kinds)
    parts = _Parts(samples, samples.measures, *divided, kinds)
    plain = _calibration_of_traffic(model, parts, costs, terms)
    fitted = _fitted_kinds(plain, parts, terms.class_rows, rng)
    calibration = replace(
        plain, kinds=fitted.kinds, strangers=fitted.strangers, provenance=provenance or CalibrationProvenance()
    )
    validation = parts.leaks(parts.validation)
    priced = priced_classes(calibration, parts.leaks(parts.calibration), validation)
    calibration = replace(calibration, priced_classes=priced)
    report = validate(price_factors(calibration, validation), unit_seconds, rng)
    report = replace(report, warnings=warnings + unit_warnings + report.warnings)
    calibration = replace(calibration, report=report)
    return Fit(calibration, fitted.held_back, fitted.tried, fitted.unmarked, fitted.classes)


def _calibration_of_traffic(model: str, parts: _Parts, costs: RowCosts, terms: CalibrationTerms) -> Calibration:
    """The calibration of all traffic alone, with g and weights as given or as chosen for the targets."""
    count, unit_seconds = len(parts.measures), costs.unit()[0]
    g, weights = terms.g, (1.0 / count,) * count if terms.weights is None else terms.weights
    if terms.targets is not None:
        honest, kinds = parts.leaks(parts.selection), parts.kinds_to_choose_on()
        choice = select_terms(honest, unit_seconds, terms.targets, terms.g, terms.weights, kinds)
        g, weights = choice.g, choice.weights
    clean = clean_values(rows_of(parts.samples.honest, parts.calibration), parts.measures)
    return Calibration(
        model=model,
        measures=parts.measures,
        scores=ascending(parts.leaks(parts.calibration).values),
        weights=weights,
        g=g,
        unit_seconds=unit_seconds,
        suspicion=terms.suspicion,
        new_account_toll=new_account_toll(costs, terms),
        coordinates=terms.coordinates or default_coordinates(parts.measures, weights, terms.input_measures),
        clean_scores=None if clean is None else ascending(clean),
        undefended_seconds=costs.undefended_seconds,
        gate_seconds=costs.gate_seconds,
    )


def _fitted_kinds(plain: Calibration, parts: _Parts, class_rows: int, rng: np.random.Generator) -> _FittedKinds:
    """The kinds and strangers in the cells of a calibration, and the rows of each that are held back."""
    samples = parts.samples
    sorter = CellSorter.of(plain.measures, plain.coordinates, plain.scores)
    honest, callers = parts.leaks(parts.calibration), parts.callers(parts.calibration)
    of_traffic = traffic_kinds(sorter, honest, class_rows, (callers, samples.known_honest), rng)
    classes = TrafficClasses.of(honest.classes, class_rows)
    unmarked = {kind.name: kind for kind in of_traffic if kind.role == CALLER and kind.name not in samples.known_honest}
    kinds = [kind for kind in of_traffic if kind.role != CALLER or kind.name not in unmarked]
    held_back = _held_back_traffic(parts, classes, of_traffic)
    for sample, (fitted, _, held) in zip(samples.kinds, parts.kinds, strict=True):
        leaks = select_measures(sample.leaks, parts.measures)
        kinds.append(sorter.kind(sample, leaks.values[fitted], rng))
        held_back.append(HeldBack(sample.name, sample.role, rows_of(leaks, held), sample.label))
    strangers, tried = [], []
    for stranger in samples.strangers:
        leaks, clean = select_measures(stranger.leaks, parts.measures), clean_values(stranger.leaks, parts.measures)
        fitted, held = np.array_split(rng.permutation(len(leaks.values)), 2)
        strangers.append(sorter.stranger(stranger, leaks.values[fitted], rng))
        clean = None if clean is None else clean[held]
        tried.append(HeldBack(stranger.name, STRANGER, rows_of(leaks, held), "", clean, stranger.generic))
    return _FittedKinds(tuple(kinds), tuple(strangers), tuple(held_back), tuple(tried), unmarked, classes)


def _held_back_traffic(parts: _Parts, classes: TrafficClasses, kinds: Sequence[FittedKind]) -> list[HeldBack]:
    """The rows of validation: all of them, and those of each class and each caller that is among the ``kinds``."""
    leaks, callers = parts.leaks(parts.validation), parts.callers(parts.validation)
    found = [HeldBack(ALL_TRAFFIC, ALL_TRAFFIC, leaks)]
    of_class = {kind.name for kind in kinds if kind.role == CLASS}
    found += [
        HeldBack(name, CLASS, rows_of(leaks, rows))
        for name, rows in classes.members(leaks.classes)
        if name in of_class and len(rows)
    ]
    if callers is not None:
        names = np.array(callers, dtype=np.str_)
        for name in sorted({kind.name for kind in kinds if kind.role == CALLER} & {*callers}):
            label = parts.samples.known_honest.get(name, "")
            found.append(HeldBack(name, CALLER, rows_of(leaks, np.flatnonzero(names == name)), label))
    return found
