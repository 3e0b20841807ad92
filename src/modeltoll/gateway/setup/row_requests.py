"""Writes the request of each row as the model's protocol has it, and says which row a model server refused, and why."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from modeltoll.errors import AnswerError, CalibrationError, ModeltollError, UpstreamError, UpstreamTimeout
from modeltoll.gateway.setup.plugin_exceptions import plugin_exceptions
from modeltoll.gateway.setup.row_table import RecordedRequests, RowTable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from modeltoll.gateway.core.request import ServedModel
    from modeltoll.gateway.upstream.upstream import Upstream
    from modeltoll.records import Answer, Leaks

__all__ = ["Refusals", "RowRequest", "RowWriter", "RowsOfFile", "ask_leaks", "refusal_reason", "row_requests"]

RowsOfFile = RowTable | RecordedRequests
_ANSWERED = 200
_REASON_CHARACTERS = 300
_SHOWN = 5  # refusals that are told one by one


@dataclass(frozen=True, slots=True)
class RowRequest:
    """The body of a request, and the place in its file that it comes from, for people."""

    body: bytes
    where: str


@dataclass(slots=True)  # it collects
class Refusals:
    """Rows that the model server, or the gateway, refused: the first one is an error, unless they are left out."""

    leave_out: bool = False
    reasons: list[str] = field(default_factory=list)

    def add(self, where: str, reason: str) -> None:
        """A row was refused.

        Raises:
            CalibrationError: refused rows are not left out.
        """
        if not self.leave_out:
            raise CalibrationError(f"{where}: {reason}")
        self.reasons.append(f"{where}: {reason}")

    def summary(self, sent: int) -> list[str]:
        """What was left out, for people; nothing where nothing was."""
        if not self.reasons:
            return []
        more = len(self.reasons) - _SHOWN
        lines = [f"{len(self.reasons)} of {sent} rows were refused and left out", *self.reasons[:_SHOWN]]
        return [*lines, f"and {more} more"] if more > 0 else lines


class RowWriter:
    """Writes requests of rows, as the model's protocol has them; recorded ones as they are.

    Raises:
        CalibrationError: the rows lack an input of the model.
    """

    def __init__(self, served_model: ServedModel, metadata: bytes, rows: RowsOfFile) -> None:
        self._served_model, self._metadata, self._rows = served_model, metadata, rows
        self._order = None if isinstance(rows, RecordedRequests) else _columns(rows, served_model)
        self.batches = not isinstance(rows, RecordedRequests) and served_model.service.batched
        self._lacking = None if isinstance(rows, RecordedRequests) else _lacking_a_value(rows)

    def __len__(self) -> int:
        return len(self._rows)

    def complete(self, place: int) -> bool:
        """Whether a row lacks no value. A server may read a missing value otherwise beside rows that have one in its place."""
        return self._lacking is not None and place not in self._lacking

    def request(self, places: Sequence[int]) -> RowRequest:
        """The request of these rows, of one alone unless ``batches`` says that there may be more.

        Raises:
            AnswerError: the protocol cannot write such rows. CalibrationError: it knows no texts or names.
        """
        rows = self._rows
        where = rows.where(places[0]) + (f" to {rows.where(places[-1])}" if len(places) > 1 else "")
        if isinstance(rows, RecordedRequests):
            return RowRequest(rows.bodies[places[0]], where)
        with plugin_exceptions(self._served_model):
            return RowRequest(self._body(rows, places), where)

    def _body(self, rows: RowTable, places: Sequence[int]) -> bytes:
        service = self._served_model.service
        if self._order is None and all(not words for words in rows.words):
            return self._served_model.protocol.ask(rows.numbers[list(places)], self._metadata, service)
        values = [rows.values(row) for row in places]
        if self._order is None:
            return _ask_values(self._served_model, rows.columns, values, self._metadata)
        names = tuple(rows.columns[place] for place in self._order)
        chosen = [[row[place] for place in self._order] for row in values]
        return _ask_values(self._served_model, names, chosen, self._metadata)


def _lacking_a_value(rows: RowTable) -> frozenset[int]:
    return frozenset(np.flatnonzero(np.isnan(rows.numbers).any(axis=1)).tolist())


def row_requests(served_model: ServedModel, metadata: bytes, rows: RowsOfFile) -> list[RowRequest]:
    """One request per row; recorded ones as they are. Raises as ``RowWriter`` and its ``request`` do."""
    writer = RowWriter(served_model, metadata, rows)
    return [writer.request((row,)) for row in range(len(writer))]


def _ask_values(served_model: ServedModel, names: tuple[str, ...], rows: list[list[Any]], metadata: bytes) -> bytes:
    """A request of rows. A protocol of another package may know rows of numbers only."""
    ask = getattr(served_model.protocol, "ask_values", None)
    if ask is None:
        raise CalibrationError(
            f"protocol {served_model.protocol.name} writes no requests of texts or named values; give --requests"
        )
    body: bytes = ask(names, rows, metadata, served_model.service)
    return body


def _columns(rows: RowTable, served_model: ServedModel) -> list[int] | None:
    """The places of the model's declared inputs among the columns; None where the columns are taken as they stand.

    Raises:
        CalibrationError: the rows have names, and lack some of the inputs.
    """
    inputs = served_model.service.inputs
    if not rows.columns or not inputs:
        return list(range(len(rows.columns))) or None
    names = [one.name for one in inputs]
    if set(names) <= set(rows.columns):
        return [rows.columns.index(name) for name in names]
    widths = [one.width for one in inputs]
    if None not in widths and sum(width or 0 for width in widths) == len(rows.columns):
        return None  # such as 64 columns of pixels for one tensor
    if len(names) == 1 and len(rows.columns) == 1:
        return [0]
    missing = [name for name in names if name not in rows.columns]
    raise CalibrationError(f"{rows.source} lacks the model's {', '.join(missing)}; it has {', '.join(rows.columns)}")


async def ask_leaks(
    served_model: ServedModel, upstream: Upstream, request: RowRequest, refusals: Refusals
) -> Leaks | None:
    """Send a request; the leaks of its rows, or None where it was refused and is left out.

    Raises:
        CalibrationError: it was refused, by the model server or by the gateway. UpstreamError: the model server is down.
    """
    try:
        with plugin_exceptions(served_model):
            parsed = served_model.read(request.body)
        answer = await upstream.predict(served_model.path_of(parsed), parsed.forward or request.body)
        if answer.status != _ANSWERED:
            refusals.add(request.where, refusal_reason(served_model, answer))
            return None
        with plugin_exceptions(served_model):
            return served_model.leaks(parsed, answer, clean=True)
    except UpstreamTimeout as error:
        refusals.add(request.where, str(error))
    except UpstreamError as error:
        if not await _is_there(served_model, upstream):
            raise
        refusals.add(request.where, f"the model server closed the connection instead of an answer ({error.private})")
    except CalibrationError:
        raise
    except ModeltollError as error:
        reason = f"{error} ({error.private})" if error.private else str(error)
        refused = "" if isinstance(error, AnswerError) else "the gateway refuses it: "
        refusals.add(request.where, f"{refused}{reason}")
    return None


async def _is_there(served_model: ServedModel, upstream: Upstream) -> bool:
    try:
        await upstream.fetch(served_model.ready_path)
    except ModeltollError:
        return False
    return True


def refusal_reason(served_model: ServedModel, answer: Answer) -> str:
    """Why the model server refused a request, in its own words."""
    with plugin_exceptions(served_model):
        reason = served_model.protocol.error_text(answer)
    reason = reason or " ".join(answer.body[: 4 * _REASON_CHARACTERS].decode("utf-8", "replace").split())
    said = f": {reason[:_REASON_CHARACTERS]}" if reason else ""
    return f"the model server refused it with status {answer.status}{said}"
