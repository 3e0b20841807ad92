"""Tables of the bench: results/bench."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from modeltoll.bench.evasions.fillers import FILLERS
from modeltoll.bench.evasions.registry import NO_EVASION
from modeltoll.bench.paper import TABLE_2
from modeltoll.bench.report.aggregate import Results
from modeltoll.bench.report.files import file_callers, file_clones, file_disguises, file_thieves
from modeltoll.bench.report.kinds import KINDS_SINCE, honest_kinds, strangers, trade_off
from modeltoll.bench.report.model import Section
from modeltoll.bench.report.tables import defences, live
from modeltoll.bench.report.thieves import accuracy_by_labels, accuracy_per_euro
from modeltoll.bench.result_files import read_results
from modeltoll.formatting import number, percent, times
from tables.form import NOT_RUN, RESULTS, table

if TYPE_CHECKING:
    from modeltoll.bench.report.aggregate import SeedAggregate

__all__ = [
    "bench_accounts",
    "bench_defences",
    "bench_euros",
    "bench_evasions",
    "bench_files",
    "bench_fillers",
    "bench_honest",
    "bench_kinds",
    "bench_labels",
    "bench_live",
    "bench_strangers",
    "bench_thefts",
    "bench_trade_off",
]

OURS, PUBLISHED, WITHOUT_KINDS = "conformal", "published", "conformal-without-kinds"
_TOLLS = {PUBLISHED: "published toll", WITHOUT_KINDS: "without kinds", OURS: "our toll"}
_UNSEEN = "unseen"  # what fresh fillers were called before kinds
_IN_A_TABLE = ("abandoning", "bank", "unpaid")  # evasions that have levels, and no table of their own
_TARGETS = {
    "mnist": {1: 5400, 10: 5400, 100: 5100, 1000: 2400},
    "fashion": {1: 1500, 10: 1500, 100: 1350, 1000: 100},
    "cifar10": {1: 389, 10: 353, 100: 84, 1000: 20},  # shares of 432, 415, 240; of 1000 accounts: anonymous ones
}


def _found(suite: str, dataset: str, since: int = 1) -> Results:
    """The results of the newest version of the bench that there are, from one version on."""
    documents = list(read_results(RESULTS / "bench", suite, dataset))
    newest = max((one.get("version", 1) for one in documents), default=1)
    return Results(one for one in documents if one.get("version", 1) == max(newest, since))


def _thefts(dataset: str) -> Results:
    """The thefts whose clones were trained, of that version of the bench under which the most attacks were."""
    attacks: dict[int, set[str]] = {}
    documents = [one for one in read_results(RESULTS / "bench", "table2", dataset) if one["accuracy"] is not None]
    for one in documents:
        attacks.setdefault(one.get("version", 1), set()).add(one["attack"])
    shown = max(attacks, key=lambda version: (len(attacks[version]), version), default=1)
    return Results(one for one in documents if one.get("version", 1) == shown)


def _shown(results: Results) -> tuple[str, ...]:
    """The tolls that tables compare, of those that there are results of."""
    return tuple(toll for toll in _TOLLS if results.select(tariff=toll))


def _compared(results: Results) -> Iterator[tuple[SeedAggregate, list[str]]]:
    """Each result under our toll, with the ratios of the same experiment under each toll that is shown."""
    shared = ("attack", "evasion", "workload", "budget")
    found = {(one["tariff"], *(one[name] for name in shared)): one for one in results.aggregates}
    for one in results.select(tariff=OURS):
        same = [found.get((toll, *(one[name] for name in shared))) for toll in _shown(results)]
        yield one, ["" if each is None else each.format_mean(times, "ratio") + each.mark for each in same]


def _source(results: Results) -> str:
    commands = dict.fromkeys(f"`{one['command']}`" for one in results.documents)
    return f"\n{', '.join(commands)}; {results.documents[0]['machine']}\n"


def _heads(results: Results) -> list[str]:
    return [_TOLLS[toll] for toll in _shown(results)]


def bench_thefts(dataset: str) -> str:
    """Every attack, without evasion."""
    results, rows = _thefts(dataset), []
    for ours, ratios in _compared(results):
        paper = TABLE_2.get((dataset, ours["attack"]))
        reported = [times(paper.ratio), f"{paper.accuracy:.1f} %"] if paper else ["", ""]
        found = [ours.format_mean(percent, name) for name in ("accuracy", "fidelity")]
        rows.append([ours["attack"], f"{ours['queries']:,}", *reported, *ratios, *found])
    first, *others = _heads(results)
    head = ["attack", "queries", "paper: ratio", "accuracy", f"here: {first}", *others, "accuracy", "fidelity"]
    return table(head, rows) + _source(results)


def _levels(results: Results, family: str) -> dict[str, dict[int, list[str]]]:
    """{attack: {level: ratios}} of an evasion that has levels; one account with a key is none."""
    found: dict[str, dict[int, list[str]]] = {}
    for ours, ratios in _compared(results):
        evasion = "accounts-1" if ours["evasion"] == NO_EVASION else ours["evasion"]
        name, _, level = evasion.rpartition("-")
        if name == family:
            found.setdefault(ours["attack"], {})[int(level)] = ratios
    return found


def bench_accounts(dataset: str) -> str:
    """Ratios by the number of accounts, with targets if there are any."""
    results = _found("evasions", dataset)
    keyed, anonymous = (_levels(results, family) for family in ("accounts", "anonymous"))
    targets = _TARGETS.get(dataset, {})
    rows = [
        [attack, f"{level:,}", *([f"{targets[level]:,}x"] if targets else []), *ratios, anonymous[attack][level][-1]]
        for attack, levels in keyed.items()
        for level, ratios in sorted(levels.items())
    ]
    aims = ["target"] if targets else []
    return table(["attack", "accounts", *aims, *_heads(results), "our toll, anonymous"], rows)


def bench_fillers(dataset: str) -> str:
    """Ratios with fillers between stolen rows."""
    results = _found("evasions", dataset)
    plain = _levels(results, "accounts")
    rows, counts = [], [1, 2, 4, 8, 16, 32, 64]
    for family in (*FILLERS, _UNSEEN):
        for attack, levels in _levels(results, family).items():
            for place, toll in enumerate(_heads(results)):
                ratios = [
                    plain[attack][1][place],
                    *(levels[count][place] if count in levels else "" for count in counts),
                ]
                rows.append([f"{attack}, {family}", toll, *ratios])
    head = ["attack, fillers", "toll", "without", *(f"{count} per stolen row" for count in counts)]
    return table(head, rows, words=2)


def bench_evasions(dataset: str) -> str:
    """Evasions without a curve: banks, changed images, choosing cheap rows, unpaid tolls, replay, a graphics card."""
    results, rows = _found("evasions", dataset), []
    for ours, ratios in _compared(results):
        if not ours["evasion"].rpartition("-")[2].isdigit() or ours["evasion"].startswith(_IN_A_TABLE):
            bought = f"{ours['queries']:,} of {ours['asked']:,}"
            rows.append([f"{ours['attack']}, {ours['evasion']}", bought, *ratios])
    return table(["attack, evasion", "rows bought under ours", *_heads(results)], rows) + _source(results)


def bench_honest(dataset: str) -> str:
    """Ratios and waits of honest callers."""
    results, rows = _found("honest", dataset), []
    for ours, ratios in _compared(results):
        waits = [f"{number(1000 * ours['waits'][name])} ms" for name in ("p50", "p99")]
        rows.append([ours["workload"], f"{ours['asked']:,}", *ratios, *waits, percent(ours["suspected"])])
    head = ["honest caller", "rows", *_heads(results), "p50 wait", "p99 wait", "under suspicion"]
    return table(head, rows) + _source(results)


def bench_kinds(dataset: str) -> str:
    """What callers of each kind, class and mixture pay under our toll, as it is, with rho0 raised, and without kinds."""
    return _with_kinds("honest", dataset, honest_kinds, "data set")


def bench_strangers(dataset: str) -> str:
    """What thieves of each family pay, known and unknown."""
    return _with_kinds("strangers", dataset, strangers, "data set", "attack")


def bench_trade_off(dataset: str) -> str:
    """The worst honest kind beside each thief, over rho and the declared kinds."""
    return _with_kinds("trade-off", dataset, trade_off, "data set")


def bench_files(part: str) -> str:
    """The model of file types: its honest ``callers``, ``thieves``, thieves in ``disguises``, and ``clones``."""
    sections = {
        "callers": file_callers,
        "thieves": file_thieves,
        "disguises": file_disguises,
        "clones": file_clones,
    }
    return _with_kinds("magika", "magika", sections[part])


def _with_kinds(suite: str, dataset: str, section: Callable[[Results], Section | None], *left_out: str) -> str:
    """A section on the tariff with kinds, where its suite was run."""
    results = _found(suite, dataset, KINDS_SINCE)
    made = section(results)
    return NOT_RUN if made is None else _without(made, *left_out) + _source(results)


def bench_defences(dataset: str) -> str:
    """Other defences, and their cost to honest users."""
    results = _found("defences", dataset)
    return _without(defences(results), "data set", "fidelity") + _source(results)


def bench_euros(dataset: str) -> str:
    """Points of accuracy that a euro buys each thief."""
    results = _thefts(dataset)
    made = accuracy_per_euro(results)
    return NOT_RUN if made is None else _without(made, "data set") + _source(results)


def bench_labels(dataset: str) -> str:
    """Clones by the number of labels that they were trained on."""
    results = _found("labels", dataset)
    made = accuracy_by_labels(results)
    return NOT_RUN if made is None else _without(made, "data set") + _source(results)


def bench_live(dataset: str) -> str:
    """Rows that went through a real gateway."""
    return _without(live(_found("quick", dataset)), "data set")


def _without(section: Section | None, *columns: str) -> str:
    """A section's table, some columns left out; the first two that stay are words."""
    assert section is not None  # there are results
    keep = [place for place, name in enumerate(section.table.headings) if name not in columns]
    rows = [[row[place] for place in keep] for row in section.table.rows]
    return table([section.table.headings[place] for place in keep], rows, 2)
