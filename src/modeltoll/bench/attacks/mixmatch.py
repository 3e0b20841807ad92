"""MixMatch: semi-supervised training on own images, some with the victim's labels and as many without."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from modeltoll.bench.attacks.query_rounds import CandidatePool, query
from modeltoll.bench.attacks.require_torch import require_network_factory
from modeltoll.bench.students.student import MixMatchSchedule

if TYPE_CHECKING:
    from modeltoll.bench.attacks.attack import AttackerResources, Clone, Oracle, RoundCallback
    from modeltoll.bench.students.student import StudentFactory

__all__ = ["MIXMATCH_SCHEDULE", "MixMatch"]

MIXMATCH_SCHEDULE = MixMatchSchedule()


@dataclass(frozen=True, slots=True)
class MixMatch:
    """Query random own images once and train on them together with unlabelled own images.

    Berthelot et al. 2019, *MixMatch*, as used by Dziedzic et al. 2022.
    """

    student_factory: StudentFactory
    settings: MixMatchSchedule = MIXMATCH_SCHEDULE
    name: str = "MixMatch"

    def run(
        self, oracle: Oracle, resources: AttackerResources, rng: np.random.Generator, on_round: RoundCallback
    ) -> Clone:
        """As ``Attack.run``. The unlabelled images are own images that were not queried, else the queried ones.

        Raises:
            SettingsError: the students are not networks.
        """
        student = require_network_factory(self.student_factory).student(rng)
        from modeltoll.bench.students.mixmatch import train_mixmatch  # noqa: PLC0415  torch is optional

        budget = oracle.left
        if not budget:
            return student
        pool = CandidatePool(resources.own, budget, rng)
        images = pool.draw(budget)
        targets = query(oracle, images, labels_only=True)
        unlabelled = np.concatenate([pool.draw(budget), images])[:budget]
        return train_mixmatch(student, (images, targets), unlabelled, self.settings, rng, on_round)
