"""Remedies: what frees a suspected caller, what a family of kinds costs against strangers, and callers' logs for everyone."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from honest_kinds import NAMES, declared, rows, thief
from modeltoll.pricing.conformal_tariff import ConformalTariff
from modeltoll.pricing.fit import CalibrationTerms, FitSamples, HoldoutSplit, RowCosts, fit_with_rows_held_back
from modeltoll.pricing.kinds import CALLER, CLASS, DECLARED, FittedKind, HeldBack
from modeltoll.pricing.rehearsal import rehearse
from modeltoll.pricing.remedies import (
    CLASSES,
    MOST_CALLER_KINDS,
    RHO_STEPS,
    callers_for_all,
    family_of,
    kind_costs,
    rarest_rows,
    remedies,
    try_strangers,
)
from modeltoll.records import Leaks


def fit(samples):
    return fit_with_rows_held_back("model", samples, RowCosts(0.01), CalibrationTerms(), split=HoldoutSplit(seed=1))


@pytest.fixture(scope="module")
def fitted():
    """All traffic, of whom one caller in five sends other rows; two families of kinds; a stranger given, one generic."""
    usual, odd = rows(4000, classes=1), rows(1000, 3.0, -2.0, seed=4, classes=1)
    honest = Leaks(usual.measures, np.concatenate([usual.values, odd.values]))
    callers = ("usual",) * 4000 + ("odd",) * 1000
    kinds = (
        declared("far:1", 2500, 1.0, 1.8, seed=21),
        declared("near:1", 2000, 0.3, 0.2, seed=22),
        declared("near:2", 2000, 0.4, 0.3, seed=23),
    )
    return fit(FitSamples(honest, kinds, (thief(), thief("noise", generic=True, seed=201)), callers))


def test_a_suspected_caller_is_freed_by_its_own_log(fitted):
    odd = next(each for each in fitted.held_back if each.name == "odd")
    assert rehearse(fitted.calibration, [odd])[0].suspected
    (found,) = remedies(fitted.calibration, [odd], fitted.unmarked)
    assert found.own_log
    assert found.rho is None or found.rho in RHO_STEPS
    marked = dataclasses.replace(fitted.calibration, kinds=(*fitted.calibration.kinds, fitted.unmarked["odd"]))
    assert not rehearse(marked, [odd])[0].suspected


def test_the_rho_that_is_named_frees_and_the_step_before_does_not():
    """A caller just outside the tolerance."""
    honest = rows(6000, classes=1)
    found = fit(FitSamples(honest))
    near = rows(3000, 0.38, 0.38, seed=5, classes=1)
    caller = HeldBack("near", CALLER, near)
    (remedy,) = remedies(found.calibration, [caller], {})
    assert not remedy.own_log
    assert remedy.rho is not None
    assert RHO_STEPS[0] < remedy.rho
    for rho, suspected in ((remedy.rho, False), (RHO_STEPS[RHO_STEPS.index(remedy.rho) - 1], True)):
        wider = dataclasses.replace(found.calibration.suspicion, rho=rho)
        assert rehearse(dataclasses.replace(found.calibration, suspicion=wider), [caller])[0].suspected is suspected


def test_strangers_are_suspected_and_pay_far_more_than_before(fitted):
    for trial in try_strangers(fitted.calibration, fitted.strangers):
        assert trial.suspected_at is not None
        assert trial.units > 50 * trial.units_before


def test_an_unsuspected_strangers_price_is_that_of_its_rows():
    """Rows of the traffic itself, as a stranger's: never suspected, and priced as the tariff prices them."""
    found = fit(FitSamples(rows(3000, classes=1)))
    same = HeldBack("same", "stranger", rows(2000, seed=9, classes=1))
    (trial,) = try_strangers(found.calibration, [same])
    assert trial.suspected_at is None
    factors = ConformalTariff(found.calibration).assess(same.leaks, np.random.default_rng(0)).factors
    assert trial.units_before == pytest.approx(factors.mean())
    assert trial.units == pytest.approx(factors.mean(), rel=0.1)


