"""Teachers: fair parts, votes that are theirs, files without pickle."""

from __future__ import annotations

import numpy as np
import pytest
from joblib import parallel_config
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.neural_network import MLPClassifier
from sklearn.tree import DecisionTreeClassifier

from modeltoll.errors import CalibrationError, RequestError
from modeltoll.leak.pate import PateMeasure
from modeltoll.leak.teachers.ensemble import NetworkMembers
from modeltoll.leak.teachers.fit_sklearn import TeacherEnsemble, TeacherPlan, fit_teachers, logistic, perceptron
from modeltoll.leak.teachers.train_one import train_teacher
from modeltoll.records import Evidence
from modeltoll.testing.measures import check_measure


def linear(seed):
    return LogisticRegression(max_iter=300, random_state=seed)


def network(activation):
    return lambda seed: MLPClassifier((8, 6), solver="lbfgs", max_iter=20000, activation=activation, random_state=seed)


def tree(seed):
    return DecisionTreeClassifier(random_state=seed)


MAKES = {"linear": linear, "relu": network("relu"), "tanh": network("tanh"), "tree": tree}


@pytest.fixture(scope="module")
def digits():
    data = load_digits()
    return data.data / 16.0, data.target


def blobs(rows=120, classes=("ant", "bee", "cow"), seed=0):
    rng = np.random.default_rng(seed)
    codes = np.arange(rows) % len(classes)
    return rng.normal(size=(rows, 4)) + 3.0 * np.eye(4)[codes], np.array(classes)[codes]


class Remember(DecisionTreeClassifier):
    """A tree that keeps what it was trained on."""

    def fit(self, X, y):
        self.seen_ = X, y
        return super().fit(X, y)


def test_the_parts_are_disjoint_cover_all_rows_and_share_out_each_class():
    rng = np.random.default_rng(0)
    inputs = np.arange(103.0)[:, None]
    labels = rng.choice(3, size=103, p=[0.6, 0.3, 0.1])
    teachers = fit_teachers(inputs, labels, TeacherPlan(8, lambda seed: Remember(random_state=seed)))
    seen = [teacher.seen_ for teacher in teachers.members.classifiers]
    assert np.array_equal(np.sort(np.concatenate([x[:, 0] for x, _ in seen])), inputs[:, 0])
    counts = np.array([np.bincount(y, minlength=3) for _, y in seen])
    assert (np.ptp(counts, axis=0) <= 1).all()
    assert np.ptp(counts.sum(axis=1)) <= 1


@pytest.mark.parametrize("make", MAKES.values(), ids=MAKES)
def test_the_votes_are_what_each_teacher_predicts(make):
    inputs, labels = blobs()
    plan = TeacherPlan(6, make, seed=3)
    teachers = fit_teachers(inputs, labels, plan)
    queries = np.random.default_rng(1).normal(size=(300, 4)) * 3
    own = fit_teachers(inputs, labels, TeacherPlan(6, lambda seed: _Plain(make(seed)), seed=3))
    assert np.array_equal(teachers.votes(queries), own.votes(queries))
    assert (teachers.votes(queries).sum(axis=1) == len(teachers)).all()


class _Plain:
    """Hides what a classifier is, so that it is asked by ``predict``."""

    def __init__(self, inner):
        self._inner = inner

    def fit(self, X, y):
        self._inner.fit(X, y)
        self.classes_ = self._inner.classes_

    def predict(self, X):
        return self._inner.predict(X)


@pytest.mark.parametrize("make", MAKES.values(), ids=MAKES)
def test_a_class_that_a_teacher_never_saw_gets_no_vote_of_his(make):
    """Two rows of the rare class for four teachers: two of them never see it, and the others vote as they should."""
    inputs, labels = blobs(40, ("ant", "cow"))
    rare = np.full((2, 4), [9.0, 9.0, 9.0, 30.0])
    teachers = fit_teachers(np.concatenate([inputs, rare]), np.append(labels, ["bee", "bee"]), TeacherPlan(4, make))
    assert teachers.classes.tolist() == ["ant", "bee", "cow"]
    votes = teachers.votes(np.concatenate([inputs, rare[:1]]))
    assert votes[-1, 1] <= 2
    assert (votes.sum(axis=1) == 4).all()
    expected = np.searchsorted(teachers.classes, labels)
    assert (votes[:-1].argmax(axis=1) == expected).mean() > 0.8


def test_two_classes_share_one_output_and_still_vote_for_both():
    inputs, labels = blobs(60, (3, 7))
    for make in MAKES.values():
        teachers = fit_teachers(inputs, labels, TeacherPlan(5, make))
        right = teachers.votes(inputs).argmax(axis=1) == np.searchsorted([3, 7], labels)
        assert right.mean() > 0.85


def test_teachers_of_digits_agree_on_digits_and_keep_the_law_of_measures(digits):
    inputs, labels = digits
    teachers = fit_teachers(inputs[:1200], labels[:1200], TeacherPlan(20, linear))
    votes = teachers.votes(inputs[1200:])
    assert (votes.argmax(axis=1) == labels[1200:]).mean() > 0.85
    names = tuple(i.to_bytes(8, "big") for i in range(150))
    check_measure(PateMeasure(teachers.votes, len(teachers)), Evidence(names, inputs=inputs[1200:1350]))


