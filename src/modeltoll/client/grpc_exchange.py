"""One unary gRPC call that may meet tolls: what the drivers for ``grpc`` and ``grpc.aio`` share. It does no I/O.

Messages are of whatever class the stub uses, or bytes: a class needs ``SerializeToString`` and ``FromString``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import count
from typing import Any, TypeAlias

import grpc

from modeltoll import wire
from modeltoll.client.purse import Purse
from modeltoll.client.receipts import HeldReceipt
from modeltoll.client.toll_call import TollCall
from modeltoll.client.toll_flow import RedeemStep, ResendStep, Step
from modeltoll.errors import SealBroken, TollMalformed
from modeltoll.open_inference_messages import MODEL_INFER, ModelInferResponse
from modeltoll.records import Answer
from modeltoll.toll_records import Toll

__all__ = ["Attempt", "GrpcExchange", "Reply", "changed_details", "is_priced", "new_origin"]

_Metadata: TypeAlias = Iterable[tuple[str, str | bytes]]

_ACCEPT, _SETTLE, _RECEIPT = (name.lower() for name in (wire.ACCEPT_HEADER, wire.SETTLE_HEADER, wire.RECEIPT_HEADER))
_PARAMETER = "toll"
_KEY_BYTES = b"\x0a\x04toll"  # of the parameter's key in a serialised message
_SAME_METHOD = MODEL_INFER.rpartition("/")[2]  # these two are relative to the path of the call
_SETTLE_REFERENCE = wire.relative_reference(MODEL_INFER, wire.SETTLE_PATH)
_OK_STATUS = 200
_numbers = count(1)


def new_origin() -> str:
    """An origin for the accounts of one interceptor, which is not told where its channel leads."""
    return f"grpc://channel-{next(_numbers)}"


def is_priced(method: str | bytes) -> bool:
    """Whether a method may ask for a toll: inference, of which other methods only tell."""
    return (method.decode("ascii", "replace") if isinstance(method, bytes) else method) == MODEL_INFER


@dataclass(frozen=True, slots=True)
class Reply:
    """How one RPC ended. ``response``: its message, None if it failed. ``toll``: the bytes to look for a toll in, or None.

    ``counted``: the gate read the request and its receipts, for it asks for a toll, or gives a receipt.
    """

    response: Any
    toll: bytes | None
    counted: bool

    @classmethod
    def of(cls, code: grpc.StatusCode, response: Any, trailing: _Metadata | None) -> Reply:
        """From an RPC's status, message (if the status is OK) and trailing metadata."""
        toll = None
        if code is grpc.StatusCode.OK:
            toll = _possible_toll(response)
        elif code is grpc.StatusCode.FAILED_PRECONDITION:
            value = _value(trailing, wire.GRPC_TOLL_KEY)
            toll = value if isinstance(value, bytes) else None
        return cls(response, toll, toll is not None or _value(trailing, _RECEIPT) is not None)

    @property
    def status(self) -> int:
        """The HTTP status that means the same to a toll's flow."""
        return _OK_STATUS if self.toll is None else wire.STATUS

    def opened(self, answer: Answer) -> Any:
        """The message that was sealed, of the class of this reply's.

        Raises:
            SealBroken: what was sealed is not such a message.
        """
        if answer.status != _OK_STATUS:
            raise SealBroken(f"the sealed answer has status {answer.status}")
        if isinstance(self.response, bytes):
            return answer.body
        try:
            return type(self.response).FromString(answer.body)
        except Exception as error:
            raise SealBroken(f"the sealed answer is not a {type(self.response).__name__}") from error


def _possible_toll(response: Any) -> bytes | None:
    """The serialised message if it has the parameter of a toll, else None.

    Raises:
        TollMalformed: it may be a toll, and its class has no methods to write and read bytes.
    """
    if isinstance(response, bytes):
        return response if _KEY_BYTES in response else None
    parameters = getattr(response, "parameters", None)
    if not parameters or _PARAMETER not in parameters or getattr(response, "outputs", None):
        return None
    if not hasattr(response, "SerializeToString") or not hasattr(response, "FromString"):
        raise TollMalformed(
            f"a toll in a {type(response).__name__} cannot be read: it has no SerializeToString and FromString"
        )
    body: bytes = response.SerializeToString()
    return body


def _value(metadata: _Metadata | None, name: str) -> str | bytes | None:
    return next((value for key, value in metadata or () if key == name), None)


