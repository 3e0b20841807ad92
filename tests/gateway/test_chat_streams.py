"""Streamed chats: the deltas make the answer that had not been streamed, and every event goes out without what was not asked."""

from __future__ import annotations

import json

import numpy as np
import pytest

from chat_streams import DONE, chunk, documents_in, event, said, stream_of, token, usage_chunk
from modeltoll.errors import AnswerError, RequestError, StreamBroken
from modeltoll.gateway.protocols.event_stream import KEEP_ALIVE
from modeltoll.gateway.protocols.openai_chat import OpenAIChat
from modeltoll.gateway.protocols.protocol import ServiceDescription
from modeltoll.records import Answer

CHAT = OpenAIChat()
SERVICE = ServiceDescription("llm", "", "tokens", max_rows=64, logprobs="raw")
OPEN = ServiceDescription("llm", "", "tokens", logprobs="raw", unmeasured=("prompt_filter_results", "citations"))
HELLO = [{"role": "user", "content": "hi"}]
TOOLS = [{"type": "function", "function": {"name": "get_weather", "parameters": {}}}]


def read(service=SERVICE, **members):
    body = {"model": "llm", "messages": HELLO, "stream": True, **members}
    return CHAT.read(json.dumps(body).encode(), service)


def fed(stream, size=None, service=SERVICE, **members):
    """The reader of a stream, which was fed in pieces of ``size`` bytes; and what it gave."""
    reader = read(service, **members).stream()
    size = size or len(stream)
    return reader, b"".join(reader.feed(stream[at : at + size]) for at in range(0, len(stream), size))


def whole(stream, service=SERVICE, **members):
    """The document of a stream."""
    reader, _ = fed(stream, None, service, **members)
    answer = reader.finish()
    assert (answer.status, answer.content_type) == (200, "application/json")
    return json.loads(answer.body)


def measured(stream, service=SERVICE, **members):
    parsed = read(service, **members)
    reader = parsed.stream()
    reader.feed(stream)
    return CHAT.evidence(parsed, reader.finish(), service)


def refusal(*documents, service=SERVICE, **members):
    """Why a stream is not measured."""
    with pytest.raises(AnswerError) as caught:
        measured(stream_of(*documents), service, **members)
    return str(caught.value)


GREETING = stream_of(*said("Grüße", " an", " alle 😀"))


# --- the whole answer


def test_a_stream_becomes_the_answer_that_had_not_been_streamed():
    assert whole(GREETING) == {
        "id": "chat-1",
        "object": "chat.completion",
        "created": 1,
        "model": "llm",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "Grüße an alle 😀"},
                "logprobs": {"content": [token("Grüße"), token(" an"), token(" alle 😀")]},
                "finish_reason": "stop",
            }
        ],
        "usage": {"prompt_tokens": 9, "completion_tokens": 4, "total_tokens": 13},
    }


@pytest.mark.parametrize("size", [1, 2, 3, 7, 64])
def test_chunks_may_end_anywhere_in_a_character_too(size):
    reader, events = fed(GREETING, size)
    assert events == fed(GREETING)[1]
    assert json.loads(reader.finish().body) == whole(GREETING)


def test_every_token_is_measured_as_in_a_whole_answer():
    evidence = measured(GREETING)
    (tokens,) = evidence.tokens
    assert tokens.shape == (3, 21)
    parsed = read()
    same = CHAT.evidence(parsed, Answer(200, "application/json", json.dumps(whole(GREETING)).encode()), SERVICE)
    np.testing.assert_array_equal(tokens, same.tokens[0])


def test_several_choices_may_be_mixed():
    mixed = [
        chunk({"content": "a"}, [token("a")], index=1),
        chunk({"role": "assistant"}, index=0),
        chunk({"content": "b"}, [token("b")], index=0),
        chunk({"content": "c"}, [token("c")], index=1),
        chunk(finish="stop", index=0),
        chunk(finish="length", index=1),
    ]
    document = whole(stream_of(*mixed), n=2)
    assert [choice["message"]["content"] for choice in document["choices"]] == ["b", "ac"]
    assert [choice["finish_reason"] for choice in document["choices"]] == ["stop", "length"]
    assert [len(row) for row in measured(stream_of(*mixed), n=2).tokens] == [1, 2]
    assert refusal(*mixed[1:3], mixed[4], n=2) == "the model server's answer does not have one of 'choices' per input"
    assert "not asked for" in refusal(chunk({"content": "a"}, [token("a")], index=1))


