"""The laws of kinds are probabilities, shrunk towards their parents; few rows widen the caps and not the laws."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modeltoll.errors import CalibrationError
from modeltoll.pricing.kind_laws import KindLaws
from modeltoll.pricing.kinds import ALL_TRAFFIC, CALLER, CLASS, DECLARED, FittedKind

WIDTHS = np.array([0.1, 0.2, 0.3, 0.4])
COUNTS = st.lists(st.integers(0, 3000), min_size=4, max_size=4).filter(any)


def kinds_of(histograms):
    roles = [ALL_TRAFFIC, DECLARED, CLASS]
    return [FittedKind(f"kind {place}", roles[min(place, 2)], np.array(row)) for place, row in enumerate(histograms)]


@given(st.lists(COUNTS, min_size=1, max_size=4))
def test_laws_are_positive_and_sum_to_at_most_one_under_their_caps(histograms):
    laws = KindLaws.of(kinds_of(histograms), WIDTHS)
    assert laws.laws.shape == laws.caps.shape == (len(histograms), 4)
    assert (laws.laws > 0.0).all()
    assert (laws.laws.sum(axis=1) <= 1.0).all()
    assert (laws.laws.sum(axis=1) > 1.0 - 1e-9).all()
    assert (laws.caps >= laws.laws).all()
    assert (laws.caps <= 1.0).all()


@given(COUNTS, COUNTS)
def test_seven_rows_of_the_parent_are_added(everything, declared):
    laws = KindLaws.of(kinds_of([everything, declared]), WIDTHS).laws
    parent = (np.array(everything) + 7.0 * WIDTHS) / (sum(everything) + 7.0)
    assert laws[0] == pytest.approx(parent)
    assert laws[1] == pytest.approx((np.array(declared) + 7.0 * parent) / (sum(declared) + 7.0))


def caps_of(counts, role, traffic=(250, 250, 250, 250)):
    kinds = [FittedKind(ALL_TRAFFIC, ALL_TRAFFIC, np.array(traffic)), FittedKind("kind", role, np.array(counts))]
    laws = KindLaws.of(kinds, WIDTHS)
    return laws.laws[1], laws.caps[1]


def test_the_law_of_a_thousand_rows_is_its_cap_and_of_fewer_it_is_wider_by_a_standard_error():
    law, cap = caps_of([100, 200, 300, 400], DECLARED)
    assert (cap == law).all()
    law, cap = caps_of([99, 200, 300, 400], DECLARED)
    assert cap == pytest.approx(law + np.sqrt(law * (1.0 - law) / 999))


def test_cells_without_rows_may_hold_together_what_cells_of_one_row_hold_and_one_row_more():
    """The Good-Turing estimate of the unseen: with 2 cells of a single row in 62, 3 / 62, in equal shares of 2 cells."""
    widths = np.full(6, 1 / 6)
    kinds = [
        FittedKind(ALL_TRAFFIC, ALL_TRAFFIC, np.full(6, 200)),
        FittedKind("kind", DECLARED, np.array([40, 20, 1, 1, 0, 0])),
    ]
    laws = KindLaws.of(kinds, widths)
    law, cap = laws.laws[1], laws.caps[1]
    wider = cap - law - np.sqrt(law * (1.0 - law) / 62)
    assert wider == pytest.approx([0.0, 0.0, 0.0, 0.0, 1.5 / 62, 1.5 / 62])


def test_no_cell_holds_more_of_a_class_than_all_its_rows_in_all_traffic():
    """A class of 100 of 1,000 rows, none of which was in the last cell, where all traffic has 1: with two standard errors of
    the class's share, at most 12 times all traffic's law.
    """
    traffic, counts, widths = (500, 300, 199, 1), [60, 39, 1, 0], np.array([0.5, 0.3, 0.1999, 0.0001])
    kinds = [FittedKind(ALL_TRAFFIC, ALL_TRAFFIC, np.array(traffic)), FittedKind("kind", CLASS, np.array(counts))]
    laws = KindLaws.of(kinds, widths)
    assert laws.caps[1, 3] == pytest.approx(12 * laws.laws[0, 3])
    declared = KindLaws.of([kinds[0], FittedKind("kind", DECLARED, np.array(counts))], widths)
    assert declared.caps[1, 3] > 2 / 100 > laws.caps[1, 3]
    assert (declared.caps[1, :3] == laws.caps[1, :3]).all()


def test_kinds_of_few_rows_hide_less_than_a_row_in_every_cell_would():
    counts = np.random.default_rng(0).multinomial(100, np.linspace(1, 4, 4) / 10)
    _, cap = caps_of(counts, CLASS)
    assert cap.sum() < 1.0 + 4 / 100 + 2 * np.sqrt(0.25 / 100) * 2


def test_a_callers_own_log_is_two_standard_errors_and_a_row_wider_below_a_thousand_rows():
    laws = KindLaws.of(kinds_of([[100, 200, 300, 400]]), WIDTHS)
    own = laws.with_kind(FittedKind("alice", CALLER, np.array([99, 200, 300, 400])))
    law = own.laws[1]
    assert own.caps[1] == pytest.approx(law + 2.0 * np.sqrt(law * (1.0 - law) / 999) + 1 / 999)
    own = laws.with_kind(FittedKind("alice", CALLER, np.array([100, 200, 300, 400])))
    assert (own.caps[1] == own.laws[1]).all()


def test_a_callers_own_kind_comes_last_and_changes_no_other():
    laws = KindLaws.of(kinds_of([[1, 2, 3, 4], [4, 3, 2, 1]]), WIDTHS)
    own = laws.with_kind(FittedKind("alice", CALLER, np.array([0, 0, 0, 50])))
    assert own.names == ("kind 0", "kind 1", "alice")
    assert (own.laws[:2] == laws.laws).all()
    assert (own.caps[:2] == laws.caps).all()
    assert own.laws[2] == pytest.approx((np.array([0, 0, 0, 50]) + 7.0 * laws.laws[0]) / 57.0)


@pytest.mark.parametrize(
    ("histograms", "reason"), [([], "all traffic"), ([[0, 0, 0, 0]], "no rows"), ([[1, 2, 3]], "3 cells")]
)
def test_kinds_without_rows_or_of_other_cells_are_refused(histograms, reason):
    with pytest.raises(CalibrationError, match=reason):
        KindLaws.of(kinds_of(histograms), WIDTHS)
