"""Which images each attack queries."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import entropy as shannon

from modeltoll.bench.attacks import entropyrev, jacobian, worstcase
from modeltoll.bench.attacks.copycat import CopyCat
from modeltoll.bench.attacks.deepfool import DeepFoolParams, boundary_distances
from modeltoll.bench.attacks.entropy import Entropy
from modeltoll.bench.attacks.entropyrev import EntropyRev
from modeltoll.bench.attacks.gap import Gap
from modeltoll.bench.attacks.inout import InOut
from modeltoll.bench.attacks.jacobian import Jacobian, JacobianParams
from modeltoll.bench.attacks.kcenter import farthest_first
from modeltoll.bench.attacks.knockoff import KnockoffRandom
from modeltoll.bench.attacks.knockoff_adaptive import Bandit, KnockoffAdaptive, Reward
from modeltoll.bench.attacks.query_rounds import Rounds, TooFewImages
from modeltoll.bench.attacks.registry import ATTACKS
from modeltoll.bench.attacks.standard import Standard
from modeltoll.bench.attacks.worstcase import CostUnknown, WorstCase
from modeltoll.bench.students.kernel import KernelCloneFactory
from modeltoll.bench.students.untrained import UntrainedStudents
from modeltoll.errors import ModeltollError
from modeltoll.testing.attacks import CountingOracle

STUDENT_FACTORY = KernelCloneFactory()


def steal(attack, world, budget, victim=None):
    """The queries by round, the clone after each, and the last one's accuracy."""
    clones = []
    oracle = CountingOracle(victim or world.victim, budget)
    clone = attack.run(oracle, world.resources, np.random.default_rng(5), clones.append)
    right = clone.scores(world.evaluation_set.x).argmax(axis=1) == world.evaluation_set.y
    return oracle.queries, clones, float(right.mean())


def of(images, source):
    """Which of the images are in the source, (n,)."""
    known = {image.tobytes() for image in source}
    return np.array([image.tobytes() in known for image in images])


@pytest.mark.parametrize(("attack", "source"), [(Standard, "own"), (CopyCat, "foreign"), (KnockoffRandom, "foreign")])
def test_random_attacks_query_images_of_their_pool_once_each(attack, source, world):
    asked, _, _ = steal(attack(STUDENT_FACTORY), world, 200)
    queries = np.concatenate(asked)
    assert of(queries, world.resources.own if source == "own" else world.resources.foreign.x).all()
    assert len({image.tobytes() for image in queries}) == 200


def test_attacks_with_fixed_queries_ask_the_same_rows_whether_or_not_a_clone_is_trained(world):
    fixed = [spec for name in ATTACKS.built_in if (spec := ATTACKS.find(name)).fixed_queries]
    assert {spec.name for spec in fixed} == {
        "standard",
        "copycat",
        "knockoff-random",
        "nearest",
        "standard-trees",
        "copycat-trees",
    }
    for spec in fixed:
        asked = []
        for factory in (STUDENT_FACTORY, UntrainedStudents()):
            oracle = CountingOracle(world.victim, 90)
            spec.attack(factory, quick=False).run(oracle, world.resources, np.random.default_rng(5), lambda _: None)
            asked.append(np.concatenate(oracle.queries))
        assert np.array_equal(*asked)


@pytest.mark.parametrize("name", ["entropy", "entropyrev-ood", "jacobian"])
def test_an_attack_that_asks_its_clone_fails_without_one(name, world):
    oracle = CountingOracle(world.victim, 90)
    attack = ATTACKS.find(name).attack(UntrainedStudents(), quick=False)
    with pytest.raises(ModeltollError, match="no clone is trained"):
        attack.run(oracle, world.resources, np.random.default_rng(5), lambda _: None)


def test_digits_make_a_better_clone_than_photographs(world):
    assert steal(Standard(STUDENT_FACTORY), world, 300)[2] > 0.9
    assert 0.2 < steal(CopyCat(STUDENT_FACTORY), world, 300)[2] < 0.9


@pytest.mark.parametrize(("attack", "sign"), [(Entropy, 1.0), (Gap, 1.0), (EntropyRev, -1.0)])
def test_the_queried_images_have_the_most_or_the_least_uncertainty(attack, sign, world):
    asked, clones, _ = steal(attack(STUDENT_FACTORY), world, 200)
    scores = clones[0].scores(world.resources.own)
    if attack is Gap:
        ordered = np.sort(scores, axis=1)
        uncertainty = ordered[:, -2] - ordered[:, -1]
    else:
        uncertainty = shannon(scores, axis=1)
    chosen = of(world.resources.own, asked[1])
    others = ~chosen & ~of(world.resources.own, asked[0])
    assert (sign * uncertainty[chosen]).min() >= (sign * uncertainty[others]).max() - 1e-12


