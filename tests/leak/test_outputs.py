"""Answers of other kinds: several labels, numbers, and answers that do not show every score."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modeltoll.errors import AnswerError, CalibrationError, SettingsError
from modeltoll.leak.entropy import EntropyMeasure
from modeltoll.leak.gap import GapMeasure
from modeltoll.leak.multilabel import MultilabelMeasure
from modeltoll.leak.novelty import NoveltyMeasure
from modeltoll.leak.onnx_embedding import OnnxEmbedding
from modeltoll.leak.pate import PateMeasure, VoteReadout
from modeltoll.leak.regression_spread import SpreadMeasure
from modeltoll.leak.scores import probabilities, top_k_scores
from modeltoll.records import Evidence
from modeltoll.testing.measures import check_measure


def evidence_of(inputs=None, scores=None):
    count = len(inputs if inputs is not None else scores)
    return Evidence((b"",) * count, scores, inputs)


def yes(inputs):
    return inputs.astype(np.int64)


def test_multilabel_is_the_sum_of_binary_gnmax_over_the_labels():
    inputs = np.random.default_rng(0).integers(0, 251, (12, 4)).astype(float)
    measure = MultilabelMeasure(yes, 250)
    check_measure(measure, evidence_of(inputs))
    binary = [
        PateMeasure(lambda x, j=j: np.stack([250 - yes(x)[:, j], yes(x)[:, j]], axis=1), 250, VoteReadout(10.0))
        for j in range(4)
    ]
    expected = sum(one.measure(evidence_of(inputs)) for one in binary)
    assert measure.measure(evidence_of(inputs)) == pytest.approx(expected, rel=1e-12)


@given(st.integers(125, 249), st.lists(st.integers(0, 250), max_size=3))
def test_more_agreement_on_a_label_never_raises_the_leak(agreed, others):
    rows = np.array([[agreed, *others], [agreed + 1, *others]], float)
    low, high = MultilabelMeasure(yes, 250).measure(evidence_of(rows))[::-1]
    assert low <= high * (1 + 1e-12)


@pytest.mark.parametrize(
    "votes",
    [
        np.array([[251]]),
        np.array([[-1]]),
        np.array([[1.0]]),
        np.array([1]),
        np.empty((1, 0), int),
        np.ones((2, 1), int),
    ],
)
def test_counts_that_are_no_votes_are_refused(votes):
    with pytest.raises(CalibrationError):
        MultilabelMeasure(lambda _: votes, 250).measure(evidence_of(np.zeros((1, 3))))


def test_spread_is_the_deviation_of_the_teachers_over_the_scale():
    slopes = np.linspace(0.9, 1.1, 20)
    measure = SpreadMeasure(lambda x: x.sum(axis=1)[:, None] * slopes, scale=2.0)
    inputs = np.random.default_rng(0).normal(size=(9, 3))
    check_measure(measure, evidence_of(inputs))
    expected = np.abs(inputs.sum(axis=1)) * slopes.std() / 2.0
    assert measure.measure(evidence_of(inputs)) == pytest.approx(expected)


@pytest.mark.parametrize("answers", [np.ones((1, 1)), np.ones(1), np.full((1, 5), np.nan), np.ones((2, 5))])
def test_teachers_without_finite_answers_are_refused(answers):
    with pytest.raises(CalibrationError):
        SpreadMeasure(lambda _: answers).measure(evidence_of(np.zeros((1, 3))))
    with pytest.raises(SettingsError):
        SpreadMeasure(lambda x: x, scale=0.0)


@given(st.integers(0, 2**32 - 1))
def test_fewer_scores_are_never_cheaper(seed):
    """The fewer scores an answer has, the more it may have leaked; all scores give the full price.

    A label without a score, declared as such, leaks nothing that can be measured here.
    """
    scores = np.random.default_rng(seed).dirichlet(np.full(6, 0.7), 5)
    for whole, partial in ((EntropyMeasure(), EntropyMeasure(partial=True)), (GapMeasure(), GapMeasure(partial=True))):
        leaks = [partial.measure(evidence_of(scores=top_k_scores(scores, most))) for most in range(1, 7)]
        assert (np.diff(leaks, axis=0) <= 1e-12).all()
        assert leaks[-1] == pytest.approx(whole.measure(evidence_of(scores=scores)), abs=1e-12)
        labels = probabilities(scores.argmax(axis=1), "labels", 6)
        assert (partial.measure(evidence_of(scores=labels)) == 0.0).all()


def test_a_partial_answer_is_measured_only_where_it_is_declared():
    scores = np.array([[0.5, 0.2, 0.0], [0.4, 0.0, 0.0], [0.9, 0.1, 0.0]])
    for whole, partial in ((EntropyMeasure(), EntropyMeasure(partial=True)), (GapMeasure(), GapMeasure(partial=True))):
        check_measure(partial, evidence_of(scores=scores))
        with pytest.raises(AnswerError, match="sum to 1"):
            whole.measure(evidence_of(scores=scores))
        with pytest.raises(AnswerError, match="more than 1"):
            partial.measure(evidence_of(scores=scores * 2))
    with pytest.raises(SettingsError):
        top_k_scores(scores, 0)


def projection(path, weights):
    """An ONNX model that multiplies by weights."""
    import onnx  # noqa: PLC0415  slow to import

    wide = onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [None, len(weights)])
    thin = onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [None, weights.shape[1]])
    node = onnx.helper.make_node("MatMul", ["x", "w"], ["y"])
    graph = onnx.helper.make_graph([node], "g", [wide], [thin], [onnx.numpy_helper.from_array(weights, "w")])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=9)
    path.write_bytes(model.SerializeToString())


def test_an_onnx_model_is_an_embedding(tmp_path):
    weights = np.random.default_rng(0).normal(size=(6, 3)).astype(np.float32)
    projection(tmp_path / "model.onnx", weights)
    embed = OnnxEmbedding(tmp_path / "model.onnx")
    rng = np.random.default_rng(1)
    inputs = rng.normal(size=(20, 6))
    assert embed(inputs) == pytest.approx(inputs @ weights, abs=1e-5)
    check_measure(NoveltyMeasure(rng.normal(size=(100, 6)), embed=embed), evidence_of(inputs))
    with pytest.raises(CalibrationError, match="does not accept such rows"):
        embed(np.ones((1, 5)))
    with pytest.raises(CalibrationError, match="no output"):
        OnnxEmbedding(tmp_path / "model.onnx", output="z")
    (tmp_path / "damaged.onnx").write_bytes(b"not a model")
    for wrong in ("damaged.onnx", "missing.onnx"):
        with pytest.raises(CalibrationError, match="not a readable"):
            OnnxEmbedding(tmp_path / wrong)
