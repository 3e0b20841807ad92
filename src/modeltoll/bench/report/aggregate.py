"""Results of several seeds brought together, and picked by what they tried."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from modeltoll.bench.checks import Check, check_across_results
from modeltoll.bench.formatting import MARK, failed_checks

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["Results", "SeedAggregate"]

_SAME = (
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
)


@dataclass(frozen=True, slots=True, eq=False)
class SeedAggregate:
    """The same experiment with one seed or several; ``doubts`` are the checks that some of them fail."""

    documents: tuple[Mapping[str, Any], ...]
    doubts: tuple[Check, ...]

    def __getitem__(self, member: str) -> Any:
        """What all seeds share, or the first seed's."""
        return self.documents[0][member]

    @property
    def mark(self) -> str:
        """A sign to stand beside its numbers where a check fails."""
        return f" {MARK}" if self.doubts else ""

    def mean(self, member: str, part: str | None = None) -> float | None:
        """The mean over the seeds of a member, or of a part of it; None where one of them has none."""
        found = [document[member] if part is None else document[member].get(part) for document in self.documents]
        return None if any(value is None for value in found) else float(np.mean(found))

    @property
    def first_alarm(self) -> float | None:
        """The mean row at which suspicion began, over the seeds with which it did; None where it never did."""
        found = [document["first_alarm"] for document in self.documents if document["first_alarm"] is not None]
        return float(np.mean(found)) if found else None

    def said(self, form: Callable[[float | None], str], member: str, part: str | None = None) -> str:
        """The mean as ``form`` says it, with the range over the seeds where there are several."""
        mean = form(self.mean(member, part))
        if len(self.documents) == 1 or self.mean(member, part) is None:
            return mean
        values = [document[member] if part is None else document[member][part] for document in self.documents]
        low, high = form(min(values)), form(max(values))
        return mean if low == high else f"{mean} ({low} to {high})"

    def bill(self, machine: str, member: str) -> float | None:
        """The mean of one number of a machine's bill; None where there is none."""
        found = [
            bill[member] for document in self.documents for bill in document["bills"] if bill["machine"] == machine
        ]
        return float(np.mean(found)) if found else None


class Results:
    """All results of a report."""

    def __init__(self, documents: Iterable[Mapping[str, Any]]) -> None:
        self.documents = tuple(documents)
        between = check_across_results(self.documents)
        groups: dict[tuple[Any, ...], list[Mapping[str, Any]]] = {}
        for document in self.documents:
            groups.setdefault(tuple(document.get(member, "") for member in _SAME), []).append(document)
        found = [SeedAggregate(tuple(group), tuple(_doubts(group, between))) for group in groups.values()]
        self.gathered = tuple(_by_budget(found))

    def of(self, *suites: str, **members: str) -> list[SeedAggregate]:
        """Those of the suites (any, where none is named) whose members are as given."""
        return [
            one
            for one in self.gathered
            if (not suites or one["suite"] in suites) and all(one[name] == value for name, value in members.items())
        ]

    def datasets(self, found: Sequence[SeedAggregate]) -> list[str]:
        """The data sets of these, in order."""
        return list(dict.fromkeys(one["dataset"] for one in found))

    def doubts(self) -> list[tuple[SeedAggregate, Check]]:
        """Every failed check with the experiment that it is about."""
        return [(one, check) for one in self.gathered for check in one.doubts]


def _by_budget(found: Sequence[SeedAggregate]) -> list[SeedAggregate]:
    """The same experiment with several budgets stands together, the smallest first; else the order stays."""
    names = [tuple(one.documents[0].get(member, "") for member in _SAME if member != "budget") for one in found]
    places = {name: place for place, name in reversed(list(enumerate(names)))}
    order = sorted(range(len(found)), key=lambda place: (places[names[place]], found[place]["budget"]))
    return [found[place] for place in order]


def _doubts(group: Sequence[Mapping[str, Any]], between: Mapping[tuple[Any, ...], Check]) -> Iterator[Check]:
    said = set()
    for document in group:
        checks = [Check(**check) for check in failed_checks(document)]
        key = tuple(document[member] for member in ("dataset", "attack", "profile", "seed", "budget"))
        if document["defence"] == "none" and key in between and not between[key].holds:
            checks.append(between[key])
        for check in checks:
            if check not in said:
                said.add(check)
                yield check
