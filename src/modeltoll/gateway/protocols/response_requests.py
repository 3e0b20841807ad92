"""Requests of OpenAI's Responses API: which members the model reads, and what refers to something outside the request."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from modeltoll.errors import RequestError
from modeltoll.gateway.protocols.chat_requests import check_references, token_bytes
from modeltoll.gateway.protocols.completion_ends import chooses_end
from modeltoll.gateway.protocols.openai_shape import bounded, unbounded
from modeltoll.gateway.protocols.request_members import RequestMembers, has_value, names
from modeltoll.gateway.protocols.strict_json import canonical

if TYPE_CHECKING:
    from collections.abc import Iterator

    from modeltoll.gateway.protocols.protocol import ServiceDescription

__all__ = [
    "LOGPROBS",
    "RESPONSE_MEMBERS",
    "SENT",
    "ResponseNote",
    "asked_logprobs",
    "check_input",
    "leaves",
    "response_bound",
    "response_note",
    "token_bound",
    "wants_stream",
]

LOGPROBS = "message.output_text.logprobs"  # of the member ``include``
SENT = ("temperature", "top_p")  # of what tempers, the members that the API knows

_OPENAI = """input model instructions tools tool_choice parallel_tool_calls max_tool_calls reasoning text truncation
    temperature top_p max_output_tokens image"""
_OTHERS = """top_k min_p repetition_penalty frequency_penalty presence_penalty logit_bias seed stop ignore_eos
    skip_special_tokens include_stop_str_in_output mm_processor_kwargs structured_outputs chat_template
    chat_template_kwargs previous_input_messages previous_response"""

RESPONSE_MEMBERS = RequestMembers(
    read=names(_OPENAI, _OTHERS),
    # include and top_logprobs: all log-probabilities are always measured and paid for
    harmless=names(
        """user metadata store safety_identifier prompt_cache_key prompt_cache_retention service_tier cache_salt include
        top_logprobs stream stream_options"""
    ),
    unmeasured=names(
        """enable_response_messages moderation audio modalities n_probs prompt_logprobs return_token_ids
        return_tokens_as_token_ids return_hidden_states verbose"""
    ),
    # request_id: vLLM stores the answer under it, so that another caller could name it
    outside=names(
        """previous_response_id conversation prompt background background_options context_management request_id
        access_programs prompt_cache_options vllm_xargs kv_transfer_params lora lora_path session_id id_slot"""
    ),
)

_ITEMS = frozenset(
    ("message", "function_call", "function_call_output", "custom_tool_call", "custom_tool_call_output", "reasoning")
)
_NAME_CHARACTERS = 64  # of a name in an error
_COPIES = 4  # of an answer in its stream, beside the deltas
_FRAMES = 2048  # of the events around each


@dataclass(frozen=True, slots=True)
class ResponseNote:
    """What is needed of a request to read its answer.

    ``names`` of its functions, the longest ``stop`` in bytes, ``leaves``: the texts and numbers of what answers repeat of
    a request, ``top_logprobs`` as the caller asked for it, and ``ends`` as of ``ChatNote``.
    """

    names: frozenset[str] = frozenset()
    stop: int = 0
    leaves: frozenset[object] = frozenset()
    top_logprobs: object = None
    ends: bool = False


def check_input(document: dict[str, Any], service: ServiceDescription) -> None:
    """Refuse an input that is no text or list of items, and items that refer to something that they do not hold.

    ``service.allow_members`` may name a type of items, or the member that refers to it.

    Raises:
        RequestError: it is one.
    """
    given = document.get("input")
    if isinstance(given, str):
        return
    if not isinstance(given, list) or not given or not all(isinstance(item, dict) for item in given):
        raise RequestError("'input' is not a text or a list of items")
    for item in given:
        kind = item.get("type") or "message"
        known = isinstance(kind, str) and (kind in _ITEMS or kind in service.allow_members)
        if not known or (
            kind == "reasoning" and "reasoning" not in service.allow_members and not _holds_reasoning(item)
        ):
            shown = str(kind)[:_NAME_CHARACTERS]
            raise RequestError(
                f"'input' has an item of type {shown!r} that the request does not hold; it is not served here"
            )
    check_references(given, service)


def _holds_reasoning(item: dict[str, Any]) -> bool:
    """Whether an item of reasoning has its text; else it is one that the server has kept."""
    return has_value(item.get("content")) or has_value(item.get("encrypted_content"))


def asked_logprobs(document: dict[str, Any], service: ServiceDescription) -> int | None:
    """How many log-probabilities per token the caller asks for beside the token's own; None: none at all.

    Raises:
        RequestError: they ask for more than there are, or for something else to be included.
    """
    include, most, limit = document.get("include"), document.get("top_logprobs"), service.top_logprobs
    if include is None:
        include = []
    if not isinstance(include, list):
        raise RequestError("'include' is not a list")
    for name in include:
        if name != LOGPROBS:
            raise RequestError(
                f"'include' asks for {str(name)[:_NAME_CHARACTERS]!r}, which is not measured; it is not served here"
            )
    if most is None:
        most = 0
    if type(most) is not int or not 0 <= most <= limit:
        raise RequestError(f"'top_logprobs' is not 0 to {limit}")
    return most if include else None


def wants_stream(document: dict[str, Any]) -> bool:
    """Whether the caller wants a stream.

    Raises:
        RequestError: ``stream`` is neither true nor false, or ``stream_options`` has something else than the option that adds
            texts of chance, which hide the lengths of events.
    """
    wanted, options = document.get("stream"), document.get("stream_options")
    if wanted is not None and not isinstance(wanted, bool):
        raise RequestError("'stream' is not true or false")
    if has_value(options) and not wanted:
        raise RequestError("'stream_options' needs 'stream': true")
    if options is not None and (not isinstance(options, dict) or options.keys() - {"include_obfuscation"}):
        raise RequestError("'stream_options' has something else than include_obfuscation; it is not served here")
    return bool(wanted)


def leaves(value: object) -> Iterator[object]:
    """The texts and numbers in a JSON value, and the names of its members."""
    left = [value]
    while left:
        item = left.pop()
        if isinstance(item, list):
            left += item
        elif isinstance(item, dict):
            left += item.keys()
            left += item.values()
        elif item is not None and not isinstance(item, bool):
            yield item


def response_note(document: dict[str, Any]) -> ResponseNote:
    """The note of a request that has been checked."""
    tools, stop = document.get("tools"), document.get("stop")
    called = [tool.get("name") for tool in tools if isinstance(tool, dict)] if isinstance(tools, list) else []
    stops = [one for one in (stop if isinstance(stop, list) else [stop]) if isinstance(one, str)]
    repeated = {name: value for name, value in document.items() if name != "input"}
    return ResponseNote(
        frozenset(name for name in called if isinstance(name, str)),
        max((len(one.encode("utf-8", "replace")) for one in stops), default=0),
        frozenset(leaves(repeated)),
        document.get("top_logprobs"),
        chooses_end(document),
    )


def response_bound(document: dict[str, Any], shown: int | None, *, stream: bool = False) -> int | None:
    """The length that answers to such a request have at most, in bytes, as ``ParsedRequest.answer_bound``."""
    limit = document.get("max_output_tokens")
    if type(limit) is not int or limit < 1:
        return None
    return bounded(1, _length(document, shown, limit, stream=stream))


def token_bound(document: dict[str, Any], shown: int | None, tokens: int) -> int:
    """The largest length of a stream of so many tokens, in bytes."""
    return unbounded(1, _length(document, shown, tokens, stream=True))


def _length(document: dict[str, Any], shown: int | None, tokens: int, *, stream: bool) -> int:
    """An answer repeats all of its request but the input; a stream does so in three events, and has its texts five times."""
    repeated = 2 * len(canonical({name: value for name, value in document.items() if name != "input"}))
    whole = repeated + tokens * token_bytes(shown, stream=False)
    return whole if not stream else _COPIES * (whole + _FRAMES) + tokens * token_bytes(shown, stream=True)
