"""Cells of the report's tables, and how results are grouped into rows and columns."""

from __future__ import annotations

from operator import itemgetter
from typing import TYPE_CHECKING, Any

from modeltoll.formatting import number, times

if TYPE_CHECKING:
    from collections.abc import Iterable

    from modeltoll.bench.report.aggregate import SeedAggregate

__all__ = ["NONE", "by_group", "ratio_cell", "suspicion_cell"]

NONE = "\N{EN DASH}"  # where there is no result


def by_group(
    found: Iterable[SeedAggregate], rows: tuple[str, ...], columns: tuple[str, ...]
) -> dict[Any, dict[Any, SeedAggregate]]:
    """{members ``rows``: {members ``columns``: result}}, in order. A key is the value of one member, or a tuple of several."""
    row, column = itemgetter(*rows), itemgetter(*columns)
    table: dict[Any, dict[Any, SeedAggregate]] = {}
    for one in found:
        table.setdefault(row(one), {})[column(one)] = one
    return table


def ratio_cell(one: SeedAggregate | None) -> str:
    """The mean ratio, with the mark of a failed check."""
    return NONE if one is None else one.format_mean(times, "ratio") + one.mark


def suspicion_cell(one: SeedAggregate | None) -> str:
    """The row from which on a caller is under suspicion; empty if there is none."""
    return "" if one is None or not one.mean("suspected") else f"from row {number(one.first_alarm)}"
