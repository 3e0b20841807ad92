"""The members that a chat's answer may have, each with its values: of the document, of its choices, messages and calls."""

from __future__ import annotations

from collections.abc import Mapping

from modeltoll.gateway.protocols.answer_members import ENVELOPE, ValueCheck, is_anything, is_count, is_short_text

__all__ = ["CALL", "CHOICE", "CUT", "DOCUMENT", "FUNCTION", "MESSAGE", "STOPS", "TEXT"]

TEXT = frozenset(("content", "refusal", "reasoning_content", "reasoning"))
STOPS = ("stop_reason", "matched_stop")  # which end of the request, or which token, has ended a completion
CUT = frozenset(("length", "content_filter"))  # reasons of a completion that did not end by itself
_METADATA = 16  # members of the metadata, at most


def _is_metadata(value: object) -> bool:
    return isinstance(value, dict) and len(value) <= _METADATA and all(map(is_short_text, value.values()))


def _is_timings(value: object) -> bool:
    """llama.cpp: numbers of tokens and milliseconds."""
    parts = ("_n", "_ms", "_per_second", "_accepted")
    return isinstance(value, dict) and all(
        name.endswith(parts) and isinstance(item, int | float) for name, item in value.items()
    )


def is_stop(value: object) -> bool:
    """What ended a completion: the number of a token, or a text."""
    return is_count(value) or is_short_text(value)


DOCUMENT: Mapping[str, ValueCheck] = {
    **ENVELOPE,
    "choices": is_anything,
    "system_fingerprint": is_short_text,
    "service_tier": is_short_text,
    "metadata": _is_metadata,
    "timings": _is_timings,
}
CHOICE: Mapping[str, ValueCheck] = {
    "index": is_count,
    "message": is_anything,
    "finish_reason": is_short_text,
    "logprobs": is_anything,
    "stop_reason": is_stop,
    "matched_stop": is_stop,
}
MESSAGE: Mapping[str, ValueCheck] = {
    "role": is_short_text,
    **dict.fromkeys((*TEXT, "tool_calls", "function_call"), is_anything),
}
CALL: Mapping[str, ValueCheck] = {
    "id": is_short_text,
    "type": is_short_text,
    "index": is_count,
    "function": is_anything,
    "custom": is_anything,
}
FUNCTION: Mapping[str, ValueCheck] = dict.fromkeys(("name", "arguments", "input"), is_anything)
