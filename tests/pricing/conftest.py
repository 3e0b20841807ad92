"""Calibrations and accounts that the pricing tests share."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from modeltoll.evidence_records import EvidenceState
from modeltoll.pricing.calibration import Calibration, PricedClass
from modeltoll.pricing.conformal_tariff import ConformalTariff
from modeltoll.pricing.kinds import ALL_TRAFFIC, CALLER, CLASS, DECLARED, FittedKind, FittedStranger
from modeltoll.records import Leaks
from modeltoll.testing.tariffs import new_account


def made(scores, **terms):
    """A calibration from scores of shape (measures, n), unsorted, with equal weights unless they are given."""
    scores = np.sort(np.asarray(scores, dtype=np.float64), axis=1)
    measures = tuple(f"measure {place}" for place in range(len(scores)))
    defaults = {"weights": (1.0 / len(scores),) * len(scores), "g": 0.8, "unit_seconds": 0.01}
    return Calibration("model", measures, scores, **(defaults | terms))


def made_of_rows(rows, **terms):
    """A calibration from rows (measures, n) whose kind of all traffic has the cells of these rows, however dependent."""
    calibration = made(rows, **terms)
    leaks = Leaks(calibration.measures, np.asarray(rows, dtype=np.float64).T)
    cells = ConformalTariff(calibration).assess(leaks, np.random.default_rng(0)).cells
    counts = np.bincount(cells, minlength=calibration.cells.count)
    return dataclasses.replace(calibration, kinds=(FittedKind(ALL_TRAFFIC, ALL_TRAFFIC, counts),))


def counted_in(tariff, account, counts):
    """The account after fresh rows, so many in each cell, all in one block."""
    counts = tuple(int(count) for count in counts)
    state = dataclasses.replace(EvidenceState.new(len(counts), 0.0), counts=counts)
    return dataclasses.replace(account, rows=max(1, sum(counts)), evidence=state)


def thief_of(tariff, caller, rows):
    """The account of a caller so many of whose fresh rows fell into the rarest cell, and no other."""
    counts = np.zeros(tariff.cell_count, np.int64)
    counts[0] = rows
    return counted_in(tariff, new_account(tariff, caller), counts)


def kinds_among(calibration, seed=0):
    """The same calibration with two declared kinds, a class, a caller's log, a priced class, clean scores and strangers."""
    rng, cells = np.random.default_rng(seed), calibration.cells
    measures = len(calibration.measures)

    def kind(name, role, rows, scale):
        counts = rng.multinomial(rows, rng.dirichlet(5.0 * cells.count * cells.widths + 0.2)).astype(np.int64)
        scored = role in (DECLARED, CALLER)
        scores = np.sort(scale * rng.lognormal(size=(measures, rows)), axis=1) if scored else None
        return FittedKind(name, role, counts, scores, label="a label" if role == CALLER else "")

    kinds = (
        calibration.kinds[0],
        kind("blur", DECLARED, 1000, 1.5),
        kind("dark", DECLARED, 1100, 0.8),
        kind("class 3", CLASS, 40, 1.0),
        kind("5f0c", CALLER, 300, 3.0),
    )
    strangers = tuple(
        FittedStranger(name, rng.multinomial(500, rng.dirichlet(1.0 / (1 + np.arange(cells.count)))), generic)
        for name, generic in (("photographs", False), ("noise", True))
    )
    return dataclasses.replace(
        calibration,
        kinds=kinds,
        priced_classes=(
            PricedClass((3,), np.sort(4.0 * rng.lognormal(size=(measures, 250)), axis=1)),
            PricedClass((5, 6), np.sort(2.0 * rng.lognormal(size=(measures, 220)), axis=1)),
        ),
        clean_scores=np.sort(calibration.scores * rng.uniform(0.5, 2.0, calibration.scores.shape), axis=1),
        strangers=strangers,
    )


@pytest.fixture(scope="session")
def make_calibration():
    return made


@pytest.fixture(scope="session")
def add_kinds():
    return kinds_among


@pytest.fixture(scope="session")
def make_thief():
    return thief_of


@pytest.fixture(scope="session")
def count_in():
    return counted_in


@pytest.fixture(scope="session")
def calibration():
    """Two dependent measures, the second heavily tied."""
    first = np.random.default_rng(1).lognormal(size=600)
    return made_of_rows([first, np.floor(first)])


@pytest.fixture(scope="session")
def tariff(calibration):
    return ConformalTariff(calibration)


@pytest.fixture(scope="session")
def rich():
    """The tariff of two measures without ties, with kinds of every role, priced classes, clean scores and strangers."""
    return ConformalTariff(kinds_among(made(np.random.default_rng(2).lognormal(size=(2, 2000)), weights=(0.3, 0.7))))
