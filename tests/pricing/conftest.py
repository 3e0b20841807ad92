"""Calibrations and accounts that the pricing tests share."""

from __future__ import annotations

import numpy as np
import pytest

from modeltoll.pricing.calibration import Calibration
from modeltoll.pricing.conformal_tariff import ConformalTariff


def made(scores, **terms):
    """A calibration from scores of shape (measures, n), unsorted, with equal weights unless they are given."""
    scores = np.sort(np.asarray(scores, dtype=np.float64), axis=1)
    measures = tuple(f"measure {place}" for place in range(len(scores)))
    defaults = {"weights": (1.0 / len(scores),) * len(scores), "g": 0.8, "unit_seconds": 0.01}
    return Calibration("model", measures, scores, **(defaults | terms))


@pytest.fixture(scope="session")
def make_calibration():
    return made


@pytest.fixture(scope="session")
def calibration():
    """Two dependent measures, the second heavily tied."""
    first = np.random.default_rng(1).lognormal(size=600)
    return made([first, np.floor(first)])


@pytest.fixture(scope="session")
def tariff(calibration):
    return ConformalTariff(calibration)
