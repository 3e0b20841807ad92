"""All attacks by name, each with the paper's settings and with quick ones.

A new attack is one file and one line here, or an entry point ``modeltoll.attacks``.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from modeltoll.bench.attacks import entropyrev, freematch, jacobian, knockoff, worstcase
from modeltoll.bench.attacks.copycat import CopyCat
from modeltoll.bench.attacks.datafree import DATAFREE_PARAMS, DataFree
from modeltoll.bench.attacks.deepfool import DEEPFOOL_PARAMS, DeepFool, DeepFoolParams
from modeltoll.bench.attacks.entropy import Entropy
from modeltoll.bench.attacks.entropyrev import EntropyRev
from modeltoll.bench.attacks.freematch import FreeMatch
from modeltoll.bench.attacks.gap import Gap
from modeltoll.bench.attacks.inout import INOUT_PARAMS, InOut
from modeltoll.bench.attacks.jacobian import Jacobian
from modeltoll.bench.attacks.kcenter import KCenter
from modeltoll.bench.attacks.knockoff import KnockoffRandom
from modeltoll.bench.attacks.knockoff_adaptive import KNOCKOFF_ADAPTIVE_PARAMS, KnockoffAdaptive
from modeltoll.bench.attacks.mixmatch import MIXMATCH_SCHEDULE, MixMatch
from modeltoll.bench.attacks.nearest import NEAREST_PARAMS, Nearest
from modeltoll.bench.attacks.query_rounds import PAPER_ROUNDS, Rounds
from modeltoll.bench.attacks.standard import Standard
from modeltoll.bench.attacks.worstcase import WorstCase
from modeltoll.bench.students.student import FreeMatchSchedule, TrainingSchedule
from modeltoll.plugins import Registry

if TYPE_CHECKING:
    from modeltoll.bench.attacks.attack import Attack
    from modeltoll.bench.students.student import StudentFactory

__all__ = ["ATTACKS", "AttackSpec", "scaled_down"]

# What result files call a setting, where its field has another name.
_RECORDED_NAMES = {"schedule": "course", "round_rows": "step", "min_rounds": "fewest"}

_QUICK_ROUNDS = Rounds(round_rows=2500, schedule=TrainingSchedule(epochs=10, half=True), scan=10_000)
_QUICK_FREEMATCH = FreeMatchSchedule(epochs=4, steps=300, ratio=1, threshold_decay=0.99, average=0.99, half=True)
_TREE_ROUNDS = Rounds(min_rounds=16, doubling=True)  # few clones, for each takes a minute
_QUICK_KNOCKOFF_ROUNDS = Rounds(round_rows=5000, min_rounds=2, schedule=TrainingSchedule(epochs=15, half=True))


@dataclass(frozen=True, slots=True)
class AttackSpec:
    """One attack: ``make(student_factory, settings, title)``, with the paper's settings and with quick ones.

    ``title`` is its name in tables. ``labels_only``: it uses nothing but the most probable class. ``knows_cost``: it
    needs ``AttackerResources.cost``. ``needs_torch``: its students must be networks. ``fixed_queries``: what it queries
    depends on nothing but its resources and its generator, not on its clone. ``students``: the name of its students where
    they are not those of the target.
    """

    name: str
    make: Callable[..., Attack]
    title: str
    full: Any
    quick: Any
    labels_only: bool = True
    knows_cost: bool = False
    needs_torch: bool = False
    fixed_queries: bool = False
    students: str = ""

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the registry, here one."""
        return (self.name,)

    def attack(self, student_factory: StudentFactory, *, quick: bool) -> Attack:
        """The attack, with students of this factory."""
        return self.make(student_factory, self.quick if quick else self.full, self.title)

    def scaled_down(self, *, quick: bool) -> dict[str, tuple[Any, Any]]:
        """Each setting that is not the paper's, by its dotted name in result files: (the paper's, the one used)."""
        return scaled_down(self.full, self.quick) if quick else {}


def scaled_down(paper: Any, used: Any) -> dict[str, tuple[Any, Any]]:
    """The fields in which two settings of one class differ, by their names in result files; nested ones with dots."""
    differences = {}
    for field in dataclasses.fields(paper):
        recorded = _RECORDED_NAMES.get(field.name, field.name)
        paper_value, used_value = getattr(paper, field.name), getattr(used, field.name)
        if dataclasses.is_dataclass(paper_value):
            nested = scaled_down(paper_value, used_value)
            differences.update({f"{recorded}.{name}": pair for name, pair in nested.items()})
        elif paper_value != used_value:
            differences[recorded] = (paper_value, used_value)
    return differences


def _with_rounds(settings: Any, rounds: Rounds, **changes: Any) -> Any:
    return dataclasses.replace(settings, rounds=rounds, **changes)


