"""The bench's built-in plug-ins pass their conformance suites, which find faulty ones."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest

from modeltoll.bench.datasets import Images
from modeltoll.bench.defences.perturbations import Misinformation, ReverseSigmoid, Rounding, TopOne
from modeltoll.bench.defences.prada import Prada
from modeltoll.bench.defences.registry import DEFENCES, make_defence, make_detector
from modeltoll.bench.evasions.evasion import Cover
from modeltoll.bench.evasions.registry import EVASIONS, NO_EVASION
from modeltoll.bench.honest.distribution_shifts import KINDS, ORDINARY, jittered
from modeltoll.simulation.traffic import Rows
from modeltoll.testing.bench_plugins import check_defence, check_detector, check_evasion, check_kind, check_victim

RNG = np.random.default_rng(0)
STOLEN = Rows(RNG.lognormal(1.0, 1.0, (40, 2)), np.arange(40) % 7)
COVER = Cover(
    Rows(RNG.lognormal(size=(60, 2)), np.arange(60) % 5),
    Rows(RNG.random((30, 2))),
    Rows(np.zeros((1, 2))),
    0.01,
    lambda rows: rows.leaks.sum(axis=1),
    False,
)
SCORES = RNG.dirichlet(np.full(6, 0.3), 50)
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
    check_defence(defence, SCORES)


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
    perturbed = TopOne().answer(SCORES)
    assert np.array_equal(perturbed.argmax(axis=1), SCORES.argmax(axis=1))
    assert set(np.unique(perturbed)) == {0.0, 1.0}


def test_rounding_leaves_few_values_and_a_label_for_rows_of_zeros():
    flat = np.full((1, 40), 1 / 40)
    assert Rounding().answer(flat).sum() == 1.0
    assert len(np.unique(np.round(SCORES, 1))) <= 11


def test_the_reverse_sigmoid_lowers_high_scores():
    sure = np.array([[0.97, 0.02, 0.01]])
    perturbed = ReverseSigmoid().answer(sure)
    assert perturbed[0, 0] < 0.97
    assert perturbed[0, 0] == perturbed.max()


def test_misinformation_changes_answers_below_the_threshold_only():
    sure, unsure = np.array([[0.9, 0.08, 0.02]]), np.array([[0.5, 0.3, 0.2]])
    defence = Misinformation(0.7)
    assert np.allclose(defence.answer(sure), sure)
    assert np.allclose(defence.answer(unsure), [[0.2, 0.3, 0.5]])


def test_prada_detects_steps_of_one_length_and_not_random_rows():
    steps = np.cumsum(np.full((400, 4), 0.01), axis=0) + RNG.choice([0.0, 5.0], (400, 1), p=[0.5, 0.5])
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

    def answer(self, scores):
        return scores * 2.0

    def first_alarm(self, images, labels):
        return len(images)


def test_the_suites_reject_violations():
    with pytest.raises(AssertionError, match="out of order"):
        check_evasion(Broken(), STOLEN, COVER)
    with pytest.raises(AssertionError, match="sum to 1"):
        check_defence(Broken(), SCORES)
    with pytest.raises(AssertionError, match="before the first"):
        check_detector(Broken(), COLOURS.x, COLOURS.y)
    with pytest.raises(AssertionError, match="another shape"):
        check_kind(lambda honest, rng: Images(honest.x[:, :3], honest.y), COLOURS)
