"""Sections with tables only: the paper's tables beside ours, evasions, defences, hardware costs, failed checks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from modeltoll.bench.evasions.fillers import FILLERS
from modeltoll.bench.evasions.registry import EVASIONS, NO_EVASION
from modeltoll.bench.experiment import HONEST
from modeltoll.bench.leak_measures import ENTROPY, PATE_COST, PKNN_COST
from modeltoll.bench.paper import TABLE_2, TABLE_3
from modeltoll.bench.report.aggregate import OLD_PATE_COST
from modeltoll.bench.report.cells import ratio_cell
from modeltoll.bench.report.model import Section, Table
from modeltoll.bench.report.thieves import gained_points
from modeltoll.bench.toll_schemes import CONFORMAL, NO_TOLL, PUBLISHED
from modeltoll.formatting import number, percent, times

if TYPE_CHECKING:
    from modeltoll.bench.report.aggregate import Results, SeedAggregate

__all__ = [
    "cost_per_accuracy_point",
    "defences",
    "evasions",
    "failed_checks",
    "live",
    "scaled_down",
    "table2",
    "table3",
]

_PATE_COSTS = (PATE_COST, OLD_PATE_COST)
_COSTS = (*_PATE_COSTS, PKNN_COST, ENTROPY)  # the first one that a result has is its cost
_CURVES = ("accounts", "anonymous", "organisation", "joining", *FILLERS)


def _pairs(found: list[SeedAggregate]) -> Iterator[tuple[SeedAggregate, SeedAggregate | None]]:
    """Each experiment under our toll, with the same one under the published toll if there is one."""
    others = {_experiment_key(one): one for one in found if one["tariff"] == PUBLISHED}
    for one in found:
        if one["tariff"] == CONFORMAL:
            yield one, others.get(_experiment_key(one))


def _experiment_key(one: SeedAggregate) -> tuple[str, ...]:
    return tuple(one[name] for name in ("suite", "dataset", "attack", "evasion", "profile", "budget", "workload"))


def _format_cost(one: SeedAggregate) -> str:
    """The summed cost, with its measure's name if that is not the paper's."""
    measure = next(name for name in _COSTS if name in one["leak"])
    return f"{number(one.mean('leak', measure))} {'' if measure in _PATE_COSTS else measure}".strip()


def table2(results: Results) -> Section | None:
    """The paper's Table 2 beside ours."""
    rows = []
    for ours, published in _pairs(results.select("table2", "quick", evasion=NO_EVASION, defence=NO_TOLL)):
        if ours["attack"] == HONEST:
            continue
        paper = TABLE_2.get((ours["dataset"], ours["attack"]))
        cells = (
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
            _format_cost(published or ours),  # votes are measured where the toll prices them; the queries are the same
            ratio_cell(published),
            ratio_cell(ours),
            ours.format_mean(percent, "accuracy"),
            ours.format_mean(percent, "fidelity"),
            ours.format_mean(percent, "agreement"),
        )
        rows.append((ours["dataset"], ours["attack"], ours["profile"], *cells, *measured))
    headings = (
        *("data set", "attack", "settings", "paper: queries", "PATE cost", "ratio", "accuracy", "fidelity"),
        *("here: queries", "cost", "published toll", "our toll", "accuracy", "fidelity", "agreement on foreign images"),
    )
    text = (
        "The time of all queries with the toll divided by the time without it; one account, every puzzle solved. The "
        "published toll and ours price the same queries. The cost is the sum of the single queries' PATE epsilons, as in "
        "the paper, or of the measure that is named where there are no teachers."
    )
    return Section("Table 2, the paper's and ours", text, Table(headings, tuple(rows), 3)) if rows else None


