"""The plug of the serving protocols."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from modeltoll.records import Answer, Evidence, Floats

__all__ = ["Question", "Service", "ServingProtocol"]


@dataclass(frozen=True, slots=True, eq=False)
class Question:
    """A request that has been read and checked: its body as it came, and what the measures may see of it.

    ``inputs`` (rows, dimensions) is None where the inputs are not numbers.
    """

    body: bytes
    fingerprints: tuple[bytes, ...]
    inputs: Floats | None


@dataclass(frozen=True, slots=True)
class Service:
    """One model as its owner declares it. Nothing here is ever guessed from an answer.

    ``kind`` says what the output holds: ``probabilities``, ``logits`` or ``labels``; ``classes`` is needed for labels.
    ``max_rows`` bounds one request.
    """

    model: str
    output: str
    kind: str
    classes: int | None = None
    max_rows: int = 1024


class ServingProtocol(Protocol):
    """How one serving protocol writes requests, answers and errors."""

    @property
    def name(self) -> str:
        """The protocol's name in settings."""

    def infer_path(self, service: Service) -> str:
        """Where the model is asked."""

    def metadata_path(self, service: Service) -> str:
        """Where the model describes itself."""

    def read(self, body: bytes, service: Service) -> Question:
        """Read a request.

        Raises:
            RequestError: not a request of this protocol, or not one that can be measured.
        """

    def evidence(self, question: Question, answer: Answer, service: Service) -> Evidence:
        """What question and answer show of the model.

        Raises:
            AnswerError: the answer is not what the protocol and the service promise; it must not be released.
        """

    def ask(self, inputs: Floats, metadata: bytes, service: Service) -> bytes:
        """A request for some rows, (rows, dimensions), to a model that describes itself by ``metadata``.

        Raises:
            AnswerError: the metadata cannot be used.
        """

    def error(self, message: str) -> bytes:
        """An error's body in the protocol's own shape."""

    def error_member(self, message: str) -> object:
        """The ``error`` member that the protocol's clients look for, as it stands in the body of a toll."""

    def complaint(self, answer: Answer) -> str:
        """What an upstream's refusal (status 4xx) says, shortened, or an empty string."""
