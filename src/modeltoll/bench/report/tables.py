"""Sections that are tables: the paper's next to ours, defences, choosy thieves, what a point of accuracy costs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from modeltoll.bench.evasions.fillers import FILLERS
from modeltoll.bench.evasions.registry import EVASIONS, PLAIN
from modeltoll.bench.experiment import HONEST
from modeltoll.bench.report.model import Section, Table
from modeltoll.bench.report.paper import TABLE_2, TABLE_3
from modeltoll.bench.toll_schemes import CONFORMAL, NONE, PUBLISHED
from modeltoll.formatting import number, percent, times

if TYPE_CHECKING:
    from modeltoll.bench.report.aggregate import Results, SeedAggregate

__all__ = ["defences", "doubts", "euros", "evasions", "live", "scaled_down", "table2", "table3"]

_COSTS = ("pate-eps", "pknn-eps", "entropy")  # what is called the cost, the first that there is
_CURVES = ("accounts", "anonymous", "organisation", "joining", *FILLERS)


def _pairs(found: list[SeedAggregate]) -> Iterator[tuple[SeedAggregate, SeedAggregate | None]]:
    """Each experiment under our toll, and the same under the published one where it was made."""
    others = {_key(one): one for one in found if one["tariff"] == PUBLISHED}
    for one in found:
        if one["tariff"] == CONFORMAL:
            yield one, others.get(_key(one))


def _key(one: SeedAggregate) -> tuple[str, ...]:
    return tuple(one[name] for name in ("suite", "dataset", "attack", "evasion", "profile", "budget", "workload"))


def _ratio(one: SeedAggregate | None) -> str:
    return "\N{EN DASH}" if one is None else one.said(times, "ratio") + one.mark


def _cost(one: SeedAggregate) -> str:
    """The summed cost as the paper has it, and of which measure."""
    measure = next(name for name in _COSTS if name in one["leak"])
    return f"{number(one.mean('leak', measure))} {'' if measure == _COSTS[0] else measure}".strip()


def table2(results: Results) -> Section | None:
    """The paper's Table 2 next to ours."""
    rows = []
    for ours, published in _pairs(results.of("table2", "quick", evasion=PLAIN, defence=NONE)):
        if ours["attack"] == HONEST:
            continue
        paper = TABLE_2.get((ours["dataset"], ours["attack"]))
        said = (
            (
                number(paper.queries),
                number(paper.cost),
                times(paper.ratio),
                f"{paper.accuracy:.1f} %",
                f"{paper.fidelity:.1f} %",
            )
            if paper
            else ("",) * 5
        )
        measured = (
            number(ours["queries"]),
            _cost(ours),
            _ratio(published),
            _ratio(ours),
            ours.said(percent, "accuracy"),
            ours.said(percent, "fidelity"),
            ours.said(percent, "agreement"),
        )
        rows.append((ours["dataset"], ours["attack"], ours["profile"], *said, *measured))
    headings = (
        *("data set", "attack", "settings", "paper: queries", "PATE cost", "ratio", "accuracy", "fidelity"),
        *("here: queries", "cost", "published toll", "our toll", "accuracy", "fidelity", "agreement on foreign images"),
    )
    text = (
        "The time of querying with the toll over the time without it, one account, everything solved. The published toll "
        "and ours are priced on the same queries. The cost is the sum of single queries' epsilons under PATE, as in the "
        "paper, where there are teachers, else the measure that is named."
    )
    return Section("Table 2, the paper's and ours", text, Table(headings, tuple(rows), 3)) if rows else None


def table3(results: Results) -> Section | None:
    """The paper's Table 3 next to ours."""
    rows = []
    for ours, published in _pairs(results.of("table3", "quick", evasion=PLAIN, defence=NONE)):
        if ours["attack"] == HONEST:
            continue
        paper = TABLE_3.get((ours["dataset"], ours["attack"]))
        said = (
            (*map(number, (paper.queries, paper.gap, paper.entropy, paper.pknn)), times(paper.ratio))
            if paper
            else ("",) * 5
        )
        sums = (number(ours.mean("leak", name)) for name in ("gap", "entropy", "pknn"))
        accuracy = ours.said(percent, "accuracy")
        rows.append(
            (
                ours["dataset"],
                ours["attack"],
                *said,
                number(ours["queries"]),
                *sums,
                _ratio(published),
                _ratio(ours),
                accuracy,
            )
        )
    headings = (
        *("data set", "attack", "paper: queries", "gap", "entropy", "pkNN", "ratio"),
        *("here: queries", "gap", "entropy", "pkNN", "published toll", "our toll", "accuracy"),
    )
    text = (
        "Sums of gap, entropy and pkNN costs over all queries. The paper's pkNN cost is an epsilon, composed and then "
        "converted; ours is the Rényi divergence at one order, which adds up. The published toll prices "
        "the sum of single queries' pkNN epsilons here, which the paper composes; in the quick suite it prices the entropy."
    )
    return Section("Table 3, the paper's and ours", text, Table(headings, tuple(rows), 2)) if rows else None


def evasions(results: Results) -> Section | None:
    """Evasions that are no curve: choosy thieves, replay, a graphics card."""
    rows = []
    for ours, published in _pairs(results.of("evasions", "quick", defence=NONE)):
        if ours["attack"] == HONEST or (EVASIONS[ours["evasion"]].family in _CURVES and ours["evasion"] != PLAIN):
            continue
        bought = number(ours.mean("queries")), number(ours.mean("asked"))
        rows.append((ours["dataset"], ours["attack"], ours["evasion"], *bought, _ratio(published), _ratio(ours)))
    headings = ("data set", "attack", "evasion", "rows bought", "rows asked", "published toll", "our toll")
    text = (
        "Ratios per stolen row that was bought. *Abandoning* waits for every price and leaves rows dearer than so many "
        "times the undefended time; *cheap half* knows each price beforehand; *replay* shows an old solution again; the "
        "*graphics card* solves at published rates."
    )
    return (
        Section("Choosy thieves, old solutions, a graphics card", text, Table(headings, tuple(rows), 3))
        if rows
        else None
    )


