"""Explanations equal the price that is charged."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modeltoll.errors import AnswerError, CalibrationError
from modeltoll.pricing.explain import explain_caller, explain_row
from modeltoll.records import Caller, Leaks
from modeltoll.settlement_records import Standing
from modeltoll.testing.tariffs import new_account


def after(tariff, caller, thefts):
    """An account after so many rows of the rarest bin, and three others."""
    counts = np.zeros(tariff.shape)
    counts[:, 0], counts[:, 5] = thefts, 3.0
    return dataclasses.replace(new_account(tariff, caller), rows=thefts + 3, counts=tuple(map(tuple, counts.tolist())))


@given(
    st.tuples(st.floats(0.0, 100.0), st.floats(0.0, 100.0)),
    st.integers(0, 80),
    st.lists(st.integers(0, 80), max_size=2),
    st.sampled_from([Caller("key:a"), Caller("key:a", discount=0.4), Caller("net:10.0.0.1")]),
    st.sampled_from([0, 199, 200]),
)
def test_a_row_and_its_caller_explain_the_work_to_the_last_unit(tariff, row_leaks, thefts, others, caller, settled):
    shared = tuple(after(tariff, Caller(f"org:{place}"), thefts) for place, thefts in enumerate(others))
    account = dataclasses.replace(after(tariff, caller, thefts), groups=shared, settled_rows=settled)
    leaks = Leaks(tariff.measures, np.array([row_leaks]))
    standing = explain_caller(tariff, account, Standing(settled_rows=settled))
    row = explain_row(tariff, leaks, standing)
    work = tariff.work(tariff.assess(leaks, np.random.default_rng(0)), account)
    assert row.seconds == pytest.approx(work.rows_seconds, rel=1e-12)
    assert standing.surcharge == pytest.approx(work.surcharge, rel=1e-12)
    assert standing.group_surcharge == pytest.approx(work.group_surcharge, rel=1e-12)
    assert [(group.group, group.rows) for group in standing.groups] == [(one.caller.name, one.rows) for one in shared]
    assert standing.discount == (0.0 if standing.suspected else caller.discount)
    assert row.factor == pytest.approx(sum(reading.weight * reading.factor for reading in row.readings), rel=1e-12)
    assert row.rarest == min(reading.p_value for reading in row.readings)
    assert all(reading.p_low <= reading.p_value <= reading.p_high for reading in row.readings)
    assert standing.suspected == (standing.log_evidence > standing.log_threshold)
    mean = np.logaddexp.reduce(standing.log_bayes_factors) - np.log(2)
    assert standing.log_evidence == pytest.approx(mean - standing.log_tolerance)
    assert sum(reading.rows for reading in standing.bins) == 2 * standing.counted
    assert sum(reading.expected for reading in standing.bins) == pytest.approx(2 * standing.counted)


@pytest.mark.parametrize(("paid", "units", "rows"), [(0.0, 200.0, 10), (0.8, 120.0, 6), (1.99, 1.0, 1), (2.0, 0.0, 0)])
def test_the_new_account_toll_that_is_left_is_reported(tariff, paid, units, rows):
    """It is owed until it is paid, whatever was asked."""
    account = dataclasses.replace(new_account(tariff, Caller("net:10.0.0.1")), rows=40)
    left = explain_caller(tariff, account, Standing(new_account=paid))
    assert (left.entry_units, left.entry_rows) == (pytest.approx(units), rows)
    keyed = dataclasses.replace(account, caller=Caller("key:a"))
    assert explain_caller(tariff, keyed, Standing()).entry_units == 0.0


@pytest.mark.parametrize("changes", [{"tariff": "another"}, {"model": "another"}])
def test_an_account_of_another_tariff_or_model_is_refused(tariff, changes):
    account = dataclasses.replace(new_account(tariff, Caller("key:a")), **changes)
    with pytest.raises(CalibrationError, match="another tariff"):
        explain_caller(tariff, account, Standing())
    with pytest.raises(CalibrationError, match="another tariff"):
        explain_caller(tariff, dataclasses.replace(new_account(tariff, Caller("key:a")), groups=(account,)), Standing())


def test_rows_that_cannot_be_priced_cannot_be_explained(tariff):
    with pytest.raises(CalibrationError, match="not 2"):
        explain_row(tariff, Leaks(tariff.measures, np.ones((2, 2))))
    with pytest.raises(CalibrationError):
        explain_row(tariff, Leaks(("other", "names"), np.ones((1, 2))))
    with pytest.raises(AnswerError):
        explain_row(tariff, Leaks(tariff.measures, np.array([[np.nan, 1.0]])))
