"""The targets of the tariff with kinds, and what was measured: results/bench, suites strangers, evasions and honest."""

from __future__ import annotations

from dataclasses import dataclass

from modeltoll.bench.evasions.registry import NO_EVASION
from modeltoll.bench.honest.distribution_shifts import DECLARED, KINDS, ORDINARY, UNDECLARED
from modeltoll.bench.honest.workload import WORKLOADS
from modeltoll.bench.report.aggregate import Results, SeedAggregate
from modeltoll.bench.report.kinds import KINDS_SINCE, TOLL_TITLES
from modeltoll.bench.result_files import read_results
from modeltoll.bench.toll_schemes import CALIBRATED, CONFORMAL, WITHOUT_KINDS
from modeltoll.formatting import percent, times
from tables.form import NOT_RUN, RESULTS, table

__all__ = ["bench_honest_targets", "bench_thief_targets"]

_SHOWN = (CONFORMAL, CALIBRATED, WITHOUT_KINDS)
_NONE = "\N{EN DASH}"


@dataclass(frozen=True, slots=True)
class ThiefTarget:
    """The least ratio of a thief; with ``share``, as a share of what the toll without kinds asks."""

    images: str
    evasion: str
    least: float
    share: bool = False
    suite: str = "strangers"


def _accounts(images: str, *least: float, share: bool = False) -> list[ThiefTarget]:
    """Targets at 1, 10, 100 and 1000 accounts with keys."""
    names = (NO_EVASION, *(f"accounts-{count}" for count in (10, 100, 1000)))
    return [ThiefTarget(images, name, each, share) for name, each in zip(names, least, strict=False)]


_THIEVES = {
    "mnist": [
        *_accounts("", 5400, 5400, 5100, 2400),
        *_accounts("emnist", 1900, 1900, 1400),
        *_accounts("noise", 3800, 3800, 3500),
        *_accounts("fashion", 4800, 4800, 4400),
        ThiefTarget("", "fresh-fillers-8", 5000),
        ThiefTarget("", "fresh-fillers-16", 4000),
        ThiefTarget("emnist", "fresh-fillers-2", 1500),
        ThiefTarget("", "bank", 5000),
        ThiefTarget("emnist", "bank", 1400),
    ],
    "fashion": [*_accounts("", 1500, 1500, 1350, 100), ThiefTarget("", "bank", 1500)],
    "cifar10": [
        *_accounts("", 0.90, 0.85, 0.35, share=True),
        ThiefTarget("", "anonymous-1000", 20),
        ThiefTarget("", "darkened", 0.80, share=True, suite="evasions"),
        ThiefTarget("emnist", "fresh-fillers-8", 500),
        ThiefTarget("", "bank", 200),
    ],
}


def _results(suite: str, dataset: str) -> list[SeedAggregate]:
    found = Results(read_results(RESULTS / "bench", suite, dataset)).aggregates
    return [one for one in found if one.version >= KINDS_SINCE]


def bench_thief_targets(dataset: str) -> str:
    """What thieves pay beside the targets; of a family that the operator knows."""
    found = {
        (suite, one["foreign"], one["evasion"], one["tariff"]): one.mean("ratio")
        for suite in ("strangers", "evasions")
        for one in _results(suite, dataset)
        if one["attack"] == "copycat"
    }
    if not _results("strangers", dataset):
        return NOT_RUN
    rows = []
    for target in _THIEVES[dataset]:
        ratios = [found.get((target.suite, target.images, target.evasion, toll)) for toll in _SHOWN]
        least = target.least * (ratios[-1] or 0.0) if target.share else target.least
        aim = f"{percent(target.least)} of without kinds" if target.share else ""
        if not target.share or ratios[-1] is not None:
            aim += (": " if aim else "") + times(least)
        met = _NONE if ratios[0] is None else "yes" if ratios[0] >= least else "no"
        rows.append([target.images or "Tiny-ImageNet", target.evasion, aim, *map(times, ratios), met])
    return table(["images", "evasion", "target", *(TOLL_TITLES[toll] for toll in _SHOWN), "met"], rows, 2)


_MILD = ("jpeg", "gamma", "motion", "shrunk")
_DRAWN = "100,000 rows"
_HONEST = {  # title: (workloads, the greatest ratio, or None where nothing was aimed at)
    "all traffic": ((ORDINARY,), 2.0),
    "all traffic, 100,000 rows": ((_DRAWN,), 2.0),
    "the worst declared kind": (("rare class", *DECLARED), 2.5),
    "the worst class": (tuple(name for name in WORKLOADS if name.startswith("class ")), 2.5),
    "the worst mixture or switching caller": (("mixture of kinds", "switching kinds"), 2.5),
    "the worst declared kind, 100,000 rows": (
        tuple(f"{_DRAWN}, {name}" for name in ("rare class", *DECLARED, "switching kinds")),
        2.5,
    ),
    f"the worst of {', '.join(_MILD)}, not declared": (_MILD, 2.5),
    "the worst other kind that was not declared": (tuple(name for name in UNDECLARED if name not in _MILD), None),
}


def bench_honest_targets(dataset: str) -> str:
    """What the worst honest callers pay beside the targets, and who is suspected."""
    assert set(DECLARED) | set(UNDECLARED) < set(KINDS)
    found = {(one["workload"], one["tariff"]): one for one in _results("honest", dataset)}
    if not found:
        return NOT_RUN
    rows = []
    for title, (names, most) in _HONEST.items():
        cells, met = [], _NONE
        for toll in _SHOWN:
            ours = [one for name in names if (one := found.get((name, toll))) is not None]
            if not ours:
                cells += [_NONE, _NONE]
                continue
            worst = max(ours, key=lambda one: one.mean("ratio") or 0.0)
            suspects = [one["workload"].removeprefix(f"{_DRAWN}, ") for one in ours if one.mean("suspected")]
            name = f", {worst['workload'].removeprefix(f'{_DRAWN}, ')}" if len(names) > 1 else ""
            cells += [f"{times(worst.mean('ratio'))}{name}", ", ".join(suspects) or "none"]
            if toll == CONFORMAL and most is not None:
                met = "yes" if (worst.mean("ratio") or 0.0) <= most and not suspects else "no"
        aim = _NONE if most is None else f"at most {times(most)}, unsuspected"
        rows.append([title, aim, *cells, met])
    head = [cell for toll in _SHOWN for cell in (TOLL_TITLES[toll], "suspected")]
    return table(["honest caller", "target", *head, "met"], rows, 2)
