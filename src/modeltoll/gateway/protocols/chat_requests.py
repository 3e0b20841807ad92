"""Chat requests: which members the model reads, what is pinned where log-probabilities are tempered, and their bound."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from modeltoll.errors import RequestError
from modeltoll.gateway.protocols.completion_ends import chooses_end
from modeltoll.gateway.protocols.openai_shape import bounded, unbounded
from modeltoll.gateway.protocols.request_members import RequestMembers, has_value, names

if TYPE_CHECKING:
    from modeltoll.gateway.protocols.protocol import ServiceDescription

__all__ = [
    "CHAT_MEMBERS",
    "ChatNote",
    "StreamTerms",
    "altered",
    "answer_bound",
    "chat_note",
    "check_messages",
    "check_references",
    "check_tools",
    "pinned",
    "stream_bound",
    "stream_terms",
    "token_bytes",
]

_OPENAI = """messages model tools tool_choice parallel_tool_calls functions function_call temperature top_p n seed stop
    max_tokens max_completion_tokens presence_penalty frequency_penalty logit_bias response_format reasoning_effort
    verbosity prediction"""
_VLLM = """top_k min_p repetition_penalty length_penalty stop_token_ids include_stop_str_in_output ignore_eos min_tokens
    skip_special_tokens spaces_between_special_tokens truncate_prompt_tokens truncation_side allowed_token_ids bad_words
    add_generation_prompt continue_final_message add_special_tokens documents chat_template chat_template_kwargs
    mm_processor_kwargs media_io_kwargs structured_outputs guided_json guided_regex guided_choice guided_grammar
    guided_decoding_backend guided_whitespace_pattern structural_tag include_reasoning thinking_token_budget
    repetition_detection watermarking"""
_SGLANG = """regex ebnf stop_regex no_stop_trim separate_reasoning reasoning thinking task input_ids max_dynamic_patch
    min_dynamic_patch use_audio_in_video images_config"""
_LLAMA_CPP = """grammar json_schema samplers dynatemp_range dynatemp_exponent typical_p repeat_penalty repeat_last_n
    dry_multiplier dry_base dry_allowed_length dry_penalty_last_n dry_sequence_breakers xtc_probability xtc_threshold
    top_n_sigma mirostat mirostat_tau mirostat_eta min_keep n_predict n_keep n_indent t_max_predict_ms reasoning_format
    thinking_forced_open"""
_TGI = "tool_prompt guideline"

CHAT_MEMBERS = RequestMembers(
    read=names(_OPENAI, _VLLM, _SGLANG, _LLAMA_CPP, _TGI),
    # logprobs and top_logprobs: all are always measured and paid for, whatever of them the caller gets to see
    harmless=names(
        """user metadata store safety_identifier prompt_cache_key prompt_cache_retention prompt_cache_options service_tier
        request_id rid cache_salt cache_prompt timings_per_token stream stream_options stream_interval stream_reasoning
        logprobs top_logprobs"""
    ),
    unmeasured=names(
        """prompt_logprobs logprob_token_ids return_hidden_states return_token_ids return_tokens_as_token_ids
        return_prompt_text return_prompt_token_ids return_token_offsets return_meta_info return_routed_experts
        return_cached_tokens_details return_tokens return_progress return_mm_kwargs echo use_beam_search best_of n_probs
        post_sampling_probs backend_sampling verbose audio modalities moderation"""
    ),
    outside=names(
        """custom_logit_processor custom_params vllm_xargs kv_transfer_params ec_transfer_params bootstrap_host
        bootstrap_port bootstrap_room lora lora_path session_params session_id web_search_options id_slot
        ngram_corpus_id"""
    ),
)

# Where log-probabilities are tempered: the values that leave them as the model made them. The first four are OpenAI's,
# and are sent if the request leaves them out; the defaults of the others are the operator's.
_NEUTRAL: Mapping[str, tuple[object, ...]] = {
    "temperature": (1,),
    "top_p": (1,),
    "frequency_penalty": (0,),
    "presence_penalty": (0,),
    "top_k": (0, -1),
    "min_p": (0,),
    "typical_p": (1,),
    "top_n_sigma": (-1,),
    "repetition_penalty": (1,),
    "repeat_penalty": (1,),
    "dry_multiplier": (0,),
    "xtc_probability": (0,),
    "dynatemp_range": (0,),
    "mirostat": (0,),
    "logit_bias": ({}, []),
    "samplers": (),
}
_SENT = ("temperature", "top_p", "frequency_penalty", "presence_penalty")

_REFERENCES = frozenset(("uuid", "file_id", "content_hash"))  # of what the server has kept from another request
_TOOLS = frozenset(("function", "custom"))  # those that the caller runs
_CALLS = frozenset(("tool_calls", "function_call", "tools"))  # may have any members
_LIMITS = ("max_completion_tokens", "max_tokens", "n_predict")
_TOKEN_BYTES = 32  # of one token's text in an answer, with its escapes
_EVENT_BYTES = 480  # of one event of a stream, without its token and log-probabilities
_STREAM_OPTIONS = ("include_usage", "include_obfuscation", "continuous_usage_stats")
_LOGPROB_BYTES = 160  # of one log-probability in an answer, with its token


@dataclass(frozen=True, slots=True)
class ChatNote:
    """What is needed of a request to read its answer: ``names`` of its functions, and the longest ``stop`` in bytes.

    ``ends``: whether the request chooses what ends a completion, see ``chooses_end``.
    """

    names: frozenset[str] = frozenset()
    stop: int = 0
    ends: bool = False


@dataclass(frozen=True, slots=True)
class StreamTerms:
    """How a caller wants a stream: ``usage`` says whether the numbers of tokens are shown. ``options`` go to the server."""

    usage: bool
    options: Mapping[str, Any]


def stream_terms(document: dict[str, Any], service: ServiceDescription) -> StreamTerms | None:
    """The terms of a request for a stream; None where it wants a whole answer.

    The server is always asked for its count of tokens, which is compared with those that were measured.

    Raises:
        RequestError: ``stream`` is neither true nor false, or ``stream_options`` holds what is not served.
    """
    wanted, options = document.get("stream"), document.get("stream_options")
    if wanted is not None and not isinstance(wanted, bool):
        raise RequestError("'stream' is not true or false")
    if not wanted:
        if has_value(options):
            raise RequestError("'stream_options' needs 'stream': true")
        return None
    options = {} if options is None else options
    if not isinstance(options, dict):
        raise RequestError("'stream_options' is not an object")
    for name, value in options.items():
        if name not in (*_STREAM_OPTIONS, *service.allow_members):
            raise RequestError(f"'stream_options.{name[:64]}' is not served here")
        if name in _STREAM_OPTIONS and not (value is None or isinstance(value, bool)):
            raise RequestError(f"'stream_options.{name}' is not true or false")
    return StreamTerms(options.get("include_usage") is True, options | {"include_usage": True})


def check_messages(document: dict[str, Any], service: ServiceDescription) -> None:
    """Refuse what is no list of messages, and messages that refer to something that they do not hold.

    An image, a sound or a file must be in the request itself, for otherwise the same request could mean another input
    each time. ``service.allow_members`` may name the member that refers to it, such as ``image_url``.

    Raises:
        RequestError: it is one.
    """
    messages = document.get("messages")
    if not isinstance(messages, list) or not messages or not all(isinstance(item, dict) for item in messages):
        raise RequestError("'messages' is not a list of messages")
    check_references(messages, service)


def check_references(messages: list[Any], service: ServiceDescription) -> None:
    """Refuse messages that refer to something that they do not hold; raises as ``check_messages``."""
    left = list(messages)
    while left:
        item = left.pop()
        if isinstance(item, list):
            left += item
        elif isinstance(item, dict):
            for name, value in item.items():
                if name not in service.allow_members and _is_reference(name, value):
                    raise RequestError(f"{name[:64]!r} of a message refers to something that the request does not hold")
            left += [value for name, value in item.items() if name not in _CALLS]


def check_tools(document: dict[str, Any], service: ServiceDescription) -> None:
    """Refuse tools that the server would run itself, such as a search: what the model reads of them is not in the request.

    Raises:
        RequestError: there is one.
    """
    tools = document.get("tools")
    if "tools" in service.allow_members or not isinstance(tools, list):
        return
    for tool in tools:
        kind = tool.get("type", "function") if isinstance(tool, dict) else None
        if not isinstance(kind, str) or kind not in _TOOLS:
            raise RequestError("'tools' has one whose type is not function or custom; it is not served here")


def _is_reference(name: str, value: object) -> bool:
    if name.endswith("_url"):
        held = value.get("url") if isinstance(value, dict) else value
        return has_value(held) and not (isinstance(held, str) and held[:5].lower() == "data:")
    if name == "audio":
        return isinstance(value, dict) and has_value(value.get("id"))
    return name in _REFERENCES and has_value(value)


def pinned(document: dict[str, Any], service: ServiceDescription, sent: tuple[str, ...] = _SENT) -> dict[str, Any]:
    """The request as it goes on: where log-probabilities are tempered, with everything that tempers them neutral.

    ``sent`` are the members that the API knows: they are sent where the request leaves them out.

    Raises:
        RequestError: they are tempered, and the request wants something else.
    """
    if service.logprobs == "raw":
        return document
    for name, neutral in _NEUTRAL.items():
        value = document.get(name)
        if value is None or name in service.allow_members:
            continue
        if isinstance(value, bool) or value not in neutral:
            allowed = f" must be {neutral[0]}" if neutral and neutral[0] != {} else " must be left out"
            raise RequestError(f"{name!r}{allowed} here: the price is made of log-probabilities, which it would change")
    wanted = {name: _NEUTRAL[name][0] for name in sent if document.get(name) is None}
    return document | wanted


def altered(document: dict[str, Any], service: ServiceDescription, sent: tuple[str, ...] = _SENT) -> str:
    """Why the server may answer the ``pinned`` request otherwise; empty where it may not."""
    if service.logprobs == "raw" or service.neutral_defaults:
        return ""
    missing = [name for name in sent if document.get(name) is None]
    return f"{missing[0]!r} is left out: the server's own value of it is not known" if missing else ""


def chat_note(document: dict[str, Any]) -> ChatNote:
    """The names of the functions and the stops of a request, as far as they can be read."""
    stop = document.get("stop")
    stops = [one for one in (stop if isinstance(stop, list) else [stop]) if isinstance(one, str)]
    longest = max((len(one.encode("utf-8", "replace")) for one in stops), default=0)
    return ChatNote(frozenset(_names(document)), longest, chooses_end(document))


def _names(document: dict[str, Any]) -> list[str]:
    tools, functions = document.get("tools"), document.get("functions")
    found = list(functions) if isinstance(functions, list) else []
    for tool in tools if isinstance(tools, list) else []:
        if isinstance(tool, dict):
            found += [tool.get("function"), tool.get("custom")]
    called = [one.get("name") for one in found if isinstance(one, dict)]
    return [name for name in called if isinstance(name, str)]


def stream_bound(choices: int, shown: int | None, tokens: int) -> int:
    """The largest length of a stream of so many tokens, in bytes; otherwise as ``answer_bound``."""
    return unbounded(choices, tokens * token_bytes(shown, stream=True))


def token_bytes(shown: int | None, *, stream: bool) -> int:
    """The most bytes that one token takes in an answer; ``shown`` as in ``answer_bound``."""
    return _TOKEN_BYTES + (_EVENT_BYTES if stream else 0) + (0 if shown is None else (shown + 1) * _LOGPROB_BYTES)


def answer_bound(document: dict[str, Any], choices: int, shown: int | None, *, stream: bool = False) -> int | None:
    """The length that answers to such a request have at most, in bytes, as ``ParsedRequest.answer_bound``.

    Args:
        document: the request.
        choices: its number of completions.
        shown: the log-probabilities per token that the caller gets beside the token's own; None: none at all.
        stream: whether each token comes in an event of its own.
    """
    limits = [limit for name in _LIMITS if type(limit := document.get(name)) is int and limit > 0]
    if not limits:
        return None
    return bounded(choices, max(limits) * token_bytes(shown, stream=stream))
