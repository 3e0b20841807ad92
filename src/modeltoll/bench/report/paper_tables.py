"""Tables 2 and 3 of the paper cell by cell: its number, ours in the same unit, and the distance."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from modeltoll.bench.evasions.registry import NO_EVASION
from modeltoll.bench.leak_measures import PATE_COST, PKNN_COST
from modeltoll.bench.paper import TABLE_2, TABLE_3, TABLE_5, Table2Row, Table3Row, data_of
from modeltoll.bench.report.cells import NONE
from modeltoll.bench.report.model import Section, Table
from modeltoll.bench.toll_schemes import NO_TOLL, PUBLISHED
from modeltoll.formatting import number, percent, times

if TYPE_CHECKING:
    from modeltoll.bench.report.aggregate import Results, SeedAggregate

__all__ = ["CLOSE", "distance", "distance_cell", "table2_cells", "table3_cells"]

CLOSE = 0.1  # a cell that is farther from the paper's names what is known to differ
_HEADINGS = ("data set", "attack", "settings", "number", "paper", "here", "distance", "what differs")
_FOREIGN = ("knockoff-random", "knockoff-adaptive", "copycat", "entropyrev-ood", "worstcase-ood", "inout")
_SMALL_TEACHERS = ("cifar10", "svhn")
_COST, _TIME, _CLONE = "cost", "time", "clone"  # what a number depends on


@dataclass(frozen=True, slots=True)
class _Cell:
    """One number: its name, what it depends on, the paper's and ours (None: not given), and how both are written."""

    name: str
    depends: str
    paper: float | None
    here: float | None
    form: Callable[[float | None], str]


def distance(paper: float | None, here: float | None) -> float | None:
    """How much larger ours is than the paper's, as a share of the paper's; None where one is missing."""
    return here / paper - 1.0 if paper and here is not None else None


def distance_cell(paper: float | None, here: float | None) -> str:
    """The distance in whole percent with its sign; a dash where one is missing."""
    off = distance(paper, here)
    return NONE if off is None else f"{round(100.0 * off):+d} %"


def _quality(paper: Table2Row | Table3Row, one: SeedAggregate, name: str) -> _Cell:
    found = getattr(paper, name, None)
    return _Cell(name, _CLONE, found and found / 100.0, one.mean(name), percent)


def _of_table_2(paper: Table2Row, one: SeedAggregate) -> list[_Cell]:
    queries, alone = one.mean("queries") or 1.0, TABLE_5[data_of(one["dataset"])].inference * paper.queries
    cost = one.mean("paper", "pate")
    return [
        _Cell("PATE cost of a query", _COST, paper.cost / paper.queries, cost and cost / queries, number),
        _Cell("ratio as the paper counts", _TIME, paper.ratio, one.mean("paper", "ratio"), times),
        _Cell("ratio to the model alone", _TIME, paper.within / alone, one.mean("paper", "ratio_undefended"), times),
        _quality(paper, one, "accuracy"),
        _quality(paper, one, "fidelity"),
    ]


def _of_table_3(paper: Table3Row, one: SeedAggregate) -> list[_Cell]:
    queries = one.mean("queries") or 1.0
    gap, entropy = one.mean("paper", "gap"), one.mean("paper", "entropy")
    return [
        _Cell("gap of a query", _COST, paper.gap / paper.queries, gap and gap / queries, number),
        _Cell("entropy of a query", _COST, paper.entropy / paper.queries, entropy and entropy / queries, number),
        _Cell("pkNN cost of all queries", _COST, paper.pknn, one.mean("paper", "pknn"), number),
        _Cell("ratio as the paper counts", _TIME, paper.ratio, one.mean("paper", "ratio"), times),
        _quality(paper, one, "accuracy"),
    ]


def _differences(cell: _Cell, paper: Table2Row | Table3Row, one: SeedAggregate) -> Iterator[str]:
    """What is known to differ from the paper's set-up and bears on a number."""
    if abs((one.mean("queries") or 0.0) / paper.queries - 1.0) > CLOSE:
        yield f"{number(paper.queries)} queries in the paper, {number(one.mean('queries'))} here"
    if one["attack"] in _FOREIGN:
        yield "Tiny-ImageNet of 32 pixels in place of ImageNet"
    if cell.depends == _CLONE:
        scaled: Mapping[str, tuple[object, object]] = one["scaled"]
        yield from (f"{name} {used} in place of {asked}" for name, (asked, used) in scaled.items())
    elif one["dataset"] in _SMALL_TEACHERS:
        has_pate = one["measure"] == PATE_COST
        yield "teachers smaller than ResNet-18" if has_pate else "a victim smaller than ResNet-34"


def _rows(paper: Table2Row | Table3Row, cells: list[_Cell], one: SeedAggregate) -> Iterator[tuple[str, ...]]:
    head = (one["dataset"], one["attack"], one["profile"])
    for cell in cells:
        off = distance(cell.paper, cell.here)
        far = off is not None and abs(off) > CLOSE
        reason = "; ".join(_differences(cell, paper, one)) if far else ""
        shown = (cell.form(cell.paper), cell.form(cell.here), distance_cell(cell.paper, cell.here))
        yield (*head, cell.name, *shown, reason)


def _published(results: Results, suite: str, measure: str) -> list[SeedAggregate]:
    """Attacks under the published toll that hold numbers in the paper's units."""
    found = results.select(suite, evasion=NO_EVASION, defence=NO_TOLL, tariff=PUBLISHED, measure=measure)
    return [one for one in found if all(document.get("paper") for document in one.documents)]


def table2_cells(results: Results) -> Section | None:
    """The paper's Table 2, cell by cell."""
    rows: list[tuple[str, ...]] = []
    for one in _published(results, "table2", PATE_COST):
        if paper := TABLE_2.get((data_of(one["dataset"]), one["attack"])):
            rows += _rows(paper, _of_table_2(paper, one), one)
    text = (
        "The paper's numbers and ours in its units. *PATE cost*: the mean of the single queries' epsilons. *As the paper counts*: "
        "one puzzle per 1,000 queries, and a time without puzzles that already holds the estimator. *To the model alone*: against "
        "an API without estimator and puzzles; both times are those of the paper's Table 5. The last column names what is known "
        f"to differ where a number is more than {percent(CLOSE)} from the paper's."
    )
    return Section("Table 2, cell by cell", text, Table(_HEADINGS, tuple(rows), 4)) if rows else None


def table3_cells(results: Results) -> Section | None:
    """The paper's Table 3, cell by cell."""
    rows: list[tuple[str, ...]] = []
    for one in _published(results, "table3", PKNN_COST):
        if paper := TABLE_3.get((data_of(one["dataset"]), one["attack"])):
            rows += _rows(paper, _of_table_3(paper, one), one)
    text = (
        "As Table 2. *Gap*: of the softmax of the two largest logits alone. *pkNN cost*: the divergences of all queries are added "
        "and converted once, without the bound that does not depend on the votes, as in the authors' code."
    )
    return Section("Table 3, cell by cell", text, Table(_HEADINGS, tuple(rows), 4)) if rows else None
