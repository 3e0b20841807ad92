"""Sends rows to the running model server: some one at a time, the others in batches where these leak the same and are faster."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from modeltoll.errors import AnswerError, CalibrationError, UpstreamError, UpstreamTimeout
from modeltoll.gateway.protocols.protocol import JSON
from modeltoll.gateway.setup.row_requests import Refusals, RowWriter, ask_leaks
from modeltoll.gateway.setup.row_table import RowTable
from modeltoll.gateway.upstream.upstream import NO_HEAD, RequestHead, UpstreamWrapper
from modeltoll.names import TOKENS
from modeltoll.records import Leaks

if TYPE_CHECKING:
    from modeltoll.gateway.core.request import ServedModel
    from modeltoll.gateway.setup.row_requests import RowRequest, RowsOfFile
    from modeltoll.gateway.upstream.upstream import Upstream
    from modeltoll.records import Answer, Floats, Integers

__all__ = ["SINGLE_ROWS", "RowSender", "SentRows", "TimedUpstream"]

SINGLE_ROWS = 500  # of honest rows, sent one at a time and timed; the median of so many is known within a few percent
_TRIAL_ROWS = 100  # of rows that are not timed, before batches are tried
_BATCHES = (32, 8)  # rows of a request, the larger tried first
_BATCH_SECONDS, _BATCH_BYTES = 5.0, 8 << 20  # that a batch may take, by the rows that were sent alone
_FASTER = 0.7  # of the time of a row, that a row of a batch must take at most
_RANKS = 0.01  # of all places, by which a row's may move when it is sent in a batch
_SAME, _SAME_SMALL = 1e-9, 1e-15  # relative and absolute rounding

Done: TypeAlias = Callable[[int], None]


class TimedUpstream(UpstreamWrapper):
    """A model server's client that notes in ``seconds`` how long its last prediction took. Streams are not timed."""

    def __init__(self, upstream: Upstream, clock: Callable[[], float] = time.perf_counter) -> None:
        super().__init__(upstream)
        self._clock = clock
        self.seconds = 0.0

    async def predict(self, path: str, body: bytes, content_type: str = JSON, head: RequestHead = NO_HEAD) -> Answer:
        """See ``Upstream.predict``."""
        begin = self._clock()
        answer = await self._upstream.predict(path, body, content_type, head)
        self.seconds = self._clock() - begin
        return answer


@dataclass(slots=True)  # it collects
class SentRows:
    """The leaks of rows that were not refused, and the places of their requests in the file, for each request."""

    leaks: list[Leaks] = field(default_factory=list)
    places: list[Sequence[int]] = field(default_factory=list)

    def add(self, places: Sequence[int], leaks: Leaks) -> None:
        """The answer to one request: one row for each place, or some rows for the one place of a recorded request."""
        self.places.append(places)
        self.leaks.append(leaks)

    @property
    def kept(self) -> Integers:
        """The places of all, in order."""
        return np.sort(np.array([place for places in self.places for place in places], dtype=np.int64))

    def stacked(self) -> Leaks:
        """All leaks in the order of the file."""
        rows = zip(self.places, self.leaks, strict=True)
        repeated = [np.resize(np.asarray(places), len(leaks.values)) for places, leaks in rows]
        order = np.argsort(np.concatenate(repeated), kind="stable")
        classes = [each.classes for each in self.leaks if each.classes is not None]
        values = np.vstack([each.values for each in self.leaks])[order]
        return Leaks(
            self.leaks[0].measures, values, np.concatenate(classes)[order] if len(classes) == len(self.leaks) else None
        )


