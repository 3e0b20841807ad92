"""The suite of the target ``magika``: honest callers by file type, and thieves of every family of files."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import product
from typing import TYPE_CHECKING

from modeltoll.bench.datasets.file_set import FAMILIES
from modeltoll.bench.evasions.registry import NO_EVASION
from modeltoll.bench.honest.distribution_shifts import ORDINARY
from modeltoll.bench.honest.file_callers import DECLARED_CALLERS, UNDECLARED_CALLERS
from modeltoll.bench.suite_frame import OUR_TOLL, published_toll
from modeltoll.bench.toll_schemes import CALIBRATED, CLASSES_ONLY, DEFAULT_MEASURES, UNKNOWN_STRANGERS

if TYPE_CHECKING:
    from modeltoll.bench.experiment import Experiment
    from modeltoll.bench.suite_frame import ExperimentFrame

__all__ = ["file_experiments"]

_THIEVES = ("copycat", "copycat-trees")
_WITH_OWN_FILES = ("standard", "standard-trees")
_TOLLS = (OUR_TOLL, *((toll, DEFAULT_MEASURES) for toll in (UNKNOWN_STRANGERS, CALIBRATED, CLASSES_ONLY)))
_EVASIONS = (NO_EVASION, "accounts-10", "accounts-100", "accounts-1000")
_DISGUISES = ("anonymous-1000", "fresh-fillers-4", "fresh-fillers-16", "bank")
_CALLERS = (ORDINARY, *DECLARED_CALLERS, *UNDECLARED_CALLERS)
_WORKLOADS = (
    *_CALLERS,
    *("mixture of kinds", "switching kinds", "bursts of 500", "batches of 1000"),
    *("100,000 rows", *(f"100,000 rows, {name}" for name in DECLARED_CALLERS)),
)


def file_experiments(frame: ExperimentFrame, attacks: tuple[str, ...]) -> Iterator[Experiment]:
    """Honest callers by file type, and thieves of every family of files with two kinds of clones; a few disguised."""
    published = published_toll(frame.dataset)
    for workload, tariff in product(_WORKLOADS, (published, *_TOLLS)):
        yield frame.honest(workload, tariff)
    for attack, tariff in product(attacks or _WITH_OWN_FILES, (published, *_TOLLS)):
        yield frame.attack(attack, tariff)
    for family, attack in product(FAMILIES, attacks or _THIEVES):
        for evasion, tariff in product(_EVASIONS, (published, *_TOLLS)):
            yield replace(frame.attack(attack, tariff, evasion), foreign=family)
        if attack == _THIEVES[0]:
            for evasion, tariff in product(_DISGUISES, (published, OUR_TOLL)):
                yield replace(frame.attack(attack, tariff, evasion), foreign=family)
