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


def test_caps_are_two_standard_errors_and_a_row_wider_below_a_thousand_rows():
    sure, unsure = [100, 200, 300, 400], [99, 200, 300, 400]
    laws = KindLaws.of(kinds_of([sure, unsure]), WIDTHS)
    law = laws.laws[1]
    assert (laws.caps[0] == laws.laws[0]).all()
    assert laws.caps[1] == pytest.approx(law + 2.0 * np.sqrt(law * (1.0 - law) / 999) + 1 / 999)


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