def test_a_family_that_hides_a_stranger_is_seen_to_cost_much(fitted):
    """``far`` lies near the photographs; without it they pay more before suspicion. ``near`` costs next to nothing."""
    heard = []
    costs = {
        cost.family: cost for cost in kind_costs(fitted.calibration, fitted.strangers, 0, lambda *d: heard.append(d))
    }
    assert list(costs) == ["far", "near"]
    assert heard == [(1, 2), (2, 2)]
    with_all = try_strangers(fitted.calibration, fitted.strangers)[0]
    without_far, without_near = (costs[name].strangers[0] for name in ("far", "near"))
    assert without_far.name == "photographs"
    assert without_far.units_before > 1.5 * with_all.units_before
    assert without_far.suspected_at < with_all.suspected_at
    assert without_near.units_before < 1.3 * with_all.units_before


def test_kinds_have_families():
    kinds = [FittedKind("blur:0.05", DECLARED, np.ones(2)), FittedKind("class 3", CLASS, np.ones(2))]
    assert [family_of(kind) for kind in kinds] == ["blur", CLASSES]
    assert family_of(FittedKind("anna", CALLER, np.ones(2))) == ""


def test_without_inputs_the_rarest_tenth_of_all_traffic_by_each_measure_is_tried(fitted):
    traffic = fitted.held_back[0]
    found = rarest_rows(traffic, fitted.calibration.coordinates)
    assert [(each.name, each.rows, each.generic) for each in found] == [
        (f"rarest tenth by {name}", traffic.rows // 10, True) for name in ("entropy", "novelty")
    ]
    for place, each in enumerate(found):
        assert each.leaks.values[:, place].min() >= np.quantile(traffic.leaks.values[:, place], 0.9) - 1e-9
    alone = fit(FitSamples(Leaks(NAMES, rows(4000, classes=1).values)))
    for trial in try_strangers(alone.calibration, rarest_rows(alone.held_back[0], NAMES)):
        assert trial.suspected_at is not None
        assert trial.suspected_at < 200


def test_callers_logs_count_for_everyone_and_hide_who_is_like_them(fitted):
    """A stranger like the odd caller is suspected while the log counts for the caller alone, and not when it counts for all."""
    own = dataclasses.replace(fitted.calibration, kinds=(*fitted.calibration.kinds, fitted.unmarked["odd"]))
    alike = HeldBack("alike", "stranger", rows(2000, 3.0, -2.0, seed=31, classes=1))
    before, after = (try_strangers(each, [alike])[0] for each in (own, callers_for_all(own)))
    assert before.suspected_at is not None
    assert after.suspected_at is None
    assert after.units < before.units / 100
    added = [kind for kind in callers_for_all(own).kinds if kind.name.startswith("callers ")]
    assert [(kind.role, kind.label, kind.rows) for kind in added] == [(DECLARED, "odd", fitted.unmarked["odd"].rows)]


def test_many_callers_become_at_most_32_kinds_that_hold_all_their_rows(fitted):
    """Two sorts of callers, alike among themselves: no cluster mixes them."""
    usual, odd = fitted.unmarked["usual"], fitted.unmarked["odd"]
    rng = np.random.default_rng(0)
    callers = [
        FittedKind(
            f"{sort}{number}",
            CALLER,
            rng.multinomial(300, kind.counts / kind.rows),
            kind.scores[:, np.sort(rng.integers(kind.rows, size=300))],
        )
        for number in range(40)
        for sort, kind in (("u", usual), ("o", odd))
    ]
    merged = callers_for_all(dataclasses.replace(fitted.calibration, kinds=(*fitted.calibration.kinds, *callers)))
    added = [kind for kind in merged.kinds if kind.name.startswith("callers ")]
    assert 2 <= len(added) <= MOST_CALLER_KINDS
    assert sum(kind.rows for kind in added) == 80 * 300
    names = [name for kind in added for name in kind.label.split(", ")]
    assert sorted(names) == sorted(caller.name for caller in callers)
    assert all(len({name[0] for name in kind.label.split(", ")}) == 1 for kind in added)
    assert all((kind.scores is not None) == (kind.rows >= 1000) for kind in added)