def _shield(one: SeedAggregate) -> str:
    return str({PUBLISHED: "published toll", CONFORMAL: "our toll"}.get(one["tariff"], one["defence"]))


def defences(results: Results) -> Section | None:
    """All defences, with what each costs honest users."""
    compared = results.of("defences", "quick", evasion=PLAIN)
    attacks = {(one["dataset"], one["attack"]) for one in compared if one["defence"] != NONE}
    rows = []
    for one in compared:
        if (one["dataset"], one["attack"]) in attacks:
            cost = one["honest_cost"]
            lost, off, alarms = (cost.get(name) for name in ("accuracy_lost", "scores_off", "false_alarms"))
            share = one.mean("suspected")
            who = "" if share == 1.0 else f"{percent(share)} "
            caught = f"{who}from row {number(one.first_alarm)}" if share else ""
            rows.append(
                (
                    *(one["dataset"], one["attack"], _shield(one)),
                    *(one.said(percent, "accuracy"), one.said(percent, "fidelity"), _ratio(one), caught),
                    *(times(one.mean("honest_ratio")), percent(lost), number(off), percent(alarms)),
                )
            )
    headings = (
        *("data set", "attack", "defence", "clone's accuracy", "fidelity", "thief's ratio", "suspected"),
        *("honest ratio", "honest labels lost", "honest scores off by", "honest callers accused"),
    )
    text = (
        "What each defence takes from thieves, and from honest users: time, right labels, exact scores (mean sum of "
        "absolute differences, at most 2), false accusations."
    )
    return Section("Defences compared", text, Table(headings, tuple(rows), 3)) if rows else None


def euros(results: Results) -> Section | None:
    """What a stolen point of accuracy costs, on a core and on a card."""
    rows = []
    for one in results.of("table2", "table3", "quick", evasion=PLAIN, defence=NONE):
        gained = _points(one)
        if one["tariff"] == NONE or gained is None:
            continue
        bills = (number(one.bill(machine, member)) for machine in ("core", "card") for member in ("joules", "euros"))
        each = (number((one.bill(machine, "euros") or 0.0) / gained) for machine in ("core", "card"))
        rows.append((one["dataset"], one["attack"], one["tariff"], number(one.mean("work_seconds")), *bills, *each))
    headings = (
        *("data set", "attack", "toll", "reference seconds", "core: joules", "euros", "card: joules", "euros"),
        *("core: euros a point", "card: euros a point"),
    )
    text = (
        "The work of one theft on a rented processor core and on a rented RTX 4090, and its price for every per cent of "
        "accuracy that the clone has above a guess. Rates and rents are those of docs/how-to/choosing-a-puzzle.md."
    )
    return (
        Section("What a point of accuracy costs", text, Table(headings, tuple(dict.fromkeys(rows)), 3))
        if rows
        else None
    )


def _points(one: SeedAggregate) -> float | None:
    """Per cent of accuracy above a guess among ten classes (two of cells); None for what stole none."""
    accuracy = one.mean("accuracy")
    if accuracy is None:
        return None
    gained = 100.0 * (accuracy - (0.5 if one["dataset"] == "cells" else 0.1))
    return gained if gained > 0.0 else None


def live(results: Results) -> Section | None:
    """Rows that were driven through a real gateway."""
    rows = []
    for one in results.gathered:
        for document in one.documents:
            found = document["live"]
            if found is not None:
                off = 100.0 * (found["measured_seconds"] / found["computed_seconds"] - 1.0)
                seconds = (number(found[name]) for name in ("measured_seconds", "computed_seconds"))
                said = (number(found["rows"]), *seconds, f"{off:+.1f} %{one.mark}", number(found["changed"]))
                rows.append((document["dataset"], document["attack"], *said))
    headings = ("data set", "attack", "rows", "seconds measured", "computed", "difference", "answers changed")
    text = (
        "The first rows of a theft through a real gateway: HTTP, our toll, every puzzle solved. Seconds are of one core, "
        "gateway and thief together; the unit was made smaller, so that all rows take a minute at most."
    )
    return Section("Live against computed", text, Table(headings, tuple(rows), 2)) if rows else None


def scaled_down(results: Results) -> Section | None:
    """Settings that are not the paper's."""
    found: dict[tuple[str, ...], None] = {}
    for one in results.gathered:
        scaled: Mapping[str, tuple[object, object]] = one["scaled"]
        for name, (paper, used) in scaled.items():
            found[(one["attack"], one["profile"], name, str(paper), str(used))] = None
    if not found:
        return None
    table = Table(("attack", "settings", "setting", "paper", "here"), tuple(sorted(found)), 3)
    return Section("What was scaled down", "Settings of attacks that are not the paper's.", table)


def doubts(results: Results) -> Section | None:
    """What does not hold."""
    rows = {
        (one["dataset"], one["workload"] or one["attack"], check.name, check.note): None
        for one, check in results.doubts()
    }
    if not rows:
        return None
    text = "Results that fail a check bear a mark wherever they are shown. Do not rely on them before you know why."
    return Section("What does not hold", text, Table(("data set", "caller", "check", "found"), tuple(sorted(rows)), 4))
