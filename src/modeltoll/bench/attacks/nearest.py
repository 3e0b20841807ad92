"""Nearest: of many public images the ones that look most like a few known images of the task."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.spatial.distance import cdist

from modeltoll.bench.attacks.patch_features import fit_patch_features
from modeltoll.bench.attacks.query_rounds import (
    PAPER_ROUNDS,
    QueriedRows,
    RoundPlan,
    Rounds,
    TooFewImages,
    query_in_rounds,
)

if TYPE_CHECKING:
    from modeltoll.bench.attacks.attack import AttackerResources, Clone, Oracle, RoundCallback
    from modeltoll.bench.students.student import StudentFactory
    from modeltoll.records import Floats, Integers

__all__ = ["NEAREST_PARAMS", "Nearest", "NearestParams", "Neighbours", "nearest_foreign"]

_FITTED = 2000  # foreign images that the embedding is fitted to


@dataclass(frozen=True, slots=True)
class Neighbours:
    """How public images are chosen: near ``known`` own images, which are not queried, by features of ``filters`` patches."""

    known: int = 100
    filters: int = 64


@dataclass(frozen=True, slots=True)
class NearestParams:
    """Settings: the rounds, and the choice of images."""

    rounds: Rounds = PAPER_ROUNDS
    neighbours: Neighbours = Neighbours()


NEAREST_PARAMS = NearestParams()


def nearest_foreign(
    resources: AttackerResources, count: int, settings: Neighbours, rng: np.random.Generator
) -> Integers:
    """Indices (count,) of foreign images: in turn the nearest of each known image, then the second nearest of each, and so on.

    Distances are those of ``PatchFeatures`` of the foreign images, standardised by them.

    Raises:
        TooFewImages: there are fewer foreign images.
    """
    foreign = resources.foreign.x
    if len(foreign) < count:
        raise TooFewImages(count, len(foreign))
    known = resources.own[rng.permutation(len(resources.own))[: settings.known]]
    fitted = foreign[rng.permutation(len(foreign))[:_FITTED]]
    embedding = fit_patch_features(fitted, settings.filters, rng)
    features = embedding.embed(foreign)
    centre, deviation = features.mean(axis=0), features.std(axis=0) + 1e-6
    distances = cdist((features - centre) / deviation, (embedding.embed(known) - centre) / deviation)
    ranks = distances.argsort(axis=0, kind="stable").argsort(axis=0, kind="stable")
    order: Integers = np.lexsort((distances.min(axis=1), ranks.min(axis=1)))
    return order[:count]


@dataclass(frozen=True, slots=True)
class Nearest:
    """Query the foreign images nearest to a few known ones of the task, nearest first, and train on the labels.

    After Liu et al. 2023, *ShrewdAttack: low cost high accuracy model extraction*, Entropy 25(2), who choose task-relevant
    instances in the features of a network that was trained on public images. Here the features are those of
    ``PatchFeatures``, which are fitted to the public images themselves.
    """

    student_factory: StudentFactory
    settings: NearestParams = NEAREST_PARAMS
    name: str = "Nearest"

    def run(
        self, oracle: Oracle, resources: AttackerResources, rng: np.random.Generator, on_round: RoundCallback
    ) -> Clone:
        """As ``Attack.run``."""
        chosen = resources.foreign.x[nearest_foreign(resources, oracle.left, self.settings.neighbours, rng)]

        def next_images(queried: QueriedRows | None, count: int) -> Floats:
            done = 0 if queried is None else len(queried.images)
            return chosen[done : done + count]

        plan = RoundPlan(self.student_factory, self.settings.rounds)
        return query_in_rounds(oracle, next_images, plan, rng, on_round)