class _GrpcTollCall(TollCall):
    """A call whose tolls stand in messages and trailing metadata."""

    def find_toll(self, body: bytes) -> Toll | None:
        """The toll in what ``Reply.toll`` holds: no message begins like a JSON object.

        A proof and receipts return with calls of the same channel, whatever paths of HTTP the toll states.
        """
        toll = self._stated_toll(body)
        return None if toll is None else replace(toll, redeem=_SAME_METHOD, settle=_SETTLE_REFERENCE)

    def _stated_toll(self, body: bytes) -> Toll | None:
        if body.startswith(b"{"):
            return wire.find_grpc_toll(body, further=self.purse.puzzles)
        try:
            message = ModelInferResponse.FromString(body)
        except Exception:  # noqa: BLE001  protobuf's DecodeError is of another module in each of its versions
            return None
        text = message.parameters[_PARAMETER].string_param if _PARAMETER in message.parameters else ""
        if not text or message.outputs or len(message.raw_output_contents) != 1:
            return None
        payload: bytes = message.raw_output_contents[0]
        if len(payload) > wire.MAX_TOLL_BYTES:
            raise TollMalformed(f"the toll's payload is above {wire.MAX_TOLL_BYTES} bytes")
        return wire.find_grpc_toll(text.encode(), payload, self.purse.puzzles)


@dataclass(slots=True, eq=False)
class Attempt:
    """The details of one RPC, and its receipts, which are put back unless its reply says that the gate has read them."""

    details: Any
    _receipts: tuple[HeldReceipt, ...]
    _purse: Purse

    def end(self, reply: Reply | None = None) -> None:
        """The RPC has ended, with a reply or with an exception. May be called twice."""
        receipts, self._receipts = self._receipts, ()
        if receipts and not (reply is not None and reply.counted):
            self._purse.receipts.put_back(receipts)


class GrpcExchange:
    """One call on its way through its tolls.

    Args:
        purse: what pays.
        origin: of the accounts of the interceptor.
        details: of the call, from an interceptor's argument.
        owner: who posts the receipts that no request returns.
    """

    def __init__(self, purse: Purse, origin: str, details: Any, owner: object) -> None:
        self._details = details
        self._purse = purse
        self._metadata: list[tuple[str, str | bytes]] = list(details.metadata or ())
        self._clock = purse.receipts.clock
        self._deadline = None if details.timeout is None else self._clock() + details.timeout
        if _value(self._metadata, _ACCEPT) is None:
            self._metadata.append((_ACCEPT, purse.accept_header))
        credentials = getattr(details, "credentials", None)
        account = f"{origin}-{id(credentials)}" if credentials is not None else origin
        named = dict(reversed(self._metadata))  # as for the gateway, the first value counts
        self.call = _GrpcTollCall(purse, account + MODEL_INFER, named, repeatable=True, owner=owner)

    def remaining(self) -> float | None:
        """Seconds until the call's deadline, 0 after it; None without one."""
        return None if self._deadline is None else max(self._deadline - self._clock(), 0.0)

    def is_late(self) -> bool:
        """Whether the deadline has passed."""
        return self._deadline is not None and self._clock() >= self._deadline

    @contextmanager
    def attempt(self, step: Step | None = None) -> Iterator[Attempt]:
        """The call's next RPC: the first one, or that of a ``RedeemStep`` or a ``ResendStep``.

        An exception in the block ends the attempt; otherwise the driver does, when it has the reply.
        """
        metadata = list(self._metadata)
        if isinstance(step, RedeemStep):
            metadata.append((wire.GRPC_PROOF_KEY, step.body))
        taken: tuple[HeldReceipt, ...] = ()
        if (step is None or isinstance(step, ResendStep)) and _value(metadata, _SETTLE) is None:
            taken = self._purse.receipts.take_for_request(self.call.account, self.call.path)
        if taken:
            metadata.append((_SETTLE, wire.format_settle(one.receipt for one in taken)))
        attempt = Attempt(changed_details(self._details, metadata, self.remaining()), taken, self._purse)
        try:
            yield attempt
        except BaseException:
            attempt.end()
            raise


class _CallDetails(grpc.ClientCallDetails):  # type: ignore[misc]  # grpc ships no types
    """Details of a call. What an outer interceptor left out is left out."""

    def __init__(self, details: Any, changes: dict[str, Any]) -> None:
        names = ("method", "timeout", "metadata", "credentials", "wait_for_ready", "compression")
        self.__dict__ |= {name: getattr(details, name) for name in names if hasattr(details, name)} | changes


def changed_details(details: Any, metadata: _Metadata, timeout: float | None, method: Any = None) -> Any:
    """The details with other metadata and another time limit, of the same class if it is a named tuple, as in grpc."""
    changes: dict[str, Any] = {"metadata": tuple(metadata), "timeout": timeout}
    if hasattr(details.metadata, "add"):  # grpc.aio.Metadata, which further interceptors expect
        changes["metadata"] = type(details.metadata)(*metadata)
    if method is not None:
        changes["method"] = method
    if hasattr(details, "_replace"):
        return details._replace(**changes)
    return _CallDetails(details, changes)
