"""Results as rows of a table, for terminals and reports."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from modeltoll.bench.checks import check_across_results
from modeltoll.formatting import percent, times

__all__ = ["HEADINGS", "MARK", "cells", "failed_checks", "failures"]

HEADINGS = (
    "data set",
    "caller",
    "evasion or defence",
    "toll",
    "seed",
    "rows",
    "ratio",
    "honest",
    "accuracy",
    "fidelity",
)
MARK = "\N{WARNING SIGN}"  # beside every result that fails a check


def failed_checks(document: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The checks that a result's document fails."""
    return [check for check in document["checks"] if not check["holds"]]


def cells(document: Mapping[str, Any]) -> tuple[str, ...]:
    """The cells of one result under ``HEADINGS``; a result that fails a check is marked."""
    rows, asked = document["queries"], document["asked"]
    changed = [document[part] for part in ("evasion", "defence") if document[part] != "none"]
    ratio = times(document["ratio"]) + (f" {MARK}" if failed_checks(document) else "")
    return (
        document["dataset"],
        document["workload"] or document["attack"],
        ", ".join(changed),
        document["tariff"],
        str(document["seed"]),
        f"{rows:,}" if rows == asked else f"{rows:,} of {asked:,}",
        ratio,
        times(document["honest_ratio"]),
        percent(document["accuracy"]),
        percent(document["fidelity"]),
    )


def failures(documents: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    """One line for each failed check, without duplicates."""
    found = list(documents)
    lines = {
        f"{one['dataset']}, {one['attack']}: {check['name']}: {check['note']}"
        for one in found
        for check in failed_checks(one)
    }
    for (dataset, attack, *_), check in check_across_results(found).items():
        if not check.holds:
            lines.add(f"{dataset}, {attack}: {check.name}: {check.note}")
    yield from sorted(lines)
