"""Thieves made ready: an attack of the table, with students for the target and the settings of a profile."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from modeltoll.bench.attacks.attack import Attack

__all__ = ["FULL", "PROFILES", "QUICK", "AttackFactory", "PreparedAttack", "prepare_attack"]

FULL, QUICK = "full", "quick"
PROFILES = (FULL, QUICK)


@dataclass(frozen=True, slots=True, eq=False)
class PreparedAttack:
    """An attack with its settings. ``scaled`` says of each setting that was scaled down: (the paper's, the one used)."""

    attack: Attack
    scaled: Mapping[str, tuple[Any, Any]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class AttackFactory:
    """What to make ready: an attack by name, for a profile, with students of a school for so many classes."""

    attack: str
    profile: str
    architecture: str
    classes: int


AttackPreparation = Callable[[AttackFactory], PreparedAttack]


def prepare_attack(wanted: AttackFactory) -> PreparedAttack:
    """Make a thief ready.

    Raises:
        SettingsError: there is no such attack, or its students need torch, which is not installed.
    """
    from modeltoll.bench.attacks.registry import ATTACKS  # noqa: PLC0415  what needs no thief need not import them all
    from modeltoll.bench.students.registry import student_factory  # noqa: PLC0415

    entry, quick = ATTACKS.find(wanted.attack), wanted.profile == QUICK
    scaled = {
        name: (_without_parameters(paper), _without_parameters(used))
        for name, (paper, used) in entry.scaled_down(quick=quick).items()
    }
    return PreparedAttack(entry.attack(student_factory(wanted.architecture, wanted.classes), quick=quick), scaled)


def _without_parameters(value: Any) -> Any:
    return value if value is None or isinstance(value, bool | int | float) else str(value)
