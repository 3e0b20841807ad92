"""All attacks by name, each with the paper's settings and with quick ones.

A new attack is one file and one line here, or an entry point ``modeltoll.attacks``.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from modeltoll.bench.attacks import entropyrev, jacobian, knockoff, worstcase
from modeltoll.bench.attacks.copycat import CopyCat
from modeltoll.bench.attacks.datafree import INVENTING, DataFree
from modeltoll.bench.attacks.deepfool import BORDER, DeepFool, DeepFoolParams
from modeltoll.bench.attacks.entropy import Entropy
from modeltoll.bench.attacks.entropyrev import EntropyRev
from modeltoll.bench.attacks.gap import Gap
from modeltoll.bench.attacks.inout import MIXED, InOut
from modeltoll.bench.attacks.jacobian import Jacobian
from modeltoll.bench.attacks.kcenter import KCenter
from modeltoll.bench.attacks.knockoff import KnockoffRandom
from modeltoll.bench.attacks.knockoff_adaptive import WOOING, KnockoffAdaptive
from modeltoll.bench.attacks.mixmatch import MIX_COURSE, MixMatch
from modeltoll.bench.attacks.query_rounds import PAPER, Rounds
from modeltoll.bench.attacks.standard import Standard
from modeltoll.bench.attacks.worstcase import WorstCase
from modeltoll.bench.students.student import TrainingSchedule
from modeltoll.plugins import Registry

if TYPE_CHECKING:
    from modeltoll.bench.attacks.attack import Attack
    from modeltoll.bench.students.student import StudentFactory

__all__ = ["ATTACKS", "AttackSpec", "scaled_down"]

_QUICK = Rounds(step=2500, course=TrainingSchedule(epochs=10, half=True), scan=10_000)
_LONGER = Rounds(step=5000, fewest=2, course=TrainingSchedule(epochs=15, half=True))


@dataclass(frozen=True, slots=True)
class AttackSpec:
    """One attack: ``make(student_factory, settings, title)``, with the paper's settings and with quick ones.

    ``title`` is its name in tables. ``labels_only``: it uses nothing but the most probable class. ``knows_cost``: it
    needs ``AttackerResources.cost``. ``needs_torch``: its students must be networks.
    """

    name: str
    make: Callable[..., Attack]
    title: str
    full: Any
    quick: Any
    labels_only: bool = True
    knows_cost: bool = False
    needs_torch: bool = False

    @property
    def names(self) -> tuple[str, ...]:
        """Its one name."""
        return (self.name,)

    def attack(self, student_factory: StudentFactory, *, quick: bool) -> Attack:
        """The thief, with students of this school."""
        return self.make(student_factory, self.quick if quick else self.full, self.title)

    def scaled_down(self, *, quick: bool) -> dict[str, tuple[Any, Any]]:
        """Each setting that is not the paper's, by its dotted name: (the paper's, the one used)."""
        return scaled_down(self.full, self.quick) if quick else {}


def scaled_down(paper: Any, used: Any) -> dict[str, tuple[Any, Any]]:
    """The fields in which two settings of one class differ, those of nested settings by dotted names."""
    differences = {}
    for field in dataclasses.fields(paper):
        theirs, ours = getattr(paper, field.name), getattr(used, field.name)
        if dataclasses.is_dataclass(theirs):
            nested = scaled_down(theirs, ours)
            differences.update({f"{field.name}.{name}": pair for name, pair in nested.items()})
        elif theirs != ours:
            differences[field.name] = (theirs, ours)
    return differences


def _spec(settings: Any, rounds: Rounds, **changes: Any) -> Any:
    return dataclasses.replace(settings, rounds=rounds, **changes)


ATTACKS: Registry[AttackSpec] = Registry(
    "attack",
    "modeltoll.attacks",
    AttackSpec,
    (
        AttackSpec("standard", Standard, "Standard", PAPER, _QUICK),
        AttackSpec("entropy", Entropy, "Entropy", PAPER, _QUICK),
        AttackSpec("gap", Gap, "Gap", PAPER, _QUICK),
        AttackSpec("k-center", KCenter, "Greedy k-center", PAPER, _QUICK),
        AttackSpec(
            "deepfool", DeepFool, "DeepFool", BORDER, DeepFoolParams(dataclasses.replace(_QUICK, scan=4000), rivals=3)
        ),
        AttackSpec("entropyrev", EntropyRev, "EntropyRev", entropyrev.OWN, _spec(entropyrev.OWN, _QUICK)),
        AttackSpec(
            "entropyrev-ood", EntropyRev, "EntropyRev on OOD", entropyrev.FOREIGN, _spec(entropyrev.FOREIGN, _QUICK)
        ),
        AttackSpec("worstcase", WorstCase, "WorstCase", worstcase.OWN, _spec(worstcase.OWN, _QUICK), knows_cost=True),
        AttackSpec(
            "worstcase-ood",
            WorstCase,
            "WorstCase on OOD",
            worstcase.FOREIGN,
            _spec(worstcase.FOREIGN, dataclasses.replace(_QUICK, scan=20_000)),
            knows_cost=True,
        ),
        AttackSpec("inout", InOut, "InOut", MIXED, _spec(MIXED, dataclasses.replace(_QUICK, step=3000))),
        AttackSpec("jacobian", Jacobian, "Jacobian", jacobian.PUSH, _spec(jacobian.PUSH, _QUICK)),
        AttackSpec("jacobian-tr", Jacobian, "Jacobian-TR", jacobian.TARGETED, _spec(jacobian.TARGETED, _QUICK)),
        AttackSpec("knockoff-random", KnockoffRandom, "Knockoff random", knockoff.FULL, _LONGER, labels_only=False),
        AttackSpec(
            "knockoff-adaptive",
            KnockoffAdaptive,
            "Knockoff adaptive",
            WOOING,
            _spec(WOOING, _LONGER, at_once=8),
            labels_only=False,
        ),
        AttackSpec("copycat", CopyCat, "CopyCat", PAPER, _QUICK),
        AttackSpec(
            "mixmatch",
            MixMatch,
            "MixMatch",
            MIX_COURSE,
            dataclasses.replace(MIX_COURSE, epochs=4, steps=300, average=0.99, half=True),
            needs_torch=True,
        ),
        AttackSpec(
            "datafree",
            DataFree,
            "DataFree",
            INVENTING,
            dataclasses.replace(
                INVENTING, batch=32, width=32, student_rate=0.03, generator_rate=1e-3, milestones=(0.5, 0.8)
            ),
            labels_only=False,
            needs_torch=True,
        ),
    ),
)