def test_foreign_entropyrev_is_random_for_the_first_four_tenths(world):
    settings = replace(entropyrev.ENTROPYREV_OOD_PARAMS, rounds=Rounds(round_rows=20, min_rounds=1))
    asked, clones, _ = steal(EntropyRev(STUDENT_FACTORY, settings), world, 100)
    assert of(np.concatenate(asked), world.resources.foreign.x).all()
    pool = world.resources.foreign.x
    for number in (1, 2):
        uncertainty = shannon(clones[number - 1].scores(pool), axis=1)
        chosen, before = of(pool, asked[number]), of(pool, np.concatenate(asked[:number]))
        most_certain = uncertainty[chosen].max() <= uncertainty[~chosen & ~before].min() + 1e-12
        assert most_certain == (number == 2)


def test_worstcase_queries_the_cheapest_images_in_the_order_of_their_price(world):
    for settings, images in (
        (worstcase.WORSTCASE_PARAMS, world.resources.own),
        (worstcase.WORSTCASE_OOD_PARAMS, world.resources.foreign.x),
    ):
        asked, _, _ = steal(WorstCase(STUDENT_FACTORY, settings), world, 100)
        costs = world.resources.cost(np.concatenate(asked))
        assert costs.tolist() == np.sort(world.resources.cost(images))[:100].tolist()


def test_worstcase_with_a_scan_considers_that_many_images(world):
    considered = []

    def cost(images):
        considered.append(len(images))
        return np.zeros(len(images))

    world_with_cost = replace(world, resources=replace(world.resources, cost=cost))
    steal(
        WorstCase(STUDENT_FACTORY, replace(worstcase.WORSTCASE_PARAMS, rounds=Rounds(scan=120))), world_with_cost, 100
    )
    steal(WorstCase(STUDENT_FACTORY, replace(worstcase.WORSTCASE_PARAMS, rounds=Rounds(scan=20))), world_with_cost, 100)
    assert considered == [120, 100]


def test_worstcase_without_a_cost_is_refused(world):
    with pytest.raises(CostUnknown, match=r"set AttackerResources\.cost"):
        steal(WorstCase(STUDENT_FACTORY), replace(world, resources=replace(world.resources, cost=None)), 50)


def test_inout_ends_each_round_with_own_images_a_third_of_it(world):
    asked, _, _ = steal(InOut(STUDENT_FACTORY), world, 200)
    own = [of(images, world.resources.own) for images in asked]
    assert [len(flags) for flags in own] == [50, 50, 50, 50]
    assert sum(int(flags.sum()) for flags in own) == 66
    for flags in own:
        assert flags.tolist() == sorted(flags.tolist())
        assert 16 <= flags.sum() <= 17


def test_jacobian_doubles_from_its_seed_and_steps_up_the_logit_of_the_label(world):
    asked, clones, _ = steal(
        Jacobian(STUDENT_FACTORY, JacobianParams(Rounds(round_rows=1000, min_rounds=1), seed=30)), world, 200
    )
    assert [len(images) for images in asked] == [30, 30, 60, 80]
    assert of(asked[0], world.resources.own).all()
    labels = world.victim(asked[0]).argmax(axis=1)
    steps = np.sign(clones[0].input_gradients(asked[0], np.eye(10)[labels]))
    assert of(asked[1], np.clip(asked[0] + 0.1 * steps, 0.0, 1.0)).all()


def test_targeted_jacobian_steps_down_the_logit_of_another_class(world):
    settings = JacobianParams(Rounds(round_rows=1000, min_rounds=1), seed=30, targeted=True)
    asked, clones, _ = steal(Jacobian(STUDENT_FACTORY, settings), world, 60)
    labels = world.victim(asked[0]).argmax(axis=1)
    found = np.zeros(30, int)
    for shift in range(1, 10):
        steps = np.sign(clones[0].input_gradients(asked[0], np.eye(10)[(labels + shift) % 10]))
        found += of(asked[1], np.clip(asked[0] - 0.1 * steps, 0.0, 1.0))
    assert (found >= 1).all()
    assert jacobian.JACOBIAN_TR_PARAMS.targeted