class RowSender:
    """Sends rows to one model, and decides once whether they may go in batches.

    ``rows_per_request``: None until a batch of rows that were sent alone before was tried.
    """

    def __init__(
        self,
        served_model: ServedModel,
        upstream: Upstream,
        refusals: Refusals,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._served_model, self._upstream = served_model, TimedUpstream(upstream, clock)
        self._refusals = refusals
        self.rows_per_request: int | None = None

    async def writer(self, inputs: Floats | RowsOfFile) -> RowWriter:
        """Writes the requests of rows, as the model describes itself."""
        described = self._served_model.metadata_path
        metadata = b"" if described is None else (await self._upstream.fetch(described)).body
        rows = RowTable.of_numbers(inputs) if isinstance(inputs, np.ndarray) else inputs
        return RowWriter(self._served_model, metadata, rows)

    @property
    def model(self) -> str:
        """The name of the model in the settings."""
        return self._served_model.service.model

    def stacked(self, sent: SentRows) -> Leaks:
        """All leaks in the order of the file.

        Raises:
            CalibrationError: every row was refused.
        """
        if not sent.leaks:
            raise CalibrationError(f"every row was refused; the first one: {self._refusals.reasons[0]}")
        return sent.stacked()

    async def warm_up(self, writer: RowWriter, places: Sequence[int]) -> None:
        """Send rows whose answers do not count. Whether one is refused is told when it is sent again."""
        for place in places:
            with contextlib.suppress(AnswerError, UpstreamError):
                try:
                    await self._upstream.predict(self._served_model.infer_path, writer.request((place,)).body)
                except UpstreamTimeout:
                    break

    async def ask(self, request: RowRequest) -> tuple[Leaks | None, float]:
        """The leaks of a request's rows, None where it was refused and is left out, and the seconds that it took."""
        found = await ask_leaks(self._served_model, self._upstream, request, self._refusals)
        return found, self._upstream.seconds

    async def alone(self, writer: RowWriter, places: Sequence[int], sent: SentRows, done: Done) -> list[float]:
        """Send these rows one at a time. Returns the seconds of each row that was not refused."""
        seconds: list[float] = []
        for place in places:
            found, took = await self.ask(writer.request((place,)))
            if found is not None:
                sent.add((place,), found)
                seconds += [took / len(found.values)] * len(found.values)
            done(1)
        return seconds

    async def rest(
        self, writer: RowWriter, places: Sequence[int], sent: SentRows, seconds: Sequence[float], done: Done
    ) -> None:
        """Send these rows, in batches if those in ``sent``, which took so many ``seconds`` alone, leak the same in one.

        Rows that lack a value go alone.
        """
        if self.rows_per_request is None:
            self.rows_per_request = await self._try_batches(writer, sent, seconds) if places else None
        step = self.rows_per_request if writer.batches and self.rows_per_request else 1
        together = [place for place in places if writer.complete(place)] if step > 1 else []
        for start in range(0, len(together), step):
            part = together[start : start + step]
            found = await self._batch(writer, part) if len(part) > 1 else None
            if found is None:  # its rows are sent again, so that a refused one is named
                await self.alone(writer, part, sent, done)
            else:
                sent.add(part, found)
                done(len(part))
        await self.alone(writer, [place for place in places if step == 1 or not writer.complete(place)], sent, done)

    async def untimed(self, writer: RowWriter, sent: SentRows, done: Done) -> None:
        """Send all rows, none of which is to be timed."""
        first = range(len(writer) if self.rows_per_request is None else 0)[:_TRIAL_ROWS]
        seconds = await self.alone(writer, first, sent, done)
        await self.rest(writer, range(len(first), len(writer)), sent, seconds, done)

    async def _batch(self, writer: RowWriter, places: Sequence[int]) -> Leaks | None:
        """The leaks of rows in one request; None where it was refused, or has no leak for each of them.

        Raises:
            UpstreamError: the model server is down.
        """
        try:
            request = writer.request(places)
            found = await ask_leaks(self._served_model, self._upstream, request, Refusals(leave_out=True))
        except (AnswerError, CalibrationError):
            return None
        return found if found is not None and len(found.values) == len(places) else None

    async def _try_batches(self, writer: RowWriter, sent: SentRows, seconds: Sequence[float]) -> int:
        """How many rows a request may have: 1 where a batch is refused, leaks otherwise than its rows alone, or is not faster."""
        kept = np.array([places[0] for places in sent.places], dtype=np.int64)
        of_whole = np.flatnonzero([writer.complete(place) for place in kept.tolist()])  # among those in ``sent``
        if not writer.batches or not len(of_whole) or self._served_model.service.kind == TOKENS:
            return 1
        row_seconds = float(np.median(seconds))
        row_bytes = max(len(writer.request((place,)).body) for place in kept[:5].tolist())
        fitting = min(
            _BATCH_SECONDS / max(row_seconds, 1e-6), _BATCH_BYTES / row_bytes, self._served_model.service.max_rows
        )
        alone = sent.stacked()
        for count in (batch for batch in _BATCHES if batch <= min(fitting, len(of_whole))):
            rows = of_whole[np.linspace(0, len(of_whole) - 1, count).astype(int)]
            together = await self._batch(writer, kept[rows].tolist())
            faster = self._upstream.seconds <= _FASTER * row_seconds * count
            if together is not None and faster and _leak_the_same(alone, rows, together):
                return count
        return 1


def _leak_the_same(alone: Leaks, rows: Integers, together: Leaks) -> bool:
    """Whether rows of a batch have the places among all rows that they have alone, and the same predicted classes."""
    if alone.classes is not None and (together.classes is None or (alone.classes[rows] != together.classes).any()):
        return False
    moved = 0
    for column, values in zip(alone.values.T, together.values.T, strict=True):
        ordered, own = np.sort(column), column[rows]
        low, high = _ranks(ordered, own)
        lowest, highest = _ranks(ordered, values)
        moved = max(moved, int(np.maximum(lowest - high, low - highest).max()))
    return moved <= _RANKS * len(alone.values)


def _ranks(ordered: Floats, values: Floats) -> tuple[Integers, Integers]:
    """The lowest and the highest place of each value among ordered ones, for what rounding may change."""
    margin = _SAME * np.abs(values) + _SAME_SMALL
    return np.searchsorted(ordered, values - margin, "left"), np.searchsorted(ordered, values + margin, "right")
