"""Every plug of the bench keeps its law, and the suites find those that do not."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest

from modeltoll.bench.datasets import Images
from modeltoll.bench.defences.perturbations import Misinformation, ReverseSigmoid, Rounding, TopOne
from modeltoll.bench.defences.prada import Prada
from modeltoll.bench.defences.registry import DEFENCES, answering, detecting
from modeltoll.bench.evasions.evasion import Cover
from modeltoll.bench.evasions.registry import EVASIONS, PLAIN
from modeltoll.bench.honest.distribution_shifts import KINDS, jittered
from modeltoll.testing.bench_plugins import check_defence, check_detector, check_evasion, check_kind, check_victim

RNG = np.random.default_rng(0)
STOLEN = RNG.lognormal(1.0, 1.0, (40, 2))
CROWD = Cover(
    RNG.lognormal(size=(60, 2)), RNG.random((30, 2)), np.zeros((1, 2)), 0.01, lambda rows: rows.sum(axis=1), False
)
SCORES = RNG.dirichlet(np.full(6, 0.3), 50)
COLOURS = Images(RNG.random((12, 9, 9, 3)), np.arange(12) % 3)
DIGITS_28 = Images(RNG.random((12, 28, 28)), np.arange(12) % 10)


@pytest.mark.parametrize("name", EVASIONS)
def test_evasions_keep_the_law(name):
    assert EVASIONS[name].name == name
    check_evasion(EVASIONS[name], STOLEN, CROWD)


def fillers_of(name):
    traffic = EVASIONS[name].plan(STOLEN, CROWD, np.random.default_rng(1)).scenario.traffic
    return traffic.leaks[~traffic.wanted]


def test_middling_fillers_are_one_row_from_the_middle_of_the_honest():
    (middle,) = np.unique(fillers_of("middling-4"), axis=0)
    shares = (CROWD.honest < middle).mean(axis=0)
    assert (np.abs(shares - 0.5) < 0.2).all()


def test_imitating_fillers_come_from_the_dearer_half_of_the_honest():
    prices = CROWD.price(CROWD.honest)
    found = {tuple(row) for row in fillers_of("imitating-4")}
    assert found == {tuple(row) for row in CROWD.honest[prices >= np.median(prices)]}


@pytest.mark.parametrize("name", [name for name, spec in DEFENCES.built_in.items() if spec.answers])
def test_defences_keep_the_law(name, baseline):
    defence = answering(name, baseline)
    assert defence.name == name
    check_defence(defence, SCORES)


@pytest.mark.parametrize("name", [name for name, spec in DEFENCES.built_in.items() if spec.detects])
def test_detectors_keep_the_law(name, baseline, prepared):
    detector = detecting(name, baseline)
    assert detector.name == name
    honest, foreign = prepared.data_split.honest.x, prepared.data_split.foreign.x[:300]
    for images in (honest, foreign):
        check_detector(detector, images, prepared.victim.scores(images).argmax(axis=1))


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("honest", [COLOURS, DIGITS_28, Images(COLOURS.x[:, :1, :, 0], COLOURS.y)])
def test_kinds_of_honest_images_keep_the_law(name, honest):
    check_kind(KINDS[name], honest)


def test_victims_of_scikit_learn_keep_the_law(prepared):
    check_victim(prepared.victim, prepared.data_split.honest.x[:7])


def test_only_digits_of_28_pixels_have_other_digits():
    kind = KINDS["other digits"]
    assert kind(COLOURS, RNG) is None
    assert kind(DIGITS_28, RNG).x.shape == (1797, 28, 28)


def test_rows_of_a_table_are_not_rotated_blurred_or_darkened():
    table = Images(RNG.random((5, 1, 30)), np.arange(5))
    assert [name for name, kind in KINDS.items() if kind(table, RNG) is None] == [
        "blurred",
        "rotated",
        "dark",
        "other digits",
    ]


def test_jittered_copies_stay_within_a_grey_step():
    image = RNG.random((4, 4))
    copies = jittered(image, 20, 16, RNG)
    assert np.abs(copies - image).max() <= 1 / 16 + 1e-12
    assert len(np.unique(copies.reshape(20, -1), axis=0)) == 20


def test_top_one_tells_the_label_alone():
    told = TopOne().answer(SCORES)
    assert np.array_equal(told.argmax(axis=1), SCORES.argmax(axis=1))
    assert set(np.unique(told)) == {0.0, 1.0}


def test_rounding_leaves_few_values_and_a_label_where_nothing_is_left():
    flat = np.full((1, 40), 1 / 40)
    assert Rounding().answer(flat).sum() == 1.0
    assert len(np.unique(np.round(SCORES, 1))) <= 11


def test_the_reverse_sigmoid_makes_sure_answers_less_sure():
    sure = np.array([[0.97, 0.02, 0.01]])
    told = ReverseSigmoid().answer(sure)
    assert told[0, 0] < 0.97
    assert told[0, 0] == told.max()


def test_misinformation_is_for_answers_below_the_threshold():
    sure, unsure = np.array([[0.9, 0.08, 0.02]]), np.array([[0.5, 0.3, 0.2]])
    defence = Misinformation(0.7)
    assert np.allclose(defence.answer(sure), sure)
    assert np.allclose(defence.answer(unsure), [[0.2, 0.3, 0.5]])


def test_prada_accuses_steps_of_one_length_and_not_random_rows():
    steps = np.cumsum(np.full((400, 4), 0.01), axis=0) + RNG.choice([0.0, 5.0], (400, 1), p=[0.5, 0.5])
    labels = np.zeros(400, np.int64)
    assert Prada().first_alarm(steps, labels) is not None
    assert Prada().first_alarm(np.random.default_rng(1).random((400, 30)), labels) is None
    assert Prada().first_alarm(np.zeros((0, 30)), np.zeros(0, np.int64)) is None


@dataclass(frozen=True)
class Broken:
    """An evasion, a defence and a watcher that break their laws."""

    name: str = "broken"
    family: str = "broken"
    level: float = 1.0

    def plan(self, stolen, cover, rng):
        plain = EVASIONS[PLAIN].plan(stolen[::-1], cover, rng)
        return replace(plain)

    def answer(self, scores):
        return scores * 2.0

    def first_alarm(self, images, labels):
        return len(images)


def test_the_suites_refuse_what_breaks_the_law():
    with pytest.raises(AssertionError, match="out of order"):
        check_evasion(Broken(), STOLEN, CROWD)
    with pytest.raises(AssertionError, match="sum to 1"):
        check_defence(Broken(), SCORES)
    with pytest.raises(AssertionError, match="before the first"):
        check_detector(Broken(), COLOURS.x, COLOURS.y)
    with pytest.raises(AssertionError, match="another shape"):
        check_kind(lambda honest, rng: Images(honest.x[:, :3], honest.y), COLOURS)
