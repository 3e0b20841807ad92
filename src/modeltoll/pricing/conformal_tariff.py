"""The default tariff: a row is priced by the rarity of its leak among honest rows of every kind, independent of the caller.

The price factor of a row is that of ``row_prices``: the weighted mean over the measures of b(p), where p is the largest of the
row's conformal p-values among the kinds. Where strangers are known, half of it is the price of the row's cell (``numeraire``).
Its mean is at most 1 unit for every kind of honest rows and every mixture of kinds. Callers under suspicion pay more for rows
that speak against them, callers whose own log is a kind no more than others.
"""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from modeltoll.errors import CalibrationError
from modeltoll.pricing.kinds import CALLER, FittedKind
from modeltoll.pricing.leak_ranks import SampleRanks, rounded_leaks, rounded_rows
from modeltoll.pricing.numeraire import CellPrices, cautious_laws, numeraire_prices, strangers_law
from modeltoll.pricing.row_prices import RowPrices
from modeltoll.pricing.suspicion import Suspicion
from modeltoll.pricing.tariff import check_leak_values
from modeltoll.records import Assessment, Leaks, Work

if TYPE_CHECKING:
    from collections.abc import Sequence

    from modeltoll.evidence_records import Verdict
    from modeltoll.pricing.calibration import Calibration
    from modeltoll.records import Account, Bools, Caller, Floats, Integers

__all__ = ["ConformalTariff", "price_factors"]

_SMALL_BATCH_ROWS = 32
_NUMERAIRE_SHARE = 0.5  # of the price, where strangers are known


