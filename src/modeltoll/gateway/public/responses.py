"""The responses of the public application: answers, tolls, and what follows the head of a toll."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.responses import Response

from modeltoll import wire
from modeltoll.gateway.protocols.protocol import JSON
from modeltoll.gateway.public.parsing import route_path, written_path
from modeltoll.gateway.threads import off_loop_by_size

if TYPE_CHECKING:
    from starlette.types import Scope

    from modeltoll.errors import ModeltollError
    from modeltoll.gateway.core.request import GateConfig, GateResult
    from modeltoll.records import Answer

__all__ = ["late_problem", "result_response", "toll_body", "unchanged_response"]


def unchanged_response(answer: Answer, **headers: str) -> Response:
    """The answer as it came, with further ``headers``."""
    every = dict(answer.headers) | wire.content_headers(answer.content_type) | headers
    return Response(answer.body, status_code=answer.status, headers=every)


async def result_response(result: GateResult, config: GateConfig, scope: Scope) -> Response:
    """The response of a result: its toll, or its answer with a receipt."""
    toll, answer = result.toll, result.answer
    model = config.served_model.service.model
    if toll is not None:
        body = await toll_body(result, config, scope)
        headers = dict(result.headers) | {"cache-control": "no-store"}
        headers[wire.AUTHENTICATE_HEADER] = wire.format_authenticate(toll, model)
        return Response(body, status_code=wire.STATUS, headers=headers, media_type=JSON)
    assert answer is not None  # a result without a toll has an answer
    return unchanged_response(answer, **{wire.RECEIPT_HEADER: config.receipt_text(result)})


async def toll_body(result: GateResult, config: GateConfig, scope: Scope) -> bytes:
    """The body of a toll, whose references are relative to the request's path as it was written."""
    toll = result.toll
    assert toll is not None  # the result has one
    error = config.served_model.protocol.error_member(wire.DETAIL)
    path = written_path(scope, route_path(scope))
    return await off_loop_by_size(len(toll.payload), wire.encode_toll, toll, error, path)


def late_problem(config: GateConfig, error: ModeltollError) -> bytes:
    """The body for an error that came when the head of a toll was out already."""
    detail = str(error)
    member = config.served_model.protocol.error_member(detail)
    return wire.encode_problem(error.problem or "failure", error.status, detail, member)
