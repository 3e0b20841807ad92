"""OpenAI-style completions of texts: the measures get the probabilities of each token."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import msgspec

from modeltoll.errors import AnswerError, RequestError
from modeltoll.gateway.protocols.chat_answers import load_chat
from modeltoll.gateway.protocols.chat_requests import (
    CHAT_MEMBERS,
    altered,
    answer_bound,
    chat_note,
    pinned,
    stream_bound,
    stream_terms,
)
from modeltoll.gateway.protocols.completion_answers import (
    check_completion_count,
    check_completion_members,
    measured_text,
    shown_logprobs,
)
from modeltoll.gateway.protocols.completion_ends import chooses_end
from modeltoll.gateway.protocols.completion_streams import CompletionStream
from modeltoll.gateway.protocols.fingerprints import row_fingerprints
from modeltoll.gateway.protocols.openai_shape import (
    OpenAIErrors,
    encoded_request,
    numbered,
    openai_routes,
    wanted_choices,
)
from modeltoll.gateway.protocols.protocol import JSON, ParsedRequest, ServiceDescription
from modeltoll.gateway.protocols.request_members import RequestMembers, names
from modeltoll.gateway.protocols.rows import check_row_limit
from modeltoll.gateway.protocols.strict_json import canonical, load_object
from modeltoll.gateway.protocols.text_inputs import TextProtocol, check_model, is_tokens, texts_in
from modeltoll.records import Evidence

if TYPE_CHECKING:
    from modeltoll.records import Answer

__all__ = ["COMPLETION_MEMBERS", "CompletionNote", "OpenAICompletions"]

_CHATS_ONLY = names(
    """messages tools tool_choice parallel_tool_calls functions function_call max_completion_tokens reasoning_effort
    verbosity prediction add_generation_prompt continue_final_message documents chat_template chat_template_kwargs
    mm_processor_kwargs media_io_kwargs include_reasoning separate_reasoning reasoning thinking task input_ids
    max_dynamic_patch min_dynamic_patch use_audio_in_video images_config reasoning_format thinking_forced_open tool_prompt
    guideline"""
)
COMPLETION_MEMBERS = RequestMembers(
    read=(CHAT_MEMBERS.read - _CHATS_ONLY) | names("prompt suffix best_of"),
    harmless=CHAT_MEMBERS.harmless - names("stream_reasoning"),
    unmeasured=CHAT_MEMBERS.unmeasured - names("best_of"),
    outside=CHAT_MEMBERS.outside,
)


@dataclass(frozen=True, slots=True)
class CompletionNote:
    """What is needed of a request to read its answer: the longest ``stop`` in bytes, and ``ends`` as of ``ChatNote``."""

    stop: int = 0
    ends: bool = False


def _logprobs(document: dict[str, Any], service: ServiceDescription) -> int | None:
    """How many log-probabilities per token the caller asks for beside the token's own; None: none at all."""
    wanted, limit = document.get("logprobs"), service.top_logprobs
    if wanted is None:
        return None
    if type(wanted) is not int or not 0 <= wanted <= limit:
        raise RequestError(f"'logprobs' is not 0 to {limit}")
    return wanted


def _prompts(document: dict[str, Any]) -> list[Any]:
    prompts = texts_in(document.get("prompt"), "prompt", tokens=True)
    if not all(isinstance(prompt, str) or is_tokens(prompt) for prompt in prompts):
        raise RequestError("'prompt' holds something that is not a text or a list of numbers of tokens")
    return prompts


def _check_best_of(document: dict[str, Any], choices: int) -> None:
    """Of more than are shown, the server would choose: the choice shows something that is not measured."""
    best_of = document.get("best_of")
    if best_of is not None and (type(best_of) is not int or best_of > choices):
        raise RequestError("'best_of' is more than 'n': what is not shown is not measured; it is not served here")


def _stripped(asked: int | None, answer: Answer) -> Answer:
    """The answer as it was measured, written anew, with the log-probabilities that its caller asked for."""
    document = load_chat(answer)
    for choice in document["choices"]:
        choice["logprobs"] = shown_logprobs(choice.get("logprobs"), asked)
    return replace(answer, body=msgspec.json.encode(document))


class OpenAICompletions(OpenAIErrors, TextProtocol):
    """``/v1/completions``, whole or streamed. A row is one completion: each prompt has as many as ``n``."""

    name = "openai-completions"
    text_member = "prompt"
    routes = openai_routes("/v1/completions")

    def read(self, body: bytes, service: ServiceDescription, content_type: str = JSON) -> ParsedRequest:
        """Read a request; the model server gets it with all log-probabilities requested."""
        del content_type
        document = load_object(body, missing=False)
        check_model(document, service)
        terms = stream_terms(document, service)
        prompts, each, asked = _prompts(document), wanted_choices(document), _logprobs(document, service)
        check_row_limit(len(prompts) * each, service)
        _check_best_of(document, each)
        written = COMPLETION_MEMBERS.read_bytes(document | {"prompt": None}, service)
        forward = pinned(document, service) | {"logprobs": service.top_logprobs}
        if terms is not None:
            forward |= {"stream_options": terms.options}
        count = len(prompts) * each
        rows = ((prompt, b"%d" % number) for prompt in map(canonical, prompts) for number in range(each))
        return ParsedRequest(
            row_fingerprints((b"completion", written), rows),
            None,
            note=CompletionNote(chat_note(document).stop, chooses_end(document)),
            forward=None if forward == document else encoded_request(forward),
            strip=partial(_stripped, asked),
            answer_bound=answer_bound(document, count, asked, stream=terms is not None),
            altered=altered(document, service),
            token_bound=None if terms is None else partial(stream_bound, count, asked),
            stream=None if terms is None else partial(CompletionStream, asked, count, service, usage=terms.usage),
        )

    def evidence(self, parsed: ParsedRequest, answer: Answer, service: ServiceDescription) -> Evidence:
        """The tokens of each completion."""
        document = load_chat(answer)
        if not isinstance(document, dict):
            raise AnswerError("the model server's answer is not an object")
        choices = numbered(document, "choices", len(parsed.fingerprints))
        note = parsed.note if isinstance(parsed.note, CompletionNote) else CompletionNote()
        check_completion_members(document, choices, service)
        tokens = tuple(measured_text(choice, chosen=note.ends) for choice in choices)
        check_completion_count(document, choices, note.stop)
        return Evidence(parsed.fingerprints, tokens=tokens)
