"""The images of a baseline's samples: the same each time, so that they can be measured again by further measures."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from modeltoll.bench.datasets import UNKNOWN, Images
from modeltoll.bench.evasions.evasion import EASY, JITTERED
from modeltoll.bench.honest.distribution_shifts import KINDS, ORDINARY, jittered
from modeltoll.leak.corruptions import Corruption, apply, parse_kinds

if TYPE_CHECKING:
    from modeltoll.bench.prepared_target import PreparedTarget
    from modeltoll.bench.targets import Target
    from modeltoll.records import Floats

__all__ = ["CALIBRATION", "DECLARED", "FILLER", "KIND", "STRANGER", "SampleName", "baseline_images", "changed_images"]

CALIBRATION, KIND, DECLARED, STRANGER, FILLER = "calibration", "kind", "declared", "strangers", "filler"
_SEED = 7
_JITTERED = 1000

SampleName = tuple[str, str]  # one of the five sorts of samples, and the sample's name among them


def baseline_images(target: Target, prepared: PreparedTarget) -> Iterator[tuple[SampleName, Images]]:
    """The images of each sample in turn; fillers, declared rows and strangers have no labels.

    First the calibration's and those of honest rows of each kind, the ordinary ones before the others; then fillers, rows
    of declared kinds, and strangers.
    """
    rng, split = np.random.default_rng(_SEED), prepared.data_split
    yield (CALIBRATION, ""), split.calibration
    for name, images in _honest_kinds(prepared, rng):
        yield (KIND, name), images
    easy = split.honest.x[prepared.victim.scores(split.honest.x).max(axis=1).argmax()]
    yield (FILLER, JITTERED), _unlabelled(jittered(easy, _JITTERED, target.levels, rng))
    yield (FILLER, EASY), _unlabelled(easy[None])
    for name, changed in _declared(prepared, target.kinds, rng):
        yield (DECLARED, name), _unlabelled(changed)
    for family, strangers in prepared.strangers().items():
        yield (STRANGER, family), _unlabelled(strangers)


def changed_images(images: Floats, change: Corruption, rng: np.random.Generator) -> Floats:
    """Images (n, height, width) or (n, height, width, 3) of 0..1 under a corruption."""
    sides = images.shape[1:]
    shape = (sides[0], sides[1], sides[2] if len(sides) == 3 else 1)
    return apply(change, images.reshape(len(images), -1), shape, rng, (0.0, 1.0)).reshape(images.shape)


def _unlabelled(images: Floats) -> Images:
    return Images(images, np.full(len(images), UNKNOWN))


def _honest_kinds(prepared: PreparedTarget, rng: np.random.Generator) -> Iterator[tuple[str, Images]]:
    """Honest images of each kind: the target's own kinds beside the ordinary ones, or else the ordinary ones changed."""
    honest = prepared.data_split.honest
    if prepared.callers is not None:
        yield ORDINARY, honest
        yield from ((name, caller.kept_back()) for name, caller in prepared.callers.items())
        return
    for name, kind in KINDS.items():
        images = kind(honest, rng)
        if images is not None:
            yield name, images


def _declared(prepared: PreparedTarget, kinds: str, rng: np.random.Generator) -> Iterator[tuple[str, Floats]]:
    """The images of declared callers that the operator logged, or the calibration's under each declared kind."""
    if prepared.callers is not None:
        logs = {name: caller.logged for name, caller in prepared.callers.items() if caller.logged is not None}
        yield from ((name, logged()) for name, logged in logs.items())
        return
    calibration = prepared.data_split.calibration.x
    yield from ((kind.name, changed_images(calibration, kind, rng)) for kind in parse_kinds(kinds))
