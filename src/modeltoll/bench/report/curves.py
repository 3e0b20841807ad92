"""Sections with charts and their numbers as tables: Figures 3, 4 and 8 of the paper, accounts, fillers, waits."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from modeltoll.bench.evasions.fillers import FILLERS
from modeltoll.bench.evasions.registry import EVASIONS, NO_EVASION
from modeltoll.bench.experiment import HONEST
from modeltoll.bench.honest.workload import WORKLOADS
from modeltoll.bench.leak_measures import ENTROPY, PATE_COST
from modeltoll.bench.report.aggregate import OLD_PATE_COST
from modeltoll.bench.report.model import Curve, Panel, ReportChart, Section, Table
from modeltoll.bench.suite_frame import published_measure
from modeltoll.bench.toll_schemes import CONFORMAL, NO_TOLL, PUBLISHED
from modeltoll.formatting import number, percent, times

if TYPE_CHECKING:
    from modeltoll.bench.report.aggregate import Results, SeedAggregate

__all__ = [
    "accounts",
    "accuracy_against_leak",
    "accuracy_against_time",
    "fillers",
    "honest_waits",
    "leak_against_queries",
    "leak_of",
    "panels",
    "plain_extractions",
]

_LEAKS = (PATE_COST, OLD_PATE_COST, ENTROPY)
_TOLL_NAMES = {PUBLISHED: "published", CONFORMAL: "ours"}


def plain_extractions(results: Results, tariff: str) -> list[SeedAggregate]:
    """Attacks under a toll without evasion or defence, each attack of a data set once: with the largest budget."""
    found = results.select("table2", "table3", "quick", evasion=NO_EVASION, defence=NO_TOLL, tariff=tariff)
    largest: dict[tuple[Any, ...], SeedAggregate] = {}
    for one in found:
        name = (one["dataset"], one["attack"], one["profile"])
        if one["attack"] != HONEST and (name not in largest or one["budget"] > largest[name]["budget"]):
            largest[name] = one
    return list(largest.values())


def _with_priced_leak(results: Results) -> list[SeedAggregate]:
    """Plain extractions under our toll, each as under the published toll where there is that: of the same queries it may
    know the leak by more measures, that which it prices among them.
    """

    def queries(one: SeedAggregate) -> tuple[Any, ...]:
        return one["dataset"], one["attack"], one["profile"], one["budget"]

    published = {queries(one): one for one in plain_extractions(results, PUBLISHED)}
    return [published.get(queries(one), one) for one in plain_extractions(results, CONFORMAL)]


def leak_of(one: SeedAggregate) -> str:
    """The measure in which charts show the leak of an attack."""
    return next(name for name in (published_measure(one["dataset"]), *_LEAKS) if name in one["leak"])


def _evaluated_points(one: SeedAggregate) -> list[Any]:
    """The points of the first seed at which the clone was evaluated."""
    return [point for point in one["course"] if point["accuracy"] is not None]


def panels(found: Iterable[SeedAggregate], curves: Callable[[SeedAggregate], Iterable[Curve]]) -> tuple[Panel, ...]:
    """One panel per data set with the curves of its attacks."""
    drawings: dict[str, list[Curve]] = {}
    for one in found:
        drawings.setdefault(one["dataset"], []).extend(curve for curve in curves(one) if curve.points)
    return tuple(Panel(title, tuple(drawn)) for title, drawn in drawings.items())


def leak_against_queries(results: Results) -> Section | None:
    """Figure 3, and Figure 20 for Fashion-MNIST."""
    found = _with_priced_leak(results)

    def curves(one: SeedAggregate) -> Iterable[Curve]:
        measure = leak_of(one)
        yield Curve(one["attack"], tuple((point["queries"], point["leak"][measure]) for point in one["course"]))

    rows = [
        (one["dataset"], one["attack"], leak_of(one), number(point["queries"]), number(point["leak"][leak_of(one)]))
        for one in found
        for point in one["course"][1::2]
    ]
    text = (
        "The summed leak of all queries so far, in the measure that the table names. Figure 3 of the paper; one curve "
        "per attack, with its largest budget and first seed."
    )
    table = Table(("data set", "attack", "leak measured as", "queries", "leak so far"), tuple(rows), 3)
    chart = ReportChart("leak-queries", "queries", "summed leak", panels(found, curves), x_log=True, y_log=True)
    return Section("Leak against queries", text, table, chart) if rows else None


def accuracy_against_leak(results: Results) -> Section | None:
    """Figure 4, and Figure 21 for Fashion-MNIST."""
    found = _with_priced_leak(results)

    def curves(one: SeedAggregate) -> Iterable[Curve]:
        measure = leak_of(one)
        yield Curve(one["attack"], tuple((at["leak"][measure], 100 * at["accuracy"]) for at in _evaluated_points(one)))

    rows = [
        (
            one["dataset"],
            one["attack"],
            number(at["queries"]),
            number(at["leak"][leak_of(one)]),
            percent(at["accuracy"]),
        )
        for one in found
        for at in _evaluated_points(one)
    ]
    text = "The clone's accuracy against the summed leak of its queries. Figure 4 of the paper; the first seed."
    table = Table(("data set", "attack", "queries", "leak", "accuracy"), tuple(rows), 2)
    chart = ReportChart("accuracy-leak", "summed leak", "clone's accuracy, %", panels(found, curves), x_log=True)
    return Section("Accuracy against leak", text, table, chart) if rows else None


def accuracy_against_time(results: Results, tariff: str = CONFORMAL) -> Section | None:
    """Figure 8, and Figure 22 for Fashion-MNIST, under a toll."""
    found = plain_extractions(results, tariff)

    def curves(one: SeedAggregate) -> Iterable[Curve]:
        at = _evaluated_points(one)
        yield Curve(one["attack"], tuple((point["seconds_with"], 100 * point["accuracy"]) for point in at))
        yield Curve(
            one["attack"], tuple((point["seconds_without"], 100 * point["accuracy"]) for point in at), dashed=True
        )

    rows = [
        (
            *(one["dataset"], one["attack"], number(at["queries"])),
            *(number(at["seconds_without"]), number(at["seconds_with"]), percent(at["accuracy"])),
        )
        for one in found
        for at in _evaluated_points(one)
    ]
    toll, file = (
        ("our toll", "accuracy-time") if tariff == CONFORMAL else ("the published toll", "accuracy-time-published")
    )
    text = f"Solid: with {toll}, on one reference core. Dashed: without. Figure 8 of the paper; the first seed."
    table = Table(("data set", "attack", "queries", "seconds without", "seconds with", "accuracy"), tuple(rows), 2)
    chart = ReportChart(file, "seconds", "clone's accuracy, %", panels(found, curves), x_log=True)
    return Section(f"Accuracy against time under {toll}", text, table, chart) if rows else None


def _with_evasions(results: Results, families: tuple[str, ...]) -> list[SeedAggregate]:
    """Attacks with these evasions, and the same attacks without one."""
    found = results.select("evasions", "quick", defence=NO_TOLL)
    attacks = {(one["dataset"], one["attack"]) for one in found if one["evasion"] != NO_EVASION}
    return [
        one
        for one in found
        if (one["dataset"], one["attack"]) in attacks
        and one["evasion"] in EVASIONS
        and EVASIONS[one["evasion"]].family in families
    ]


def _by_level(results: Results, families: tuple[str, ...], names: tuple[str, str]) -> Section | None:
    """Ratios by level, one curve per family, attack and toll. ``names``: of the chart's file and of the level."""
    found = [one for one in _with_evasions(results, families) if one["tariff"] in _TOLL_NAMES]
    curves: dict[str, dict[tuple[str, bool], list[tuple[float, float]]]] = {}
    rows = []
    for one in found:
        evasion, ratio = EVASIONS[one["evasion"]], one.mean("ratio")
        if ratio is not None:
            label = f"{one['attack']}, {evasion.family}"
            dashed = one["tariff"] == PUBLISHED
            curves.setdefault(one["dataset"], {}).setdefault((label, dashed), []).append((evasion.level, ratio))
        ratio_text = one.format_mean(times, "ratio") + one.mark
        alarm = number(one.first_alarm) if one.mean("suspected") else ""
        rows.append(
            (
                *(one["dataset"], one["attack"], evasion.family, _TOLL_NAMES[one["tariff"]]),
                *(f"{evasion.level:g}", ratio_text, percent(one.mean("suspected")), alarm),
            )
        )
    drawn_panels = tuple(
        Panel(dataset, tuple(Curve(label, tuple(sorted(points)), dashed) for (label, dashed), points in drawn.items()))
        for dataset, drawn in curves.items()
    )
    file, level = names
    chart = ReportChart(file, level, "time with the toll / without", drawn_panels, x_log=True, y_log=True)
    headings = ("data set", "attack", "kind", "toll", level, "ratio", "accounts suspected", "from row")
    text = "Solid: our toll. Dashed: the published one, on the same queries. Ratios are per stolen row."
    return Section(f"Ratio against {level}", text, Table(headings, tuple(rows), 4), chart) if rows else None


