"""A fit takes kinds, callers and strangers as they are: their cells, their scores, and what of them is held back."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from honest_kinds import NAMES, declared, rows, thief
from modeltoll.errors import CalibrationError
from modeltoll.pricing.conformal_tariff import ConformalTariff, price_factors
from modeltoll.pricing.fit import (
    CalibrationTerms,
    FitSamples,
    HoldoutSplit,
    RowCosts,
    fit_calibration,
    fit_with_rows_held_back,
)
from modeltoll.pricing.fit_terms import CLASS_ROWS
from modeltoll.pricing.kind_fit import OTHER_CLASSES, CellSorter
from modeltoll.pricing.kinds import CALLER, CLASS, DECLARED, KindSample
from modeltoll.pricing.priced_classes import LARGEST_CLASS_UNITS, PRICED_CLASS_ROWS
from modeltoll.records import Leaks


def fit(samples, **terms):
    return fit_with_rows_held_back(
        "model", samples, RowCosts(0.01), CalibrationTerms(**terms), split=HoldoutSplit(seed=1)
    )


def by_role(calibration, role):
    return {kind.name: kind for kind in calibration.kinds if kind.role == role}


@pytest.fixture(scope="module")
def fitted():
    """All traffic of 5,000 rows and ten classes, three kinds of different sizes, four callers, two strangers."""
    honest = rows(5000)
    callers = tuple(np.array(["anna", "bert", "cleo", "dora"])[np.arange(5000) % 4])
    kinds = (declared("large:1", 3000, seed=11), declared("middle:1", 1300, seed=12), declared("small:1", 400, seed=13))
    strangers = (thief(), thief("noise", generic=True, seed=201))
    return fit(FitSamples(honest, kinds, strangers, callers, {"anna": "key:anna"}))


def test_the_p_values_of_all_traffics_own_rows_are_those_among_the_others(fitted):
    """Leave-one-out: each coordinate's bins hold their width of the rows, as those of fresh rows do."""
    calibration = fitted.calibration
    shares = calibration.kinds[0].counts.reshape(calibration.cells.shape) / calibration.honest_rows
    for axis, edges in enumerate(calibration.cells.edges):
        assert shares.sum(axis=1 - axis) == pytest.approx(np.diff(edges), abs=2e-3)
    assert calibration.kinds[0].rows == calibration.honest_rows


def test_a_row_among_the_scores_is_compared_with_the_others_alone():
    """Of n distinct scores the smoothed p of the k-th largest lies in ((k - 1) / n, k / n)."""
    scores = np.arange(1.0, 101.0)[None]
    sorter = CellSorter.of(("m",), ("m",), scores)
    cells = sorter.cells_of(scores.T, np.random.default_rng(0), among=True)
    edges = np.array(sorter.cells.edges[0])
    ranks = 100 - np.arange(100)
    assert (edges[cells] <= ranks / 100).all()
    assert (edges[cells + 1] >= (ranks - 1) / 100).all()


def test_kinds_are_priced_from_a_thousand_fitted_rows_on_and_a_thousand_held_back_are_enough(fitted):
    kinds = by_role(fitted.calibration, DECLARED)
    assert [(name, kind.rows, kind.scores is not None) for name, kind in kinds.items()] == [
        ("large:1", 2000, True),
        ("middle:1", 1000, True),
        ("small:1", 320, False),
    ]
    held = {rows.name: rows.rows for rows in fitted.held_back if rows.role == DECLARED}
    assert held == {"large:1": 1000, "middle:1": 300, "small:1": 80}


def test_no_row_is_both_fitted_to_and_held_back(fitted):
    for name, kind in by_role(fitted.calibration, DECLARED).items():
        held = next(rows for rows in fitted.held_back if rows.name == name)
        if kind.scores is not None:
            assert not np.isin(held.leaks.values[:, 0], kind.scores[0]).any()
    traffic = fitted.held_back[0].leaks.values
    assert not np.isin(traffic[:, 0], fitted.calibration.scores[0]).any()


