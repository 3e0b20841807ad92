"""FreeMatch: foreign images, some with the victim's labels and all with the clone's own where it is sure enough."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from modeltoll.bench.attacks.nearest import Neighbours, nearest_foreign
from modeltoll.bench.attacks.query_rounds import TooFewImages, query
from modeltoll.bench.attacks.require_torch import require_network_factory
from modeltoll.bench.students.student import FREEMATCH_SCHEDULE, FreeMatchSchedule

if TYPE_CHECKING:
    from modeltoll.bench.attacks.attack import AttackerResources, Clone, Oracle, RoundCallback
    from modeltoll.bench.students.student import StudentFactory
    from modeltoll.records import Integers

__all__ = ["FREEMATCH_NEAREST_PARAMS", "FREEMATCH_PARAMS", "FreeMatch", "FreeMatchParams"]


@dataclass(frozen=True, slots=True)
class FreeMatchParams:
    """Settings: the training; ``neighbours``: which foreign images are queried (None: random ones)."""

    schedule: FreeMatchSchedule = FREEMATCH_SCHEDULE
    neighbours: Neighbours | None = None


FREEMATCH_PARAMS = FreeMatchParams()
FREEMATCH_NEAREST_PARAMS = FreeMatchParams(neighbours=Neighbours())


@dataclass(frozen=True, slots=True)
class FreeMatch:
    """Query foreign images once, and train on their labels and on all foreign images in weak and strong views.

    Wang et al. 2023, *FreeMatch: self-adaptive thresholding for semi-supervised learning*, ICLR; stealing by labels and
    pseudo-labels of public images is that of Hondru and Ionescu 2023, *Towards few-call model stealing*, arXiv 2310.00096.
    """

    student_factory: StudentFactory
    settings: FreeMatchParams = FREEMATCH_PARAMS
    name: str = "FreeMatch"

    def run(
        self, oracle: Oracle, resources: AttackerResources, rng: np.random.Generator, on_round: RoundCallback
    ) -> Clone:
        """As ``Attack.run``.

        Raises:
            SettingsError: the students are not networks.
            TooFewImages: there are fewer foreign images than rows in the budget.
        """
        student = require_network_factory(self.student_factory).student(rng)
        from modeltoll.bench.students.freematch import train_freematch  # noqa: PLC0415  torch is optional

        if not oracle.left:
            return student
        images = resources.foreign.x
        asked = self._chosen(resources, oracle.left, rng)
        targets = query(oracle, images[asked], labels_only=True)
        return train_freematch(student, (images[asked], targets), images, self.settings.schedule, rng, on_round)

    def _chosen(self, resources: AttackerResources, budget: int, rng: np.random.Generator) -> Integers:
        if self.settings.neighbours is not None:
            return nearest_foreign(resources, budget, self.settings.neighbours, rng)
        if len(resources.foreign.x) < budget:
            raise TooFewImages(budget, len(resources.foreign.x))
        chosen: Integers = rng.permutation(len(resources.foreign.x))[:budget]
        return chosen
