"""Entropy, gap, and the guard of what a model answered."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modeltoll.errors import AnswerError, SettingsError
from modeltoll.leak.entropy import EntropyMeasure
from modeltoll.leak.gap import GapMeasure
from modeltoll.leak.scores import check_scores, needed_tolerance, probabilities, scores_of
from modeltoll.records import Evidence
from modeltoll.testing.measures import check_measure


def evidence_of(scores):
    return Evidence(tuple(bytes([i]) * 8 for i in range(len(scores))), scores=np.asarray(scores, dtype=np.float64))


@pytest.mark.parametrize("measure", [EntropyMeasure(), GapMeasure()])
@pytest.mark.parametrize("classes", [2, 3, 10, 1000])
def test_they_keep_the_law_of_measures(measure, classes):
    check_measure(measure, evidence_of(np.random.default_rng(1).dirichlet(np.full(classes, 0.1), 20)))


@given(st.integers(2, 40))
def test_a_certain_answer_leaks_nothing_and_an_undecided_one_everything(classes):
    rows = np.stack([np.eye(classes)[0], np.full(classes, 1 / classes)])
    assert EntropyMeasure().measure(evidence_of(rows)) == pytest.approx([0.0, 1.0])
    assert GapMeasure().measure(evidence_of(rows)) == pytest.approx([0.0, 1.0])


def test_known_values():
    evidence = evidence_of([[0.5, 0.25, 0.25], [0.1, 0.7, 0.2]])
    assert EntropyMeasure().measure(evidence)[0] == pytest.approx(1.5 * np.log(2) / np.log(3))
    assert GapMeasure().measure(evidence) == pytest.approx([0.75, 0.5])


@given(st.integers(0, 2**32 - 1), st.integers(2, 20))
def test_both_stay_within_0_and_1_for_rows_that_are_rounded(seed, classes):
    scores = np.round(np.random.default_rng(seed).dirichlet(np.ones(classes), 5), 4)
    scores[0] = np.full(classes, 1.0009 / classes)
    for measure in (EntropyMeasure(), GapMeasure()):
        leaks = measure.measure(evidence_of(scores))
        assert ((leaks >= 0) & (leaks <= 1)).all()


BAD_SCORES = {
    "sum too small": [[0.5, 0.4]],
    "sum too large": [[0.7, 0.4]],
    "NaN": [[np.nan, 1.0]],
    "all NaN": [[np.nan, np.nan]],
    "infinite": [[np.inf, 0.0]],
    "infinities that cancel": [[np.inf, -np.inf]],
    "negative": [[1.1, -0.1]],
    "one column above 1": [[1.2]],
    "one column below 0": [[-0.5]],
    "no class": [[]],
    "one dimension": [0.5, 0.5],
    "three dimensions": [[[0.5, 0.5]]],
    "ragged": [[0.5, 0.5], [1.0]],
    "text": [["a", "b"]],
    "objects": [[None, 1.0]],
    "complex": [[0.5 + 1j, 0.5 - 1j]],
}


@pytest.mark.parametrize("scores", BAD_SCORES.values(), ids=BAD_SCORES)
def test_scores_that_are_no_probabilities_are_refused(scores):
    with pytest.raises(AnswerError):
        check_scores(scores)


@pytest.mark.parametrize("fault", [np.nan, np.inf, -0.5, 2.0])
@pytest.mark.parametrize("measure", [EntropyMeasure(), GapMeasure()])
def test_one_bad_row_spoils_the_whole_answer(measure, fault):
    scores = np.full((5, 4), 0.25)
    scores[3, 1] = fault
    with pytest.raises(AnswerError):
        measure.measure(evidence_of(scores))


def test_rounding_below_zero_is_forgiven_and_rows_are_scaled_to_one():
    checked = check_scores([[1.0005, -1e-7], [0.25, 0.75]])
    assert checked.min() == 0.0
    assert checked.sum(axis=1) == pytest.approx([1.0, 1.0], abs=1e-15)


def test_another_number_of_rows_or_classes_is_refused():
    with pytest.raises(AnswerError, match="2 classes where 3"):
        check_scores([[0.5, 0.5]], 3)
    with pytest.raises(AnswerError, match="1 rows"):
        EntropyMeasure().measure(Evidence((b"1",), scores=np.full((2, 2), 0.5)))
    with pytest.raises(AnswerError, match="no scores"):
        EntropyMeasure().measure(Evidence((b"1",), inputs=np.zeros((1, 2))))


def test_an_empty_request_has_no_leaks():
    empty = Evidence((), scores=np.empty((0, 3)))
    assert EntropyMeasure().measure(empty).shape == (0,)
    assert GapMeasure().measure(empty).shape == (0,)


@given(st.integers(0, 2**32 - 1), st.floats(1.0, 5000.0))
def test_logits_become_their_softmax_whatever_their_size(seed, size):
    logits = np.random.default_rng(seed).normal(size=(4, 6)) * size
    scores = probabilities(logits, "logits")
    assert np.array_equal(scores.argmax(axis=1), logits.argmax(axis=1))
    assert np.allclose(probabilities(logits - 1e3, "logits"), scores, atol=1e-9)
    assert np.array_equal(check_scores(scores).argmax(axis=1), logits.argmax(axis=1))


@pytest.mark.parametrize("labels", [[0, 2, 1], [[0], [2], [1]], [0.0, 2.0, 1.0]])
def test_labels_become_rows_with_a_single_one(labels):
    assert np.array_equal(probabilities(labels, "labels", 3), np.eye(3)[[0, 2, 1]])


@pytest.mark.parametrize("labels", [[3], [-1], [0.5], [np.nan], ["cat"], [[0, 1]], 1])
def test_labels_that_are_no_class_are_refused(labels):
    with pytest.raises(AnswerError):
        probabilities(labels, "labels", 3)


def test_declarations_that_cannot_be_used_are_refused():
    with pytest.raises(SettingsError, match=r"output\.kind"):
        probabilities([[0.5, 0.5]], "guess")
    with pytest.raises(SettingsError, match=r"output\.classes"):
        probabilities([0], "labels")
    with pytest.raises(AnswerError):
        probabilities([[1.0, np.nan]], "logits")


def test_one_column_is_the_probability_or_the_logit_of_class_1():
    assert check_scores([[0.87], [0.0], [1.0005]]) == pytest.approx(np.array([[0.13, 0.87], [1, 0], [0, 1]]))
    assert probabilities([[0.0, 1.7e308, -1.7e308]], "logits").tolist() == [[0.0, 1.0, 0.0]]
    assert probabilities([[0.0], [2.0]], "logits") == pytest.approx(np.array([[0.5, 0.5], [0.1192029, 0.8807971]]))
    for kind in ("probabilities", "logits"):
        assert probabilities([[0.87]], kind, 2).shape == (1, 2)
        with pytest.raises(AnswerError, match="1 classes where 3"):
            probabilities([[0.87]], kind, 3)


def rounded(scores, how):
    """Scores (rows, classes) as a server writes them: of 16 bits with the exponent of 32, of 16 bits, or of some digits."""
    if how == "bfloat16":
        return ((scores.astype("<f4").view("<u4") + 0x8000) & np.uint32(0xFFFF0000)).view("<f4").astype(np.float64)
    return scores.astype("f2").astype(np.float64) if how == "float16" else np.round(scores, how)


@pytest.mark.parametrize("how", ["bfloat16", "float16", 4, 3, 2])
@pytest.mark.parametrize("classes", [2, 3, 10, 100])
def test_the_proposed_tolerance_takes_other_rows_of_the_same_server_and_changes_their_leak_little(how, classes):
    logits = 2.0 * np.random.default_rng(classes).normal(size=(4000, classes))
    exact = probabilities(logits, "logits")
    shown = rounded(exact, how)
    tolerance = needed_tolerance(shown[:1000])
    checked = check_scores(shown[1000:], tolerance=tolerance)
    assert checked.sum(axis=1) == pytest.approx(np.ones(3000), abs=1e-12)
    assert tolerance >= 1e-3
    difference = EntropyMeasure().measure(evidence_of(checked[:50])) - EntropyMeasure().measure(
        evidence_of(exact[1000:1050])
    )
    assert np.abs(difference).max() < 2 * tolerance + 0.05


def test_scores_that_are_no_rounded_probabilities_need_no_tolerance_but_another_kind():
    assert needed_tolerance(np.full((3, 4), 0.25)) == 1e-3
    assert needed_tolerance([[0.3], [0.9]]) == 1e-3
    for scores in ([[3.0, 1.0]], [[0.1, 0.1]], [[1.5, -0.5]], [[np.nan, 1.0]]):
        with pytest.raises(AnswerError):
            needed_tolerance(scores)


def test_scores_that_were_checked_are_not_checked_again():
    scores = np.array([[0.25, 0.75]])
    checked = Evidence((b"row",), scores=scores, scores_checked=True)
    assert scores_of(checked) is scores
    assert scores_of(Evidence((b"row",), scores=scores)) is not scores
    with pytest.raises(AnswerError, match="2 classes where 3"):
        scores_of(checked, 3)
    with pytest.raises(AnswerError, match="has 2 rows"):
        scores_of(Evidence((b"row", b"another"), scores=scores, scores_checked=True))


@pytest.mark.parametrize("checked", [False, True])
def test_a_measure_cannot_change_the_scores_that_the_next_one_reads(checked):
    evidence = Evidence((b"row",), scores=np.array([[0.25, 0.75]]), scores_checked=checked)
    with pytest.raises(ValueError, match="read-only"):
        scores_of(evidence)[0, 0] = 1.0
    assert scores_of(evidence).tolist() == [[0.25, 0.75]]
