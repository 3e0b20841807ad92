"""All endpoints at which an OpenAI-style server generates text, as one protocol: chats, completions and responses.

They are one model with one tariff and one account per caller, so that what a caller has asked at one endpoint counts at the
others.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from modeltoll.errors import RequestError
from modeltoll.gateway.protocols.openai_chat import OpenAIChat
from modeltoll.gateway.protocols.openai_completions import CompletionNote, OpenAICompletions
from modeltoll.gateway.protocols.openai_responses import OpenAIResponses
from modeltoll.gateway.protocols.openai_shape import OpenAIErrors, openai_routes
from modeltoll.gateway.protocols.protocol import JSON, ParsedRequest, ServiceDescription
from modeltoll.gateway.protocols.response_requests import ResponseNote
from modeltoll.gateway.protocols.strict_json import load_object
from modeltoll.gateway.protocols.text_inputs import TextProtocol

if TYPE_CHECKING:
    from collections.abc import Mapping

    from modeltoll.gateway.protocols.protocol import ServingProtocol
    from modeltoll.records import Answer, Evidence

__all__ = ["OpenAIText"]

_CHAT, _COMPLETIONS, _RESPONSES = OpenAIChat(), OpenAICompletions(), OpenAIResponses()
# The member that a request has at one endpoint alone. Its path is not looked at: a server refuses what it does not expect
# there, and an answer of another endpoint's shape is not released.
_BY_MEMBER: Mapping[str, ServingProtocol] = {"messages": _CHAT, "prompt": _COMPLETIONS, "input": _RESPONSES}


class OpenAIText(OpenAIErrors, TextProtocol):
    """``/v1/chat/completions``, ``/v1/completions`` and ``/v1/responses`` of one model."""

    name = "openai"
    routes = openai_routes(*(path for one in _BY_MEMBER.values() for path in one.routes.infer))

    def read(self, body: bytes, service: ServiceDescription, content_type: str = JSON) -> ParsedRequest:
        """Read a request as the endpoint does whose member it has."""
        document = load_object(body, missing=False)
        found = [protocol for member, protocol in _BY_MEMBER.items() if document.get(member) is not None]
        if len(found) != 1:
            raise RequestError("the request has not one of 'messages', 'prompt' and 'input'")
        return replace(found[0].read(body, service, content_type), route=found[0].routes.infer[0])

    def ask_values(
        self, columns: tuple[str, ...], rows: list[list[Any]], metadata: bytes, service: ServiceDescription
    ) -> bytes:
        """A chat of one turn of the user's."""
        return _CHAT.ask_values(columns, rows, metadata, service)

    def evidence(self, parsed: ParsedRequest, answer: Answer, service: ServiceDescription) -> Evidence:
        """The tokens of each completion, as the endpoint of the request has them."""
        if isinstance(parsed.note, CompletionNote):
            return _COMPLETIONS.evidence(parsed, answer, service)
        if isinstance(parsed.note, ResponseNote):
            return _RESPONSES.evidence(parsed, answer, service)
        return _CHAT.evidence(parsed, answer, service)
