"""The interface of serving protocols, and the records that they exchange with the gate."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from modeltoll.leak.scores import TOLERANCE
from modeltoll.record_init import quick_init

if TYPE_CHECKING:
    from modeltoll.records import Answer, Evidence, Floats

__all__ = [
    "JSON",
    "DeclaredInput",
    "ParsedRequest",
    "Routes",
    "ServiceDescription",
    "ServingProtocol",
    "StreamReader",
    "route_pattern",
]

JSON = "application/json"


@dataclass(frozen=True, slots=True)
class Routes:
    """The paths that a protocol serves, as templates with ``{model}`` and ``{version}``; all others are refused.

    ``infer`` takes POST; its first template has no version. Where a path names no model, the request's body does, or there
    is only one. ``pass_through`` takes GET and is answered by the model server unchanged. Two of these are ``metadata``,
    the model's description (None: there is none), and ``ready``, which has status 200 when the server can answer.
    ``binary``: requests may have raw tensors behind their JSON, with ``wire.BINARY_HEADER``. ``query``: the names of the
    query parameters that the protocol knows; others are refused unless the settings allow them by name.
    """

    infer: tuple[str, ...]
    pass_through: tuple[str, ...]
    metadata: str | None
    ready: str
    binary: bool = False
    query: tuple[str, ...] = ()


def route_pattern(template: str) -> str:
    """The template as Starlette's routes have it. A model's name at the end of a path may hold slashes (``org/name``)."""
    return template.removesuffix("{model}") + "{model:path}" if template.endswith("/{model}") else template


class StreamReader(Protocol):
    """Reads one streamed answer as it comes, from its first byte to its last."""

    def feed(self, chunk: bytes) -> bytes:
        """What of the next bytes the caller gets: whole events, written anew, without what they did not ask for.

        It never raises. What cannot be read or measured is passed on as it came; ``finish`` says so, and where answers are
        priced nothing is released before it has returned.
        """

    def finish(self) -> Answer:
        """The whole answer as a document, as if it had not been streamed: ``ServingProtocol.evidence`` reads it.

        Raises:
            AnswerError: the stream is incomplete, ended with an error (``StreamBroken``), or holds what is not measured.
        """


@quick_init
@dataclass(frozen=True, slots=True, eq=False)
class ParsedRequest:
    """A request that has been read and checked: what the measures may use of it.

    ``inputs`` (rows, dimensions) is None where the inputs are not numbers. ``fingerprints`` holds per row a BLAKE2b digest
    of 32 bytes over the canonical bytes of everything of the request that can change the row's answer; the gate keys them.
    ``answer_bound``: the largest length in bytes of an answer's body to any request of this shape, depending on nothing
    but the request's shape and the settings; None where there is no useful bound.
    ``forward`` is sent to the model server instead of the request, where its answer shows the measures more than the
    caller asked for; ``strip`` then removes from the answer what the caller did not ask for. ``note`` is what the protocol
    needs later, to read the answer. ``stream`` makes the reader of an answer that the caller wants as a stream of events;
    None: they do not. A model server may answer such a request with a whole document all the same. ``altered``: why the
    model may answer ``forward`` otherwise than the request itself, in words; empty where it may not. ``route`` is the path
    that the request is for, where the protocol serves several whose requests differ; None: the first of ``Routes.infer``.
    """

    fingerprints: tuple[bytes, ...]
    inputs: Floats | None
    note: object = None
    forward: bytes | None = None
    strip: Callable[[Answer], Answer] | None = None
    answer_bound: int | None = None
    altered: str = ""
    stream: Callable[[], StreamReader] | None = None
    token_bound: Callable[[int], int] | None = None
    route: str | None = None


@dataclass(frozen=True, slots=True)
class DeclaredInput:
    """One named input of a model: a tensor, or a column of a data frame.

    ``width`` is how many numbers or texts of it one row holds, ``datatype`` what the protocol calls their type; None and
    an empty string are not checked.
    """

    name: str
    width: int | None = None
    datatype: str = ""


@dataclass(frozen=True, slots=True)
class ServiceDescription:
    """One model as the settings declare it. Nothing here is guessed from an answer.

    ``kind`` is the kind of the output: ``probabilities``, ``logits``, ``labels``, ``embeddings`` or ``tokens``;
    ``classes`` is required for labels. An answer with any output but this one and the ``unmeasured`` ones is not
    released. ``max_rows`` bounds one request. ``partial``: only the largest scores are shown. ``labels`` are the names
    of the classes, in the order of the measures' private data. ``served_as`` is the model's name in request bodies, where
    it differs from ``model``.

    ``inputs`` are all named inputs of the model, in the order of the measures' private data; empty: they are not declared.
    ``allow_members`` are the members and parameters of a request that it may have beside those that the protocol knows;
    their values are part of every row's fingerprint. ``logprobs`` says how the server reports log-probabilities of tokens:
    ``raw``, or ``tempered`` by the request's temperature and its like; ``top_logprobs`` is how many per token it is asked
    for; ``neutral_defaults``: where a request leaves these out, the server tempers nothing. ``versions`` are those that
    paths with ``{version}``
    may name; the path without a version is always served. ``allow_query`` are the query parameters that are passed on
    beside those of the protocol. ``tolerance``: how far a row of probabilities may be from a sum
    of 1. ``batched``: tensors have the rows as their first dimension; else a request is one row, and its tensors have none.
    """

    model: str
    output: str
    kind: str
    classes: int | None = None
    unmeasured: tuple[str, ...] = ()
    max_rows: int = 1024
    partial: bool = False
    labels: tuple[str, ...] = ()
    served_as: str | None = None
    inputs: tuple[DeclaredInput, ...] = ()
    allow_members: tuple[str, ...] = ()
    logprobs: str = "tempered"
    top_logprobs: int = 20
    neutral_defaults: bool = False
    versions: tuple[str, ...] = ()
    allow_query: tuple[str, ...] = ()
    tolerance: float = TOLERANCE
    batched: bool = True


class ServingProtocol(Protocol):
    """How one serving protocol writes requests, answers and errors.

    ``modeltoll.testing.protocols.check_protocol`` is its conformance suite.
    """

    @property
    def name(self) -> str:
        """The protocol's name in settings."""

    @property
    def routes(self) -> Routes:
        """The paths that are served."""

    def read(self, body: bytes, service: ServiceDescription, content_type: str = JSON) -> ParsedRequest:
        """Read a request. It may run in a thread beside the event loop.

        What is read is what the model server reads: named inputs by their names, in the order of ``service.inputs``,
        whatever order the request lists them in. A member that is not known is refused, unless ``service.allow_members``
        has it; so is what two readers of JSON could read differently.

        Raises:
            RequestError: not a request of this protocol, or not one that can be measured.
        """

    def evidence(self, parsed: ParsedRequest, answer: Answer, service: ServiceDescription) -> Evidence:
        """What the measures may look at, from a request and its answer. It may run in a thread beside the event loop.

        Every number and text of the answer is measured, known to show nothing of the model, or in ``service.unmeasured``.

        Raises:
            AnswerError: the answer is not what the protocol and the service promise; it must not be released.
        """

    def ask(self, inputs: Floats, metadata: bytes, service: ServiceDescription) -> bytes:
        """A request for the declared output of some rows, (rows, dimensions). ``metadata`` is the model's description.

        Raises:
            AnswerError: the metadata cannot be used, or the protocol does not take rows of numbers.
        """

    def ask_values(
        self, columns: tuple[str, ...], rows: list[list[Any]], metadata: bytes, service: ServiceDescription
    ) -> bytes:
        """A request for the declared output of rows of JSON values, texts and None for missing ones among them.

        ``columns`` names the values of a row; () where they have no names.

        Raises:
            AnswerError: the protocol does not take such rows.
        """

    def error(self, message: str) -> bytes:
        """An error's body in the protocol's own shape."""

    def error_member(self, message: str) -> object:
        """The value of the member ``error`` in the body of a toll, as the protocol's clients expect it."""

    def error_text(self, answer: Answer) -> str:
        """The message in an upstream's refusal (status 4xx), shortened, or an empty string."""