class ConformalTariff:
    """The tariff of one calibration. Pure; assessing one row of two measures takes some tens of microseconds.

    ``finest_g``: the largest g at which this calibration's rows are priced, for which p is cut into bins; by default the
    calibration's. Prices at several g show no more of p than those bins. ``cells``: of the coordinates' p-values.
    ``cell_prices``: of the numeraire; None where no strangers were given.
    """

    def __init__(self, calibration: Calibration, finest_g: float | None = None) -> None:
        self.calibration = calibration
        self.unit_seconds = calibration.unit_seconds
        self.identity = calibration.identity
        self.measures = calibration.measures
        self.cells = calibration.cells
        self.cell_count = self.cells.count
        self.row_prices = RowPrices(calibration, finest_g)
        self._columns = [calibration.measures.index(name) for name in calibration.coordinates]
        kinds = [kind for kind in calibration.kinds if kind.role != CALLER]
        self.suspicion = Suspicion(self.cells, kinds, calibration.strangers, calibration.suspicion)
        self._own = {kind.name: kind for kind in calibration.kinds if kind.role == CALLER}
        self._own_ranks = {
            name: SampleRanks(kind.scores) for name, kind in self._own.items() if kind.scores is not None
        }
        clean = calibration.clean_scores
        self._clean = None if clean is None else SampleRanks(clean)
        self.cell_prices = self._numeraire(kinds)

    def _numeraire(self, kinds: Sequence[FittedKind]) -> CellPrices | None:
        given = [stranger.counts for stranger in self.calibration.strangers if not stranger.generic]
        if not given:
            return None
        laws = self.suspicion.laws.laws
        law = strangers_law(np.array(given, np.float64), laws)
        return CellPrices(self.cells, numeraire_prices(law, cautious_laws(kinds, laws)))

    def at(self, g: float) -> ConformalTariff:
        """The same tariff at another g, at most the ``finest_g`` of this one; what does not depend on g is shared."""
        other = copy.copy(self)
        other.calibration = replace(self.calibration, g=g)
        other.row_prices = self.row_prices.at(g)
        return other

    def own_kind(self, logged_as: str) -> FittedKind | None:
        """The kind of the own log of the caller with this pseudonym in the ledger's log; None where it has none."""
        return self._own.get(logged_as)

    def assess(self, leaks: Leaks, rng: np.random.Generator) -> Assessment:
        """Price each row: the weighted mean of the factors b(p), half of it replaced by the price of its cell if there is one.

        The cell is that of the smoothed p = (#{s_i > s} + U (1 + #{s_i = s})) / (n + 1) among all traffic, U uniform from
        ``rng``, which is exactly uniform for honest rows even with tied scores.

        Raises:
            CalibrationError: the leaks are of other measures than this tariff prices.
            AnswerError: a leak is negative or not finite.
        """
        values = check_leak_values(leaks, self.measures)
        if 0 < len(values) <= _SMALL_BATCH_ROWS:
            return self._assess_small_batch(leaks, rounded_rows(values), rng)
        rounded = rounded_leaks(values)
        uniforms = rng.random((len(rounded), len(self._columns)))
        p_values = self.row_prices.p_values(rounded, leaks.classes)
        above, at_least = self._among_all_traffic(rounded)
        smoothed = (above + uniforms * (1 + at_least - above)) / (self.calibration.honest_rows + 1)
        factors = self._factors(p_values, above, at_least)
        return Assessment(factors, p_values.min(axis=1, initial=1.0), self.cells.of(smoothed), leaks)

    def factors(self, leaks: Leaks) -> Floats:
        """The factor of each row, (rows,), as in ``assess``."""
        rounded = rounded_leaks(check_leak_values(leaks, self.measures))
        return self._factors(self.row_prices.p_values(rounded, leaks.classes), *self._among_all_traffic(rounded))

    def _factors(self, p_values: Floats, above: Integers, at_least: Integers) -> Floats:
        factors = self.row_prices.factors(p_values)
        if self.cell_prices is None:
            return factors
        steps = self.calibration.honest_rows + 1
        prices = self.cell_prices.of(above / steps, (at_least + 1) / steps)
        return (1.0 - _NUMERAIRE_SHARE) * factors + _NUMERAIRE_SHARE * prices

    def _assess_small_batch(self, leaks: Leaks, rounded: list[list[int]], rng: np.random.Generator) -> Assessment:
        """``assess`` without arrays: for few rows several times as fast, with bit for bit the same result."""
        steps = self.calibration.honest_rows + 1
        classes = [None] * len(rounded) if leaks.classes is None else leaks.classes.tolist()
        factors, rarest, cells = [], [], []
        for row, predicted in zip(rounded, classes, strict=True):
            factor, least, places = self.row_prices.of_row(row, predicted)
            smoothed, lower, upper = [], [], []
            for column in self._columns:
                uniform = rng.random()
                above, at_least = self.row_prices.among_all_traffic(column, places[column], row[column])
                smoothed.append((above + uniform * (1 + at_least - above)) / steps)
                lower.append(above / steps)
                upper.append((at_least + 1) / steps)
            if self.cell_prices is not None:
                factor = _with_cell_price(factor, self.cell_prices.of_list(lower, upper))
            factors.append(factor)
            rarest.append(least)
            cells.append(self.cells.of_list(smoothed))
        return Assessment(np.array(factors), np.array(rarest), np.array(cells), leaks)

    def _among_all_traffic(self, rounded: Integers) -> tuple[Integers, Integers]:
        """The numbers of honest rows above and at or above each row's leak, both (rows, coordinates)."""
        ranks = self.row_prices.all_traffic
        return ranks.count(rounded, "right")[:, self._columns], ranks.count(rounded)[:, self._columns]

    def p_values(self, leaks: Leaks) -> Floats:
        """The p-values by which rows are priced, (rows, measures). Raises as ``assess`` does."""
        return self.row_prices.p_values(rounded_leaks(check_leak_values(leaks, self.measures)), leaks.classes)

    def p_values_by_kind(self, leaks: Leaks) -> tuple[Floats, ...]:
        """The p-values (rows, measures) among each of ``row_prices.kind_names``, all traffic first. Raises as ``assess`` does."""
        rounded = rounded_leaks(check_leak_values(leaks, self.measures))
        return tuple(ranks.p_values(rounded) for ranks in self.row_prices.kinds)

    def factor_at(self, p_value: float) -> float:
        """The price factor of a row with this p-value, 0 to 1, by every measure and among every kind."""
        factor = float(self.row_prices.factors(np.full((1, len(self.measures)), p_value))[0])
        if self.cell_prices is None:
            return factor
        cell = self.cells.of_list([p_value] * len(self._columns))
        return _with_cell_price(factor, float(self.cell_prices.prices[cell]))

    def new_account_seconds(self, caller: Caller) -> float:
        """The whole new-account toll of this caller in reference seconds."""
        return self.unit_seconds * self.calibration.new_account_toll.total_units(caller)

    def for_own_kind(self, assessment: Assessment, own_kind: str) -> Assessment:
        """The assessment for the caller whose own log is the kind of this name; the same where there is none.

        Its rows cost the smaller one of the factor of all callers and the weighted mean of b(p) with p among its own rows too,
        whose mean over its own rows is at most 1 as well.
        """
        ranks = self._own_ranks.get(own_kind)
        if ranks is None:
            return assessment
        rounded = rounded_leaks(assessment.leaks.values)
        p_values = self.row_prices.p_values(rounded, assessment.leaks.classes)
        p_values = np.maximum(p_values, ranks.p_values(rounded))
        factors = np.minimum(assessment.factors, self.row_prices.factors(p_values))
        return Assessment(factors, p_values.min(axis=1, initial=1.0), assessment.cells, assessment.leaks)

    def clean_prices(self, leaks: Leaks, clean: Floats | None = None) -> tuple[Floats, Floats]:
        """The clean factor and the smallest clean p of each row, both (rows,): among all traffic alone.

        ``clean`` (rows, measures): the leaks by the measures fitted without kinds. The clean p by a measure is the smaller one of
        two: that of the leak by the measure, and that of the leak by the same measure fitted without kinds, each among the
        honest rows' leaks by the same. Without ``clean``, or where the calibration has no scores to rank it among, it is the
        first.
        """
        values = check_leak_values(leaks, self.measures)
        p_values = self.row_prices.all_traffic.p_values(rounded_leaks(values))
        if clean is not None and self._clean is not None:
            of_clean = check_leak_values(Leaks(leaks.measures, clean), self.measures)
            p_values = np.minimum(p_values, self._clean.p_values(rounded_leaks(of_clean)))
        return self.row_prices.factors(p_values), p_values.min(axis=1, initial=1.0)

    def row_units(
        self,
        assessment: Assessment,
        surcharge: float | Floats,
        frequent: Bools,
        group_surcharge: float | Floats = 1.0,
        clean: Floats | None = None,
    ) -> Floats:
        """The price of each row in units, (rows,), under suspicion; before markup and discount.

        Where ``surcharge`` is above 1, rows in a cell that speaks against the caller (``frequent``, (rows,)) and rows with a
        clean p below ``rare_below`` cost the surcharge times the largest of 1, their factor and their clean factor. Rows with
        p below ``group_rare_below`` cost at least ``group_surcharge`` times their factor. Other rows cost their factor. Each
        surcharge is one number, or one per row where the rows are of many callers. ``clean``: as in ``clean_prices``.
        """
        terms, factors = self.calibration.suspicion, assessment.factors
        units = factors
        if np.max(surcharge, initial=1.0) > 1.0:
            clean_factors, clean_rarest = self.clean_prices(assessment.leaks, clean)
            marked = (frequent | (clean_rarest < terms.rare_below)) & (np.asarray(surcharge) > 1.0)
            units = np.where(marked, np.maximum(np.maximum(factors, clean_factors), 1.0) * surcharge, factors)
        if np.max(group_surcharge, initial=1.0) > 1.0:
            rare = assessment.rarest < terms.group_rare_below
            units = np.maximum(units, np.where(rare, factors * group_surcharge, factors))
        return units

    def verdict(self, account: Account, logged_as: str = "") -> Verdict:
        """What the evidence says of the caller and of its groups.

        Raises:
            CalibrationError: the evidence of the account or of one of its groups is not over this tariff's cells.
        """
        if any(each.evidence.cells != self.cell_count for each in (account, *account.groups)):
            raise CalibrationError(
                "the account belongs to another tariff", private=f"its evidence is not over {self.cell_count} cells"
            )
        own = self.own_kind(logged_as)
        verdict = self.suspicion.verdict(account, own)
        return verdict if own is None else replace(verdict, own_kind=own.name)

    def work(self, assessment: Assessment, account: Account, verdict: Verdict, clean: Floats | None = None) -> Work:
        """unit * sum of the rows' units * markup * (1 - discount); the discount is not for callers under suspicion."""
        assessment = self.for_own_kind(assessment, verdict.own_kind)
        units, group_surcharge = assessment.factors, verdict.group_surcharge
        if verdict.suspected or group_surcharge > 1.0:
            cells = np.zeros(self.cell_count, np.bool_) if verdict.frequent is None else verdict.frequent
            units = self.row_units(assessment, verdict.surcharge, cells[assessment.cells], group_surcharge, clean)
        total = units.item() if len(units) == 1 else float(units.sum())
        seconds = self.unit_seconds * total * account.caller.markup
        if not verdict.suspected:
            seconds *= 1.0 - account.caller.discount
        return Work(seconds, len(units), seconds, surcharge=verdict.surcharge, group_surcharge=group_surcharge)


def _with_cell_price(factor: float, price: float) -> float:
    return (1.0 - _NUMERAIRE_SHARE) * factor + _NUMERAIRE_SHARE * price


def price_factors(calibration: Calibration, leaks: Leaks) -> Floats:
    """The price of each row in units, (rows,), without surcharges. Raises as ``ConformalTariff.assess`` does."""
    return ConformalTariff(calibration).factors(leaks)
