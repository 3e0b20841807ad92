"""The plug of the serving protocols."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from modeltoll.records import Answer, Evidence, Floats

__all__ = ["JSON", "ParsedRequest", "Routes", "ServiceDescription", "ServingProtocol"]

JSON = "application/json"


@dataclass(frozen=True, slots=True)
class Routes:
    """The paths that a protocol serves, as templates with ``{model}`` and ``{version}``; all others are refused.

    ``infer`` takes POST, a model without a version first. Where its path names no model, the request's body does, or
    there is but one. ``passing`` takes GET and goes through as it is; ``metadata``, where a model describes itself
    (None: nowhere), and ``ready``, where the server says whether it can answer, are two of them. ``binary``: requests may
    have raw tensors behind their JSON, with ``wire.BINARY_HEADER``.
    """

    infer: tuple[str, ...]
    passing: tuple[str, ...]
    metadata: str | None
    ready: str
    binary: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class ParsedRequest:
    """A request that has been read and checked: what the measures may see of it.

    ``inputs`` (rows, dimensions) is None where the inputs are not numbers. ``fingerprints`` are one hash per row.
    ``forward`` is asked of the model server in the request's stead, where it can tell the measures more than the caller
    asked for; ``strip`` then takes from its answer what the caller did not ask for. ``note`` is what the protocol
    needs to remember for the answer.
    """

    fingerprints: tuple[bytes, ...]
    inputs: Floats | None
    note: object = None
    forward: bytes | None = None
    strip: Callable[[Answer], Answer] | None = None


@dataclass(frozen=True, slots=True)
class ServiceDescription:
    """One model as its owner declares it. Nothing here is ever guessed from an answer.

    ``kind`` says what the output holds: ``probabilities``, ``logits``, ``labels``, ``embeddings`` or ``tokens``;
    ``classes`` is needed for labels. An answer with any output but this one and the ``unmeasured`` ones is not
    released. ``max_rows`` bounds one request. ``partial``: only the largest scores are shown. ``labels`` are the names
    of the classes and ``columns`` those of the inputs, in the order of the measures' private data. ``served_as`` is the
    model's name in request bodies, if it is another one.
    """

    model: str
    output: str
    kind: str
    classes: int | None = None
    unmeasured: tuple[str, ...] = ()
    max_rows: int = 1024
    partial: bool = False
    labels: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()
    served_as: str | None = None


class ServingProtocol(Protocol):
    """How one serving protocol writes requests, answers and errors. ``testing.gateways.check_protocol`` is its law."""

    @property
    def name(self) -> str:
        """The protocol's name in settings."""

    @property
    def routes(self) -> Routes:
        """Everything that is served."""

    def read(self, body: bytes, service: ServiceDescription, content_type: str = JSON) -> ParsedRequest:
        """Read a request. May run beside the event loop.

        Raises:
            RequestError: not a request of this protocol, or not one that can be measured.
        """

    def evidence(self, question: ParsedRequest, answer: Answer, service: ServiceDescription) -> Evidence:
        """What question and answer show of the model. May run beside the event loop.

        Raises:
            AnswerError: the answer is not what the protocol and the service promise; it must not be released.
        """

    def ask(self, inputs: Floats, metadata: bytes, service: ServiceDescription) -> bytes:
        """A request for the declared output of some rows, (rows, dimensions); the model describes itself by ``metadata``.

        Raises:
            AnswerError: the metadata cannot be used, or the protocol does not take rows of numbers.
        """

    def error(self, message: str) -> bytes:
        """An error's body in the protocol's own shape."""

    def error_member(self, message: str) -> object:
        """The ``error`` member that the protocol's clients look for, as it stands in the body of a toll."""

    def complaint(self, answer: Answer) -> str:
        """What an upstream's refusal (status 4xx) says, shortened, or an empty string."""
