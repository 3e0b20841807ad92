"""How a call ends: its status, its message and its trailing metadata, for answers, tolls and errors."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import grpc
from google.protobuf.any_pb2 import Any as AnyMessage
from google.rpc.error_details_pb2 import RetryInfo
from google.rpc.status_pb2 import Status

from modeltoll import wire
from modeltoll.errors import (
    AllowanceSpent,
    AnswerError,
    CallerGone,
    ModeltollError,
    TokenExpired,
    TokenRefused,
    UpstreamError,
    UpstreamRefused,
)
from modeltoll.gateway.upstream.grpc_upstream import is_text_key
from modeltoll.open_inference_messages import MODEL_INFER, ModelInferResponse

if TYPE_CHECKING:
    from collections.abc import Iterable

    from modeltoll.toll_records import Toll

__all__ = ["Outcome", "Trailing", "error_outcome", "message_outcome", "toll_message", "toll_trailer"]

Trailing = tuple[tuple[str, str | bytes], ...]

_DETAILS = "grpc-status-details-bin"
_SENTENCE = (
    "this answer costs work, no money: use the interceptor of modeltoll.client.grpc, or solve the puzzle in the trailing "
    f"metadata {wire.GRPC_TOLL_KEY} and send the same request with {wire.GRPC_PROOF_KEY}"
)
_CODES = {
    400: grpc.StatusCode.INVALID_ARGUMENT,
    401: grpc.StatusCode.UNAUTHENTICATED,
    403: grpc.StatusCode.PERMISSION_DENIED,
    404: grpc.StatusCode.NOT_FOUND,
    408: grpc.StatusCode.DEADLINE_EXCEEDED,
    409: grpc.StatusCode.ABORTED,
    413: grpc.StatusCode.RESOURCE_EXHAUSTED,
    415: grpc.StatusCode.INVALID_ARGUMENT,
    422: grpc.StatusCode.INVALID_ARGUMENT,
    429: grpc.StatusCode.RESOURCE_EXHAUSTED,
    499: grpc.StatusCode.CANCELLED,
    502: grpc.StatusCode.UNAVAILABLE,
    503: grpc.StatusCode.UNAVAILABLE,
    504: grpc.StatusCode.DEADLINE_EXCEEDED,
}
_OF_CLASSES = (
    (AllowanceSpent, grpc.StatusCode.RESOURCE_EXHAUSTED),
    (TokenExpired, grpc.StatusCode.ABORTED),  # the call may be made again, from its beginning
    (TokenRefused, grpc.StatusCode.PERMISSION_DENIED),
    (AnswerError, grpc.StatusCode.INTERNAL),
    (CallerGone, grpc.StatusCode.CANCELLED),
)


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a call ends. ``status``: the HTTP status that means the same, for the audit log and the traces."""

    code: grpc.StatusCode
    message: bytes = b""
    details: str = ""
    trailing: Trailing = ()
    status: int = 200


def message_outcome(message: bytes, receipt: str = "", headers: Iterable[tuple[str, str]] = ()) -> Outcome:
    """A message as it is, with a receipt and headers of the model server's answer."""
    trailing = _metadata(headers)
    if receipt:
        trailing += ((wire.RECEIPT_HEADER.lower(), receipt),)
    return Outcome(grpc.StatusCode.OK, message, trailing=trailing)


def toll_message(toll: Toll, named: tuple[str, str], headers: Iterable[tuple[str, str]] = ()) -> Outcome:
    """A toll in a message, for a client that announces itself. ``named``: the request's model and id."""
    message = ModelInferResponse(model_name=named[0], id=named[1], raw_output_contents=[toll.payload])
    text = wire.encode_toll_object(toll, MODEL_INFER, payload=False)
    message.parameters["toll"].string_param = text.decode("ascii")
    return Outcome(grpc.StatusCode.OK, message.SerializeToString(), trailing=_metadata(headers), status=wire.STATUS)


def toll_trailer(toll: Toll) -> Outcome:
    """A toll in trailing metadata, for any other client."""
    toll_object = wire.encode_toll_object(toll, MODEL_INFER, payload=True)
    return Outcome(
        grpc.StatusCode.FAILED_PRECONDITION,
        details=_SENTENCE,
        trailing=((wire.GRPC_TOLL_KEY, toll_object),),
        status=wire.STATUS,
    )


def error_outcome(error: ModeltollError) -> Outcome:
    """The outcome of an error: its public text, and when to try again."""
    code = _code(error)
    headers = dict(error.headers) if isinstance(error, UpstreamRefused) else {}
    seconds = error.retry_after
    if seconds is None and headers.get("retry-after", "").isdecimal():
        seconds = int(headers["retry-after"])
    trailing = _metadata((name, value) for name, value in headers.items() if name != "retry-after")
    if seconds is not None:
        trailing += _retry_info(code, str(error), seconds)
    return Outcome(code, details=str(error), trailing=trailing, status=error.status)


def _code(error: ModeltollError) -> grpc.StatusCode:
    for kind, code in _OF_CLASSES:
        if isinstance(error, kind):
            return code
    if type(error) is UpstreamError:
        return grpc.StatusCode.UNAVAILABLE
    return _CODES.get(error.status, grpc.StatusCode.INTERNAL)


def _retry_info(code: grpc.StatusCode, text: str, seconds: float) -> Trailing:
    """When to try again, as clients of HTTP know it and as those of gRPC do."""
    info, detail = RetryInfo(), AnyMessage()
    info.retry_delay.FromMilliseconds(math.ceil(seconds * 1000))
    detail.Pack(info)
    status = Status(code=code.value[0], message=text, details=[detail])
    return ("retry-after", f"{math.ceil(seconds)}"), (_DETAILS, status.SerializeToString())


def _metadata(headers: Iterable[tuple[str, str]]) -> Trailing:
    """Headers as metadata, without those whose names are the library's or of bytes."""
    return tuple([(name, value) for name, value in headers if is_text_key(name)])
