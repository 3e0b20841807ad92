"""Open Inference Protocol V2 over gRPC: bodies are serialised messages. Rows are the same as over REST."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from modeltoll.errors import AnswerError
from modeltoll.gateway.protocols.oip import OpenInference, check_shown, input_errors
from modeltoll.gateway.protocols.oip_messages import read_answer_message, read_request_message, request_document
from modeltoll.gateway.protocols.oip_requests import read_inference_document
from modeltoll.open_inference_messages import CONTENT_TYPE

if TYPE_CHECKING:
    from modeltoll.gateway.protocols.protocol import ParsedRequest, ServiceDescription
    from modeltoll.records import Answer, Evidence

__all__ = ["OpenInferenceGrpc"]

_NUMBER_BYTES = 10  # the longest of a message: a negative whole number


class OpenInferenceGrpc(OpenInference):
    """Open Inference Protocol V2, gRPC: a body is a ``ModelInferRequest`` or a ``ModelInferResponse``."""

    def read(self, body: bytes, service: ServiceDescription, content_type: str = CONTENT_TYPE) -> ParsedRequest:
        """Read an inference request.

        The model server gets the message written anew, unless it was written in that way: a message may hold a field
        twice, and readers could differ.
        """
        del content_type
        message = read_request_message(body)
        with input_errors():
            request = read_inference_document(*request_document(message), service)
        written = message.SerializeToString(deterministic=True)
        bound = replace(request, raw=True).answer_bound(service, _NUMBER_BYTES)
        forward = None if written == body else written
        return replace(self.parsed(request, service), forward=forward, answer_bound=bound)

    def evidence(self, parsed: ParsedRequest, answer: Answer, service: ServiceDescription) -> Evidence:
        """See ``OpenInference.evidence``."""
        if answer.content_type != CONTENT_TYPE:
            raise AnswerError("the model server's answer is not of the protocol", private="it is no message")
        read, pieces = read_answer_message(answer.body)
        try:
            check_shown(read, service)
        except ValueError as error:
            raise AnswerError("the model server's answer is not of the protocol", private=str(error)) from None
        return self.evidence_of(read, lambda: pieces, parsed, service)