ARGUMENTS = '{"city": "Tübingen"}'


def call(position, delta, logprobs=()):
    return chunk({"tool_calls": [{"index": position, **delta}]}, list(logprobs) or None)


def test_calls_of_tools_come_in_pieces():
    pieces = [ARGUMENTS[:9], ARGUMENTS[9:15], ARGUMENTS[15:]]
    documents = [
        chunk({"role": "assistant", "content": None}),
        call(0, {"id": "call_1", "type": "function", "function": {"name": "get_weather", "arguments": ""}}),
        *(call(0, {"function": {"arguments": piece}}, [token(piece)]) for piece in pieces),
        call(1, {"id": "call_2", "type": "function", "function": {"name": "get_"}}),
        call(1, {"id": "call_2", "function": {"name": "weather", "arguments": "{}"}}, [token("{}")]),
        chunk(finish="tool_calls"),
        usage_chunk(5),
    ]
    message = whole(stream_of(*documents), tools=TOOLS)["choices"][0]["message"]
    assert message["tool_calls"] == [
        {"id": "call_1", "type": "function", "function": {"name": "get_weather", "arguments": ARGUMENTS}},
        {"id": "call_2", "type": "function", "function": {"name": "get_weather", "arguments": "{}"}},
    ]
    assert len(measured(stream_of(*documents), tools=TOOLS).tokens[0]) == 4
    bare = [{**one, "choices": [{**c, "logprobs": None} for c in one["choices"]]} for one in documents]
    assert "leave 'tools' out" in refusal(*bare, tools=TOOLS)


def test_reasoning_refusals_and_old_function_calls_are_parts_of_the_message():
    documents = [
        chunk({"reasoning_content": "hm"}, [token("hm")]),
        chunk({"reasoning_content": ", so"}, [token(", so")]),
        chunk({"function_call": {"name": "get_weather", "arguments": "{"}}, [token("{")]),
        chunk({"function_call": {"arguments": "}"}}, [token("}")]),
        chunk({"refusal": "no"}, choice={"logprobs": {"content": None, "refusal": [token("no")]}}),
        chunk(finish="stop", choice={"stop_reason": 7}),
    ]
    document = whole(stream_of(*documents), tools=TOOLS)
    message = document["choices"][0]["message"]
    assert message["reasoning_content"] == "hm, so"
    assert message["refusal"] == "no"
    assert message["function_call"] == {"name": "get_weather", "arguments": "{}"}
    assert document["choices"][0]["stop_reason"] == 7
    assert len(measured(stream_of(*documents), tools=TOOLS).tokens[0]) == 5


@pytest.mark.parametrize("done", [DONE, b"", b"data: [DONE]\n", b"data: [DONE]"])
def test_a_stream_that_says_why_it_ended_is_complete_with_and_without_its_last_event(done):
    assert whole(stream_of(*said("yes"), done=done))["choices"][0]["message"]["content"] == "yes"


def test_a_stream_that_stops_half_way_is_not_complete():
    for end in range(1, len(GREETING)):
        reader, events = fed(GREETING[:end])
        if b'"finish_reason":"stop"' not in events:
            with pytest.raises(AnswerError, match="before its answer was complete"):
                reader.finish()


def test_nothing_counts_that_comes_after_the_end():
    after = stream_of(*said("yes")) + event(chunk({"content": "more"}, [token("more")])) + b": x\n\n"
    _, events = fed(after)
    assert events == fed(stream_of(*said("yes")))[1]
    assert whole(after) == whole(stream_of(*said("yes")))


# --- what the caller gets


def test_events_go_out_without_log_probabilities_and_counts_that_nobody_asked_for():
    documents = documents_in(fed(GREETING)[1])
    assert [one["choices"][0]["delta"].get("content") for one in documents] == ["", "Grüße", " an", " alle 😀", None]
    assert all(one["choices"][0]["logprobs"] is None and "usage" not in one for one in documents)
    assert fed(GREETING)[1].endswith(DONE)