def table3(results: Results) -> Section | None:
    """The paper's Table 3 beside ours."""
    rows = []
    for ours, published in _pairs(results.select("table3", "quick", evasion=NO_EVASION, defence=NO_TOLL)):
        if ours["attack"] == HONEST:
            continue
        paper = TABLE_3.get((ours["dataset"], ours["attack"]))
        cells = (
            (*map(number, (paper.queries, paper.gap, paper.entropy, paper.pknn)), times(paper.ratio))
            if paper
            else ("",) * 5
        )
        sums = (number(ours.mean("leak", name)) for name in ("gap", "entropy", "pknn"))
        accuracy = ours.format_mean(percent, "accuracy")
        rows.append(
            (
                ours["dataset"],
                ours["attack"],
                *cells,
                number(ours["queries"]),
                *sums,
                ratio_cell(published),
                ratio_cell(ours),
                accuracy,
            )
        )
    headings = (
        *("data set", "attack", "paper: queries", "gap", "entropy", "pkNN", "ratio"),
        *("here: queries", "gap", "entropy", "pkNN", "published toll", "our toll", "accuracy"),
    )
    text = (
        "Sums of gap, entropy and pkNN costs over all queries. The paper's pkNN cost is an epsilon, composed and then "
        "converted; ours is the Rényi divergence at one order, which is additive. Here the published toll prices the sum of "
        "the single queries' pkNN epsilons, which the paper composes; in the quick suite it prices the entropy."
    )
    return Section("Table 3, the paper's and ours", text, Table(headings, tuple(rows), 2)) if rows else None


def _in_a_table(evasion: str) -> bool:
    """Whether an evasion is known, and no chart shows it."""
    return evasion == NO_EVASION or (evasion in EVASIONS and EVASIONS[evasion].family not in _CURVES)


def evasions(results: Results) -> Section | None:
    """Evasions without a curve: banks, changed images, selective solving, tolls thrown away, replay, a GPU."""
    rows = []
    for ours, published in _pairs(results.select("evasions", "quick", defence=NO_TOLL)):
        if ours["attack"] == HONEST or not _in_a_table(ours["evasion"]):
            continue
        rows_paid = number(ours.mean("queries")), number(ours.mean("asked"))
        rows.append(
            (
                ours["dataset"],
                ours["attack"],
                ours["evasion"],
                *rows_paid,
                ratio_cell(published),
                ratio_cell(ours),
            )
        )
    headings = ("data set", "attack", "evasion", "rows paid for", "rows sent", "published toll", "our toll")
    text = (
        "Ratios per stolen row that was paid for. *Bank* sends 4,000 honest rows first, for which the thief does not pay, then "
        "600 stolen rows, with so many fresh fillers for each. *Darkened* and *blurred* change the foreign images first. "
        "*Unpaid* throws the tolls of so many fresh fillers per row away, *abandoning* those above so many times the "
        "undefended time; our toll counts them against the credit of the account, and beyond it asks for work in advance; *cheap half* knows every price in advance and sends the cheaper half; *replay* sends an old "
        "solution again; *graphics card* solves on an RTX 4090 at published rates."
    )
    return (
        Section("Banks, changed images, selective solving, replay and a GPU", text, Table(headings, tuple(rows), 3))
        if rows
        else None
    )


def _defence_name(one: SeedAggregate) -> str:
    return str({PUBLISHED: "published toll", CONFORMAL: "our toll"}.get(one["tariff"], one["defence"]))


def defences(results: Results) -> Section | None:
    """All defences, with what each costs honest callers."""
    compared = results.select("defences", "quick", evasion=NO_EVASION)
    attacks = {(one["dataset"], one["attack"]) for one in compared if one["defence"] != NO_TOLL}
    rows = []
    for one in compared:
        if (one["dataset"], one["attack"]) in attacks:
            cost = one["honest_cost"]
            lost, deviation, false_alarms = (cost.get(name) for name in ("accuracy_lost", "scores_off", "false_alarms"))
            share = one.mean("suspected")
            accounts = "" if share == 1.0 else f"{percent(share)} "
            alarm = f"{accounts}from row {number(one.first_alarm)}" if share else ""
            rows.append(
                (
                    *(one["dataset"], one["attack"], _defence_name(one)),
                    *(
                        one.format_mean(percent, "accuracy"),
                        one.format_mean(percent, "fidelity"),
                        ratio_cell(one),
                        alarm,
                    ),
                    *(times(one.mean("honest_ratio")), percent(lost), number(deviation), percent(false_alarms)),
                )
            )
    headings = (
        *("data set", "attack", "defence", "clone's accuracy", "fidelity", "attack's ratio", "suspected"),
        *("honest ratio", "honest accuracy lost", "deviation of honest scores", "false alarms"),
    )
    text = (
        "What each defence costs attacks and honest callers. *Honest accuracy lost*: the victim's accuracy without the "
        "defence less that with it. *Deviation of honest scores*: the mean over rows of the summed absolute differences, at "
        "most 2. *False alarms*: the share of honest callers under suspicion."
    )
    return Section("Defences compared", text, Table(headings, tuple(rows), 3)) if rows else None