ATTACKS: Registry[AttackSpec] = Registry(
    "attack",
    "modeltoll.attacks",
    AttackSpec,
    (
        AttackSpec("standard", Standard, "Standard", PAPER_ROUNDS, _QUICK_ROUNDS, fixed_queries=True),
        AttackSpec("entropy", Entropy, "Entropy", PAPER_ROUNDS, _QUICK_ROUNDS),
        AttackSpec("gap", Gap, "Gap", PAPER_ROUNDS, _QUICK_ROUNDS),
        AttackSpec("k-center", KCenter, "Greedy k-center", PAPER_ROUNDS, _QUICK_ROUNDS),
        AttackSpec(
            "deepfool",
            DeepFool,
            "DeepFool",
            DEEPFOOL_PARAMS,
            DeepFoolParams(dataclasses.replace(_QUICK_ROUNDS, scan=4000), rivals=3),
        ),
        AttackSpec(
            "entropyrev",
            EntropyRev,
            "EntropyRev",
            entropyrev.ENTROPYREV_PARAMS,
            _with_rounds(entropyrev.ENTROPYREV_PARAMS, _QUICK_ROUNDS),
        ),
        AttackSpec(
            "entropyrev-ood",
            EntropyRev,
            "EntropyRev on OOD",
            entropyrev.ENTROPYREV_OOD_PARAMS,
            _with_rounds(entropyrev.ENTROPYREV_OOD_PARAMS, _QUICK_ROUNDS),
        ),
        AttackSpec(
            "worstcase",
            WorstCase,
            "WorstCase",
            worstcase.WORSTCASE_PARAMS,
            _with_rounds(worstcase.WORSTCASE_PARAMS, _QUICK_ROUNDS),
            knows_cost=True,
        ),
        AttackSpec(
            "worstcase-ood",
            WorstCase,
            "WorstCase on OOD",
            worstcase.WORSTCASE_OOD_PARAMS,
            _with_rounds(worstcase.WORSTCASE_OOD_PARAMS, dataclasses.replace(_QUICK_ROUNDS, scan=20_000)),
            knows_cost=True,
        ),
        AttackSpec(
            "inout",
            InOut,
            "InOut",
            INOUT_PARAMS,
            _with_rounds(INOUT_PARAMS, dataclasses.replace(_QUICK_ROUNDS, round_rows=3000)),
        ),
        AttackSpec(
            "jacobian",
            Jacobian,
            "Jacobian",
            jacobian.JACOBIAN_PARAMS,
            _with_rounds(jacobian.JACOBIAN_PARAMS, _QUICK_ROUNDS),
        ),
        AttackSpec(
            "jacobian-tr",
            Jacobian,
            "Jacobian-TR",
            jacobian.JACOBIAN_TR_PARAMS,
            _with_rounds(jacobian.JACOBIAN_TR_PARAMS, _QUICK_ROUNDS),
        ),
        AttackSpec(
            "knockoff-random",
            KnockoffRandom,
            "Knockoff random",
            knockoff.KNOCKOFF_ROUNDS,
            _QUICK_KNOCKOFF_ROUNDS,
            labels_only=False,
            fixed_queries=True,
        ),
        AttackSpec(
            "knockoff-adaptive",
            KnockoffAdaptive,
            "Knockoff adaptive",
            KNOCKOFF_ADAPTIVE_PARAMS,
            _with_rounds(KNOCKOFF_ADAPTIVE_PARAMS, _QUICK_KNOCKOFF_ROUNDS, at_once=8),
            labels_only=False,
        ),
        AttackSpec("copycat", CopyCat, "CopyCat", PAPER_ROUNDS, _QUICK_ROUNDS, fixed_queries=True),
        AttackSpec(
            "nearest",
            Nearest,
            "Nearest",
            NEAREST_PARAMS,
            _with_rounds(NEAREST_PARAMS, _QUICK_ROUNDS),
            fixed_queries=True,
        ),
        AttackSpec(
            "standard-trees",
            Standard,
            "Standard with boosted trees",
            _TREE_ROUNDS,
            _TREE_ROUNDS,
            fixed_queries=True,
            students="trees",
        ),
        AttackSpec(
            "copycat-trees",
            CopyCat,
            "CopyCat with boosted trees",
            _TREE_ROUNDS,
            _TREE_ROUNDS,
            fixed_queries=True,
            students="trees",
        ),
        AttackSpec(
            "mixmatch",
            MixMatch,
            "MixMatch",
            MIXMATCH_SCHEDULE,
            dataclasses.replace(MIXMATCH_SCHEDULE, epochs=4, steps=300, average=0.99, half=True),
            needs_torch=True,
        ),
        *(
            AttackSpec(
                name,
                FreeMatch,
                title,
                settings,
                dataclasses.replace(settings, schedule=_QUICK_FREEMATCH),
                needs_torch=True,
            )
            for name, title, settings in (
                ("freematch", "FreeMatch", freematch.FREEMATCH_PARAMS),
                ("freematch-nearest", "FreeMatch, nearest images", freematch.FREEMATCH_NEAREST_PARAMS),
            )
        ),
        AttackSpec(
            "datafree",
            DataFree,
            "DataFree",
            DATAFREE_PARAMS,
            dataclasses.replace(
                DATAFREE_PARAMS, batch=32, width=32, student_rate=0.03, generator_rate=1e-3, milestones=(0.5, 0.8)
            ),
            labels_only=False,
            needs_torch=True,
        ),
    ),
)
