"""The suites: which experiments are made, in which order. Everything is data; nothing runs here."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import product

from modeltoll.bench.attack_setup import FULL, QUICK
from modeltoll.bench.defences.registry import DEFENCES, TRUTH
from modeltoll.bench.evasions.registry import EVASIONS, PLAIN
from modeltoll.bench.experiment import HONEST, Experiment
from modeltoll.bench.honest.workload import WORKLOADS
from modeltoll.bench.targets import TARGETS
from modeltoll.bench.toll_schemes import CONFORMAL, DEFAULT, NONE, PUBLISHED
from modeltoll.errors import SettingsError

__all__ = ["SUITES", "SuiteOptions", "most_informative_measure", "plan_experiments"]

Tariff = tuple[str, str]  # a toll and the measures it prices

_OURS: Tariff = (CONFORMAL, DEFAULT)
_FREE: Tariff = (NONE, "")
_BIG = ("mnist", "fashion", "cifar10")
_WITHOUT_TEACHERS = ("digits", "cells")  # the published tariff prices the entropy there
_DIVIDED = ("cifar10",)  # teachers of 200 images each agree on nothing, so every answer has the same PATE cost
_EVERY = (
    "standard",
    "knockoff-random",
    "knockoff-adaptive",
    "copycat",
    "jacobian",
    "jacobian-tr",
    "entropy",
    "gap",
    "k-center",
    "deepfool",
    "entropyrev",
    "entropyrev-ood",
    "worstcase",
    "worstcase-ood",
    "inout",
    "mixmatch",
    "datafree",
)
_TABLE_3 = ("standard", "knockoff-random", "copycat", "jacobian", "entropyrev-ood", "worstcase-ood", "inout")
_EVADING = ("copycat", "knockoff-random")
_DEFENDED = ("knockoff-random", "copycat", "standard")
_QUICK = ("standard", "knockoff-random", "copycat", "jacobian", "entropyrev-ood", "worstcase-ood")
_QUICK_EVASIONS = (
    "accounts-10",
    "accounts-100",
    "anonymous-100",
    "joining-10",
    "repeated-4",
    "jittered-4",
    "unseen-4",
    "abandoning-10",
    "cheap half",
    "replay",
    "graphics card",
)


@dataclass(frozen=True, slots=True)
class SuiteOptions:
    """What of a suite is wanted; empty or None: what the suite says. ``seeds``: how many, from 0;
    ``foreign``: the source of foreign images."""

    datasets: tuple[str, ...] = ()
    attacks: tuple[str, ...] = ()
    profile: str | None = None
    seeds: int = 3
    queries: int | None = None
    foreign: str = ""
    defences: tuple[str, ...] = ()


def _published(dataset: str) -> Tariff:
    """The published toll as in the paper's Table 2."""
    return (PUBLISHED, "entropy" if dataset in _WITHOUT_TEACHERS else "pate-eps")


def most_informative_measure(dataset: str) -> str:
    """The cost that tells callers apart: PATE's as in the paper's Table 2, or as in Table 3 where that does not."""
    return "pknn-eps" if dataset in _DIVIDED else _published(dataset)[1]


def _informative(dataset: str) -> Tariff:
    """The published toll on that cost."""
    return (PUBLISHED, most_informative_measure(dataset))


@dataclass(frozen=True, slots=True)
class _SuiteFrame:
    """What all experiments of one data set and seed in a suite share."""

    suite: str
    dataset: str
    profile: str
    seed: int
    queries: int
    defences: tuple[str, ...]

    def extraction(self, attack: str, tariff: Tariff, evasion: str = PLAIN, defence: str = TRUTH) -> Experiment:
        toll, measure = tariff
        return Experiment(
            self.suite, self.dataset, attack, evasion, defence, toll, measure, self.profile, self.seed, self.queries
        )

    def honest(self, workload: str, tariff: Tariff) -> Experiment:
        toll, measure = tariff
        return Experiment(
            self.suite, self.dataset, HONEST, PLAIN, TRUTH, toll, measure, self.profile, self.seed, 0, workload
        )


