"""Follows the end of a ledger's log, in short pages: where the last day begins is found by bisection."""

from __future__ import annotations

import asyncio
import math
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from modeltoll.gateway.admin.dashboard.log_arrays import DAY, LogTail, pages_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from modeltoll.gateway.admin.dashboard.log_arrays import LogPage
    from modeltoll.records import LogEntry

__all__ = ["LogReads", "LogTailReader", "TailLimits"]


class LogReads(Protocol):
    """A log; see ``Ledger``."""

    async def log(self, after: int, limit: int) -> Sequence[tuple[int, str, LogEntry]]:
        """A page of the log: (line number, hashed caller, bill) for line numbers above ``after``, ascending."""


@dataclass(frozen=True, slots=True)
class TailLimits:
    """How much of a log is read at once, ``page`` lines and some ``page_rows`` rows, and how much of it is held."""

    page: int = 250
    page_rows: int = 2_000
    lines: int = 50_000
    rows: int = 200_000


class LogTailReader:
    """Holds what the log says of the last day, as far as the bounds allow, and asks for no line twice."""

    def __init__(self, log: LogReads, bounds: TailLimits) -> None:
        self._log = log
        self._bounds = bounds
        self._pages: deque[LogPage] = deque()
        self._after: int | None = None  # the number of the last line that was read
        self._cut = -math.inf  # when the newest line was written that was left out
        self._lines = self._rows = 0
        self._size = 1  # of the next page

    async def tail(self, now: float) -> LogTail:
        """The lines of the day that ends ``now``, in seconds since the epoch."""
        if self._after is None or not await self._catch_up(self._after):
            await self._catch_up(await self._begin(now - DAY))
        since = now - DAY
        while self._pages and self._pages[0].at[-1] < since:
            self._drop()
        whole = self._cut < since
        return LogTail(tuple(self._pages), since if whole else self._cut, now, whole)

    async def _catch_up(self, after: int) -> bool:
        """Read what is new; False where that is more than may be held."""
        read = 0
        while read <= self._bounds.lines:
            size = self._size
            lines = await self._log.log(after, size)
            if lines:
                after = lines[-1][0]
                self._take(lines)
            self._after = after
            if len(lines) < size:
                return True
            read += len(lines)
            await asyncio.sleep(0)  # callers first
        return False

    def _take(self, lines: Sequence[tuple[int, str, LogEntry]]) -> None:
        pages = pages_of(lines)
        self._pages.extend(pages)
        rows = sum(len(page.rarest) for page in pages)
        self._lines += len(lines)
        self._rows += rows
        while len(self._pages) > 1 and (self._lines > self._bounds.lines or self._rows > self._bounds.rows):
            self._cut = max(self._cut, float(self._drop().at[-1]))
        most = int(self._bounds.page_rows * len(lines) / max(1, rows))
        self._size = max(1, min(self._bounds.page, most))

    def _drop(self) -> LogPage:
        page = self._pages.popleft()
        self._lines -= len(page.at)
        self._rows -= len(page.rarest)
        return page

    async def _begin(self, since: float) -> int:
        """Forget what is held; the number of the line to read on from, so that no line since then is missed, or the
        latest ones where those are too many."""
        self._after = None  # whoever is interrupted here begins anew
        self._pages.clear()
        self._cut, self._lines, self._rows, self._size = -math.inf, 0, 0, 1
        first = await self._line(0)
        if first is None:
            return 0
        last = await self._last(first[0])
        low, high = first[0], last + 1
        while low < high:  # lines below ``low`` are older
            middle = (low + high) // 2
            found = await self._line(middle - 1)
            if found is None or found[1] >= since:
                high = middle
            else:
                low = found[0] + 1
        after = max(low - 1, last - self._bounds.lines)
        if after >= low and (cut := await self._line(after - 1)) is not None:
            self._cut = cut[1]
        return after

    async def _last(self, known: int) -> int:
        """The number of the last line, of which one number is known."""
        step = 1
        while found := await self._line(known + step - 1):
            known, step = found[0], 2 * step
        beyond = known + step
        while beyond - known > 1:
            middle = (known + beyond) // 2
            if found := await self._line(middle - 1):
                known = found[0]
            else:
                beyond = middle
        return known

    async def _line(self, after: int) -> tuple[int, float] | None:
        """Number and time of the first line above that number, if there is one."""
        lines = await self._log.log(after, 1)
        return (lines[0][0], lines[0][2].at) if lines else None
