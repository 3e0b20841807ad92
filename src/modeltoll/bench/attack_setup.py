"""Prepare an attack for a run: look it up in the registry and give it students and the settings of a profile."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from modeltoll.errors import SettingsError

if TYPE_CHECKING:
    from modeltoll.bench.attacks.attack import Attack
    from modeltoll.bench.attacks.registry import AttackSpec

__all__ = ["FULL", "NO_CLONES", "PROFILES", "QUICK", "AttackSetup", "PreparedAttack", "prepare_attack"]

FULL, QUICK, NO_CLONES = "full", "quick", "no-clones"
PROFILES = (FULL, QUICK, NO_CLONES)  # no-clones: the same queries as full, and no clone is trained on their answers


@dataclass(frozen=True, slots=True, eq=False)
class PreparedAttack:
    """An attack with its settings. ``scaled`` maps each setting that differs from the paper's to (paper's, used).

    ``trains``: its clones are trained, and can be evaluated.
    """

    attack: Attack
    scaled: Mapping[str, tuple[Any, Any]] = field(default_factory=dict)
    trains: bool = True


@dataclass(frozen=True, slots=True)
class AttackSetup:
    """Which attack to prepare: its name in the registry, a profile, the students' architecture, the number of classes."""

    attack: str
    profile: str
    architecture: str
    classes: int


AttackFactory = Callable[[AttackSetup], PreparedAttack]


def prepare_attack(setup: AttackSetup) -> PreparedAttack:
    """The attack of a setup, with its students and settings.

    Raises:
        SettingsError: there is no such attack; its students need torch, which is not installed; or the profile trains no
            clones, and the attack chooses its queries by its clone.
    """
    from modeltoll.bench.attacks.registry import ATTACKS  # noqa: PLC0415  imports every attack; not every caller needs one
    from modeltoll.bench.students.registry import student_factory  # noqa: PLC0415

    spec, quick = ATTACKS.find(setup.attack), setup.profile == QUICK
    if setup.profile == NO_CLONES:
        return _without_clones(spec)
    scaled = {
        name: (_json_value(paper), _json_value(used)) for name, (paper, used) in spec.scaled_down(quick=quick).items()
    }
    students = student_factory(spec.students or setup.architecture, setup.classes)
    return PreparedAttack(spec.attack(students, quick=quick), scaled)


def _without_clones(spec: AttackSpec) -> PreparedAttack:
    from modeltoll.bench.students.untrained import UntrainedStudents  # noqa: PLC0415

    if not spec.fixed_queries:
        raise SettingsError(
            [f"attack: {spec.name} chooses its queries by its clone, which the profile {NO_CLONES} does not train"]
        )
    return PreparedAttack(spec.attack(UntrainedStudents(), quick=False), trains=False)


def _json_value(value: Any) -> Any:
    return value if value is None or isinstance(value, bool | int | float) else str(value)
