"""Reads the last day of a ledger's log in short pages; its first line is found by bisection."""

from __future__ import annotations

import asyncio
import math
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from modeltoll.gateway.admin.dashboard.log_arrays import DAY, LogTail, pages_of
from modeltoll.gateway.admin.dashboard.suspected_since import SuspicionMemory

if TYPE_CHECKING:
    from collections.abc import Sequence

    from modeltoll.gateway.admin.dashboard.log_arrays import LogPage
    from modeltoll.records import LogEntry

__all__ = ["LogReads", "LogTailReader", "TailLimits"]


class LogReads(Protocol):
    """The method of ``Ledger`` that reads the log."""

    async def log(self, after: int, limit: int) -> Sequence[tuple[int, str, LogEntry]]:
        """A page of the log: (line number, caller's hash, entry) for line numbers above ``after``, ascending."""


@dataclass(frozen=True, slots=True)
class TailLimits:
    """Limits of one read (``page`` lines, about ``page_rows`` rows) and of what is kept in memory (``lines``, ``rows``)."""

    page: int = 250
    page_rows: int = 2_000
    lines: int = 50_000
    rows: int = 200_000


class LogTailReader:
    """Keeps the log of the last day in memory, within the limits; reads no line twice."""

    def __init__(self, log: LogReads, limits: TailLimits) -> None:
        self._log = log
        self._limits = limits
        self._pages: deque[LogPage] = deque()
        self._after: int | None = None  # the number of the last line that was read
        self._dropped_until = -math.inf  # time of the newest line that was dropped
        self._lines = self._rows = 0
        self._memory = SuspicionMemory()
        self._page_size = 1  # lines of the next page

    async def tail(self, now: float) -> LogTail:
        """The lines of the 24 hours before ``now``, in seconds since the epoch."""
        if self._after is None or not await self._read_new_lines(self._after):
            await self._read_new_lines(await self._find_start(now - DAY))
        since = now - DAY
        while self._pages and self._pages[0].at[-1] < since:
            self._drop_oldest()
        complete = self._dropped_until < since
        return LogTail(
            tuple(self._pages), since if complete else self._dropped_until, now, complete, self._memory.state
        )

    async def _read_new_lines(self, after: int) -> bool:
        """Read the new lines; False if they are more than may be kept."""
        read = 0
        while read <= self._limits.lines:
            page_size = self._page_size
            lines = await self._log.log(after, page_size)
            if lines:
                after = lines[-1][0]
                self._append(lines)
            self._after = after
            if len(lines) < page_size:
                return True
            read += len(lines)
            await asyncio.sleep(0)  # let requests run
        return False

    def _append(self, lines: Sequence[tuple[int, str, LogEntry]]) -> None:
        pages = pages_of(lines)
        self._pages.extend(pages)
        rows = sum(len(page.rarest) for page in pages)
        self._lines += len(lines)
        self._rows += rows
        while len(self._pages) > 1 and (self._lines > self._limits.lines or self._rows > self._limits.rows):
            self._dropped_until = max(self._dropped_until, float(self._drop_oldest().at[-1]))
        largest = int(self._limits.page_rows * len(lines) / max(1, rows))
        self._page_size = max(1, min(self._limits.page, largest))

    def _drop_oldest(self) -> LogPage:
        page = self._pages.popleft()
        self._memory.drop(page)
        self._lines -= len(page.at)
        self._rows -= len(page.rarest)
        return page

    async def _find_start(self, since: float) -> int:
        """Drop all lines, and find the line number after which to read: before the first line since ``since``, or later
        if there are too many lines."""
        self._after = None  # an interrupted search is repeated
        self._pages.clear()
        self._memory.clear()
        self._dropped_until, self._lines, self._rows, self._page_size = -math.inf, 0, 0, 1
        first = await self._first_line_after(0)
        if first is None:
            return 0
        last = await self._last_number(first[0])
        low, high = first[0], last + 1
        while low < high:  # lines below ``low`` are older
            middle = (low + high) // 2
            found = await self._first_line_after(middle - 1)
            if found is None or found[1] >= since:
                high = middle
            else:
                low = found[0] + 1
        after = max(low - 1, last - self._limits.lines)
        if after >= low and (before_first := await self._first_line_after(after - 1)) is not None:
            self._dropped_until = before_first[1]
        return after

    async def _last_number(self, known: int) -> int:
        """The number of the last line; ``known`` is the number of some line."""
        step = 1
        while found := await self._first_line_after(known + step - 1):
            known, step = found[0], 2 * step
        beyond = known + step
        while beyond - known > 1:
            middle = (known + beyond) // 2
            if found := await self._first_line_after(middle - 1):
                known = found[0]
            else:
                beyond = middle
        return known

    async def _first_line_after(self, after: int) -> tuple[int, float] | None:
        """Number and time of the first line after ``after``, or None."""
        lines = await self._log.log(after, 1)
        return (lines[0][0], lines[0][2].at) if lines else None
