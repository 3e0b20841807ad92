"""Sections on kinds of honest callers: what each pays, what strangers pay, and what one costs in terms of the other."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from modeltoll.bench.evasions.registry import EVASIONS
from modeltoll.bench.experiment import HONEST
from modeltoll.bench.honest.workload import WORKLOADS
from modeltoll.bench.report.cells import by_group, ratio_cell, suspicion_cell
from modeltoll.bench.report.model import Curve, Panel, ReportChart, Section, Table
from modeltoll.bench.toll_schemes import (
    CALIBRATED,
    CLASSES_ONLY,
    CONFORMAL,
    OUR_TOLLS,
    UNKNOWN_STRANGERS,
    WITHOUT_KINDS,
)
from modeltoll.formatting import number, percent

if TYPE_CHECKING:
    from modeltoll.bench.report.aggregate import Results, SeedAggregate

__all__ = ["KINDS_SINCE", "TOLL_TITLES", "before_kinds", "honest_kinds", "strangers", "trade_off"]

TOLL_TITLES = {
    CONFORMAL: "ours",
    CALIBRATED: "ours, rho0 raised",
    UNKNOWN_STRANGERS: "ours, thief's family unknown",
    CLASSES_ONLY: "ours, classes only",
    WITHOUT_KINDS: "ours, without kinds",
}
KINDS_SINCE = 2  # the version of the bench since which honest callers are of several kinds
_COMPARED = (CONFORMAL, CALIBRATED, WITHOUT_KINDS)


def before_kinds(results: Results) -> Section | None:
    """Which results are of the tariff before kinds."""
    counts = Counter((one["suite"], one["dataset"]) for one in results.aggregates if one.version < KINDS_SINCE)
    rows = tuple((suite, dataset, number(count)) for (suite, dataset), count in sorted(counts.items()))
    text = (
        "These results are of an earlier version of the bench: our toll there knows all traffic alone, has no bins and "
        "another test of suspicion. Where a table or chart holds both, results of the present tariff stand under their own "
        "profile or beside *without kinds*."
    )
    return (
        Section("Results of the tariff before kinds", text, Table(("suite", "data set", "experiments"), rows, 2))
        if rows
        else None
    )


def honest_kinds(results: Results) -> Section | None:
    """What callers of each kind, class and mixture pay."""
    found = [one for one in results.select("honest", "quick", attack=HONEST) if one.version >= KINDS_SINCE]
    rows = []
    for (dataset, name), tolls in by_group(found, ("dataset", "workload"), ("tariff",)).items():
        workload = WORKLOADS.get(name)
        if workload is None or CONFORMAL not in tolls:
            continue
        ours = tolls[CONFORMAL]
        cells = [cell for toll in _COMPARED for cell in (ratio_cell(tolls.get(toll)), suspicion_cell(tolls.get(toll)))]
        rows.append(
            (
                dataset,
                name,
                "yes" if workload.declared else "no",
                number(ours["queries"]),
                *cells,
                percent(ours["victim_accuracy"]),
            )
        )
    headings = (
        *("data set", "honest caller", "declared", "rows"),
        *(heading for toll in _COMPARED for heading in (TOLL_TITLES[toll], "suspected")),
        "victim's accuracy",
    )
    text = (
        "Ratios of honest callers who send one kind of rows, one predicted class, or several kinds. *Declared*: the operator "
        "calibrates with the kind, at strengths of its own, or knows the class; of tables and of small data sets too few rows "
        "of a kind may be known to price rows with. *rho0 raised*: as calibrate proposes it. *Without kinds*: the operator "
        "takes all traffic for one kind, and the novelty measure is fitted without kinds."
    )
    return Section("Kinds of honest callers", text, Table(headings, tuple(rows), 3)) if rows else None


def strangers(results: Results) -> Section | None:
    """What thieves of each family of foreign images pay."""
    found = results.select("strangers", defence="none")
    tolls_shown = (CONFORMAL, UNKNOWN_STRANGERS, CALIBRATED, WITHOUT_KINDS)
    rows = []
    for (dataset, attack, family, evasion), tolls in by_group(
        found, ("dataset", "attack", "foreign", "evasion"), ("tariff",)
    ).items():
        cells = (ratio_cell(tolls.get(toll)) for toll in tolls_shown)
        first = next(iter(tolls.values()))
        rows.append(
            (
                dataset,
                attack,
                family or "usual",
                evasion,
                number(first["queries"]),
                *cells,
                suspicion_cell(tolls.get(CONFORMAL)),
            )
        )
    headings = (
        "data set",
        "attack",
        "images",
        "evasion",
        "rows",
        *(TOLL_TITLES[toll] for toll in tolls_shown),
        "suspected",
    )
    text = (
        "Ratios per stolen row. *Known*: the operator calibrates with a thousand images of the thief's family that the thief "
        "does not have. With a bank, or more than eight fillers, the thief wants 600 rows. The bank is not paid by the thief."
    )
    return Section("Strangers, known and unknown", text, Table(headings, tuple(rows), 4)) if rows else None


def _thief(one: SeedAggregate) -> str:
    """The title of a thief: its images and evasion."""
    family = one["foreign"] or "usual images"
    return family if one["evasion"] == "none" else f"{family}, {one['evasion']}"


def trade_off(results: Results) -> Section | None:
    """The worst honest kind against each thief, over the tolerance and the declared kinds."""
    found = results.select("trade-off", defence="none")
    panels, rows = [], []
    for dataset in results.datasets(found):
        here = [one for one in found if one["dataset"] == dataset]
        curves: dict[str, list[tuple[float, float]]] = {}
        for toll in (name for name in OUR_TOLLS if any(one["tariff"] == name for one in here)):
            honest = [
                one
                for one in here
                if one["tariff"] == toll and one["attack"] == HONEST and one["workload"] in WORKLOADS
            ]
            thieves = [
                one for one in here if one["tariff"] == toll and one["attack"] != HONEST and one["evasion"] in EVASIONS
            ]
            if not honest or not thieves:
                continue
            promised = [one for one in honest if WORKLOADS[one["workload"]].declared] or honest
            worst, declared = _worst(honest), _worst(promised)
            for one in thieves:
                ratio = one.mean("ratio")
                if ratio is not None:
                    curves.setdefault(_thief(one), []).append((declared.mean("ratio") or 1.0, ratio))
                kinds = (f"{ratio_cell(declared)} {declared['workload']}", f"{ratio_cell(worst)} {worst['workload']}")
                rows.append(
                    (dataset, TOLL_TITLES.get(toll, toll), *kinds, _thief(one), ratio_cell(one), suspicion_cell(one))
                )
        panels.append(Panel(dataset, tuple(Curve(name, tuple(sorted(points))) for name, points in curves.items())))
    headings = ("data set", "toll", "worst declared kind", "worst kind", "thief", "ratio", "suspected")
    text = (
        "Each point is our toll with one tolerance rho and one choice of declared kinds: to the right what the worst of the "
        "declared kinds, classes and mixtures pays, upwards what a thief pays per stolen row. The worst of all kinds, declared "
        "or not, is in the table."
    )
    chart = ReportChart(
        "trade-off", "ratio of the worst declared kind", "ratio of the thief", tuple(panels), True, True
    )
    return Section("Honest kinds against thieves", text, Table(headings, tuple(rows), 5), chart) if rows else None


def _worst(found: list[SeedAggregate]) -> SeedAggregate:
    return max(found, key=lambda one: one.mean("ratio") or 0.0)