def test_the_caller_gets_as_many_log_probabilities_as_they_asked_for():
    (_, events), more = fed(GREETING, logprobs=True, top_logprobs=1), fed(GREETING, logprobs=True)[1]
    tokens = [t for one in documents_in(events) for t in (one["choices"][0]["logprobs"] or {}).get("content", ())]
    assert [one["token"] for one in tokens] == ["Grüße", " an", " alle 😀"]
    assert [len(one["top_logprobs"]) for one in tokens] == [1, 1, 1]
    assert all(
        not t["top_logprobs"]
        for d in documents_in(more)
        for t in (d["choices"][0]["logprobs"] or {}).get("content", ())
    )


def test_the_caller_who_asks_gets_the_count_of_tokens_in_the_last_event():
    documents = documents_in(fed(GREETING, stream_options={"include_usage": True})[1])
    assert documents[-1]["usage"]["completion_tokens"] == 4
    assert documents[-1]["choices"] == []
    running = [one | {"usage": {"completion_tokens": 1}} for one in said("yes", counted=False)]
    assert all("usage" not in one for one in documents_in(fed(stream_of(*running))[1]))
    options = {"include_usage": True, "continuous_usage_stats": True}
    assert all("usage" in one for one in documents_in(fed(stream_of(*running), stream_options=options)[1]))


def test_comments_and_empty_events_keep_the_line_alive_and_tell_nothing():
    stream = b": the model thinks of a number: 7\n\n" + event(chunk({"content": "yes"}, [token("yes")])) + b"data:\n\n"
    _, events = fed(stream)
    assert events.startswith(KEEP_ALIVE)
    assert events.endswith(KEEP_ALIVE)
    assert b"7" not in events.partition(b"data")[0]


def test_padding_against_observers_of_the_line_is_left_out_for_it_is_a_text_that_nobody_measures():
    documents = [one | {"obfuscation": "the capital is Paris"} for one in said("yes")]
    assert b"Paris" not in fed(stream_of(*documents))[1]
    assert whole(stream_of(*documents)) == whole(stream_of(*said("yes")))


def test_a_member_that_is_repeated_in_an_event_goes_out_once():
    raw = b'data: {"choices": [{"index": 0, "delta": {"content": "secret", "content": "yes"}}]}\n\n'
    assert b"secret" not in fed(raw)[1]


# --- what is not measured


ODD = {
    "an event's member": chunk({}, note="secret"),
    "a choice's member": chunk(choice={"note": "secret"}),
    "a whole message": chunk(choice={"message": {"content": "secret"}}),
    "a delta's member": chunk({"note": "secret"}),
    "a call's member": call(0, {"note": "secret"}),
    "a function's member": call(0, {"function": {"note": "secret"}}),
    "another identifier": chunk({}, id="secret"),
    "another model": chunk({}, model="secret"),
    "another role": chunk({"role": "secret"}),
    "two reasons": chunk(finish="secret"),
    "log-probabilities of something": chunk(choice={"logprobs": {"audio": [token("secret")]}}),
    "a text that is none": chunk({"content": {"secret": 1}}),
    "counts that are texts": chunk({}, usage={"completion_tokens": "secret"}),
    "a call without a number": call("secret", {}),
    "a list": ["secret"],
    "a text": "secret",
}


@pytest.mark.parametrize("odd", ODD.values(), ids=ODD)
def test_an_event_with_something_that_is_not_measured_spoils_the_stream_wherever_it_stands(odd):
    documents = list(said("yes", counted=False))
    documents[0]["choices"][0]["delta"] |= {"role": "assistant"}
    for place in range(1, len(documents) + 1):
        assert refusal(*documents[:place], odd, *documents[place:])


def test_more_text_than_tokens_is_refused_though_each_event_has_a_token():
    long = [chunk({"content": "a long text that is not one token"}, [token("a")]), chunk(finish="stop")]
    assert "more than the tokens" in refusal(*long)


def test_more_tokens_counted_than_measured_are_refused_although_the_caller_asked_for_no_count():
    assert "counted more tokens" in refusal(*said("yes", counted=False), usage_chunk(40))


def test_events_of_another_name_are_refused():
    with pytest.raises(AnswerError):
        measured(b"event: note\n" + stream_of(*said("yes")))
    with pytest.raises(AnswerError, match="JSON"):
        measured(b"data: {half\n\n" + stream_of(*said("yes")))


def test_the_operator_may_allow_members_by_name():
    filtered = [{"choices": [], "prompt_filter_results": [{"x": 1}]}, *said("yes")]
    assert "prompt_filter_results" in refusal(*filtered)
    document = whole(stream_of(*filtered, {"choices": [], "citations": ["a"]}), OPEN)
    assert (document["prompt_filter_results"], document["citations"]) == ([{"x": 1}], ["a"])