def cost_per_accuracy_point(results: Results) -> Section | None:
    """The cost per point of the clone's accuracy, on a core and on a GPU."""
    rows = []
    for one in results.select("table2", "table3", "quick", evasion=NO_EVASION, defence=NO_TOLL):
        gained = gained_points(one)
        if one["tariff"] == NO_TOLL or gained is None:
            continue
        bills = (
            number(one.mean_cost(machine, member)) for machine in ("core", "card") for member in ("joules", "euros")
        )
        each = (number((one.mean_cost(machine, "euros") or 0.0) / gained) for machine in ("core", "card"))
        rows.append((one["dataset"], one["attack"], one["tariff"], number(one.mean("work_seconds")), *bills, *each))
    headings = (
        *("data set", "attack", "toll", "reference seconds", "core: joules", "euros", "GPU: joules", "euros"),
        *("core: euros per point", "GPU: euros per point"),
    )
    text = (
        "The cost of the work of one attack on a rented processor core and on a rented RTX 4090, and that cost per "
        "percentage point of the clone's accuracy above guessing. Rates and rents are those of "
        "docs/how-to/choosing-a-puzzle.md."
    )
    return Section("Cost per point of accuracy", text, Table(headings, tuple(dict.fromkeys(rows)), 3)) if rows else None


def live(results: Results) -> Section | None:
    """Rows that were sent through a real gateway."""
    rows = []
    for one in results.aggregates:
        for document in one.documents:
            found = document["live"]
            if found is not None:
                deviation = 100.0 * (found["measured_seconds"] / found["computed_seconds"] - 1.0)
                seconds = (number(found[name]) for name in ("measured_seconds", "computed_seconds"))
                cells = (number(found["rows"]), *seconds, f"{deviation:+.1f} %{one.mark}", number(found["changed"]))
                rows.append((document["dataset"], document["attack"], *cells))
    headings = ("data set", "attack", "rows", "seconds measured", "computed", "difference", "answers changed")
    text = (
        "The first rows of an attack, sent through a real gateway: HTTP, our toll, every puzzle solved. Seconds are "
        "processor time of gateway and client together, on one core; the unit is reduced so that all rows take at most a "
        "minute."
    )
    return Section("Measured against computed", text, Table(headings, tuple(rows), 2)) if rows else None


def scaled_down(results: Results) -> Section | None:
    """The settings of attacks that differ from the paper's."""
    found: dict[tuple[str, ...], None] = {}
    for one in results.aggregates:
        scaled: Mapping[str, tuple[object, object]] = one["scaled"]
        for name, (paper, used) in scaled.items():
            found[(one["attack"], one["profile"], name, str(paper), str(used))] = None
    if not found:
        return None
    table = Table(("attack", "settings", "setting", "paper", "here"), tuple(sorted(found)), 3)
    return Section("Scaled-down settings", "Settings of attacks that differ from the paper's.", table)


def failed_checks(results: Results) -> Section | None:
    """The checks that fail."""
    rows = {
        (one["dataset"], one["workload"] or one["attack"], check.name, check.note): None
        for one, check in results.failed_checks()
    }
    if not rows:
        return None
    text = "Results that fail a check are marked wherever they are shown. Find the cause before you rely on them."
    return Section("Failed checks", text, Table(("data set", "caller", "check", "found"), tuple(sorted(rows)), 4))
