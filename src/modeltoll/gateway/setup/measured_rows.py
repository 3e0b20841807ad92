"""Measures what the answers to honest rows, and to rows of kinds and strangers, leak, and the time of a row."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from modeltoll.errors import CalibrationError
from modeltoll.gateway.setup.row_sender import SINGLE_ROWS, RowSender, SentRows

if TYPE_CHECKING:
    from collections.abc import Sequence

    from modeltoll.gateway.setup.honest_rows import RowsToSend
    from modeltoll.gateway.setup.row_requests import RowsOfFile
    from modeltoll.gateway.setup.row_sender import Done
    from modeltoll.records import Floats, Integers, Leaks, Progress

__all__ = ["TIMED_REQUESTS", "HonestSample", "measure_rows", "sample_rows"]

TIMED_REQUESTS = 100  # that measure the gateway's own time
_WARM_UP = 20


@dataclass(frozen=True, slots=True, eq=False)
class HonestSample:
    """The leaks of honest rows, and the seconds that each row took which was sent alone; a request's are shared among its rows.

    ``requests``: the first bodies. ``kept``: the places, among the rows or recorded requests that were given, of those that
    were not refused.
    """

    model: str
    leaks: Leaks
    seconds: Floats
    requests: tuple[bytes, ...] = field(repr=False)
    kept: Integers = field(repr=False)

    @property
    def undefended_seconds(self) -> float:
        """The median time of one row without a gateway."""
        return float(np.median(self.seconds))


async def measure_rows(
    sender: RowSender, inputs: Floats | RowsOfFile, progress: Progress | None = None
) -> HonestSample:
    """Send honest rows, or recorded requests, to the model server; up to 500 of them, evenly spread, one at a time and timed.

    The others go in batches, if the server answers a batch with the same leaks, and faster; else one at a time too.

    Raises:
        UpstreamError: the model server does not answer.
        CalibrationError: a row was refused and is not left out, or all were; or the protocol or a measure failed.
    """
    writer = await sender.writer(inputs)
    count = len(writer)
    await sender.warm_up(writer, range(min(_WARM_UP, count)))
    timed = np.linspace(0, count - 1, min(count, SINGLE_ROWS)).astype(int) if writer.batches else np.arange(count)
    sent, done = SentRows(), _counted(progress, count)
    seconds = await sender.alone(writer, timed.tolist(), sent, done)
    bodies = tuple(writer.request((place,)).body for place in sent.kept[:TIMED_REQUESTS].tolist())
    await sender.rest(writer, np.setdiff1d(np.arange(count), timed).tolist(), sent, seconds, done)
    return HonestSample(sender.model, sender.stacked(sent), np.array(seconds), bodies, sent.kept)


def _counted(progress: Progress | None, most: int, before: int = 0) -> Done:
    """Counts rows and reports how many of ``most`` were sent, ``before`` of them earlier."""
    count = before

    def done(rows: int) -> None:
        nonlocal count
        count += rows
        if progress is not None:
            progress(count, most)

    return done


async def sample_rows(
    sender: RowSender, rows: Sequence[RowsToSend], progress: Progress | None = None
) -> tuple[Leaks, ...]:
    """The leaks of rows that are not timed, in order. Raises as ``measure_rows`` does, with the name of the rows."""
    total = sum(each.count for each in rows)
    done, leaks = _counted(progress, total), []
    for each in rows:
        sent = SentRows()
        try:
            await sender.untimed(await sender.writer(each.make()), sent, done)
        except CalibrationError as error:
            raise CalibrationError(f"{each.name}: {error}") from error
        leaks.append(sender.stacked(sent))
    return tuple(leaks)
