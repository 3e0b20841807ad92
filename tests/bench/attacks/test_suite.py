"""The conformance suite finds every kind of attack that breaks the law; the table is complete and says what is scaled."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass, replace

import numpy as np
import pytest

from modeltoll.bench.attacks.attack import BudgetSpent
from modeltoll.bench.attacks.query_rounds import RoundPlan, Rounds, query_in_rounds
from modeltoll.bench.attacks.registry import ATTACKS, scaled_down
from modeltoll.bench.attacks.standard import Standard
from modeltoll.bench.students.kernel import KernelCloneFactory
from modeltoll.bench.students.registry import student_factory
from modeltoll.bench.students.student import TrainingSchedule
from modeltoll.errors import SettingsError
from modeltoll.testing.attacks import CountingOracle, check_attack

SCHOOL = KernelCloneFactory()


CHANGES = {
    "bright": lambda images: images + 0.5,
    "dark": lambda images: images - 0.5,
    "flat": lambda images: images.reshape(len(images), -1),
    "nan": lambda images: np.full_like(images, np.nan),
}


class Deaf:
    """A student that learns nothing, so that it can be taught anything."""

    def learn(self, images, targets, course, rng):
        """Not listening."""

    def scores(self, images):
        return np.full((len(images), 10), 0.1)


class DeafSchool:
    def student(self, rng):
        return Deaf()


@dataclass
class Broken:
    """A random thief with one fault."""

    fault: str
    name: str = "broken"
    runs: int = 0

    def run(self, oracle, resources, rng, watch):
        self.runs += 1
        if self.fault == "chance":
            rng = np.random.default_rng(self.runs)
        if self.fault == "means":
            resources.own[0] = 0.0
        if self.fault == "greedy":
            oracle.ask(resources.own[: oracle.left + 1])
        if self.fault == "thrifty":
            oracle.left -= 1
        change = CHANGES.get(self.fault, np.array)
        factory = DeafSchool() if self.fault in CHANGES else SCHOOL
        plan = RoundPlan(factory, Rounds(), labels_only=self.fault != "probabilities")

        def pick(_, count):
            return change(resources.own[rng.permutation(len(resources.own))[:count]])

        shown = (lambda _: None) if self.fault == "secretive" else watch
        clone = query_in_rounds(oracle, pick, plan, rng, shown)
        oracle.left += self.fault == "thrifty"
        return SCHOOL.student(rng) if self.fault == "other" else clone


class Tolerant:
    """A victim that answers anything."""

    def __init__(self, world):
        self.victim = world.victim

    def __call__(self, images):
        return self.victim(np.nan_to_num(images.reshape(len(images), -1)))


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("chance", "two results"),
        ("means", "changed its resources"),
        ("thrifty", "were not used"),
        ("greedy", "more rows than were left"),
        ("secretive", "no round was reported"),
        ("other", "not that of the last"),
        ("probabilities", "labels_only"),
        ("bright", "above 1"),
        ("dark", "below 0"),
        ("nan", "not finite"),
        ("flat", "have shape"),
    ],
)
def test_the_suite_finds_each_fault(fault, message, world):
    resources = replace(world.resources, own=world.resources.own.copy())
    with pytest.raises(AssertionError, match=message):
        check_attack(Broken(fault), Tolerant(world), resources, 40, labels_only=True)


def test_the_suite_passes_a_faultless_attack_and_wants_enough_to_judge(world):
    check_attack(Broken("none"), world.victim, world.resources, 40, labels_only=True)
    with pytest.raises(AssertionError, match="20 rows or more"):
        check_attack(Broken("none"), world.victim, world.resources, 19, labels_only=True)


def test_the_counting_oracle_refuses_more_than_is_left_and_counts_nothing_then(world):
    oracle = CountingOracle(world.victim, 5)
    with pytest.raises(BudgetSpent, match="6 rows were queried, but 5 are left"):
        oracle.ask(world.resources.own[:6])
    assert oracle.left == 5
    assert oracle.ask(world.resources.own[:5]).shape == (5, 10)
    assert oracle.left == 0


def test_names_are_unique_and_full_settings_are_never_scaled_down():
    assert len({entry.title for entry in ATTACKS.built_in.values()}) == len(ATTACKS.built_in)
    for entry in ATTACKS.built_in.values():
        assert entry.scaled_down(quick=False) == {}
        assert entry.attack(SCHOOL, quick=True).name == entry.title
        assert type(entry.full) is type(entry.quick)


def test_what_is_scaled_down_is_told_with_the_papers_value():
    assert ATTACKS.built_in["standard"].scaled_down(quick=True)["course.epochs"] == (50, 10)
    assert ATTACKS.built_in["deepfool"].scaled_down(quick=True)["rounds.scan"] == (None, 4000)
    assert scaled_down(Rounds(), Rounds(course=TrainingSchedule(batch=32))) == {"course.batch": (64, 32)}


def test_the_papers_settings_are_the_defaults():
    assert ATTACKS.built_in["standard"].full == Rounds(step=1000, course=TrainingSchedule(50, 64, 0.01, 0.9))
    assert ATTACKS.built_in["knockoff-random"].full.course.epochs == 100
    assert ATTACKS.built_in["jacobian"].full.rounds.course.epochs == 20
    assert (ATTACKS.built_in["jacobian"].full.seed, ATTACKS.built_in["jacobian"].full.length) == (150, 0.1)
    assert (ATTACKS.built_in["deepfool"].full.steps, ATTACKS.built_in["deepfool"].full.overshoot) == (20, 0.02)


def test_the_table_needs_no_torch():
    code = (
        "import sys\n"
        "class Hidden:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name == 'torch':\n"
        "            raise ModuleNotFoundError('hidden', name='torch')\n"
        "sys.meta_path.insert(0, Hidden())\n"
        "from modeltoll.bench.attacks.registry import ATTACKS\n"
        "from modeltoll.bench.students.registry import student_factory\n"
        "[entry.attack(student_factory('kernel', 10), quick=True) for entry in ATTACKS.built_in.values()]\n"
        "try:\n    student_factory('mnistnet', 10)\nexcept Exception as error:\n    print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "pip install 'modeltoll[bench]'" in done.stdout


def test_an_unknown_school_is_refused_with_those_that_are_known():
    with pytest.raises(SettingsError, match="known: kernel, mnistnet, residual"):
        student_factory("perceptron", 10)
    assert student_factory("kernel", 4) == KernelCloneFactory(4)
    assert Standard(KernelCloneFactory(4)).student_factory.classes == 4
