"""OpenAI-style chat completions: the measures get the probabilities of each token.

The model server is always asked for its log-probabilities; a caller who did not ask for them does not get them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import Any

import msgspec

from modeltoll.errors import RequestError
from modeltoll.gateway.protocols.chat_answers import (
    LastDocument,
    check_members,
    check_token_count,
    measured_tokens,
)
from modeltoll.gateway.protocols.chat_requests import (
    CHAT_MEMBERS,
    ChatNote,
    altered,
    answer_bound,
    chat_note,
    check_messages,
    check_tools,
    pinned,
    stream_bound,
    stream_terms,
)
from modeltoll.gateway.protocols.chat_streams import ChatStream, without_logprobs
from modeltoll.gateway.protocols.fingerprints import row_fingerprints
from modeltoll.gateway.protocols.openai_shape import (
    OpenAIErrors,
    encoded_request,
    numbered,
    openai_routes,
    wanted_choices,
)
from modeltoll.gateway.protocols.protocol import JSON, ParsedRequest, ServiceDescription
from modeltoll.gateway.protocols.rows import check_row_limit
from modeltoll.gateway.protocols.strict_json import load_object
from modeltoll.gateway.protocols.text_inputs import TextProtocol, check_model, only_texts
from modeltoll.records import Answer, Evidence

__all__ = ["OpenAIChat"]


@dataclass(frozen=True, slots=True)
class _Note:
    """What is needed of a request to read its answer. ``documents``: of the request's own answer."""

    chat: ChatNote
    documents: LastDocument = field(compare=False)


def _top_logprobs(document: dict[str, Any], service: ServiceDescription) -> int | None:
    """How many log-probabilities per token the caller asks for beside the token's own; None: none at all."""
    limit = service.top_logprobs
    wanted, most = document.get("logprobs", False), document.get("top_logprobs", 0)
    if wanted is None:
        wanted = False
    if most is None:
        most = 0
    if not isinstance(wanted, bool) or type(most) is not int or not 0 <= most <= limit:
        raise RequestError(f"'logprobs' is not true or false, or 'top_logprobs' is not 0 to {limit}")
    if most and not wanted:
        raise RequestError("'top_logprobs' needs 'logprobs': true")
    return most if wanted else None


def _stripped(asked: int | None, documents: LastDocument, answer: Answer) -> Answer:
    """The answer as it was measured, written anew, with the log-probabilities that its caller asked for."""
    document = documents.take(answer)
    for choice in document["choices"]:
        without_logprobs(choice, asked)
    return Answer(answer.status, answer.content_type, msgspec.json.encode(document), answer.headers)


class OpenAIChat(OpenAIErrors, TextProtocol):
    """``/v1/chat/completions``, whole or streamed. A row is one completion."""

    name = "openai-chat"
    routes = openai_routes("/v1/chat/completions")

    def read(self, body: bytes, service: ServiceDescription, content_type: str = JSON) -> ParsedRequest:
        """Read a request; the model server gets it with all log-probabilities requested."""
        del content_type
        document = load_object(body, missing=False)
        check_model(document, service)
        terms = stream_terms(document, service)
        check_messages(document, service)
        check_tools(document, service)
        written = CHAT_MEMBERS.read_bytes(document, service)
        documents = LastDocument()
        choices, asked = wanted_choices(document), _top_logprobs(document, service)
        check_row_limit(choices, service)
        forward = pinned(document, service) | {"logprobs": True, "top_logprobs": service.top_logprobs}
        if terms is not None:
            forward |= {"stream_options": terms.options}
        return ParsedRequest(
            row_fingerprints((b"chat", written), ((b"%d" % number,) for number in range(choices))),
            None,
            note=_Note(chat_note(document), documents),
            forward=None if forward == document else encoded_request(forward),
            strip=partial(_stripped, asked, documents),
            answer_bound=answer_bound(document, choices, asked, stream=terms is not None),
            altered=altered(document, service),
            token_bound=None if terms is None else partial(stream_bound, choices, asked),
            stream=None if terms is None else partial(ChatStream, asked, choices, service, usage=terms.usage),
        )

    def ask_values(
        self, columns: tuple[str, ...], rows: list[list[Any]], metadata: bytes, service: ServiceDescription
    ) -> bytes:
        """A chat of one turn of the user's."""
        del columns, metadata
        turns = [{"role": "user", "content": text} for text in only_texts(rows)]
        return msgspec.json.encode({"model": service.served_as or service.model, "messages": turns})

    def evidence(self, parsed: ParsedRequest, answer: Answer, service: ServiceDescription) -> Evidence:
        """The tokens of each completion."""
        known = parsed.note if isinstance(parsed.note, _Note) else _Note(ChatNote(), LastDocument())
        document, note = known.documents.read(answer), known.chat
        choices = numbered(document, "choices", len(parsed.fingerprints))
        check_members(document, choices, service)
        tokens = tuple(measured_tokens(choice, note, service) for choice in choices)
        check_token_count(document, choices, note)
        return Evidence(parsed.fingerprints, tokens=tokens)
