"""Explanations equal the price that is charged, and their parts add up to it."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modeltoll.errors import AnswerError, CalibrationError
from modeltoll.evidence_records import RESTART_ROWS, EvidenceState, FinishedBlock
from modeltoll.pricing.conformal_tariff import ConformalTariff
from modeltoll.pricing.explain import explain_caller, explain_row
from modeltoll.pricing.explain_cells import cell_readings, kind_distances
from modeltoll.records import Caller, Leaks
from modeltoll.settlement_records import Standing
from modeltoll.testing.tariffs import new_account

OWN = "5f0c"  # the pseudonym of the caller of the fixture ``rich`` whose own log is a kind


def after(tariff, caller, thefts, honest=3):
    """An account after so many fresh rows in the rarest cell, and others in the most common one."""
    counts = np.zeros(tariff.cell_count, np.int64)
    counts[0], counts[-1] = thefts, honest
    counts = tuple(counts.tolist())
    state = EvidenceState.new(tariff.cell_count, 7.0)
    blocks = (counts,) * len(RESTART_ROWS)
    return dataclasses.replace(
        new_account(tariff, caller),
        rows=thefts + honest,
        evidence=dataclasses.replace(state, counts=counts, blocks=blocks),
    )


@given(
    leaks=st.tuples(st.floats(0.0, 100.0), st.floats(0.0, 100.0)),
    clean=st.none() | st.tuples(st.floats(0.0, 100.0), st.floats(0.0, 100.0)),
    predicted=st.sampled_from([None, 0, 3, 6]),
    thefts=st.integers(0, 80),
    others=st.lists(st.integers(0, 80), max_size=2),
    caller=st.sampled_from([Caller("key:a"), Caller("key:a", discount=0.4), Caller("net:10.0.0.1", markup=2.0)]),
    settled=st.sampled_from([0, 199, 200]),
    logged_as=st.sampled_from(["", OWN]),
)
def test_a_row_and_its_caller_explain_the_work_to_the_last_unit(
    rich, leaks, clean, predicted, thefts, others, caller, settled, logged_as
):
    tariff = rich
    shared = tuple(after(tariff, Caller(f"org:{place}"), count) for place, count in enumerate(others))
    account = dataclasses.replace(after(tariff, caller, thefts), groups=shared, settled_rows=settled)
    classes = None if predicted is None else np.array([predicted])
    row_leaks = Leaks(tariff.measures, np.array([leaks]), classes)
    clean = None if clean is None else np.array([clean])
    of_caller = explain_caller(tariff, account, Standing(settled_rows=settled), logged_as)
    row = explain_row(tariff, row_leaks, of_caller, clean)
    assessment = tariff.assess(row_leaks, np.random.default_rng(0))
    verdict = tariff.verdict(account, logged_as)
    work = tariff.work(assessment, account, verdict, clean)
    assert row.seconds == pytest.approx(work.rows_seconds, rel=1e-12)
    units = max(row.price_factor * row.surcharge, row.factor * row.group_surcharge)
    assert row.seconds == pytest.approx(row.unit_seconds * units * row.markup * (1.0 - row.discount), rel=1e-12)
    assert of_caller.surcharge == work.surcharge
    assert of_caller.group_surcharge == pytest.approx(work.group_surcharge, rel=1e-12)
    assert of_caller.discount == (0.0 if of_caller.suspected else caller.discount)
    assert [(group.group, group.rows) for group in of_caller.groups] == [
        (each.caller.name, each.rows) for each in shared
    ]
    assert of_caller.suspected == (of_caller.log_evidence >= of_caller.log_threshold)
    if verdict.frequent is not None:
        assert of_caller.frequent == set(np.flatnonzero(verdict.frequent).tolist())


@given(
    leaks=st.tuples(st.floats(0.0, 100.0), st.floats(0.0, 100.0)),
    predicted=st.sampled_from([None, 0, 3, 6]),
    logged_as=st.sampled_from(["", OWN]),
)
def test_the_steps_of_a_price_lead_to_it(rich, leaks, predicted, logged_as):
    classes = None if predicted is None else np.array([predicted])
    row_leaks = Leaks(rich.measures, np.array([leaks]), classes)
    of_caller = explain_caller(rich, new_account(rich, Caller("key:a")), Standing(), logged_as)
    row = explain_row(rich, row_leaks, of_caller)
    assert row.rarity == pytest.approx(sum(each.weight * each.factor for each in row.readings))
    general = (row.rarity + row.cell_price) / 2.0
    assert row.cell_price >= 0.0
    assert row.factor == pytest.approx(general if row.own_factor is None else min(general, row.own_factor))
    assert (row.own_factor is None) == (logged_as == "")
    for column, reading in enumerate(row.readings):
        names = [each.kind for each in reading.kinds]
        assert names[:3] == ["all traffic", "blur", "dark"]
        assert names[3:] == {3: ["class 3"], 6: ["2 rare classes"]}.get(predicted, []) + ["a label"] * bool(logged_as)
        priced = reading.kinds[: len(names) - bool(logged_as)]
        assert reading.p_value == max(each.p_value for each in priced) == rich.p_values(row_leaks)[0, column]
        assert [each.p_value for each in reading.kinds[:3]] == [
            p_values[0, column] for p_values in rich.p_values_by_kind(row_leaks)
        ]
        assert (
            dict(zip(names, [each.p_value for each in reading.kinds], strict=True))[reading.decisive] == reading.p_value
        )
        assert reading.p_low <= reading.p_value <= reading.p_high
        for kind in reading.kinds:
            assert kind.p_value == pytest.approx((1 + kind.at_least) / (kind.rows + 1))
    assert row.cell_bounds == rich.cells.bounds(row.cell)


@given(
    thefts=st.integers(0, 60), honest=st.integers(0, 60), waiting=st.booleans(), carried=st.none() | st.floats(-5, 30)
)
def test_the_tests_of_a_caller_add_up_to_its_evidence(rich, thefts, honest, waiting, carried):
    account = after(rich, Caller("key:a"), thefts, honest)
    finished = FinishedBlock(2, account.evidence.counts) if waiting else None
    state = dataclasses.replace(
        account.evidence,
        numbers=(3, 1, 1, 1, 1),
        finished=(finished, None, None, None, None),
        finished_log=-1.5,
        carried_log=carried,
    )
    seen = explain_caller(rich, dataclasses.replace(account, evidence=state), Standing())
    total = sum(test.weight * math.exp(test.log_evidence) for test in seen.tests) + math.exp(seen.finished_log)
    to_come = sum(0.1 / (number + 1) for number in state.numbers)
    evidence = math.log(total + to_come)
    if carried is not None:
        evidence = math.log(0.5) + np.logaddexp(evidence, carried)
    assert seen.log_evidence == pytest.approx(evidence, abs=1e-6)
    assert seen.finished_blocks == 2 - waiting
    assert [test.block_rows for test in seen.tests] == sorted([0, *RESTART_ROWS, *[RESTART_ROWS[0]] * waiting])
    assert sum(test.finished for test in seen.tests) == waiting
    assert seen.tests[0].rows == seen.counted == thefts + honest
    strongest = max(seen.tests, key=lambda test: math.log(test.weight) + test.log_evidence)
    assert seen.leading == strongest or not seen.suspected
    assert seen.leading == seen.tests[0] or seen.suspected


@given(st.lists(st.integers(0, 40), min_size=48, max_size=48).filter(any), st.sampled_from([None, OWN]))
def test_cells_have_the_shares_of_the_rows_and_of_the_law_that_fits_best(rich, counts, logged_as):
    assert rich.cell_count == 48
    own = rich.own_kind(logged_as) if logged_as else None
    cells = cell_readings(rich, counts, own)
    fitted = rich.suspicion.fitted(np.array(counts), own)
    assert {cell.cell: cell.rows for cell in cells} == {place: rows for place, rows in enumerate(counts) if rows}
    assert sum(cell.share for cell in cells) == pytest.approx(1.0)
    assert [cell.honest for cell in cells] == [fitted[cell.cell] for cell in cells]
    assert [cell.log_ratio for cell in cells] == sorted((cell.log_ratio for cell in cells), reverse=True)
    assert all(cell.against == (cell.share > cell.honest * (1 + 1e-9)) for cell in cells)
    assert all((cell.log_ratio > 0.0) == (cell.share > cell.honest) for cell in cells)


def test_the_nearest_kind_is_the_one_whose_law_the_rows_follow(rich):
    for kind, law in zip(rich.calibration.kinds, rich.suspicion.laws.laws, strict=False):
        counts = np.rint(1e6 * law).astype(np.int64).tolist()
        distances = kind_distances(rich, counts)
        assert distances[0].kind == kind.name
        assert distances[0].nats == pytest.approx(0.0, abs=1e-3)
        assert [each.nats for each in distances] == sorted(each.nats for each in distances)
        assert OWN not in [each.kind for each in distances]  # for that caller alone
    own = rich.own_kind(OWN)
    assert kind_distances(rich, own.counts.tolist(), own)[0].kind == OWN
    assert kind_distances(rich, [0] * rich.cell_count) == ()


def test_a_callers_own_log_frees_it_and_no_one_else(rich):
    own, calibration = rich.own_kind(OWN), rich.calibration
    rare = dataclasses.replace(own, counts=np.where(np.arange(rich.cell_count) == 0, own.rows, 0))
    kinds = tuple(rare if kind is own else kind for kind in calibration.kinds)
    tariff = ConformalTariff(dataclasses.replace(calibration, kinds=kinds))
    account = after(tariff, Caller("key:a"), 60)
    stranger, known = (explain_caller(tariff, account, Standing(), name) for name in ("", OWN))
    assert stranger.suspected
    assert not known.suspected
    assert (stranger.own_kind, known.own_kind) == (None, OWN)
    assert (stranger.kinds[0].kind == OWN, known.kinds[0].kind == OWN) == (False, True)
    assert (stranger.cells[0].cell, stranger.cells[0].against) == (0, True)
    assert stranger.cells[0].log_ratio > 20.0
    within = 0.01 * known.counted  # nats, to which the law that fits best is searched
    assert sum(cell.log_ratio for cell in known.cells) <= within < sum(cell.log_ratio for cell in stranger.cells)


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