def test_farthest_first_covers_corners_before_the_middle_and_repeats_nothing():
    points = np.array([[0.0, 0.0], [5.0, 5.0], [10.0, 0.0], [0.0, 10.0], [10.0, 10.0], [0.1, 0.0], [0.0, 0.0]])
    chosen = farthest_first(points, points[:1], 6)
    assert chosen[:3].tolist()[0] == 4
    assert set(chosen[:3].tolist()) == {2, 3, 4}
    assert chosen[3] == 1
    assert chosen[4] == 5
    assert len(set(chosen.tolist())) == 6


class Linear:
    """Logits that are linear in the image, with known distances to the decision boundaries."""

    weights = np.array([[1.0, 0.0], [0.0, 1.0], [-1.0, -1.0]])

    def logits(self, images):
        return images.reshape(len(images), -1) @ self.weights.T

    def input_gradients(self, images, weights):
        return (weights @ self.weights).reshape(images.shape)


def test_deepfool_distances_of_a_linear_clone_are_those_to_its_decision_boundaries():
    images = np.array([[[3.0, 1.0]], [[1.0, 1.5]], [[-2.0, 0.5]]])
    logits = Linear().logits(images)
    expected = []
    for row, image in zip(logits, images, strict=True):
        label = row.argmax()
        rivals = [k for k in range(3) if k != label]
        w = Linear.weights
        expected.append(min((row[label] - row[k]) / np.linalg.norm(w[label] - w[k]) for k in rivals))
        assert image.shape == (1, 2)
    found = boundary_distances(Linear(), images, DeepFoolParams())
    assert found == pytest.approx(1.02 * np.array(expected), rel=1e-3)
    assert boundary_distances(Linear(), images, DeepFoolParams(rivals=1))[0] >= found[0] - 1e-12
    assert boundary_distances(Linear(), images, DeepFoolParams(steps=0)).tolist() == [0.0, 0.0, 0.0]


def test_the_bandit_learns_to_prefer_the_rewarded_action():
    bandit, rng = Bandit(4), np.random.default_rng(0)
    allowed = np.ones(4, bool)
    for _ in range(400):
        probabilities = bandit.probabilities(allowed)
        action = int(rng.choice(4, p=probabilities))
        bandit.update(action, float(action == 2), probabilities)
    assert bandit.probabilities(allowed).argmax() == 2
    allowed[2] = False
    assert bandit.probabilities(allowed)[2] == 0.0
    assert bandit.probabilities(allowed).sum() == pytest.approx(1.0)


def test_rewards_are_in_0_to_1_and_grow_with_certainty_diversity_and_loss():
    rng = np.random.default_rng(0)
    reward = Reward(3)
    assert reward.of(np.full((1, 3), 1 / 3), np.full((1, 3), 1 / 3)) == 0.5
    values = [reward.of(rng.dirichlet(np.ones(3), 2), rng.dirichlet(np.ones(3), 2)) for _ in range(300)]
    assert min(values) >= 0.0
    assert max(values) <= 1.0
    sure, unsure = np.array([[0.9, 0.05, 0.05]]), np.array([[0.4, 0.3, 0.3]])
    assert reward.of(sure, sure) > reward.of(unsure, unsure)
    assert reward.of(sure, sure[:, ::-1]) > reward.of(sure, sure)
    for _ in range(3000):
        reward.of(sure, sure)
    assert reward.of(sure[:, ::-1], sure[:, ::-1]) > reward.of(sure, sure)


def test_adaptive_knockoff_queries_the_rewarded_class_most(world):
    foreign = replace(world.resources.foreign, x=world.resources.own[:600], y=np.repeat([3, 8], 300))
    bright = foreign.x[300:]

    def victim(images):
        certain = np.eye(10)[images.reshape(len(images), -1).argmax(axis=1) % 10]
        return np.where(of(images, bright)[:, None], certain, 0.1)

    asked, _, _ = steal(
        KnockoffAdaptive(STUDENT_FACTORY),
        replace(world, resources=replace(world.resources, foreign=foreign)),
        120,
        victim,
    )
    assert of(np.concatenate(asked), bright).mean() > 0.6
    assert len({image.tobytes() for image in np.concatenate(asked)}) > 110


def test_adaptive_knockoff_continues_when_a_class_is_used_up_and_refuses_too_few_images(world):
    few = replace(world.resources.foreign, x=world.resources.foreign.x[:60], y=np.repeat([0, 1, 2], [2, 3, 55]))
    scarce = replace(world, resources=replace(world.resources, foreign=few))
    asked, _, _ = steal(KnockoffAdaptive(STUDENT_FACTORY), scarce, 60)
    assert of(few.x, np.concatenate(asked)).all()
    with pytest.raises(TooFewImages, match="needs 61"):
        steal(KnockoffAdaptive(STUDENT_FACTORY), scarce, 61)
