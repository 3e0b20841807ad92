"""The conformance suite of measures catches incorrect ones."""

from __future__ import annotations

import numpy as np
import pytest

from modeltoll.errors import RequestError
from modeltoll.records import Evidence
from modeltoll.testing.measures import check_measure

EVIDENCE = Evidence(tuple(bytes([i]) for i in range(6)), inputs=np.arange(12.0).reshape(6, 2))


class Measure:
    """Correct, except for the given function of the inputs."""

    def __init__(self, leak, name="trial"):
        self.name = name
        self._leak = leak

    def measure(self, evidence):
        if evidence.inputs is None or len(evidence.inputs) != evidence.rows:
            raise RequestError("no inputs")
        return self._leak(evidence.inputs)


def counting():
    calls = iter(range(1000))
    return lambda x: np.full(len(x), float(next(calls)))


def greedy(x):
    total = x.sum(axis=1)
    x += 1.0
    return total


BREAKERS = {
    "shape": lambda x: x,
    "float64": lambda x: np.ones(len(x), dtype=np.float32),
    "not an array": lambda x: [1.0] * len(x),
    "not finite": lambda x: np.full(len(x), np.nan),
    "negative": lambda x: -np.ones(len(x)),
    "different results": counting(),
    "changed the evidence": greedy,
    "alone than in a batch": lambda x: x[:, 0] / x.sum(),
    "alone": lambda x: x[:, 0] + len(x),
    "order|different leaks|alone": lambda x: np.arange(float(len(x))),
}


@pytest.mark.parametrize(("fault", "leak"), BREAKERS.items(), ids=BREAKERS)
def test_a_measure_that_is_incorrect_is_caught(fault, leak):
    evidence = Evidence(EVIDENCE.fingerprints, inputs=EVIDENCE.inputs.copy())
    with pytest.raises(AssertionError, match=fault):
        check_measure(Measure(leak), evidence)


def test_a_measure_that_accepts_missing_evidence_is_caught():
    class Blind:
        name = "blind"

        def measure(self, evidence):
            return np.ones(evidence.rows)

    with pytest.raises(AssertionError, match="without inputs and scores"):
        check_measure(Blind(), EVIDENCE)
    with pytest.raises(AssertionError, match="name"):
        check_measure(Measure(lambda x: x[:, 0], name=""), EVIDENCE)


def test_a_correct_measure_passes():
    check_measure(Measure(lambda x: np.abs(x).sum(axis=1)), EVIDENCE)


def with_clean(clean):
    measure = Measure(lambda x: x[:, 0])
    measure.clean = clean
    return measure


def test_a_measure_fitted_with_kinds_is_checked_with_the_one_fitted_without():
    check_measure(with_clean(Measure(lambda x: x[:, 1], "trial:clean")), EVIDENCE)
    with pytest.raises(AssertionError, match="has the name 'trial'"):
        check_measure(with_clean(Measure(lambda x: x[:, 1])), EVIDENCE)
    with pytest.raises(AssertionError, match="negative"):
        check_measure(with_clean(Measure(lambda x: -1.0 - x[:, 1], "trial:clean")), EVIDENCE)
    other = Measure(lambda x: x[:, 1], "trial:clean")
    other.input_width = 2
    with pytest.raises(AssertionError, match="another width"):
        check_measure(with_clean(other), EVIDENCE)
