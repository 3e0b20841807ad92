"""Sends rows to the running model server, one request at a time, and measures what its answers leak."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from modeltoll.errors import AnswerError, CalibrationError, UpstreamError, UpstreamTimeout
from modeltoll.gateway.protocols.protocol import JSON
from modeltoll.gateway.setup.row_requests import Refusals, ask_leaks, row_requests
from modeltoll.gateway.setup.row_table import RowTable
from modeltoll.gateway.upstream.upstream import NO_HEAD, RequestHead
from modeltoll.records import Leaks

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager

    from modeltoll.gateway.core.request import ServedModel
    from modeltoll.gateway.setup.honest_rows import RowsToSend
    from modeltoll.gateway.setup.row_requests import RowRequest, RowsOfFile
    from modeltoll.gateway.upstream.upstream import AnswerStream, Upstream
    from modeltoll.records import Answer, Floats, Integers, Progress

__all__ = ["HonestSample", "TimedUpstream", "measure_rows", "sample_rows"]

_WARM_UP = 20


@dataclass(frozen=True, slots=True, eq=False)
class HonestSample:
    """The leaks of honest rows, and the seconds that each took, (rows,); a request's are shared among its rows.

    ``kept``: the places, among the rows or recorded requests that were given, of those that were not refused.
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


class TimedUpstream:
    """A model server's client that notes in ``seconds`` how long its last prediction took."""

    def __init__(self, upstream: Upstream) -> None:
        self._upstream = upstream
        self.seconds = 0.0

    async def open(self) -> None:
        """See ``Upstream.open``."""
        await self._upstream.open()

    async def close(self) -> None:
        """See ``Upstream.close``."""
        await self._upstream.close()

    async def predict(self, path: str, body: bytes, content_type: str = JSON, head: RequestHead = NO_HEAD) -> Answer:
        """See ``Upstream.predict``."""
        begin = time.perf_counter()
        answer = await self._upstream.predict(path, body, content_type, head)
        self.seconds = time.perf_counter() - begin
        return answer

    def stream(
        self, path: str, body: bytes, content_type: str = JSON, head: RequestHead = NO_HEAD
    ) -> AbstractAsyncContextManager[AnswerStream]:
        """See ``Upstream.stream``; it is not timed."""
        return self._upstream.stream(path, body, content_type, head)

    async def fetch(self, path: str, head: RequestHead = NO_HEAD) -> Answer:
        """See ``Upstream.fetch``."""
        return await self._upstream.fetch(path, head)


async def measure_rows(
    served_model: ServedModel,
    upstream: Upstream,
    inputs: Floats | RowsOfFile,
    progress: Progress | None = None,
    refusals: Refusals | None = None,
) -> HonestSample:
    """Send honest rows, or recorded requests, to the model server, one at a time.

    Raises:
        UpstreamError: the model server does not answer.
        CalibrationError: a row was refused and is not left out, or all were; or the protocol or a measure failed.
    """
    refusals = refusals or Refusals()
    requests = await _requests(served_model, upstream, inputs)
    for each in requests[:_WARM_UP]:
        with contextlib.suppress(AnswerError, UpstreamError):  # it is asked again, and told then
            try:
                await upstream.predict(served_model.infer_path, each.body)
            except UpstreamTimeout:
                break
    timed, seconds, leaks, kept = TimedUpstream(upstream), [], [], []
    for done, each in enumerate(requests):
        found = await ask_leaks(served_model, timed, each, refusals)
        if found is not None:
            count = len(found.values)
            seconds += [timed.seconds / count] * count
            leaks.append(found)
            kept.append(done)
        if progress is not None:
            progress(done + 1, len(requests))
    _check_some(leaks, refusals)
    bodies = tuple(requests[place].body for place in kept)
    return HonestSample(
        served_model.service.model, _stacked(leaks), np.array(seconds), bodies, np.array(kept, dtype=np.int64)
    )


async def _requests(served_model: ServedModel, upstream: Upstream, inputs: Floats | RowsOfFile) -> list[RowRequest]:
    """One request per row, or those that were recorded."""
    described = served_model.metadata_path
    metadata = b"" if described is None else (await upstream.fetch(described)).body
    rows = RowTable.of_numbers(inputs) if isinstance(inputs, np.ndarray) else inputs
    return row_requests(served_model, metadata, rows)


def _check_some(leaks: Sequence[Leaks], refusals: Refusals) -> None:
    if not leaks:
        raise CalibrationError(f"every row was refused; the first one: {refusals.reasons[0]}")


def _stacked(leaks: Sequence[Leaks]) -> Leaks:
    """The leaks of several answers as those of one."""
    classes = [each.classes for each in leaks if each.classes is not None]
    values = np.vstack([each.values for each in leaks])
    return Leaks(leaks[0].measures, values, np.concatenate(classes) if len(classes) == len(leaks) else None)


async def _sampled(
    served_model: ServedModel,
    upstream: Upstream,
    rows: RowsToSend,
    progress: Callable[[int], None],
    refusals: Refusals,
) -> Leaks:
    """The leaks of rows that are not timed. Raises as ``measure_rows`` does, with the name of the rows."""
    leaks = []
    for done, each in enumerate(await _requests(served_model, upstream, rows.make()), start=1):
        try:
            found = await ask_leaks(served_model, upstream, each, refusals)
        except CalibrationError as error:
            raise CalibrationError(f"{rows.name}: {error}") from error
        if found is not None:
            leaks.append(found)
        progress(done)
    _check_some(leaks, refusals)
    return _stacked(leaks)


async def sample_rows(
    served_model: ServedModel,
    upstream: Upstream,
    rows: Sequence[RowsToSend],
    progress: Progress | None,
    refusals: Refusals | None = None,
) -> tuple[Leaks, ...]:
    """The leaks of rows that are not timed, in order. Raises as ``measure_rows`` does, with the name of the rows."""
    total, before, leaks = sum(each.count for each in rows), 0, []
    for each in rows:
        start = before

        def report(done: int, start: int = start) -> None:
            if progress is not None:
                progress(start + done, total)

        leaks.append(await _sampled(served_model, upstream, each, report, refusals or Refusals()))
        before += each.count
    return tuple(leaks)