def accounts(results: Results) -> Section | None:
    """Attacks with many accounts: keyed, anonymous, of one organisation, shared with honest callers."""
    return _by_level(results, ("accounts", "anonymous", "organisation", "joining"), ("ratio-accounts", "accounts"))


def fillers(results: Results) -> Section | None:
    """Attacks with fillers."""
    return _by_level(results, tuple(FILLERS), ("ratio-fillers", "fillers per stolen row"))


def honest_waits(results: Results) -> Section | None:
    """The waits of every kind of honest caller."""
    of_callers = results.select("honest", "quick", attack=HONEST)
    found = [one for one in of_callers if one["tariff"] in _TOLL_NAMES and one["workload"] in WORKLOADS]
    shares = (("p50", 0.5), ("p95", 0.95), ("p99", 0.99), ("p999", 0.999))

    def curves(one: SeedAggregate) -> Iterable[Curve]:
        if one["tariff"] == CONFORMAL and WORKLOADS[one["workload"]].shown:
            yield Curve(one["workload"], tuple((100 * share, one["waits"][name]) for name, share in shares))

    rows = [
        (
            *(one["dataset"], one["workload"], _TOLL_NAMES[one["tariff"]], number(one["queries"])),
            one.format_mean(times, "ratio") + one.mark,
            times(one["honest_cost"].get("ratio_to_batched")) if "ratio_to_batched" in one["honest_cost"] else "",
            *(number(1000 * one["waits"][name]) for name, _ in shares),
            percent(one.mean("suspected")),
            percent(one["victim_accuracy"]),
        )
        for one in found
    ]
    headings = (
        *("data set", "honest caller", "toll", "rows", "ratio", "to batched", "wait, ms: half of the requests", "95 %"),
        *("99 %", "99.9 %", "requests under suspicion", "victim's accuracy on them"),
    )
    text = (
        "The duration of a request: model, gateway and work. Kinds that the operator has not declared may pay more, and those "
        "far from all declared ones may come under suspicion; an operator whose callers send such rows should declare them. "
        "*To batched*: relative to a model server without a gateway that gets a thousand rows per request."
    )
    chart = ReportChart("honest-waits", "share of requests, %", "wait, s", panels(found, curves), y_log=True)
    return Section("Waits of honest callers", text, Table(headings, tuple(rows), 3), chart) if rows else None