def with_small_classes(sizes, count=2000):
    """Traffic of five classes in which the first rows are of further classes, of these sizes; the last ones are unknown."""
    honest = rows(count, classes=5)
    labels = np.repeat(list(sizes), list(sizes.values()))
    honest.classes[: len(labels)], honest.classes[-10:] = labels, -1
    return honest


def test_predicted_classes_are_kinds_from_100_rows_on_and_smaller_ones_together():
    found = fit(FitSamples(with_small_classes({77: 200, 88: 90, 99: 60, 66: 30})))
    names = by_role(found.calibration, CLASS)
    assert {"class 77", OTHER_CLASSES} < set(names)
    assert {"class 88", "class 99", "class 66", "class -1"}.isdisjoint(names)
    assert all(kind.rows >= CLASS_ROWS and kind.scores is None for kind in names.values())
    assert [label for label, _ in found.classes.small] == [88, 99, 66]
    assert names[OTHER_CLASSES].rows == sum(size for _, size in found.classes.small)
    held = {each.name: each for each in found.held_back if each.role == CLASS}
    assert set(held) == set(names)
    assert set(held[OTHER_CLASSES].leaks.classes.tolist()) <= {88, 99, 66}
    assert set(held["class 77"].leaks.classes.tolist()) == {77}


def test_small_classes_that_are_too_few_rows_together_are_no_kind_but_are_named():
    found = fit(FitSamples(with_small_classes({77: 20, 88: 40})))
    assert OTHER_CLASSES not in by_role(found.calibration, CLASS)
    assert [label for label, _ in found.classes.small] == [88, 77]


def test_the_operator_may_ask_for_kinds_of_smaller_classes():
    honest = with_small_classes({77: 60, 88: 20})
    assert "class 77" in by_role(fit(FitSamples(honest), class_rows=25).calibration, CLASS)
    assert "class 77" not in by_role(fit(FitSamples(honest)).calibration, CLASS)


def test_without_classes_there_are_no_kinds_of_classes():
    found = fit(FitSamples(Leaks(NAMES, rows(1000).values)))
    assert by_role(found.calibration, CLASS) == {}
    assert found.classes.small == ()


def test_only_callers_who_are_known_to_be_honest_are_kinds_and_the_others_can_be_tried(fitted):
    own = by_role(fitted.calibration, CALLER)
    assert list(own) == ["anna"]
    assert own["anna"].label == "key:anna"
    assert own["anna"].scores.shape == (2, own["anna"].rows)
    assert set(fitted.unmarked) == {"bert", "cleo", "dora"}
    held = {rows.name: rows for rows in fitted.held_back if rows.role == CALLER}
    assert sorted(held) == ["anna", "bert", "cleo", "dora"]
    assert sum(rows.rows for rows in held.values()) == fitted.held_back[0].rows
    assert ConformalTariff(fitted.calibration).own_kind("anna") is own["anna"]


def test_half_of_a_strangers_rows_are_fitted_to_and_half_are_tried(fitted):
    assert [(each.name, each.generic, int(each.counts.sum())) for each in fitted.calibration.strangers] == [
        ("photographs", False, 500),
        ("noise", True, 500),
    ]
    assert [(each.name, each.generic, each.rows) for each in fitted.strangers] == [
        ("photographs", False, 500),
        ("noise", True, 500),
    ]


def test_measures_fitted_without_kinds_are_clean_scores_and_no_coordinates():
    values = np.concatenate([rows(1000).values, rows(1000, inputs=1.0, seed=5).values[:, 1:]], axis=1)
    found = fit(FitSamples(Leaks((*NAMES, "novelty:clean"), values)))
    calibration = found.calibration
    assert calibration.measures == calibration.coordinates == NAMES
    assert np.array_equal(calibration.clean_scores[0], calibration.scores[0])
    assert np.isin(calibration.clean_scores[1], values[:, 2]).all()
    assert fit(FitSamples(rows(1000))).calibration.clean_scores is None


