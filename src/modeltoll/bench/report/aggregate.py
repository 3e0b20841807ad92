"""Results aggregated over seeds, and selected by their members."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from modeltoll.bench.checks import Check, check_across_results
from modeltoll.bench.leak_measures import PATE_COST
from modeltoll.bench.table_rows import MARK, failed_checks

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["OLD_PATE_COST", "Results", "SeedAggregate"]

OLD_PATE_COST = "pate-eps"  # the measure of recorded results under the PATE cost of small teachers
_SHARED_MEMBERS = (
    "suite",
    "dataset",
    "attack",
    "evasion",
    "defence",
    "tariff",
    "measure",
    "profile",
    "budget",
    "workload",
    "foreign",
    "version",
)


@dataclass(frozen=True, slots=True, eq=False)
class SeedAggregate:
    """The results of one experiment with one or several seeds; ``failed_checks`` are those that any of them fails."""

    documents: tuple[Mapping[str, Any], ...]
    failed_checks: tuple[Check, ...]

    def __getitem__(self, member: str) -> Any:
        """A member of the first seed's document."""
        return self.documents[0][member]

    @property
    def version(self) -> int:
        """The version of the bench that made it; see ``Experiment``."""
        return int(self.documents[0].get("version", 1))

    @property
    def mark(self) -> str:
        """The mark to print after numbers if a check fails, else an empty string."""
        return f" {MARK}" if self.failed_checks else ""

    def mean(self, member: str, part: str | None = None) -> float | None:
        """The mean over the seeds of a member, or of one part of it; None if it is missing for any seed."""
        found = [document[member] if part is None else document[member].get(part) for document in self.documents]
        return None if any(value is None for value in found) else float(np.mean(found))

    @property
    def first_alarm(self) -> float | None:
        """The mean row of the first alarm over the seeds with an alarm; None if no seed has one."""
        found = [document["first_alarm"] for document in self.documents if document["first_alarm"] is not None]
        return float(np.mean(found)) if found else None

    def format_mean(self, form: Callable[[float | None], str], member: str, part: str | None = None) -> str:
        """The formatted mean, with the range over the seeds if they differ."""
        mean = form(self.mean(member, part))
        if len(self.documents) == 1 or self.mean(member, part) is None:
            return mean
        values = [document[member] if part is None else document[member][part] for document in self.documents]
        low, high = form(min(values)), form(max(values))
        return mean if low == high else f"{mean} ({low} to {high})"

    def mean_cost(self, machine: str, member: str) -> float | None:
        """The mean of one number of a machine's hardware cost; None if there is none."""
        found = [
            cost[member] for document in self.documents for cost in document["bills"] if cost["machine"] == machine
        ]
        return float(np.mean(found)) if found else None


class Results:
    """All results of a report."""

    def __init__(self, documents: Iterable[Mapping[str, Any]]) -> None:
        self.documents = tuple(_without_superseded(tuple(documents)))
        cross_checks = check_across_results(self.documents)
        groups: dict[tuple[Any, ...], list[Mapping[str, Any]]] = {}
        for document in self.documents:
            groups.setdefault(tuple(document.get(member, "") for member in _SHARED_MEMBERS), []).append(document)
        found = [SeedAggregate(tuple(group), tuple(_failed_checks(group, cross_checks))) for group in groups.values()]
        self.aggregates = tuple(_by_budget(found))

    def select(self, *suites: str, **members: str) -> list[SeedAggregate]:
        """The aggregates of the named suites (none: of all) whose members have the given values."""
        return [
            one
            for one in self.aggregates
            if (not suites or one["suite"] in suites) and all(one[name] == value for name, value in members.items())
        ]

    def datasets(self, found: Sequence[SeedAggregate]) -> list[str]:
        """The data sets of these aggregates, in order."""
        return list(dict.fromkeys(one["dataset"] for one in found))

    def failed_checks(self) -> list[tuple[SeedAggregate, Check]]:
        """Every failed check with its experiment."""
        return [(one, check) for one in self.aggregates for check in one.failed_checks]


def _without_superseded(documents: Sequence[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
    """All but those under the published toll on the PATE cost of before, of small teachers, where there is the present one."""
    shared = [member for member in (*_SHARED_MEMBERS, "seed") if member not in ("measure", "version")]

    def experiment(document: Mapping[str, Any]) -> tuple[Any, ...]:
        return tuple(document.get(member, "") for member in shared)

    present = {experiment(document) for document in documents if document.get("measure") == PATE_COST}
    for document in documents:
        if document.get("measure") != OLD_PATE_COST or experiment(document) not in present:
            yield document


def _by_budget(found: Sequence[SeedAggregate]) -> list[SeedAggregate]:
    """Experiments that differ in their budget only become neighbours, the smallest first; else the order is kept."""
    names = [
        tuple(one.documents[0].get(member, "") for member in _SHARED_MEMBERS if member != "budget") for one in found
    ]
    first_index = {name: index for index, name in reversed(list(enumerate(names)))}
    order = sorted(range(len(found)), key=lambda index: (first_index[names[index]], found[index]["budget"]))
    return [found[index] for index in order]


def _failed_checks(
    group: Sequence[Mapping[str, Any]], cross_checks: Mapping[tuple[Any, ...], Check]
) -> Iterator[Check]:
    seen = set()
    for document in group:
        checks = [Check(**check) for check in failed_checks(document)]
        key = tuple(document[member] for member in ("dataset", "attack", "profile", "seed", "budget"))
        if document["defence"] == "none" and key in cross_checks and not cross_checks[key].holds:
            checks.append(cross_checks[key])
        for check in checks:
            if check not in seen:
                seen.add(check)
                yield check
