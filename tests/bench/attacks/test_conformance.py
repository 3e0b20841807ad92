"""Every built-in attack passes the conformance suite; with kernel students, if it does not need networks."""

from __future__ import annotations

import pytest

from modeltoll.bench.attacks.registry import ATTACKS
from modeltoll.bench.students.kernel import KernelCloneFactory
from modeltoll.testing.attacks import check_attack

CLASSICAL = sorted(name for name, spec in ATTACKS.built_in.items() if not spec.needs_torch)


@pytest.mark.parametrize("quick", [False, True], ids=["full", "quick"])
@pytest.mark.parametrize("name", CLASSICAL)
def test_every_attack_passes_the_conformance_suite(name, quick, world):
    attack = ATTACKS.built_in[name].attack(KernelCloneFactory(), quick=quick)
    check_attack(attack, world.victim, world.resources, 90, labels_only=ATTACKS.built_in[name].labels_only)
