"""MixMatch: a few own images at random for their labels, and as many without."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from modeltoll.bench.attacks.query_rounds import CandidatePool, query
from modeltoll.bench.attacks.require_torch import networks_of
from modeltoll.bench.students.student import MixMatchSchedule

if TYPE_CHECKING:
    from modeltoll.bench.attacks.attack import AttackerResources, Clone, Oracle, Watch
    from modeltoll.bench.students.student import StudentFactory

__all__ = ["MIX_COURSE", "MixMatch"]

MIX_COURSE = MixMatchSchedule()


@dataclass(frozen=True, slots=True)
class MixMatch:
    """The thief; Berthelot et al. 2019, *MixMatch*, as Dziedzic et al. 2022 run him."""

    student_factory: StudentFactory
    settings: MixMatchSchedule = MIX_COURSE
    name: str = "MixMatch"

    def run(self, oracle: Oracle, resources: AttackerResources, rng: np.random.Generator, watch: Watch) -> Clone:
        """Buy own images at random, all at once; own images that are left, else those bought, are the unlabelled ones."""
        student = networks_of(self.student_factory).student(rng)
        from modeltoll.bench.students.mixmatch import train_mixmatch  # noqa: PLC0415  torch is optional

        budget = oracle.left
        if not budget:
            return student
        pool = CandidatePool(resources.own, budget, rng)
        bought = pool.draw(budget)
        targets = query(oracle, bought, labels_only=True)
        untold = np.concatenate([pool.draw(budget), bought])[:budget]
        return train_mixmatch(student, (bought, targets), untold, self.settings, rng, watch)
