"""Since when callers have been suspected, from the lines of the log, including those that are no longer kept."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from modeltoll.gateway.admin.dashboard.log_arrays import DayLog, LogPage

__all__ = ["SuspectedSince", "SuspicionMemory", "suspected_since"]

_CALLERS = 20_000  # whose last dropped line is remembered, those of the latest lines


@dataclass(frozen=True, slots=True)
class SuspectedSince:
    """Since when a caller has been suspected, without a line in between that was not.

    ``at``: seconds since the epoch. ``exact``: an earlier line of the caller was read that was not suspected; else it may
    have been suspected for longer, or from its first line on. ``rows``: of the caller's lines since then.
    """

    at: float
    exact: bool
    rows: int


class SuspicionMemory:
    """For each model and caller (hash) of dropped lines, since when it was suspected at the last of them, or None."""

    def __init__(self) -> None:
        self._since: OrderedDict[tuple[str, str], SuspectedSince | None] = OrderedDict()

    @property
    def state(self) -> Mapping[tuple[str, str], SuspectedSince | None]:
        """By model and hash; a caller that is missing has no dropped line that is remembered."""
        return MappingProxyType(dict(self._since))

    def clear(self) -> None:
        """Forget everything, where lines were skipped."""
        self._since.clear()

    def drop(self, page: LogPage) -> None:
        """Remember what the lines of a dropped page say. Pages are dropped in the order of the log."""
        lines = zip(page.callers, page.at.tolist(), page.rows.tolist(), page.suspected.tolist(), strict=True)
        for hashed, at, rows, suspected in lines:
            key = page.model, hashed
            before = self._since.pop(key, _UNKNOWN)
            self._since[key] = _after(before, at, rows) if suspected else None
        while len(self._since) > _CALLERS:
            self._since.popitem(last=False)


_UNKNOWN = SuspectedSince(0.0, exact=False, rows=-1)


def _after(before: SuspectedSince | None, at: float, rows: int) -> SuspectedSince:
    """The state after suspected lines with so many rows, the first of them at ``at``."""
    if before is None or before is _UNKNOWN:
        return SuspectedSince(at, before is None, rows)
    return SuspectedSince(before.at, before.exact, before.rows + rows)


def suspected_since(day: DayLog) -> dict[str, SuspectedSince]:
    """By hash, the callers who are suspected at their last line of the day or, without one, at their last dropped line."""
    lines, count = np.arange(len(day.at)), len(day.hashes)
    last_unsuspected = np.full(count, -1)
    np.maximum.at(last_unsuspected, day.callers[~day.suspected], lines[~day.suspected])
    tail = lines > last_unsuspected[day.callers]  # the suspected lines at each caller's end
    first = np.full(count, len(lines))
    np.minimum.at(first, day.callers[tail], lines[tail])
    rows = np.bincount(day.callers[tail], day.rows[tail], count).astype(np.int64)
    present = np.zeros(count, np.bool_)
    present[day.callers] = True
    found = {hashed: since for hashed, since in day.suspected_before.items() if since is not None}
    for index in np.flatnonzero(present).tolist():
        hashed = day.hashes[index]
        if first[index] == len(lines):
            found.pop(hashed, None)
            continue
        earlier_line = last_unsuspected[index] >= 0
        before = None if earlier_line else day.suspected_before.get(hashed, _UNKNOWN)
        found[hashed] = _after(before, float(day.at[first[index]]), int(rows[index]))
    return found
