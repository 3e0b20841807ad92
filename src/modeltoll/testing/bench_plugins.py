"""Conformance suites for the benchmark's plug-ins: victims, kinds of honest images, defences, detectors, evasions."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from modeltoll.bench.datasets import Images

if TYPE_CHECKING:
    from modeltoll.bench.defences.defence import Defence, Detector
    from modeltoll.bench.evasions.evasion import Cover, Evasion
    from modeltoll.bench.honest.distribution_shifts import Kind
    from modeltoll.bench.victims.victim import Victim
    from modeltoll.records import Floats, Integers
    from modeltoll.simulation.traffic import Rows

__all__ = ["check_defence", "check_detector", "check_evasion", "check_kind", "check_victim"]

_CLOSE = 1e-5  # rounding differs between batch sizes


def check_victim(victim: Victim, images: Floats) -> None:
    """Check a victim on 3 images or more: scores are probabilities, row by row, and the images stay unchanged.

    Raises:
        AssertionError: the victim violates the ``Victim`` protocol; the message says how.
    """
    before, scores = images.copy(), victim.scores(images)
    assert victim.identity, "the victim has no identity"
    _check_probabilities(scores, len(images))
    assert np.array_equal(images, before), "scoring changed the images"
    single = np.concatenate([victim.scores(images[row : row + 1]) for row in range(len(images))])
    assert np.allclose(single, scores, atol=_CLOSE), "an image has other scores alone than in a batch"


def check_kind(kind: Kind, honest: Images, seed: int = 0) -> None:
    """Check a distribution shift on honest images: pure, reproducible, same shape, known labels. Raises as ``check_victim``."""
    before = honest.x.copy()
    shifted = kind(honest, np.random.default_rng(seed))
    again = kind(honest, np.random.default_rng(seed))
    assert np.array_equal(honest.x, before), "the kind changed its input"
    assert (shifted is None) == (again is None), "the same seed gives different results"
    if shifted is None or again is None:
        return
    assert np.array_equal(shifted.x, again.x), "the same seed gives different results"
    assert shifted.x.shape[1:] == honest.x.shape[1:], "the images have another shape"
    assert len(shifted.x) == len(shifted.y) > 0, "the numbers of labels and images differ"
    assert ((shifted.x >= 0.0) & (shifted.x <= 1.0)).all(), "a pixel is outside 0..1"
    assert set(shifted.y.tolist()) <= set(honest.y.tolist()), "a label is of no class of the input"


def check_defence(defence: Defence, scores: Floats, leaks: Floats) -> None:
    """Check a defence on true scores (3 rows or more, classes) and their leaks (rows, measures): pure, row by row.

    Raises as ``check_victim``.
    """
    before, perturbed = (scores.copy(), leaks.copy()), defence.answer(scores, leaks)
    assert defence.name, "the defence has no name"
    _check_probabilities(perturbed, len(scores))
    assert perturbed.shape == scores.shape, "the perturbed scores have another shape"
    assert np.array_equal(scores, before[0]), "the defence changed its input"
    assert np.array_equal(leaks, before[1]), "the defence changed its input"
    single = np.concatenate([defence.answer(scores[[row]], leaks[[row]]) for row in range(len(scores))])
    assert np.allclose(single, perturbed, atol=1e-12), "a row has another answer alone than in a batch"


def check_detector(detector: Detector, images: Floats, labels: Integers) -> None:
    """Check a detector on one caller's images and their labels (rows,): repeatable and causal. Raises as ``check_victim``."""
    assert detector.name, "the detector has no name"
    alarm = detector.first_alarm(images, labels)
    assert detector.first_alarm(images, labels) == alarm, "two runs give different alarms"
    if alarm is None:
        half = len(images) // 2
        assert detector.first_alarm(images[:half], labels[:half]) is None, (
            "a prefix raises an alarm, the whole does not"
        )
        return
    assert 1 <= alarm <= len(images), "the alarm is at a row that does not exist"
    assert detector.first_alarm(images[:alarm], labels[:alarm]) == alarm, "later rows change the alarm"
    assert detector.first_alarm(images[: alarm - 1], labels[: alarm - 1]) is None, (
        "a prefix raises an alarm before the first"
    )


def check_evasion(evasion: Evasion, stolen: Rows, cover: Cover, seed: int = 0) -> None:
    """Check an evasion on 10 or more stolen rows, all different, with classes. Raises as ``check_victim``."""
    assert evasion.name, "the evasion has no name"
    assert evasion.family, "the evasion has no family"
    for replayable in (False, True):
        _check_plan(evasion, stolen, replace(cover, replayable=replayable), seed)


def _check_plan(evasion: Evasion, stolen: Rows, cover: Cover, seed: int) -> None:
    before = stolen.leaks.copy()
    plan = evasion.plan(stolen, cover, np.random.default_rng(seed))
    again = evasion.plan(stolen, cover, np.random.default_rng(seed))
    scenario, traffic = plan.scenario, plan.scenario.traffic
    rows = len(traffic.leaks)
    assert np.array_equal(stolen.leaks, before), "the evasion changed the stolen rows"
    assert np.array_equal(again.scenario.traffic.leaks, traffic.leaks), "the same seed gives different plans"
    assert len(traffic.accounts) == len(traffic.wanted) == len(traffic.fresh) == rows, (
        "the traffic's arrays differ in length"
    )
    for mask in (scenario.pays, plan.solves):
        assert mask is None or mask.shape == (rows,), "a mask has another length than the traffic"
    positions = {row.tobytes(): position for position, row in enumerate(stolen.leaks)}
    found = [positions.get(row.tobytes(), -1) for row in traffic.leaks[traffic.wanted]]
    assert found, "the plan has no wanted row"
    assert -1 not in found, "a wanted row is not a stolen row"
    assert found == sorted(set(found)), "stolen rows are out of order, or wanted twice"
    if stolen.classes is not None:
        assert traffic.classes is not None, "stolen rows have lost their classes"
        assert np.array_equal(traffic.classes[traffic.wanted], stolen.classes[found]), "a stolen row has another class"
    assert scenario.pays is None or scenario.pays[traffic.wanted].all(), "a stolen row is paid by another caller"
    solved = scenario.buys(np.linspace(0.0, 1.0, rows))
    assert solved.shape == (rows,), "the mask of solved rows has another length than the traffic"
    assert solved.dtype == np.bool_, "the mask of solved rows is not boolean"


def _check_probabilities(scores: Floats, rows: int) -> None:
    assert scores.ndim == 2, "scores are not two-dimensional"
    assert len(scores) == rows, "the numbers of score rows and images differ"
    assert (scores >= 0.0).all(), "a score is negative"
    assert np.allclose(scores.sum(axis=1), 1.0, atol=_CLOSE), "scores do not sum to 1"
