"""A calibration cannot be made of members that are out of range or do not fit together."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest

from modeltoll.errors import CalibrationError
from modeltoll.pricing.calibration import (
    Calibration,
    KindReport,
    NewAccountToll,
    PricedClass,
    default_coordinates,
    independent_counts,
)
from modeltoll.pricing.cells import Cells
from modeltoll.pricing.kinds import ALL_TRAFFIC, CALLER, CLASS, DECLARED, FittedKind, FittedStranger

VALID = Calibration("model", ("a", "b"), np.array([[1.0, 2.0], [1.0, 2.0]]), (0.5, 0.5), 0.8, 0.01)
CELLS = VALID.cells.count
COUNTS = np.full(CELLS, 500, np.int64)
ALL = VALID.kinds[0]
REPORT = KindReport("blur", DECLARED, 300, 0.9, (0.8, 1.0), 0.02, -1.5)


def scored(role, rows):
    """A kind of so many rows in the first cell, with scores."""
    counts = np.zeros(CELLS, np.int64)
    counts[0] = rows
    return FittedKind("name", role, counts, np.zeros((2, rows)))


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"scores": np.array([[2.0, 1.0], [1.0, 2.0]])}, "'scores' must ascend"),
        ({"scores": np.array([[1.0, math.inf], [1.0, 2.0]])}, "'scores' must be finite"),
        ({"scores": np.array([[-1.0, 1.0], [1.0, 2.0]])}, "'scores' must be finite and 0 or more"),
        ({"scores": np.empty((2, 0))}, "'scores' must hold"),
        ({"measures": ("same", "same")}, "'measures' must not repeat"),
        ({"measures": ("", "named")}, "'measures' must be"),
        ({"measures": ()}, "'measures' must be"),
        ({"weights": (1.5, -0.5)}, "'weights'"),
        ({"unit_seconds": 0.0}, "'unit_seconds'"),
        ({"clean_scores": np.ones((1, 2))}, "'clean_scores' must hold"),
        ({"clean_scores": np.ones((2, 3))}, "as many rows as 'scores'"),
        ({"clean_scores": np.array([[2.0, 1.0], [1.0, 2.0]])}, "'clean_scores' must ascend"),
        ({"coordinates": ("c",)}, "'coordinates'"),
        ({"coordinates": ("a", "a")}, "'coordinates'"),
        ({"coordinates": ("a",)}, "'kinds' must have counts"),  # whose cells are those of two
        ({"kinds": (FittedKind("blur", DECLARED, COUNTS),)}, "'kinds' must begin with 'all traffic'"),
        ({"kinds": (ALL, ALL)}, "'kinds' must begin with 'all traffic'"),
        ({"kinds": (ALL, FittedKind("", CLASS, COUNTS))}, "'kinds' must have names"),
        ({"kinds": (ALL, *[FittedKind("x", CLASS, COUNTS)] * 2)}, "'kinds' must have names, each once"),
        ({"kinds": (ALL, FittedKind("x", CLASS, COUNTS[:-1]))}, "'kinds' must have counts"),
        ({"kinds": (ALL, FittedKind("x", CLASS, -COUNTS))}, "'kinds' must have counts"),
        ({"kinds": (ALL, FittedKind("x", CLASS, 0 * COUNTS))}, "'kinds' must have counts"),
        ({"kinds": (ALL, FittedKind("x", CLASS, COUNTS.astype(float)))}, "'kinds' must have counts"),
        ({"kinds": (ALL, scored(DECLARED, 999))}, "'kinds.scores' are for callers"),
        ({"kinds": (ALL, scored(CLASS, 2000))}, "'kinds.scores' are for callers"),
        ({"kinds": (ALL, FittedKind("x", CALLER, COUNTS, np.zeros((2, 7))))}, "'kinds.scores' must be of as many"),
        ({"kinds": (ALL, FittedKind("x", CALLER, COUNTS, np.zeros((1, 7))))}, "'kinds.scores' must hold"),
        ({"priced_classes": (PricedClass((), np.ones((2, 3))),)}, "'priced_classes' must name classes"),
        ({"priced_classes": (PricedClass((1, 1), np.ones((2, 3))),)}, "'priced_classes' must name classes, each once"),
        ({"priced_classes": (PricedClass((-1,), np.ones((2, 3))),)}, "'priced_classes' must name classes"),
        ({"priced_classes": (PricedClass((1,), np.ones((2, 0))),)}, "'priced_classes.scores' must hold"),
        ({"strangers": (FittedStranger("", COUNTS),)}, "'strangers' must have names"),
        ({"strangers": (FittedStranger("x", COUNTS[:-1]),)}, "'strangers' must have counts"),
    ],
)
def test_members_that_do_not_fit_are_refused_by_name(changes, fault):
    with pytest.raises(CalibrationError, match=fault):
        dataclasses.replace(VALID, **changes)


def test_kinds_of_every_role_are_accepted():
    kinds = (ALL, scored(DECLARED, 1000), scored(CALLER, 10), FittedKind("few", DECLARED, COUNTS // 100))
    assert dataclasses.replace(VALID, kinds=kinds).kinds == kinds


@pytest.mark.parametrize(
    "changes",
    [
        {"mean_units": math.nan},
        {"interval": (1.0, 0.5)},
        {"interval": (-0.1, 0.5)},
        {"p99_seconds": math.inf},
        {"max_log_evidence": -math.inf},
        {"rows": -1},
        {"suspected_at": 0},
    ],
)
def test_reports_of_kinds_out_of_range_are_refused(changes):
    with pytest.raises(CalibrationError, match="'kind_reports' must"):
        dataclasses.replace(REPORT, **changes)


@pytest.mark.parametrize("terms", [{"anonymous_units": -1.0}, {"keyed_units": math.nan}])
def test_new_account_tolls_out_of_range_are_refused_by_name(terms):
    with pytest.raises(CalibrationError, match=f"'entry.{next(iter(terms))}'"):
        NewAccountToll(**terms)


@pytest.mark.parametrize(
    ("measures", "weights", "of_inputs", "chosen"),
    [
        (("a",), (1.0,), (), ("a",)),
        (("a",), (1.0,), ("a",), ("a",)),
        (("a", "b"), (0.1, 0.9), (), ("a", "b")),
        (("a", "b"), (0.1, 0.9), ("a",), ("b", "a")),
        (("a", "b", "c"), (0.2, 0.5, 0.3), (), ("b", "c")),
        (("a", "b", "c"), (0.2, 0.5, 0.3), ("c",), ("b", "c")),
        (("a", "b", "c"), (0.2, 0.5, 0.3), ("b", "c"), ("a", "b")),
        (("a", "b", "c"), (0.2, 0.4, 0.4), ("a", "b", "c"), ("b", "c")),
    ],
)
def test_the_coordinates_are_the_heaviest_measure_of_answers_and_that_of_inputs(measures, weights, of_inputs, chosen):
    assert default_coordinates(measures, weights, of_inputs) == chosen


@pytest.mark.parametrize("rows", [1, 7, 200, 3000])
@pytest.mark.parametrize("coordinates", [1, 2])
def test_by_default_all_traffic_has_independent_coordinates(coordinates, rows):
    cells = Cells(coordinates, rows)
    counts = independent_counts(cells, rows)
    assert counts.sum() == rows
    assert np.abs(counts - rows * cells.widths).max() <= 1.0 + 1e-9
    calibration = Calibration(
        "model", ("a", "b")[:coordinates], np.ones((coordinates, rows)), (1.0 / coordinates,) * coordinates, 0.8, 0.01
    )
    (kind,) = calibration.kinds
    assert (kind.name, kind.role, kind.counts.tolist()) == (ALL_TRAFFIC, ALL_TRAFFIC, counts.tolist())
