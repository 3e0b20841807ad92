"""The conformance suite of attacks finds every fault; the registry is complete and states what is scaled down."""

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

STUDENT_FACTORY = KernelCloneFactory()


CHANGES = {
    "bright": lambda images: images + 0.5,
    "dark": lambda images: images - 0.5,
    "flat": lambda images: images.reshape(len(images), -1),
    "nan": lambda images: np.full_like(images, np.nan),
}


class ConstantStudent:
    """A student whose training does nothing, so that it accepts any images."""

    def train(self, images, targets, schedule, rng):
        """Do nothing."""

    def scores(self, images):
        return np.full((len(images), 10), 0.1)


class ConstantStudentFactory:
    def student(self, rng):
        return ConstantStudent()


@dataclass
class Broken:
    """A random attack with one fault."""

    fault: str
    name: str = "broken"
    runs: int = 0

    def run(self, oracle, resources, rng, on_round):
        self.runs += 1
        if self.fault == "unseeded":
            rng = np.random.default_rng(self.runs)
        if self.fault == "resources":
            resources.own[0] = 0.0
        if self.fault == "greedy":
            oracle.ask(resources.own[: oracle.left + 1])
        if self.fault == "budget":
            oracle.left -= 1
        change = CHANGES.get(self.fault, np.array)
        factory = ConstantStudentFactory() if self.fault in CHANGES else STUDENT_FACTORY
        plan = RoundPlan(factory, Rounds(), labels_only=self.fault != "probabilities")

        def next_images(_, count):
            return change(resources.own[rng.permutation(len(resources.own))[:count]])

        callback = (lambda _: None) if self.fault == "unreported" else on_round
        clone = query_in_rounds(oracle, next_images, plan, rng, callback)
        oracle.left += self.fault == "budget"
        return STUDENT_FACTORY.student(rng) if self.fault == "other" else clone


class Tolerant:
    """A victim that answers any input."""

    def __init__(self, world):
        self.victim = world.victim

    def __call__(self, images):
        return self.victim(np.nan_to_num(images.reshape(len(images), -1)))


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("unseeded", "two results"),
        ("resources", "changed its resources"),
        ("budget", "were not used"),
        ("greedy", "more rows than were left"),
        ("unreported", "no round was reported"),
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


def test_the_suite_passes_a_correct_attack_and_needs_enough_rows(world):
    check_attack(Broken("none"), world.victim, world.resources, 40, labels_only=True)
    with pytest.raises(AssertionError, match="20 rows or more"):
        check_attack(Broken("none"), world.victim, world.resources, 19, labels_only=True)


def test_the_counting_oracle_refuses_a_query_above_its_budget_without_counting_it(world):
    oracle = CountingOracle(world.victim, 5)
    with pytest.raises(BudgetSpent, match="6 rows were queried, but 5 are left"):
        oracle.ask(world.resources.own[:6])
    assert oracle.left == 5
    assert oracle.ask(world.resources.own[:5]).shape == (5, 10)
    assert oracle.left == 0


def test_names_are_unique_and_full_settings_are_never_scaled_down():
    assert len({spec.title for spec in ATTACKS.built_in.values()}) == len(ATTACKS.built_in)
    for spec in ATTACKS.built_in.values():
        assert spec.scaled_down(quick=False) == {}
        assert spec.attack(STUDENT_FACTORY, quick=True).name == spec.title
        assert type(spec.full) is type(spec.quick)


def test_scaled_down_settings_are_listed_with_the_papers_values_by_their_names_in_result_files():
    assert ATTACKS.built_in["standard"].scaled_down(quick=True)["course.epochs"] == (50, 10)
    assert ATTACKS.built_in["deepfool"].scaled_down(quick=True)["rounds.scan"] == (None, 4000)
    assert scaled_down(Rounds(), Rounds(schedule=TrainingSchedule(batch=32))) == {"course.batch": (64, 32)}


def test_the_papers_settings_are_the_defaults():
    assert ATTACKS.built_in["standard"].full == Rounds(round_rows=1000, schedule=TrainingSchedule(50, 64, 0.01, 0.9))
    assert ATTACKS.built_in["knockoff-random"].full.schedule.epochs == 100
    assert ATTACKS.built_in["jacobian"].full.rounds.schedule.epochs == 20
    assert (ATTACKS.built_in["jacobian"].full.seed, ATTACKS.built_in["jacobian"].full.length) == (150, 0.1)
    assert (ATTACKS.built_in["deepfool"].full.steps, ATTACKS.built_in["deepfool"].full.overshoot) == (20, 0.02)


def test_the_registry_needs_no_torch():
    code = (
        "import sys\n"
        "class Hidden:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name == 'torch':\n"
        "            raise ModuleNotFoundError('hidden', name='torch')\n"
        "sys.meta_path.insert(0, Hidden())\n"
        "from modeltoll.bench.attacks.registry import ATTACKS\n"
        "from modeltoll.bench.students.registry import student_factory\n"
        "[spec.attack(student_factory('kernel', 10), quick=True) for spec in ATTACKS.built_in.values()]\n"
        "try:\n    student_factory('mnistnet', 10)\nexcept Exception as error:\n    print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "pip install 'modeltoll[bench]'" in done.stdout


def test_an_unknown_student_is_refused_with_the_known_ones():
    with pytest.raises(SettingsError, match="known: bytenet, kernel, mnistnet, residual, trees"):
        student_factory("perceptron", 10)
    assert student_factory("kernel", 4) == KernelCloneFactory(4)
    assert Standard(KernelCloneFactory(4)).student_factory.classes == 4
