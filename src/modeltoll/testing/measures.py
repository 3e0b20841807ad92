"""Conformance suite for leak measures: ``check_measure(measure, evidence)``."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np

from modeltoll.errors import EvidenceError
from modeltoll.leak.measure import clean_measure, input_width, reads_inputs_alone
from modeltoll.names import clean_name
from modeltoll.records import Evidence

if TYPE_CHECKING:
    from modeltoll.leak.measure import LeakMeasure
    from modeltoll.records import Floats, Integers

__all__ = ["check_measure"]


def check_measure(measure: LeakMeasure, evidence: Evidence, seed: int = 0) -> None:
    """Check a measure against the ``LeakMeasure`` protocol, on evidence that it can measure.

    A leak is one finite number >= 0 per row. The same evidence has the same leaks, bit for bit. A row's leak depends
    neither on the other rows nor on their order. Empty evidence is refused. A measure that declares to read inputs only
    must not read scores or tokens. Where the measure was fitted with kinds, the one fitted without them is checked too.

    Args:
        measure: the measure.
        evidence: 3 rows or more, not all equal; it must not be changed by measuring.
        seed: seed of the order in which the rows are shuffled.

    Raises:
        AssertionError: the measure violates the protocol; the message says how.
    """
    assert isinstance(measure.name, str), "the name is not text"
    assert measure.name, "the name is empty"
    assert evidence.rows >= 3, "the suite needs 3 rows or more"
    copy = _copy(evidence)
    leaks = measure.measure(evidence)
    _check_values(leaks, evidence.rows)
    for after, original in ((evidence.scores, copy.scores), (evidence.inputs, copy.inputs)):
        unchanged = after is None or original is None or np.array_equal(after, original, equal_nan=True)
        assert unchanged, "measuring changed the evidence"
    _assert_same(measure.measure(evidence), leaks, "measuring twice gives different results")

    singles = [measure.measure(_rows(evidence, np.array([row]))) for row in range(evidence.rows)]
    _assert_same(np.concatenate(singles), leaks, "a row has another leak alone than in a batch")
    half = evidence.rows // 2
    halves = [measure.measure(_rows(evidence, part)) for part in np.split(np.arange(evidence.rows), [half])]
    _assert_same(np.concatenate(halves), leaks, "a batch has other leaks when it is split in two")
    twice = np.tile(np.arange(evidence.rows), 2)
    _assert_same(measure.measure(_rows(evidence, twice)), np.tile(leaks, 2), "a repeated row has different leaks")
    order = np.random.default_rng(seed).permutation(evidence.rows)
    _assert_same(measure.measure(_rows(evidence, order)), leaks[order], "the leaks depend on the order of the rows")

    if reads_inputs_alone(measure):
        inputs_only = dataclasses.replace(evidence, scores=None, tokens=None)
        _assert_same(
            measure.measure(inputs_only),
            leaks,
            "the measure declares to read inputs only, but its leaks depend on the answer",
        )
    _check_refusals(measure, evidence)
    clean = clean_measure(measure)
    if clean is not measure:
        assert clean.name == clean_name(measure.name), f"the measure fitted without kinds has the name {clean.name!r}"
        assert reads_inputs_alone(clean) == reads_inputs_alone(measure), "fitted without kinds it reads something else"
        assert input_width(clean) == input_width(measure), "fitted without kinds it reads rows of another width"
        check_measure(clean, evidence, seed)


def _check_values(leaks: Floats, rows: int) -> None:
    assert isinstance(leaks, np.ndarray), "the leaks are not an array"
    assert leaks.shape == (rows,), f"the leaks have shape {leaks.shape}, not ({rows},)"
    assert leaks.dtype == np.float64, f"the leaks are {leaks.dtype}, not float64"
    assert np.isfinite(leaks).all(), "a leak is not finite"
    assert (leaks >= 0.0).all(), "a leak is negative"


def _check_refusals(measure: LeakMeasure, evidence: Evidence) -> None:
    """Evidence without content, or with more fingerprints than rows, must raise ``EvidenceError``."""
    extra = (*evidence.fingerprints, b"one more")
    for invalid, message in (
        (Evidence(evidence.fingerprints), "evidence without inputs and scores was measured"),
        (dataclasses.replace(evidence, fingerprints=extra), "more fingerprints than rows were measured"),
    ):
        try:
            measure.measure(invalid)
        except EvidenceError:
            continue
        raise AssertionError(message)


def _rows(evidence: Evidence, rows: Integers) -> Evidence:
    return Evidence(
        tuple(evidence.fingerprints[row] for row in rows),
        scores=None if evidence.scores is None else evidence.scores[rows],
        inputs=None if evidence.inputs is None else evidence.inputs[rows],
    )


def _copy(evidence: Evidence) -> Evidence:
    return _rows(evidence, np.arange(evidence.rows))


def _assert_same(found: Floats, expected: Floats, message: str) -> None:
    assert found.shape == expected.shape, message
    assert np.array_equal(found, expected), message
