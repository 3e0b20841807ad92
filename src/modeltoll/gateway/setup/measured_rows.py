"""Sends rows to the running model server, one at a time, and measures what its answers leak."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from modeltoll.errors import CalibrationError
from modeltoll.gateway.setup.plugin_exceptions import plugin_exceptions
from modeltoll.records import Leaks

if TYPE_CHECKING:
    from modeltoll.gateway.core.request import ServedModel
    from modeltoll.gateway.setup.honest_rows import RowsToSend
    from modeltoll.gateway.upstream.upstream import Upstream
    from modeltoll.records import Answer, Floats, Progress

__all__ = ["HonestSample", "measure_rows", "sample_rows"]

_ANSWERED = 200
_WARM_UP = 20


@dataclass(frozen=True, slots=True, eq=False)
class HonestSample:
    """The leaks of honest rows, and the seconds that each took, (rows,), with one row in each request."""

    model: str
    leaks: Leaks
    seconds: Floats
    requests: tuple[bytes, ...] = field(repr=False)

    @property
    def undefended_seconds(self) -> float:
        """The median time of one row without a gateway."""
        return float(np.median(self.seconds))


async def measure_rows(
    served_model: ServedModel, upstream: Upstream, inputs: Floats, progress: Progress | None = None
) -> HonestSample:
    """Send honest rows, (rows, dimensions), to the model server, one at a time.

    Raises:
        UpstreamError, AnswerError: the model server does not answer, or not as its settings declare.
        CalibrationError: it refused a row, or the protocol or a measure failed.
    """
    requests = await _requests(served_model, upstream, inputs)
    for body in requests[:_WARM_UP]:
        await upstream.predict(served_model.infer_path, body)
    seconds, leaks = [], []
    for done, body in enumerate(requests, start=1):
        begin = time.perf_counter()
        answer = await upstream.predict(served_model.infer_path, body)
        seconds.append(time.perf_counter() - begin)
        leaks.append(_leaks_of(served_model, body, answer, done))
        if progress is not None:
            progress(done, len(requests))
    return HonestSample(served_model.service.model, _stacked(leaks), np.array(seconds), tuple(requests))


async def _requests(served_model: ServedModel, upstream: Upstream, inputs: Floats) -> list[bytes]:
    """One request per row."""
    described = served_model.metadata_path
    metadata = b"" if described is None else (await upstream.fetch(described)).body
    with plugin_exceptions(served_model):
        return [served_model.protocol.ask(row[None], metadata, served_model.service) for row in inputs]


def _leaks_of(served_model: ServedModel, body: bytes, answer: Answer, row: int) -> Leaks:
    if answer.status != _ANSWERED:
        reason = served_model.protocol.error_text(answer)
        raise CalibrationError(f"the model server refused row {row} with status {answer.status}: {reason}")
    with plugin_exceptions(served_model):
        parsed = served_model.read(body)
        return served_model.leaks(parsed, answer, clean=True)


def _stacked(leaks: Sequence[Leaks]) -> Leaks:
    """The leaks of several answers as those of one."""
    classes = [each.classes for each in leaks if each.classes is not None]
    values = np.vstack([each.values for each in leaks])
    return Leaks(leaks[0].measures, values, np.concatenate(classes) if len(classes) == len(leaks) else None)


async def _sampled(
    served_model: ServedModel, upstream: Upstream, rows: RowsToSend, progress: Callable[[int], None]
) -> Leaks:
    """The leaks of rows that are not timed. Raises as ``measure_rows`` does, with the name of the rows."""
    leaks = []
    for done, body in enumerate(await _requests(served_model, upstream, rows.make()), start=1):
        answer = await upstream.predict(served_model.infer_path, body)
        try:
            leaks.append(_leaks_of(served_model, body, answer, done))
        except CalibrationError as error:
            raise CalibrationError(f"{rows.name}: {error}") from error
        progress(done)
    return _stacked(leaks)


async def sample_rows(
    served_model: ServedModel, upstream: Upstream, rows: Sequence[RowsToSend], progress: Progress | None
) -> tuple[Leaks, ...]:
    """The leaks of rows that are not timed, in order. Raises as ``measure_rows`` does, with the name of the rows."""
    total, before, leaks = sum(each.count for each in rows), 0, []
    for each in rows:
        start = before

        def report(done: int, start: int = start) -> None:
            if progress is not None:
                progress(start + done, total)

        leaks.append(await _sampled(served_model, upstream, each, report))
        before += each.count
    return tuple(leaks)
