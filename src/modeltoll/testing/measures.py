"""The law of leak measures."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np

from modeltoll.errors import EvidenceError
from modeltoll.leak.measure import reads_inputs_alone
from modeltoll.records import Evidence

if TYPE_CHECKING:
    from modeltoll.leak.measure import LeakMeasure
    from modeltoll.records import Floats, Integers

__all__ = ["check_measure"]


def check_measure(measure: LeakMeasure, evidence: Evidence, seed: int = 0) -> None:
    """Hold a measure to the law of ``LeakMeasure``, on evidence that it can measure (3 rows or more, not all alike).

    A leak is one finite number >= 0 per row; the same evidence has the same leak, bit for bit; a row's leak depends
    neither on the other rows nor on their order; evidence that shows nothing is refused. A measure that claims to see
    inputs alone sees no more.

    Args:
        measure: the measure on trial.
        evidence: what it shall measure; it must not be changed by that.
        seed: of the order that the rows are shuffled into.

    Raises:
        AssertionError: the measure breaks the law; the message says how.
    """
    assert isinstance(measure.name, str), "the name is not text"
    assert measure.name, "the name is empty"
    assert evidence.rows >= 3, "the suite needs 3 rows or more"
    before = _copy(evidence)
    leaks = measure.measure(evidence)
    _check_values(leaks, evidence.rows)
    for now, then in ((evidence.scores, before.scores), (evidence.inputs, before.inputs)):
        assert now is None or then is None or np.array_equal(now, then), "measuring changed the evidence"
    _assert_same(measure.measure(evidence), leaks, "measuring twice gives two results")

    singles = [measure.measure(_rows(evidence, np.array([row]))) for row in range(evidence.rows)]
    _assert_same(np.concatenate(singles), leaks, "a row alone has another leak than among others")
    half = evidence.rows // 2
    halves = [measure.measure(_rows(evidence, part)) for part in np.split(np.arange(evidence.rows), [half])]
    _assert_same(np.concatenate(halves), leaks, "a batch in two parts has other leaks than in one")
    twice = np.tile(np.arange(evidence.rows), 2)
    _assert_same(measure.measure(_rows(evidence, twice)), np.tile(leaks, 2), "a repeated row has two leaks")
    order = np.random.default_rng(seed).permutation(evidence.rows)
    _assert_same(measure.measure(_rows(evidence, order)), leaks[order], "the leaks depend on the order of the rows")

    if reads_inputs_alone(measure):
        blind = dataclasses.replace(evidence, scores=None, tokens=None)
        _assert_same(measure.measure(blind), leaks, "it claims to see inputs alone, and the leak depends on more")
    _check_refusals(measure, evidence)


def _check_values(leaks: Floats, rows: int) -> None:
    assert isinstance(leaks, np.ndarray), "the leaks are not an array"
    assert leaks.shape == (rows,), f"the leaks have shape {leaks.shape}, not ({rows},)"
    assert leaks.dtype == np.float64, f"the leaks are {leaks.dtype}, not float64"
    assert np.isfinite(leaks).all(), "a leak is not finite"
    assert (leaks >= 0.0).all(), "a leak is negative"


def _check_refusals(measure: LeakMeasure, evidence: Evidence) -> None:
    """Nothing shown, or more rows than it is shown for: refused as evidence, never measured as something."""
    extra = (*evidence.fingerprints, b"one more")
    for wrong, fault in (
        (Evidence(evidence.fingerprints), "evidence that shows nothing was measured"),
        (dataclasses.replace(evidence, fingerprints=extra), "a row without evidence was measured"),
    ):
        try:
            measure.measure(wrong)
        except EvidenceError:
            continue
        raise AssertionError(fault)


def _rows(evidence: Evidence, rows: Integers) -> Evidence:
    return Evidence(
        tuple(evidence.fingerprints[row] for row in rows),
        scores=None if evidence.scores is None else evidence.scores[rows],
        inputs=None if evidence.inputs is None else evidence.inputs[rows],
    )


def _copy(evidence: Evidence) -> Evidence:
    return _rows(evidence, np.arange(evidence.rows))


def _assert_same(found: Floats, expected: Floats, fault: str) -> None:
    assert found.shape == expected.shape, fault
    assert np.array_equal(found, expected), fault
