"""Honest rows of several kinds, callers and strangers, as two measures would see them."""

from __future__ import annotations

import numpy as np

from modeltoll.pricing.kinds import DECLARED, KindSample, StrangerSample
from modeltoll.records import Leaks

NAMES = ("entropy", "novelty")


def rows(count, answers=0.0, inputs=0.0, seed=0, classes=10):
    """Leaks by an answer's measure and an input's, which depend on one another; the classes differ in the first."""
    rng = np.random.default_rng(seed)
    predicted = rng.integers(classes, size=count)
    scores = rng.normal(size=(count, 2))
    scores[:, 0] += answers + 0.15 * predicted
    scores[:, 1] += inputs + 0.5 * scores[:, 0]
    return Leaks(NAMES, np.exp(scores), predicted)


def declared(name, count=2000, answers=0.0, inputs=0.0, seed=100, classes=10):
    return KindSample(name, DECLARED, rows(count, answers, inputs, seed, classes))


def thief(name="photographs", count=1000, generic=False, seed=200):
    return StrangerSample(name, rows(count, 1.5, 2.5, seed), generic)
