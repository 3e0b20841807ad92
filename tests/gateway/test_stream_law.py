"""Every reader of streams keeps the one law, and the suite finds out the readers that break it."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from chat_streams import DONE, event
from modeltoll.gateway.protocols.openai_chat import OpenAIChat
from modeltoll.gateway.protocols.openai_completions import OpenAICompletions
from modeltoll.gateway.protocols.openai_responses import OpenAIResponses
from modeltoll.gateway.protocols.openai_text import OpenAIText
from modeltoll.gateway.protocols.protocol import ServiceDescription
from modeltoll.records import Answer
from modeltoll.testing.protocol_streams import StreamTrial, check_streams
from modeltoll.testing.protocols import ProtocolTrial

SERVICE = ServiceDescription("llm", "", "tokens", max_rows=64, logprobs="raw")
HEAD = {"id": "1", "created": 1, "model": "llm"}
TEXTS = ["a", 'with "quotes" and ümläuts', "日本"]
MUTATIONS = 100


def body(document):
    return json.dumps({"model": "llm", **document}).encode()


def said(document):
    return Answer(200, "application/json", json.dumps(document).encode())


def token(chances):
    known = [{"token": f"ü{i}", "logprob": math.log(p)} for i, p in enumerate(chances)]
    return {**known[0], "top_logprobs": known}


def scores_of(evidence):
    return np.array([table[0, :4] for table in evidence.tokens if len(table)])


# --- chats


def chat(document, **members):
    return body({"messages": [{"role": "user", "content": document[0]}], "n": len(document), **members})


def whole_chat(scores):
    choices = [
        {"index": i, "message": {"role": "assistant", "content": "ü0ü0"}, "logprobs": {"content": [token(row)] * 2}}
        for i, row in enumerate(scores.tolist())
    ]
    return said({**HEAD, "object": "chat.completion", "choices": [one | {"finish_reason": "stop"} for one in choices]})


def chat_events(scores):
    def chunk(choices, **members):
        return event({**HEAD, "object": "chat.completion.chunk", "choices": choices, **members})

    for i, row in [*enumerate(scores.tolist())] * 2:
        yield chunk([{"index": i, "delta": {"content": "ü0"}, "logprobs": {"content": [token(row)]}}])
    for i in range(len(scores)):
        yield chunk([{"index": i, "delta": {}, "logprobs": None, "finish_reason": "stop"}])
    yield chunk(
        [], usage={"prompt_tokens": 1, "completion_tokens": 2 * len(scores), "total_tokens": 2 * len(scores) + 1}
    )
    yield DONE


# --- completions


def lists(chances):
    names = [f"ü{i}" for i in range(len(chances))]
    shown = dict(zip(names, map(math.log, chances), strict=True))
    return {"tokens": ["ü0"], "token_logprobs": [shown["ü0"]], "top_logprobs": [shown], "text_offset": [0]}


def whole_completion(scores):
    choices = [{"index": i, "text": "ü0", "logprobs": lists(row)} for i, row in enumerate(scores.tolist())]
    return said({**HEAD, "object": "text_completion", "choices": [one | {"finish_reason": "stop"} for one in choices]})


def completion_events(scores):
    def chunk(*choices):
        return event({**HEAD, "object": "text_completion", "choices": choices})

    for i, row in enumerate(scores.tolist()):
        yield chunk({"index": i, "text": "ü0", "logprobs": lists(row), "finish_reason": None})
    yield chunk(*({"index": i, "text": "", "logprobs": None, "finish_reason": "stop"} for i in range(len(scores))))
    yield DONE


# --- responses


def response(scores, status="completed"):
    part = {"type": "output_text", "text": "ü0", "annotations": [], "logprobs": [token(scores[0].tolist())]}
    message = {"id": "m", "type": "message", "role": "assistant", "status": status, "content": [part]}
    output = [message] if status == "completed" else []
    return {"id": "1", "object": "response", "created_at": 1, "model": "llm", "status": status, "output": output}


def response_events(scores):
    place = {"item_id": "m", "output_index": 0, "content_index": 0}
    logprobs = [token(scores[0].tolist())]
    documents = [
        {"type": "response.created", "response": response(scores, "in_progress")},
        {"type": "response.output_text.delta", "delta": "ü0", "logprobs": logprobs, **place},
        {"type": "response.output_text.done", "text": "ü0", "logprobs": logprobs, **place},
        {"type": "response.completed", "response": response(scores)},
    ]
    for number, document in enumerate(documents):
        name = document["type"].encode()
        yield b"event: %b\ndata: %b\n\n" % (name, json.dumps({"sequence_number": number, **document}).encode())


def prompts(texts, **members):
    return body({"prompt": list(texts), **members})


def given(texts, **members):
    return body({"input": texts[0], **members})


CASES = {
    "chats": (OpenAIChat(), TEXTS, chat, whole_chat, chat_events),
    "completions": (OpenAICompletions(), TEXTS, prompts, whole_completion, completion_events),
    "responses": (OpenAIResponses(), TEXTS[:1], given, lambda scores: said(response(scores)), response_events),
    "chats of one model at all endpoints": (OpenAIText(), TEXTS, chat, whole_chat, chat_events),
}


def check(protocol, inputs, ask, whole, events, options=None):
    trial = ProtocolTrial(protocol, SERVICE, inputs, ask, whole, scores_of=scores_of, mutations=MUTATIONS)
    streams = StreamTrial(lambda texts: ask(texts, stream=True, **(options or {})), lambda scores: [*events(scores)])
    check_streams(trial, streams, np.random.default_rng(0))


@pytest.mark.parametrize("options", [{}, {"max_tokens": 40}], ids=["without a limit", "with a limit"])
@pytest.mark.parametrize("case", CASES)
def test_each_reader_keeps_the_law_of_streams(case, options):
    if case == "responses":
        options = {"max_output_tokens": 40} if options else {}
    protocol, inputs, ask, *rest = CASES[case]
    check(protocol, inputs, lambda texts, **members: ask(texts, **options | members), *rest)


# --- readers that break it


class Broken(OpenAIChat):
    """Chats whose streams another reader reads."""

    def read(self, body, service, content_type="application/json"):
        parsed = super().read(body, service, content_type)
        if parsed.stream is not None:
            make = parsed.stream
            object.__setattr__(parsed, "stream", lambda: self.reader(make()))
        return parsed


class Around:
    """A reader around another one."""

    def __init__(self, reader):
        self.reader = reader

    def feed(self, chunk):
        return self.reader.feed(chunk)

    def finish(self):
        return self.reader.finish()


class Passing(Around):
    """Passes on everything as it comes."""

    def feed(self, chunk):
        self.reader.feed(chunk)
        return chunk


class Hasty(Around):
    """Takes each chunk for whole events."""

    def feed(self, chunk):
        return self.reader.feed(chunk if chunk.endswith(b"\n\n") else b"")


class Trusting(Around):
    """Is content with a stream that breaks off."""

    def finish(self):
        self.reader._is_done = True
        return self.reader.finish()


class Forgiving(Around):
    """Overlooks errors of the model server, and what it cannot measure."""

    def finish(self):
        self.reader._error = self.reader._fault = None
        return self.reader.finish()


class Crashing(Around):
    """Raises for what it cannot read."""

    def feed(self, chunk):
        chunk.decode()
        return self.reader.feed(chunk)


BROKEN = {
    Passing: "a part of an event was released",
    Hasty: "chunks of . bytes cannot be measured",
    Trusting: "a part of a stream was read as a whole answer",
    Forgiving: "with an error in it|not measured was released|a part of a stream",
    Crashing: "codec can't decode",
}


@pytest.mark.parametrize("broken", BROKEN)
def test_the_suite_finds_out_a_reader_that_breaks_the_law(broken):
    protocol = Broken()
    protocol.reader = broken
    with pytest.raises((AssertionError, UnicodeDecodeError), match=BROKEN[broken]):
        check(protocol, TEXTS, chat, whole_chat, chat_events)


def test_the_suite_finds_out_a_stream_that_is_longer_than_its_bound():
    class Short(OpenAIChat):
        def read(self, body, service, content_type="application/json"):
            parsed = super().read(body, service, content_type)
            object.__setattr__(parsed, "answer_bound", 100)
            return parsed

    with pytest.raises(AssertionError, match="longer than its bound"):
        check(Short(), TEXTS, chat, whole_chat, chat_events)