_Lines = Callable[[_SuiteFrame, tuple[str, ...]], Iterator[Experiment]]


def _table2(frame: _SuiteFrame, attacks: tuple[str, ...]) -> Iterator[Experiment]:
    for attack, tariff in product(attacks or _EVERY, (_published(frame.dataset), _OURS)):
        yield frame.extraction(attack, tariff)


def _table3(frame: _SuiteFrame, attacks: tuple[str, ...]) -> Iterator[Experiment]:
    for attack, tariff in product(attacks or _TABLE_3, ((PUBLISHED, "pknn-eps"), _OURS)):
        yield frame.extraction(attack, tariff)


def _evasions(frame: _SuiteFrame, attacks: tuple[str, ...]) -> Iterator[Experiment]:
    tariffs = (_informative(frame.dataset), _OURS)
    for attack, evasion, tariff in product(attacks or _EVADING, EVASIONS, tariffs):
        yield frame.extraction(attack, tariff, evasion)


def _honest(frame: _SuiteFrame, attacks: tuple[str, ...]) -> Iterator[Experiment]:
    del attacks
    for workload, tariff in product(WORKLOADS, (_informative(frame.dataset), _OURS)):
        yield frame.honest(workload, tariff)


def _defences(frame: _SuiteFrame, attacks: tuple[str, ...]) -> Iterator[Experiment]:
    for attack in attacks or _DEFENDED:
        for defence in frame.defences:
            yield frame.extraction(attack, _FREE, defence=defence)
        for tariff in (_informative(frame.dataset), _OURS):
            yield frame.extraction(attack, tariff)


def _quick(frame: _SuiteFrame, attacks: tuple[str, ...]) -> Iterator[Experiment]:
    """A little of everything."""
    both = (_informative(frame.dataset), _OURS)
    for attack, tariff in product(attacks or _QUICK, both):
        yield frame.extraction(attack, tariff)
    for attack, evasion, tariff in product(attacks or _EVADING[1:], _QUICK_EVASIONS, both):
        yield frame.extraction(attack, tariff, evasion)
    yield from _honest(frame, ())
    for defence in frame.defences:
        yield frame.extraction((attacks or _EVADING[1:])[0], _FREE, defence=defence)


@dataclass(frozen=True, slots=True)
class Suite:
    """Its usual data sets, profile and most seeds, and its lines."""

    datasets: tuple[str, ...]
    profile: str
    seeds: int
    lines: _Lines


SUITES: Mapping[str, Suite] = {
    "table2": Suite(_BIG, FULL, 3, _table2),
    "table3": Suite(("mnist", "cifar10"), FULL, 3, _table3),
    "evasions": Suite(_BIG, FULL, 3, _evasions),
    "honest": Suite(_BIG, FULL, 1, _honest),
    "defences": Suite(("mnist", "cifar10"), FULL, 3, _defences),
    "quick": Suite(("digits",), QUICK, 1, _quick),
}


def plan_experiments(name: str, choice: SuiteOptions) -> tuple[Experiment, ...]:
    """The experiments of a suite, first all with seed 0, then the further seeds.

    Raises:
        SettingsError: there is no such suite, data set or defence.
    """
    if name not in SUITES:
        raise SettingsError([f"there is no suite {name!r}; there are: {', '.join(SUITES)}"])
    suite = SUITES[name]
    datasets = choice.datasets or suite.datasets
    missing = [dataset for dataset in datasets if dataset not in TARGETS]
    if missing:
        raise SettingsError([f"there is no data set {', '.join(missing)}; there are: {', '.join(TARGETS)}"])
    profile = choice.profile or suite.profile
    defences = tuple(DEFENCES.find(defence).name for defence in choice.defences or DEFENCES.built_in)
    experiments: list[Experiment] = []
    for seed, dataset in product(range(min(choice.seeds, suite.seeds)), datasets):
        queries = choice.queries or TARGETS[dataset].queries
        lines = suite.lines(_SuiteFrame(name, dataset, profile, seed, queries, defences), choice.attacks)
        experiments += [replace(line, foreign=choice.foreign if line.attack != HONEST else "") for line in lines]
    return tuple(experiments)
