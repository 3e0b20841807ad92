"""OpenAI's Responses API: the measures get the probabilities of each token."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import msgspec

from modeltoll.errors import AnswerError
from modeltoll.gateway.protocols.chat_answers import load_chat
from modeltoll.gateway.protocols.chat_requests import altered, check_tools, pinned
from modeltoll.gateway.protocols.fingerprints import fingerprint
from modeltoll.gateway.protocols.openai_shape import OpenAIErrors, encoded_request, openai_routes
from modeltoll.gateway.protocols.protocol import JSON, ParsedRequest, ServiceDescription
from modeltoll.gateway.protocols.response_answers import check_response, content_parts, measured_response
from modeltoll.gateway.protocols.response_requests import (
    LOGPROBS,
    RESPONSE_MEMBERS,
    SENT,
    ResponseNote,
    asked_logprobs,
    check_input,
    response_bound,
    response_note,
    token_bound,
    wants_stream,
)
from modeltoll.gateway.protocols.response_shown import show_logprobs, show_setting
from modeltoll.gateway.protocols.response_streams import ResponseStream
from modeltoll.gateway.protocols.strict_json import load_object
from modeltoll.gateway.protocols.text_inputs import TextProtocol, check_model, only_texts
from modeltoll.records import Evidence

if TYPE_CHECKING:
    from modeltoll.records import Answer

__all__ = ["OpenAIResponses"]


def _stripped(note: ResponseNote, asked: int | None, answer: Answer) -> Answer:
    """The answer as it was measured, written anew, with the log-probabilities that its caller asked for."""
    document = load_chat(answer)
    for part in content_parts(document):
        show_logprobs(part, asked)
    show_setting(document, note)
    return replace(answer, body=msgspec.json.encode(document))


class OpenAIResponses(OpenAIErrors, TextProtocol):
    """``/v1/responses``, whole or streamed. A request is one row."""

    name = "openai-responses"
    routes = openai_routes("/v1/responses")

    def read(self, body: bytes, service: ServiceDescription, content_type: str = JSON) -> ParsedRequest:
        """Read a request; the model server gets it with all log-probabilities requested."""
        del content_type
        document = load_object(body, missing=False)
        check_model(document, service)
        check_input(document, service)
        check_tools(document, service)
        streams = wants_stream(document)
        written = RESPONSE_MEMBERS.read_bytes(document, service)
        asked, note = asked_logprobs(document, service), response_note(document)
        forward = pinned(document, service, SENT) | {"include": [LOGPROBS], "top_logprobs": service.top_logprobs}
        return ParsedRequest(
            (fingerprint(b"response", written),),
            None,
            note=note,
            forward=None if forward == document else encoded_request(forward),
            strip=partial(_stripped, note, asked),
            answer_bound=response_bound(document, asked, stream=streams),
            altered=altered(document, service, SENT),
            token_bound=partial(token_bound, document, asked) if streams else None,
            stream=partial(ResponseStream, asked, note, service) if streams else None,
        )

    def ask_values(
        self, columns: tuple[str, ...], rows: list[list[Any]], metadata: bytes, service: ServiceDescription
    ) -> bytes:
        """One text.

        Raises:
            AnswerError: there are several, which a request does not hold.
        """
        del columns, metadata
        texts = only_texts(rows)
        if len(texts) != 1:
            raise AnswerError("a request of the Responses API holds one row")
        return msgspec.json.encode({"model": service.served_as or service.model, "input": texts[0]})

    def evidence(self, parsed: ParsedRequest, answer: Answer, service: ServiceDescription) -> Evidence:
        """The tokens of the answer."""
        document = load_chat(answer)
        note = parsed.note if isinstance(parsed.note, ResponseNote) else ResponseNote()
        check_response(document, note, service)
        if len(parsed.fingerprints) != 1:
            raise AnswerError("an answer of the Responses API is one row")
        return Evidence(parsed.fingerprints, tokens=(measured_response(document, note, service),))
