"""The suites: which experiments are made, and in which order. Nothing runs here."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import product

from modeltoll.bench.attack_setup import FULL, QUICK
from modeltoll.bench.defences.registry import DEFENCES
from modeltoll.bench.evasions.fillers import FRESH
from modeltoll.bench.evasions.registry import EVASIONS, NO_EVASION
from modeltoll.bench.experiment import HONEST, Experiment
from modeltoll.bench.file_suite import file_experiments
from modeltoll.bench.honest.distribution_shifts import KINDS
from modeltoll.bench.honest.workload import CLASSES, WORKLOADS
from modeltoll.bench.suite_frame import (
    ALL_TRAFFIC,
    FREE,
    OTHER_TOLLS,
    OUR_TOLL,
    ExperimentFrame,
    published_toll,
)
from modeltoll.bench.targets import MAGIKA, TARGETS
from modeltoll.bench.toll_schemes import (
    CALIBRATED,
    DEFAULT_MEASURES,
    OUR_TOLLS,
    PUBLISHED,
    TOLLS,
)
from modeltoll.errors import SettingsError

__all__ = ["SUITES", "SuiteOptions", "plan_experiments"]

_IMAGE_SETS = ("mnist", "fashion", "cifar10")
_TABLE_2 = (
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
    "nearest",
    "freematch",
    "freematch-nearest",
)
_TABLE_3 = ("standard", "knockoff-random", "copycat", "jacobian", "entropyrev-ood", "worstcase-ood", "inout")
_EVASION_ATTACKS = ("copycat", "knockoff-random")
_LABEL_ATTACKS = ("mixmatch", "copycat", "nearest", "freematch", "freematch-nearest")
_LABELS = (100, 250, 1000, 4000, 8000)
_DEFENCE_ATTACKS = ("knockoff-random", "copycat", "standard")
_QUICK_ATTACKS = ("standard", "knockoff-random", "copycat", "jacobian", "entropyrev-ood", "worstcase-ood")
_QUICK_EVASIONS = (
    "accounts-10",
    "accounts-100",
    "anonymous-100",
    "joining-10",
    "repeated-4",
    "jittered-4",
    "fresh-fillers-4",
    "fresh-fillers-16",
    "bank",
    "unpaid-4",
    "darkened",
    "abandoning-10",
    "cheap half",
    "replay",
    "graphics card",
)


_KNOWN_EVASIONS = (  # against which the thieves of other families are tried
    NO_EVASION,
    *("accounts-10", "accounts-100", "accounts-1000", "anonymous-1000"),
    *(name for name in EVASIONS if name.startswith((FRESH, "bank"))),
)
_FAMILIES = ("", "emnist", "mnist", "fashion", "noise")  # of foreign images; first the data set's usual one
_TRADE_OFF_EVASIONS = (NO_EVASION, "accounts-100", "fresh-fillers-4", "fresh-fillers-16", "bank")
_TRADE_OFF_FAMILIES = ("", "emnist")
_SWITCHING = "switching kinds"
_QUICK_WORKLOADS = (
    *KINDS,
    *("class 0", "class 1", "mixture of kinds", _SWITCHING),
    *("bursts of 500", "one row a day", "batches of 1000", "100,000 rows"),
)


@dataclass(frozen=True, slots=True)
class SuiteOptions:
    """Restrictions of a suite; empty or None: the suite's default.

    ``seeds``: the number of seeds, from 0; ``queries``: the budget of attacks; ``foreign``: the source of foreign images.
    """

    datasets: tuple[str, ...] = ()
    attacks: tuple[str, ...] = ()
    profile: str | None = None
    seeds: int = 3
    queries: int | None = None
    foreign: str = ""
    defences: tuple[str, ...] = ()
    tolls: tuple[str, ...] = ()


_SuitePlan = Callable[[ExperimentFrame, tuple[str, ...]], Iterator[Experiment]]


def _table2(frame: ExperimentFrame, attacks: tuple[str, ...]) -> Iterator[Experiment]:
    for attack, tariff in product(attacks or _TABLE_2, (published_toll(frame.dataset), OUR_TOLL)):
        yield frame.attack(attack, tariff)


def _table3(frame: ExperimentFrame, attacks: tuple[str, ...]) -> Iterator[Experiment]:
    for attack, tariff in product(attacks or _TABLE_3, ((PUBLISHED, "pknn-eps"), OUR_TOLL)):
        yield frame.attack(attack, tariff)


def _evasions(frame: ExperimentFrame, attacks: tuple[str, ...]) -> Iterator[Experiment]:
    """Every evasion under the published toll and ours; of the first attack also under what else our toll may know."""
    tariffs = (published_toll(frame.dataset), OUR_TOLL)
    chosen = attacks or _EVASION_ATTACKS
    for attack, evasion in product(chosen, EVASIONS):
        for tariff in (*tariffs, *OTHER_TOLLS) if attack == chosen[0] else tariffs:
            yield frame.attack(attack, tariff, evasion)


def _strangers(frame: ExperimentFrame, attacks: tuple[str, ...]) -> Iterator[Experiment]:
    """Thieves of every family of foreign images, known and unknown to the operator, and under the toll without kinds."""
    families = [family for family in _FAMILIES if family != frame.dataset]
    for family, attack, evasion in product(families, attacks or _EVASION_ATTACKS[:1], _KNOWN_EVASIONS):
        for tariff in (OUR_TOLL, *OTHER_TOLLS):
            yield replace(frame.attack(attack, tariff, evasion), foreign=family)


def _trade_off(frame: ExperimentFrame, attacks: tuple[str, ...]) -> Iterator[Experiment]:
    """Honest kinds and thieves under our toll with several tolerances and declared kinds."""
    for toll in OUR_TOLLS:
        tariff = (toll, DEFAULT_MEASURES)
        for workload in (*KINDS, *(f"class {number}" for number in range(CLASSES)), _SWITCHING):
            yield frame.honest(workload, tariff)
        for family, evasion in product(_TRADE_OFF_FAMILIES, _TRADE_OFF_EVASIONS):
            for attack in attacks or _EVASION_ATTACKS[:1]:
                yield replace(frame.attack(attack, tariff, evasion), foreign=family)


def _honest(
    frame: ExperimentFrame, attacks: tuple[str, ...], workloads: Collection[str] = WORKLOADS
) -> Iterator[Experiment]:
    del attacks
    tariffs = (published_toll(frame.dataset), OUR_TOLL, (CALIBRATED, DEFAULT_MEASURES), ALL_TRAFFIC)
    for workload, tariff in product(workloads, tariffs):
        yield frame.honest(workload, tariff)


def _defences(frame: ExperimentFrame, attacks: tuple[str, ...]) -> Iterator[Experiment]:
    for attack in attacks or _DEFENCE_ATTACKS:
        for defence in frame.defences:
            yield frame.attack(attack, FREE, defence=defence)
        for tariff in (published_toll(frame.dataset), OUR_TOLL):
            yield frame.attack(attack, tariff)


def _labels(frame: ExperimentFrame, attacks: tuple[str, ...]) -> Iterator[Experiment]:
    """Attacks that live on few labels, with 100 to 8,000 of them, fewer than the budget."""
    numbers = [number for number in _LABELS if number < frame.queries]
    for attack, number, tariff in product(
        attacks or _LABEL_ATTACKS, numbers, (published_toll(frame.dataset), OUR_TOLL)
    ):
        yield replace(frame, queries=number).attack(attack, tariff)


def _quick(frame: ExperimentFrame, attacks: tuple[str, ...]) -> Iterator[Experiment]:
    """A few experiments of every suite."""
    both = (published_toll(frame.dataset), OUR_TOLL)
    for attack, tariff in product(attacks or _QUICK_ATTACKS, both):
        yield frame.attack(attack, tariff)
    for attack, evasion, tariff in product(attacks or _EVASION_ATTACKS[1:], _QUICK_EVASIONS, both):
        yield frame.attack(attack, tariff, evasion)
    for workload, tariff in product(_QUICK_WORKLOADS, (*both, ALL_TRAFFIC)):
        yield frame.honest(workload, tariff)
    for defence in frame.defences:
        yield frame.attack((attacks or _EVASION_ATTACKS[1:])[0], FREE, defence=defence)


@dataclass(frozen=True, slots=True)
class Suite:
    """A suite: its default data sets, profile and number of seeds, and its experiments for one frame and its attacks."""

    datasets: tuple[str, ...]
    profile: str
    seeds: int
    plan: _SuitePlan


SUITES: Mapping[str, Suite] = {
    "table2": Suite(_IMAGE_SETS, FULL, 3, _table2),
    "table3": Suite(("mnist", "cifar10"), FULL, 3, _table3),
    "evasions": Suite(_IMAGE_SETS, FULL, 3, _evasions),
    "strangers": Suite(_IMAGE_SETS, FULL, 3, _strangers),
    "honest": Suite(_IMAGE_SETS, FULL, 1, _honest),
    "trade-off": Suite(_IMAGE_SETS, FULL, 1, _trade_off),
    "labels": Suite(_IMAGE_SETS, FULL, 3, _labels),
    "defences": Suite(("mnist", "cifar10"), FULL, 3, _defences),
    "magika": Suite((MAGIKA,), QUICK, 1, file_experiments),
    "quick": Suite(("digits",), QUICK, 1, _quick),
}


def plan_experiments(name: str, options: SuiteOptions) -> tuple[Experiment, ...]:
    """The experiments of a suite, first those with seed 0, then the further seeds.

    Raises:
        SettingsError: there is no such suite, data set, toll or defence.
    """
    if name not in SUITES:
        raise SettingsError([f"there is no suite {name!r}; there are: {', '.join(SUITES)}"])
    suite = SUITES[name]
    datasets = options.datasets or suite.datasets
    missing = [dataset for dataset in datasets if dataset not in TARGETS]
    if missing:
        raise SettingsError([f"there is no data set {', '.join(missing)}; there are: {', '.join(TARGETS)}"])
    profile = options.profile or suite.profile
    if missing := [toll for toll in options.tolls if toll not in TOLLS]:
        raise SettingsError([f"there is no toll {', '.join(missing)}; there are: {', '.join(TOLLS)}"])
    defences = tuple(DEFENCES.find(defence).name for defence in options.defences or DEFENCES.built_in)
    experiments: list[Experiment] = []
    for seed, dataset in product(range(min(options.seeds, suite.seeds)), datasets):
        queries = options.queries or TARGETS[dataset].queries
        planned = suite.plan(ExperimentFrame(name, dataset, profile, seed, queries, defences), options.attacks)
        for one in planned:
            if options.tolls and one.tariff not in options.tolls:
                continue
            foreign = "" if one.attack == HONEST else options.foreign or one.foreign
            experiments.append(replace(one, foreign=foreign))
    return tuple(dict.fromkeys(experiments))
