"""Every attack in the table keeps the law, with students that need no torch wherever they can do without."""

from __future__ import annotations

import pytest

from modeltoll.bench.attacks.registry import ATTACKS
from modeltoll.bench.students.kernel import KernelCloneFactory
from modeltoll.testing.attacks import check_attack

CLASSICAL = sorted(name for name, entry in ATTACKS.built_in.items() if not entry.needs_torch)


@pytest.mark.parametrize("quick", [False, True], ids=["full", "quick"])
@pytest.mark.parametrize("name", CLASSICAL)
def test_every_attack_keeps_the_law(name, quick, world):
    attack = ATTACKS.built_in[name].attack(KernelCloneFactory(), quick=quick)
    check_attack(attack, world.victim, world.resources, 90, labels_only=ATTACKS.built_in[name].labels_only)
