"""A stand-in for a model server that streams chats, with calls of tools, as vLLM does: one event per step of the model."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

__all__ = ["CHAT_PATH", "chat_server"]

CHAT_PATH = "/v1/chat/completions"
_CREATED = 1_700_000_000  # Unix time
_PROMPT_TOKENS = 9
_ARGUMENTS = ('{"ci', 'ty": ', '"Os', 'lo"}')
_BEFORE_CALL = ("I", " will", " look", ".")
_REPORT = ("It", " rains", " in", " Oslo", ",", " 7", " °", "C", " ☂", ".")
_OTHERS = (
    "the",
    "a",
    "of",
    "and",
    "to",
    "in",
    "is",
    "it",
    "on",
    "as",
    "at",
    "by",
    "or",
    "an",
    "be",
    "we",
    "he",
    "no",
    "so",
)


@dataclass(frozen=True, slots=True)
class _Step:
    """What one event changes, and the tokens that the model made for it."""

    delta: dict[str, Any]
    tokens: tuple[str, ...] = ()
    finish: str | None = None


def _call_steps(name: str) -> Iterator[_Step]:
    yield _Step({"role": "assistant", "content": ""})
    for word in _BEFORE_CALL:
        yield _Step({"content": word}, (word,))
    function = {"name": name, "arguments": ""}
    call = {"index": 0, "id": "call_1", "type": "function", "function": function}
    yield _Step({"tool_calls": [call]}, ("<tool_call>", name))
    for piece in _ARGUMENTS:
        yield _Step({"tool_calls": [{"index": 0, "function": {"arguments": piece}}]}, (piece,))
    yield _Step({}, ("</tool_call>",), "tool_calls")


def _report_steps(lines: int) -> Iterator[_Step]:
    yield _Step({"role": "assistant", "content": ""})
    for word in _REPORT * lines:
        yield _Step({"content": word}, (word,))
    yield _Step({}, (), "stop")


def _steps(question: dict[str, Any], lines: int) -> Iterator[_Step]:
    tools = question.get("tools")
    if tools and question["messages"][-1].get("role") != "tool":
        return _call_steps(tools[0]["function"]["name"])
    return _report_steps(lines)


def _logprobs(tokens: Sequence[str], top: int) -> list[dict[str, Any]]:
    """Log-probabilities of tokens: 0.6 for each, and what is left shared by others, each half as likely as the last."""

    def entry(token: str, probability: float) -> dict[str, Any]:
        return {"token": token, "logprob": math.log(probability), "bytes": list(token.encode())}

    found = []
    for token in tokens:
        known = [entry(token, 0.6), *(entry(other, 0.2 / 2**rank) for rank, other in enumerate(_OTHERS))]
        found.append({**known[0], "top_logprobs": known[:top]})
    return found


def _documents(question: dict[str, Any], lines: int) -> Iterator[dict[str, Any]]:
    """The JSON documents of a stream's events."""
    chunk = {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "created": _CREATED,
        "model": question["model"],
    }
    made = 0
    for step in _steps(question, lines):
        choice = {"index": 0, "delta": step.delta, "logprobs": None, "finish_reason": step.finish}
        made += len(step.tokens)
        if question.get("logprobs") and step.tokens:
            choice["logprobs"] = {"content": _logprobs(step.tokens, question.get("top_logprobs", 0))}
        yield {**chunk, "choices": [choice]}
    if (question.get("stream_options") or {}).get("include_usage"):
        yield {**chunk, "choices": [], "usage": _usage(made)}


def _completion(question: dict[str, Any], lines: int) -> dict[str, Any]:
    """The same answer as one document."""
    steps = list(_steps(question, lines))
    calls = [delta["tool_calls"][0]["function"] for delta in (step.delta for step in steps) if "tool_calls" in delta]
    message: dict[str, Any] = {"role": "assistant", "content": "".join(step.delta.get("content", "") for step in steps)}
    if calls:
        function = {"name": calls[0]["name"], "arguments": "".join(call["arguments"] for call in calls)}
        message["tool_calls"] = [{"id": "call_1", "type": "function", "function": function}]
    tokens = [token for step in steps for token in step.tokens]
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": steps[-1].finish}
    if question.get("logprobs"):
        choice["logprobs"] = {"content": _logprobs(tokens, question.get("top_logprobs", 0))}
    envelope = {"id": "chatcmpl-1", "object": "chat.completion", "created": _CREATED, "model": question["model"]}
    return {**envelope, "choices": [choice], "usage": _usage(len(tokens))}


def _usage(made: int) -> dict[str, int]:
    return {"prompt_tokens": _PROMPT_TOKENS, "completion_tokens": made, "total_tokens": _PROMPT_TOKENS + made}


def chat_server(seconds: float = 0.0, lines: int = 1) -> Starlette:
    """An application that serves ``POST /v1/chat/completions``, streamed and whole.

    It calls the first tool of a request, unless the last message is the result of one; then, and without tools, it writes
    that many ``lines``. ``seconds`` lie between its events.
    """

    async def events(question: dict[str, Any]) -> AsyncIterator[bytes]:
        for document in _documents(question, lines):
            yield b"data: " + json.dumps(document).encode() + b"\n\n"
            await asyncio.sleep(seconds)
        yield b"data: [DONE]\n\n"

    async def chat(request: Request) -> Response:
        question = await request.json()
        if not question.get("stream"):
            return JSONResponse(_completion(question, lines))
        return StreamingResponse(events(question), media_type="text/event-stream")

    return Starlette(routes=[Route(CHAT_PATH, chat, methods=["POST"])])
