"""MixMatch: a few own images at random for their labels, and as many without."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from modeltoll.bench.attacks.query_rounds import Pool, buy
from modeltoll.bench.attacks.require_torch import networks_of
from modeltoll.bench.students.student import MixCourse

if TYPE_CHECKING:
    from modeltoll.bench.attacks.attack import Clone, Means, Oracle, Watch
    from modeltoll.bench.students.student import School

__all__ = ["MIX_COURSE", "MixMatch"]

MIX_COURSE = MixCourse()


@dataclass(frozen=True, slots=True)
class MixMatch:
    """The thief; Berthelot et al. 2019, *MixMatch*, as Dziedzic et al. 2022 run him."""

    school: School
    settings: MixCourse = MIX_COURSE
    name: str = "MixMatch"

    def run(self, oracle: Oracle, means: Means, rng: np.random.Generator, watch: Watch) -> Clone:
        """Buy own images at random, all at once; own images that are left, else those bought, are the unlabelled ones."""
        student = networks_of(self.school).student(rng)
        from modeltoll.bench.students.mixmatch import learn_mixed  # noqa: PLC0415  torch is optional

        budget = oracle.left
        if not budget:
            return student
        pool = Pool(means.own, budget, rng)
        bought = pool.draw(budget)
        targets = buy(oracle, bought, labels_only=True)
        untold = np.concatenate([pool.draw(budget), bought])[:budget]
        return learn_mixed(student, (bought, targets), untold, self.settings, rng, watch)