def test_times_of_events_are_written_as_the_first_one():
    documents = [one | {"created": 100 + place} for place, one in enumerate(said("a", "b"))]
    assert {one["created"] for one in documents_in(fed(stream_of(*documents))[1])} == {100}


def test_an_error_in_the_middle_ends_the_stream_and_its_text_is_not_among_the_events():
    error = {"error": {"message": "the parser failed at: secret text of the model", "code": 500}}
    for bad in (event(error), b"event: error\ndata: secret\n\n", event({"object": "error", "message": "secret"})):
        stream = stream_of(*list(said("yes"))[:2], done=b"") + bad + stream_of(*said("no"))
        reader, events = fed(stream)
        assert b"secret" not in events
        assert [one["choices"][0]["delta"]["content"] for one in documents_in(events)] == ["", "yes"]
        with pytest.raises(StreamBroken) as caught:
            reader.finish()
        assert "secret" not in str(caught.value)
        assert b"secret" in caught.value.body


def test_what_cannot_be_measured_is_passed_on_without_log_probabilities():
    stream = (
        event(chunk({"content": "yes"}, [token("yes")], note=1)) + b"data: {half\n\n" + event(chunk({}, [token("x")]))
    )
    reader, events = fed(stream)
    documents = events.split(b"\n\n")
    assert json.loads(documents[0][6:])["note"] == 1
    assert json.loads(documents[0][6:])["choices"][0]["logprobs"] is None
    assert documents[1] == b"data: {half"
    assert json.loads(documents[2][6:])["choices"][0]["logprobs"] is None
    with pytest.raises(AnswerError):
        reader.finish()


def test_a_hundred_thousand_events():
    one = event(chunk({"content": "a"}, [token("a")]))
    stream = one * 100_000 + event(chunk(finish="length")) + DONE
    reader, events = fed(stream, 60_000)
    assert events.count(b"\n\n") == 100_002
    assert json.loads(reader.finish().body)["choices"][0]["message"]["content"] == "a" * 100_000


# --- requests


def test_the_model_server_is_always_asked_for_log_probabilities_and_counts():
    forward = json.loads(read().forward)
    assert (forward["stream"], forward["logprobs"], forward["top_logprobs"]) == (True, True, 20)
    assert forward["stream_options"] == {"include_usage": True}
    options = {"include_usage": False, "include_obfuscation": False, "continuous_usage_stats": None}
    assert json.loads(read(stream_options=options).forward)["stream_options"] == options | {"include_usage": True}


@pytest.mark.parametrize(
    ("members", "words"),
    [
        ({"stream": 1}, "'stream' is not true or false"),
        ({"stream": "yes"}, "'stream' is not true or false"),
        ({"stream": False, "stream_options": {"include_usage": True}}, "'stream_options' needs 'stream': true"),
        ({"stream_options": []}, "'stream_options' is not an object"),
        ({"stream_options": {"include_usage": 1}}, "'stream_options.include_usage' is not true or false"),
        ({"stream_options": {"include_thoughts": True}}, "'stream_options.include_thoughts' is not served here"),
    ],
)
def test_options_that_are_not_served_are_refused_by_name(members, words):
    with pytest.raises(RequestError) as caught:
        read(**members)
    assert words in str(caught.value)


def test_a_stream_is_the_same_row_as_a_whole_answer():
    plain = CHAT.read(json.dumps({"model": "llm", "messages": HELLO}).encode(), SERVICE)
    assert plain.stream is None
    assert plain.fingerprints == read().fingerprints == read(stream_options={"include_usage": True}).fingerprints


def test_bounds_of_streams_hold_whatever_the_server_writes_around_tokens():
    members = {"system_fingerprint": "fp_" + "a" * 40, "service_tier": "default", "id": "chatcmpl-" + "b" * 32}
    texts = ["internationalization"] * 30
    documents = [one | members for one in said(*texts)]
    for asked in ({}, {"logprobs": True, "top_logprobs": 20}):
        options = {"stream_options": {"include_usage": True}, **asked}
        _, events = fed(stream_of(*documents), **options)
        assert len(events) <= read(**options).token_bound(30)
        bound = read(max_tokens=30, **options).answer_bound
        assert bound is None or len(events) <= bound
