"""Writes the request of each row as the model's protocol has it, and says which row a model server refused, and why."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from modeltoll.errors import AnswerError, CalibrationError, ModeltollError, UpstreamError, UpstreamTimeout
from modeltoll.gateway.setup.plugin_exceptions import plugin_exceptions
from modeltoll.gateway.setup.row_table import RecordedRequests, RowTable

if TYPE_CHECKING:
    from modeltoll.gateway.core.request import ServedModel
    from modeltoll.gateway.upstream.upstream import Upstream
    from modeltoll.records import Answer, Leaks

__all__ = ["Refusals", "RowRequest", "RowsOfFile", "ask_leaks", "refusal_reason", "row_requests"]

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


def row_requests(served_model: ServedModel, metadata: bytes, rows: RowsOfFile) -> list[RowRequest]:
    """One request per row; recorded ones as they are.

    Raises:
        AnswerError: the protocol cannot write such rows. CalibrationError: the rows lack an input of the model.
    """
    if isinstance(rows, RecordedRequests):
        return [RowRequest(body, rows.where(number)) for number, body in enumerate(rows.bodies)]
    protocol, service = served_model.protocol, served_model.service
    order = _columns(rows, served_model)
    numbers_only = order is None and all(not words for words in rows.words)
    requests = []
    with plugin_exceptions(served_model):
        for row in range(len(rows)):
            if numbers_only:
                body = protocol.ask(rows.numbers[row][None], metadata, service)
            else:
                values = rows.values(row)
                names = rows.columns if order is None else tuple(rows.columns[place] for place in order)
                chosen = values if order is None else [values[place] for place in order]
                body = _ask_values(served_model, names, chosen, metadata)
            requests.append(RowRequest(body, rows.where(row)))
    return requests


def _ask_values(served_model: ServedModel, names: tuple[str, ...], values: list[Any], metadata: bytes) -> bytes:
    """A request of one row. A protocol of another package may know rows of numbers only."""
    ask = getattr(served_model.protocol, "ask_values", None)
    if ask is None:
        raise CalibrationError(
            f"protocol {served_model.protocol.name} writes no requests of texts or named values; give --requests"
        )
    body: bytes = ask(names, [values], metadata, served_model.service)
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