def test_coordinates_are_the_operators_or_the_heaviest_of_answers_and_of_inputs():
    values = np.concatenate([rows(1000).values, rows(1000, seed=7).values], axis=1)
    leaks = Leaks(("gap", "novelty", "entropy", "far"), values)
    chosen = {"weights": (0.1, 0.2, 0.3, 0.4), "input_measures": ("novelty", "far")}
    assert fit(FitSamples(leaks), **chosen).calibration.coordinates == ("entropy", "far")
    assert fit(FitSamples(leaks), coordinates=("gap",), **chosen).calibration.coordinates == ("gap",)


def dear_class(count, size, seed=0):
    """Traffic in which the rows of class 9, so many, have far larger leaks than all others."""
    honest = rows(count, seed=seed, classes=5)
    honest.classes[:size] = 9
    honest.values[:size] *= 300.0
    return honest


def test_a_class_that_would_cost_more_than_two_units_is_priced_among_its_own_rows():
    honest = dear_class(5000, 300)
    found = fit(FitSamples(honest))
    assert [priced.classes for priced in found.calibration.priced_classes] == [(9,)]
    held = next(each for each in found.held_back if each.name == "class 9")
    before = dataclasses.replace(found.calibration, priced_classes=())
    assert price_factors(before, held.leaks).mean() > LARGEST_CLASS_UNITS
    assert price_factors(found.calibration, held.leaks).mean() < 1.5


def test_small_dear_classes_are_pooled_to_200_rows_and_never_fewer():
    honest = dear_class(5000, 200)
    honest.classes[100:200] = 8
    priced = fit(FitSamples(honest)).calibration.priced_classes
    assert priced == ()  # 160 fitted rows: they would cap the price of everybody's rows
    honest.classes[200:300] = 7
    pool = fit(FitSamples(honest)).calibration.priced_classes
    assert [each.classes for each in pool] == [(7, 8, 9)]
    assert pool[0].scores.shape[1] >= PRICED_CLASS_ROWS


def test_kinds_raise_no_price_and_their_own_falls():
    """A kind's rows cost less where it is declared; its mean is then at most about one unit."""
    kind = declared("shifted:1", 3000, inputs=1.5)
    honest = rows(4000)
    without, within = fit(FitSamples(honest)), fit(FitSamples(honest, (kind,)))
    held = next(each for each in within.held_back if each.name == "shifted:1").leaks
    dear, cheap = price_factors(without.calibration, held), price_factors(within.calibration, held)
    assert dear.mean() > 3.0
    assert cheap.mean() < 1.3
    assert (cheap <= dear * (1 + 1e-9)).mean() > 0.99


@pytest.mark.parametrize(
    ("samples", "fault"),
    [
        (FitSamples(rows(500), (declared("few", 49),)), "49 rows of 'few' are too few"),
        (FitSamples(rows(500), (KindSample("bad", DECLARED, Leaks(NAMES, -rows(60).values)),)), "'bad' have a leak"),
        (FitSamples(rows(500), (), (thief("one", 30),)), "30 rows of 'one' are too few"),
        (
            FitSamples(rows(500), (KindSample("other", DECLARED, Leaks(("gap", "tail"), rows(60).values)),)),
            "not recorded",
        ),
        (FitSamples(Leaks(NAMES, rows(500).values, np.zeros(3, np.int64))), "one predicted class per row"),
        (FitSamples(rows(500), (), (), ("a",) * 3), "one caller per row"),
    ],
)
def test_samples_that_cannot_be_fitted_to_are_refused_by_name(samples, fault):
    with pytest.raises(CalibrationError, match=fault):
        fit(samples)


def test_leaks_alone_are_all_traffic_without_kinds():
    honest = Leaks(NAMES, rows(1000).values)
    one, two = (fit_calibration("model", each, RowCosts(0.01)) for each in (honest, FitSamples(honest)))
    assert one.identity == two.identity
    assert [kind.name for kind in one.kinds] == ["all traffic"]