@pytest.mark.parametrize("make", [linear, network("tanh")])
def test_saved_teachers_have_the_same_bits_and_votes(tmp_path, make):
    inputs, labels = blobs()
    teachers = fit_teachers(inputs, labels, TeacherPlan(5, make))
    teachers.save(tmp_path / "teachers.npz")
    again = TeacherEnsemble.load(tmp_path / "teachers.npz")
    assert isinstance(teachers.members, NetworkMembers)
    for mine, theirs in zip(teachers.members.weights, again.members.weights, strict=True):
        assert mine.tobytes() == theirs.tobytes()
    assert np.array_equal(again.classes, teachers.classes)
    assert np.array_equal(again.votes(inputs * 2), teachers.votes(inputs * 2))


@pytest.mark.parametrize("make", [logistic, perceptron])
def test_both_kinds_that_come_with_us_learn_and_can_be_saved(tmp_path, make):
    inputs, labels = blobs()
    teachers = fit_teachers(inputs, labels, TeacherPlan(4, make))
    assert (teachers.classes[teachers.votes(inputs).argmax(axis=1)] == labels).mean() > 0.9
    teachers.save(tmp_path / "teachers.npz")


def test_trees_cannot_be_saved_and_say_so(tmp_path):
    teachers = fit_teachers(*blobs(), TeacherPlan(3, tree))
    with pytest.raises(CalibrationError, match="can be saved"):
        teachers.save(tmp_path / "teachers.npz")
    assert not list(tmp_path.iterdir())


def test_the_same_plan_gives_the_same_teachers_on_any_number_of_cores():
    inputs, labels = blobs()
    queries = np.random.default_rng(0).normal(size=(100, 4))
    plans = [
        (TeacherPlan(4, linear, seed=1), 1),
        (TeacherPlan(4, linear, seed=1), 2),
        (TeacherPlan(4, linear, seed=2), 1),
    ]
    with parallel_config(backend="threading"):  # processes take seconds to start
        votes = [fit_teachers(inputs, labels, plan, cores).votes(queries) for plan, cores in plans]
    assert np.array_equal(votes[0], votes[1])
    assert not np.array_equal(votes[0], votes[2])


def test_progress_is_told_after_each_teacher():
    reported = []
    fit_teachers(*blobs(), TeacherPlan(3, tree), progress=lambda done, most: reported.append((done, most)))
    assert reported == [(1, 3), (2, 3), (3, 3)]


@pytest.mark.parametrize(
    ("rows", "classes", "teachers"), [(30, ("ant",), 3), (9, ("ant", "bee"), 5), (30, ("ant", "bee"), 0)]
)
def test_one_class_too_few_rows_or_no_teachers_are_refused(rows, classes, teachers):
    with pytest.raises(CalibrationError):
        fit_teachers(*blobs(rows, classes), TeacherPlan(teachers, tree))


def test_a_part_of_one_class_is_refused():
    inputs, _ = blobs(30)
    with pytest.raises(CalibrationError, match="use fewer"):
        fit_teachers(inputs, np.arange(30) < 2, TeacherPlan(10, tree))


@pytest.mark.parametrize("fault", ["shape", "nan", "flat", "two labels"])
def test_private_data_that_cannot_be_used_is_refused(fault):
    inputs, labels = blobs()
    if fault == "shape":
        labels = labels[:-1]
    elif fault == "nan":
        inputs[3, 1] = np.nan
    elif fault == "flat":
        inputs = inputs[:, 0]
    else:
        labels = np.stack([labels, labels], axis=1)
    with pytest.raises(CalibrationError):
        fit_teachers(inputs, labels, TeacherPlan(3, tree))


@pytest.mark.parametrize("inputs", [np.zeros((1, 3)), np.full((1, 4), np.nan), np.zeros(4)])
def test_inputs_of_another_shape_get_no_votes(inputs):
    teachers = fit_teachers(*blobs(), TeacherPlan(3, tree))
    with pytest.raises(RequestError):
        teachers.votes(inputs)


def test_in_the_span_of_few_rows_a_logistic_teacher_is_the_one_of_all_columns():
    """Fewer rows than columns: the same optimum, found in as many columns as there are rows."""
    rng = np.random.default_rng(0)
    centres = rng.random((3, 300))
    labels = np.arange(60) % 3
    inputs = centres[labels] + 0.3 * rng.normal(size=(60, 300))
    fast, plain = train_teacher(logistic(0), inputs, labels), logistic(0).set_params(tol=1e-8).fit(inputs, labels)
    np.testing.assert_allclose(fast.predict_proba(inputs), plain.predict_proba(inputs), atol=2e-3)
    np.testing.assert_allclose(fast.coef_, plain.coef_, atol=2e-3)


@pytest.mark.parametrize("columns", [20, 300])
def test_rows_of_any_scale_train_a_teacher_of_the_same_accuracy(columns):
    rng = np.random.default_rng(0)
    centres = rng.random((3, columns))
    labels = np.arange(90) % 3
    inputs = centres[labels] + 0.2 * rng.normal(size=(90, columns))
    for scale, shift in ((1.0, 0.0), (255.0, 0.0), (1e6, 1e7)):
        teacher = train_teacher(logistic(0), scale * inputs[:60] + shift, labels[:60])
        assert teacher.n_iter_.max() < 200
        assert teacher.score(scale * inputs[60:] + shift, labels[60:]) > 0.8
