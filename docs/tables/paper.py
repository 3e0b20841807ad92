"""The paper's tables beside ours, cell by cell: results/bench and results/leak."""

from __future__ import annotations

from modeltoll.bench.leak_measures import PATE_COST, PKNN_COST
from modeltoll.bench.paper import BATCH_OF_TABLE_5, TABLE_5
from modeltoll.bench.report.aggregate import Results
from modeltoll.bench.report.cells import NONE
from modeltoll.bench.report.paper_tables import distance_cell, table2_cells, table3_cells
from modeltoll.bench.result_files import read_results
from modeltoll.formatting import number
from tables.form import RESULTS, read, table

__all__ = ["generalized_odin", "paper_table2", "paper_table3", "paper_table5", "paper_teachers", "teacher_strength"]

_MISSING = "Not run yet.\n"
_COLUMNS = {
    "inference": "the model alone",
    "pate": "with the PATE cost",
    "pknn": "with the pkNN cost",
    "entropy": "with the entropy",
    "gap": "with the gap",
    "ours": "with our measures",
}


def _cells(suite: str, dataset: str) -> str:
    measure, section_of = (PATE_COST, table2_cells) if suite == "table2" else (PKNN_COST, table3_cells)
    found = [one for one in read_results(RESULTS / "bench", suite, dataset) if one["measure"] == measure]
    section = section_of(Results(found))
    if section is None:
        return _MISSING
    head, rows = section.table.headings[1:], [row[1:] for row in section.table.rows]
    commands = ", ".join(dict.fromkeys(f"`{one['command']}`" for one in found))
    return table(head, rows, words=3) + f"\n{commands}; {found[0]['machine']}\n"


def paper_table2(dataset: str) -> str:
    """Table 2 on a data set."""
    return _cells("table2", dataset)


def paper_table3(dataset: str) -> str:
    """Table 3 on a data set."""
    return _cells("table3", dataset)


def paper_table5() -> str:
    """Seconds per 64 queries."""
    if not (RESULTS / "bench" / "table5.json").is_file():
        return _MISSING
    document, rows = read("bench/table5"), []
    for dataset, seconds in document["targets"].items():
        paper = TABLE_5[dataset]
        for name, here in seconds.items():
            stated = getattr(paper, name, None)
            stated = stated and stated * BATCH_OF_TABLE_5
            shown = (number(stated) if stated else NONE, number(here), distance_cell(stated, here))
            rows.append([dataset, _COLUMNS[name], *shown])
    head = ("data set", "64 queries", "paper: seconds", "here", "distance")
    return table(head, rows, words=2) + f"\n`{document['command']}`; {document['machine']}\n"


def generalized_odin(*names: str) -> str:
    """How well generalized ODIN, entropy and novelty tell foreign images, and what callers pay under each."""
    rows = []
    for name in names:
        if (RESULTS / "leak" / f"odin-{name}.json").is_file():
            found = read(f"leak/odin-{name}")
            for measure, each in found["measures"].items():
                factors = (f"{each['factor_honest']:.2f}", f"{each['factor_foreign']:.1f}")
                rows.append([name, measure, f"{each['area']:.3f}", *factors])
    head = ("data set", "measure", "area under the ROC curve", "mean factor, honest", "Tiny-ImageNet")
    return table(head, rows, words=2) if rows else _MISSING


def paper_teachers(*names: str) -> str:
    """The teachers of each data set, and their mean PATE cost of a query beside the paper's."""
    rows = []
    for name in names:
        if not (RESULTS / "leak" / f"teachers-{name}.json").is_file():
            continue
        found = read(f"leak/teachers-{name}")
        training = found["recipe"]["training"]
        head = [name, f"{found['recipe']['count']} x {training['architecture']}, {training['epochs']} epochs"]
        quality = [f"{found['accuracy_alone']['mean']:.1%}", f"{found['accuracy_of_the_vote']:.1%}"]
        for caller, cost in found["cost"].items():
            paper = found["paper"].get(caller)
            shown = (number(paper) if paper else NONE, number(cost), distance_cell(paper, cost))
            rows.append([*head, caller, *quality, *shown])
    titles = ("data set", "teachers", "queries of", "one teacher", "their vote", "paper: cost", "here", "distance")
    return table(titles, rows, words=3) if rows else _MISSING


def teacher_strength(*names: str) -> str:
    """Variants of the teachers of each data set: how good they are, and the mean PATE cost of a query beside the paper's."""
    rows, commands = [], []
    for name in names:
        if not (RESULTS / "leak" / f"strength-{name}.json").is_file():
            continue
        found = read(f"leak/strength-{name}")
        commands.append(f"`{found['command']}`")
        for line in found["teachers"]:
            costs = [
                cell
                for caller, cost in line["cost"].items()
                for cell in (number(cost), distance_cell(found["paper"][caller], cost))
            ]
            shown = f"{line['accuracy_alone']:.1%}", f"{line['accuracy_of_the_vote']:.1%}"
            rows.append([name, _changes(found["recipe"]["training"], line["changed"]), *shown, *costs])
    titles = (
        *("data set", "training", "one teacher", "their vote"),
        *(f"{queries}: {what}" for queries in ("standard", "copycat") for what in ("cost", "distance")),
    )
    return table(titles, rows, words=2) + f"\n{', '.join(commands)}\n" if rows else _MISSING


def _changes(training: dict[str, object], changed: dict[str, object]) -> str:
    """A variant of the teachers' training in words."""
    recipe = training | changed
    augmented = "augmented" if recipe["shift"] or recipe["flip"] else "not augmented"
    return f"{recipe['epochs']} epochs, {augmented}"
