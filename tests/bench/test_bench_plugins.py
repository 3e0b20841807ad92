"""The bench's built-in plug-ins pass their conformance suites, which find faulty ones."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest

from modeltoll.bench.datasets import Images
from modeltoll.bench.defences.misguide import Misguiding
from modeltoll.bench.defences.modelguard import LeastLikely, Quantised, codebooks
from modeltoll.bench.defences.perturbations import Misinformation, ReverseSigmoid, Rounding, TopOne
from modeltoll.bench.defences.prada import Prada
from modeltoll.bench.defences.registry import DEFENCES, make_defence, make_detector
from modeltoll.bench.evasions.evasion import EASY, JITTERED, Cover
from modeltoll.bench.evasions.registry import EVASIONS, NO_EVASION
from modeltoll.bench.honest.distribution_shifts import KINDS, ORDINARY, jittered
from modeltoll.simulation.traffic import Rows
from modeltoll.testing.bench_plugins import check_defence, check_detector, check_evasion, check_kind, check_victim

RNG = np.random.default_rng(0)
STOLEN = Rows(RNG.lognormal(1.0, 1.0, (40, 2)), np.arange(40) % 7)
COVER = Cover(
    Rows(RNG.lognormal(size=(60, 2)), np.arange(60) % 5),
    {JITTERED: Rows(RNG.random((30, 2))), EASY: Rows(np.zeros((1, 2)))},
    0.01,
    lambda rows: rows.leaks.sum(axis=1),
    False,
)
SCORES = RNG.dirichlet(np.full(6, 0.3), 50)
NO_LEAKS = np.zeros((50, 0))
COLOURS = Images(RNG.random((12, 9, 9, 3)), np.arange(12) % 3)
DIGITS_28 = Images(RNG.random((12, 28, 28)), np.arange(12) % 10)


@pytest.mark.parametrize("name", EVASIONS)
def test_evasions_pass_the_conformance_suite(name):
    assert EVASIONS[name].name == name
    check_evasion(EVASIONS[name], STOLEN, COVER)


def fillers_of(name):
    traffic = EVASIONS[name].plan(STOLEN, COVER, np.random.default_rng(1)).scenario.traffic
    return traffic.leaks[~traffic.wanted]


def test_middling_fillers_are_one_honest_row_near_the_median():
    (middle,) = np.unique(fillers_of("middling-4"), axis=0)
    shares = (COVER.honest.leaks < middle).mean(axis=0)
    assert (np.abs(shares - 0.5) < 0.2).all()


def test_imitating_fillers_are_honest_rows_of_the_more_expensive_half():
    prices = COVER.price(COVER.honest)
    found = {tuple(row) for row in fillers_of("imitating-4")}
    assert found == {tuple(row) for row in COVER.honest[prices >= np.median(prices)].leaks}


@pytest.mark.parametrize("name", [name for name, spec in DEFENCES.built_in.items() if spec.answers])
def test_defences_pass_the_conformance_suite(name, baseline):
    defence = make_defence(name, baseline)
    assert defence.name == name
    check_defence(defence, baseline.honest.scores[:50], baseline.honest.leaks[:50])


@pytest.mark.parametrize("name", [name for name, spec in DEFENCES.built_in.items() if spec.detects])
def test_detectors_pass_the_conformance_suite(name, baseline, prepared):
    detector = make_detector(name, baseline)
    assert detector.name == name
    honest, foreign = prepared.data_split.honest.x, prepared.data_split.foreign.x[:300]
    for images in (honest, foreign):
        check_detector(detector, images, prepared.victim.scores(images).argmax(axis=1))


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("honest", [COLOURS, DIGITS_28, Images(COLOURS.x[:, :1, :, 0], COLOURS.y)])
def test_kinds_of_honest_images_pass_the_conformance_suite(name, honest):
    check_kind(KINDS[name], honest)


def test_victims_from_scikit_learn_pass_the_conformance_suite(prepared):
    check_victim(prepared.victim, prepared.data_split.honest.x[:7])


def test_only_digits_of_28_pixels_have_other_digits():
    kind = KINDS["other digits"]
    assert kind(COLOURS, RNG) is None
    assert kind(DIGITS_28, RNG).x.shape == (1797, 28, 28)


def test_a_table_has_the_kinds_of_tables_and_an_image_those_of_images():
    table = Images(RNG.random((5, 1, 30)), np.arange(5))
    of_tables = {"jittered columns", "missing values", "rescaled"}
    assert {name for name, kind in KINDS.items() if kind(table, RNG) is not None} == {
        ORDINARY,
        "rare class",
        "noisy",
        *of_tables,
    }
    assert {name for name, kind in KINDS.items() if kind(COLOURS, RNG) is None} == {*of_tables, "other digits"}


def test_jittered_copies_stay_within_a_grey_step():
    image = RNG.random((4, 4))
    copies = jittered(image, 20, 16, RNG)
    assert np.abs(copies - image).max() <= 1 / 16 + 1e-12
    assert len(np.unique(copies.reshape(20, -1), axis=0)) == 20


def test_top_one_answers_the_label_only():
    perturbed = TopOne().answer(SCORES, NO_LEAKS)
    assert np.array_equal(perturbed.argmax(axis=1), SCORES.argmax(axis=1))
    assert set(np.unique(perturbed)) == {0.0, 1.0}


def test_rounding_leaves_few_values_and_a_label_for_rows_of_zeros():
    flat = np.full((1, 40), 1 / 40)
    assert Rounding().answer(flat, NO_LEAKS).sum() == 1.0
    assert len(np.unique(np.round(SCORES, 1))) <= 11


def test_the_reverse_sigmoid_lowers_high_scores():
    sure = np.array([[0.97, 0.02, 0.01]])
    perturbed = ReverseSigmoid().answer(sure, NO_LEAKS)
    assert perturbed[0, 0] < 0.97
    assert perturbed[0, 0] == perturbed.max()


def test_misinformation_changes_answers_below_the_threshold_only():
    sure, unsure = np.array([[0.9, 0.08, 0.02]]), np.array([[0.5, 0.3, 0.2]])
    defence = Misinformation(0.7)
    assert np.allclose(defence.answer(sure, NO_LEAKS), sure)
    assert np.allclose(defence.answer(unsure, NO_LEAKS), [[0.2, 0.3, 0.5]])


def distances(answers, scores):
    return np.abs(answers - scores).sum(axis=1)


def test_the_least_likely_answer_is_within_its_distance_keeps_the_label_and_is_less_likely_than_any_other_found():
    defence = LeastLikely(0.6)
    answers = defence.answer(SCORES, NO_LEAKS)
    assert distances(answers, SCORES).max() <= 0.6 + 1e-9
    assert np.array_equal(answers.argmax(axis=1), SCORES.argmax(axis=1))
    others = np.random.default_rng(2).dirichlet(np.ones(6), (4000, 1)) * 0.3 + 0.7 * SCORES
    allowed = (np.abs(others - SCORES).sum(axis=2) <= 0.6) & (others.argmax(axis=2) == SCORES.argmax(axis=1))
    logs = np.log(SCORES + 1e-6)
    least = np.where(allowed, (others * logs).sum(axis=2), np.inf).min(axis=0)
    assert np.isfinite(least).all()
    assert ((answers * logs).sum(axis=1) <= least).all()


def test_a_sure_answer_loses_half_the_distance_to_the_least_likely_class():
    answer = LeastLikely(0.5).answer(np.array([[0.9, 0.09, 0.01]]), NO_LEAKS)
    assert answer[0] == pytest.approx([0.65, 0.09, 0.26], abs=1e-6)


def test_quantised_answers_are_few_keep_the_label_and_cover_the_rows_that_they_were_made_of():
    scores = np.random.default_rng(3).dirichlet(np.full(6, 0.3), 400)
    defence = Quantised(codebooks(scores, 0.8))
    answers = defence.answer(scores, NO_LEAKS)
    assert np.array_equal(answers.argmax(axis=1), scores.argmax(axis=1))
    assert distances(answers, scores).max() <= 0.8 + 1e-9
    assert len(np.unique(answers, axis=0)) == sum(map(len, defence.codebook.values())) < 100
    assert all(len(codes) == 1 for codes in codebooks(scores, 2.0).values())


def test_a_class_without_honest_rows_is_answered_with_its_label_only():
    defence = Quantised(codebooks(np.array([[0.7, 0.2, 0.1], [0.5, 0.3, 0.2]])))
    assert defence.answer(np.array([[0.1, 0.3, 0.6], [0.9, 0.1, 0.0]]), NO_LEAKS).tolist() == [
        [0.0, 0.0, 1.0],
        pytest.approx([0.6, 0.25, 0.15]),
    ]


def test_misguiding_answers_wrongly_above_the_threshold_only_and_to_the_same_query_alike():
    leaks = np.where(np.arange(len(SCORES)) < 30, 2.0, 0.5)[:, None]
    defence = Misguiding(0, 1.0, wrong=0.5)
    answers = defence.answer(SCORES, leaks)
    changed = (answers != SCORES).any(axis=1)
    assert not changed[30:].any()
    assert 5 < changed[:30].sum() < 25
    assert (answers[changed].argmax(axis=1) != SCORES[changed].argmax(axis=1)).all()
    assert np.array_equal(np.sort(answers, axis=1), np.sort(SCORES, axis=1))
    assert np.array_equal(defence.answer(SCORES, leaks), answers)
    always = Misguiding(0, 1.0, wrong=1.0).answer(SCORES, leaks)
    assert (always.argmax(axis=1) != SCORES.argmax(axis=1)).tolist() == [True] * 30 + [False] * 20


def test_the_detector_of_misguide_takes_one_honest_row_in_twenty_for_foreign(baseline):
    defence = make_defence("MisGUIDE", baseline)
    assert (baseline.calibration.leaks[:, defence.measure] > defence.threshold).mean() == pytest.approx(0.05, abs=0.005)


def test_prada_detects_steps_of_one_length_and_not_random_rows():
    rng = np.random.default_rng(5)
    steps = np.cumsum(np.full((400, 4), 0.01), axis=0) + rng.choice([0.0, 5.0], (400, 1), p=[0.5, 0.5])
    labels = np.zeros(400, np.int64)
    assert Prada().first_alarm(steps, labels) is not None
    assert Prada().first_alarm(np.random.default_rng(1).random((400, 30)), labels) is None
    assert Prada().first_alarm(np.zeros((0, 30)), np.zeros(0, np.int64)) is None


@dataclass(frozen=True)
class Broken:
    """An evasion, a defence and a detector that violate their protocols."""

    name: str = "broken"
    family: str = "broken"
    level: float = 1.0

    def plan(self, stolen, cover, rng):
        plain = EVASIONS[NO_EVASION].plan(stolen[::-1], cover, rng)
        return replace(plain)

    def answer(self, scores, leaks):
        return scores * 2.0

    def first_alarm(self, images, labels):
        return len(images)


def test_the_suites_reject_violations():
    with pytest.raises(AssertionError, match="out of order"):
        check_evasion(Broken(), STOLEN, COVER)
    with pytest.raises(AssertionError, match="sum to 1"):
        check_defence(Broken(), SCORES, NO_LEAKS)
    with pytest.raises(AssertionError, match="before the first"):
        check_detector(Broken(), COLOURS.x, COLOURS.y)
    with pytest.raises(AssertionError, match="another shape"):
        check_kind(lambda honest, rng: Images(honest.x[:, :3], honest.y), COLOURS)
