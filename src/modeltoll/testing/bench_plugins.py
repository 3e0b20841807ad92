"""The laws of the bench's plugs: victims, kinds of honest images, defences, watchers, evasions."""

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

__all__ = ["check_defence", "check_evasion", "check_kind", "check_victim", "check_watcher"]

_CLOSE = 1e-5  # networks round a row otherwise in another batch


def check_victim(victim: Victim, images: Floats) -> None:
    """Hold a victim to its law, on 3 images or more.

    Raises:
        AssertionError: it breaks the law; the message says how.
    """
    before, scores = images.copy(), victim.scores(images)
    assert victim.identity, "a victim without identity"
    _check_probabilities(scores, len(images))
    assert np.array_equal(images, before), "asking changed the images"
    alone = np.concatenate([victim.scores(images[row : row + 1]) for row in range(len(images))])
    assert np.allclose(alone, scores, atol=_CLOSE), "an image alone has other scores than among others"


def check_kind(kind: Kind, honest: Images, seed: int = 0) -> None:
    """Hold a kind of honest images to its law. Raises as ``check_victim`` does."""
    before = honest.x.copy()
    made = kind(honest, np.random.default_rng(seed))
    again = kind(honest, np.random.default_rng(seed))
    assert np.array_equal(honest.x, before), "making others changed the honest images"
    assert (made is None) == (again is None), "one seed gives two results"
    if made is None or again is None:
        return
    assert np.array_equal(made.x, again.x), "one seed gives two results"
    assert made.x.shape[1:] == honest.x.shape[1:], "the images are of another shape"
    assert len(made.x) == len(made.y) > 0, "there is not one label for each image"
    assert ((made.x >= 0.0) & (made.x <= 1.0)).all(), "a pixel lies outside 0..1"
    assert set(made.y.tolist()) <= set(honest.y.tolist()), "a label is of no known class"


def check_defence(defence: Defence, scores: Floats) -> None:
    """Hold a defence to its law, on true scores (3 rows or more, classes). Raises as ``check_victim`` does."""
    before, told = scores.copy(), defence.answer(scores)
    assert defence.name, "a defence without a name"
    _check_probabilities(told, len(scores))
    assert told.shape == scores.shape, "what is told has another shape"
    assert np.array_equal(scores, before), "answering changed the true scores"
    alone = np.concatenate([defence.answer(scores[row : row + 1]) for row in range(len(scores))])
    assert np.allclose(alone, told, atol=1e-12), "a row alone is answered otherwise than among others"


def check_watcher(watcher: Detector, images: Floats, labels: Integers) -> None:
    """Hold a watcher to its law, on one caller's images and what he was told. Raises as ``check_victim`` does."""
    assert watcher.name, "a watcher without a name"
    alarm = watcher.first_alarm(images, labels)
    assert watcher.first_alarm(images, labels) == alarm, "looking twice gives two alarms"
    if alarm is None:
        half = len(images) // 2
        assert watcher.first_alarm(images[:half], labels[:half]) is None, "a beginning is suspected, the whole is not"
        return
    assert 1 <= alarm <= len(images), "an alarm at a row that was never asked"
    assert watcher.first_alarm(images[:alarm], labels[:alarm]) == alarm, "later rows change an earlier alarm"
    assert watcher.first_alarm(images[: alarm - 1], labels[: alarm - 1]) is None, "an alarm came earlier than the first"


def check_evasion(evasion: Evasion, stolen: Floats, cover: Cover, seed: int = 0) -> None:
    """Hold an evasion to its law, on stolen rows (10 or more, measures), all different. Raises as ``check_victim`` does."""
    assert evasion.name, "an evasion without a name"
    assert evasion.family, "an evasion without a family"
    for replayable in (False, True):
        _check_disguise(evasion, stolen, replace(cover, replayable=replayable), seed)


def _check_disguise(evasion: Evasion, stolen: Floats, cover: Cover, seed: int) -> None:
    before = stolen.copy()
    plan = evasion.plan(stolen, cover, np.random.default_rng(seed))
    again = evasion.plan(stolen, cover, np.random.default_rng(seed))
    scenario, traffic = plan.scenario, plan.scenario.traffic
    rows = len(traffic.leaks)
    assert np.array_equal(stolen, before), "disguising changed the stolen rows"
    assert np.array_equal(again.scenario.traffic.leaks, traffic.leaks), "one seed gives two disguises"
    assert len(traffic.accounts) == len(traffic.wanted) == len(traffic.fresh) == rows, (
        "the traffic is not of one length"
    )
    for mask in (scenario.pays, plan.solves):
        assert mask is None or mask.shape == (rows,), "a mask is not of the traffic's length"
    places = {row.tobytes(): place for place, row in enumerate(stolen)}
    found = [places.get(row.tobytes(), -1) for row in traffic.leaks[traffic.wanted]]
    assert found, "nothing is stolen"
    assert -1 not in found, "a wanted row is none of the stolen ones"
    assert found == sorted(set(found)), "stolen rows are asked out of order, or wanted twice"
    assert scenario.pays is None or scenario.pays[traffic.wanted].all(), "somebody else pays for a stolen row"
    bought = scenario.buys(np.linspace(0.0, 1.0, rows))
    assert bought.shape == (rows,), "what is bought is not of the traffic's length"
    assert bought.dtype == np.bool_, "what is bought is no mask"


def _check_probabilities(scores: Floats, rows: int) -> None:
    assert scores.ndim == 2, "scores are not a table"
    assert len(scores) == rows, "there is not one row of scores for each image"
    assert (scores >= 0.0).all(), "a score is negative"
    assert np.allclose(scores.sum(axis=1), 1.0, atol=_CLOSE), "scores do not sum to 1"
