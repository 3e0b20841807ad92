"""Streamed completions and responses: the events make the answer that had not been streamed, and show nothing beside it."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modeltoll.errors import AnswerError, RequestError, StreamBroken
from modeltoll.gateway.protocols.event_stream import EventParser
from modeltoll.gateway.protocols.openai_completions import OpenAICompletions
from modeltoll.gateway.protocols.openai_responses import OpenAIResponses
from modeltoll.gateway.protocols.openai_text import OpenAIText
from modeltoll.gateway.protocols.protocol import ServiceDescription
from modeltoll.leak.token_entropy import TokensMeasure

SERVICE = ServiceDescription("llm", "", "tokens", max_rows=64, logprobs="raw")
COMPLETIONS, RESPONSES, TEXT = OpenAICompletions(), OpenAIResponses(), OpenAIText()
LOGPROBS = "message.output_text.logprobs"
WORDS = " ".join(["word"] * 300)
HALF = math.log(0.5)
DONE = b"data: [DONE]\n\n"


def stream_of(*documents, named=False, end=DONE):
    """The bytes of some events; ``named``: each has its type as its name, as those of the Responses API."""
    name = lambda one: f"event: {one['type']}\n" if named else ""  # noqa: E731  it is one word
    return "".join(f"{name(one)}data: {json.dumps(one)}\n\n" for one in documents).encode() + end


def asked(protocol, service=SERVICE, **members):
    body = {
        "model": "llm",
        "stream": True,
        **({"prompt": "hi"} if protocol is COMPLETIONS else {"input": "hi"}),
        **members,
    }
    return protocol.read(json.dumps(body).encode(), service)


def fed(parsed, stream, size=None):
    reader, size = parsed.stream(), size or len(stream)
    return reader, b"".join(reader.feed(stream[at : at + size]) for at in range(0, len(stream), size))


def measured(parsed, stream, protocol, service=SERVICE):
    """The leaks of a stream, and its whole answer."""
    reader, _ = fed(parsed, stream)
    answer = reader.finish()
    leaks = TokensMeasure().measure(protocol.evidence(parsed, answer, service))
    return leaks.tolist(), json.loads(answer.body)


def events_in(written):
    return [json.loads(one.data) for one in EventParser().feed(written) if one.data and one.data != b"[DONE]"]


# --- completions


def lists(*words, start=0):
    return {
        "tokens": list(words),
        "token_logprobs": [HALF] * len(words),
        "top_logprobs": [{word: HALF, f"{word}1": HALF} for word in words],
        "text_offset": [start + sum(map(len, words[:i])) for i in range(len(words))],
    }


def content(*words):
    shown = [
        {"id": 1, "token": "a", "bytes": None, "logprob": HALF},
        {"id": 2, "token": "b", "bytes": None, "logprob": HALF},
    ]
    return {
        "content": [{"id": 1, "token": word, "bytes": None, "logprob": HALF, "top_logprobs": shown} for word in words]
    }


def chunk(text="", logprobs=None, index=0, usage=None, **choice):
    choices = [] if usage else [{"index": index, "text": text, "logprobs": logprobs, "finish_reason": None, **choice}]
    counts = {"prompt_tokens": 1, "completion_tokens": usage, "total_tokens": usage + 1} if usage else None
    return {
        "id": "cmpl-1",
        "object": "text_completion",
        "created": 1,
        "model": "llm",
        "choices": choices,
        "usage": counts,
    }


TWO = [chunk("yes", lists("yes")), chunk(" no", lists(" no", start=3)), chunk(finish_reason="stop"), chunk(usage=3)]


def test_a_stream_of_completions_becomes_the_answer_that_had_not_been_streamed():
    leaks, document = measured(asked(COMPLETIONS), stream_of(*TWO), COMPLETIONS)
    assert leaks == pytest.approx([2 * math.log(2)])
    assert document == {
        "id": "cmpl-1", "object": "text_completion", "created": 1, "model": "llm",
        "choices": [{"index": 0, "text": "yes no", "logprobs": lists("yes", " no"), "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 1, "completion_tokens": 3, "total_tokens": 4},
    }  # fmt: skip


def test_completions_of_several_prompts_may_be_mixed():
    parsed = asked(COMPLETIONS, prompt=["a", "b"], n=2)
    mixed = [chunk(str(i), lists(str(i)), index=i) for i in (2, 0, 3, 1, 1)]
    ends = [chunk(index=i, finish_reason="stop") for i in range(4)]
    leaks, document = measured(parsed, stream_of(*mixed, *ends), COMPLETIONS)
    assert [one["text"] for one in document["choices"]] == ["0", "11", "2", "3"]
    assert leaks == pytest.approx([HALF * -1, HALF * -2, HALF * -1, HALF * -1])
    with pytest.raises(AnswerError, match="not asked for"):
        measured(asked(COMPLETIONS), stream_of(mixed[0]), COMPLETIONS)
    with pytest.raises(AnswerError):
        measured(parsed, stream_of(*mixed[:2]), COMPLETIONS)


def test_the_server_is_asked_for_its_count_of_tokens_and_for_all_log_probabilities():
    forward = json.loads(asked(COMPLETIONS).forward)
    assert (forward["logprobs"], forward["stream_options"]) == (20, {"include_usage": True})


@pytest.mark.parametrize(
    ("members", "logprobs", "usage"),
    [({}, False, False), ({"logprobs": 1, "stream_options": {"include_usage": True}}, True, True)],
)
def test_a_caller_gets_what_they_asked_for_of_a_stream_of_completions(members, logprobs, usage):
    _, written = fed(asked(COMPLETIONS, **members), stream_of(*TWO))
    events = events_in(written)
    assert "".join(one["choices"][0]["text"] for one in events if one["choices"]) == "yes no"
    assert bool(events[0]["choices"][0]["logprobs"]) is logprobs
    assert any(one.get("usage") for one in events) is usage
    assert written.endswith(DONE)


def test_log_probabilities_in_the_shape_of_a_chat_are_read_too():
    stream = stream_of(chunk("yes", content("yes")), chunk(" no", content(" no")), chunk(finish_reason="length"))
    assert measured(asked(COMPLETIONS), stream, COMPLETIONS)[0] == pytest.approx([2 * math.log(2)])


COMPLETION_FAULTS = {
    "text without log-probabilities": [chunk(WORDS), chunk(finish_reason="stop")],
    "300 tokens counted": [*TWO[:3], chunk(usage=300)],
    "hidden states in one event": [chunk("yes", lists("yes"), hidden_states=[0.5] * 9), chunk(finish_reason="stop")],
    "a member beside the choices": [TWO[0] | {"states": [0.5]}, *TWO[1:]],
    "two lists of one length and one of another": [chunk("yes", lists("yes") | {"tokens": []}), chunk(finish_reason="stop")],
    "another list": [chunk("yes", lists("yes") | {"states": [0.5]}), chunk(finish_reason="stop")],
    "log-probabilities that are no lists": [chunk("yes", {"tokens": "yes"}), chunk(finish_reason="stop")],
    "a text that is a number": [chunk(1, lists("yes")), chunk(finish_reason="stop")],
    "another identifier in each event": [TWO[0], TWO[1] | {"id": "a"}, *TWO[2:]],
    "no choices": [{"choices": 1}],
    "no object": [[1]],
}  # fmt: skip


@pytest.mark.parametrize("documents", COMPLETION_FAULTS.values(), ids=COMPLETION_FAULTS)
def test_a_stream_of_completions_that_is_not_measured_is_not_released(documents):
    with pytest.raises(AnswerError):
        measured(asked(COMPLETIONS), stream_of(*documents), COMPLETIONS)


# --- responses


def token(text, **members):
    return {
        "token": text,
        "logprob": HALF,
        "top_logprobs": [{"token": text, "logprob": HALF}, {"token": "x", "logprob": HALF}],
        **members,
    }


def part(*words, logprobs=True):
    shown = [token(word, bytes=list(word.encode())) for word in words] if logprobs else []
    return {"type": "output_text", "text": "".join(words), "annotations": [], "logprobs": shown}


def message(*parts, status="completed"):
    return {"id": "msg_1", "type": "message", "role": "assistant", "status": status, "content": list(parts)}


def response(*items, status="completed", usage=None):
    counts = {"input_tokens": 1, "output_tokens": usage, "total_tokens": usage + 1} if usage else None
    return {
        "id": "r",
        "object": "response",
        "created_at": 1,
        "model": "llm",
        "status": status,
        "output": list(items),
        "top_logprobs": 20,
        "usage": counts,
    }


def events(*documents):
    return [{"sequence_number": number, **one} for number, one in enumerate(documents)]


AT = {"item_id": "msg_1", "output_index": 0, "content_index": 0}


def text_events(*words, logprobs=True, last=True):
    """The events of one text. ``logprobs``: whether deltas have them; ``last``: whether the last event has."""
    deltas = [
        {
            "type": "response.output_text.delta",
            "delta": word,
            "logprobs": [token(word)] if logprobs else [],
            "obfuscation": "xyz",
            **AT,
        }
        for word in words
    ]
    shown = part(*words, logprobs=logprobs and last)
    whole = {
        "type": "response.output_text.done",
        "text": "".join(words),
        "logprobs": [token(w) for w in words] if logprobs else [],
        **AT,
    }
    return events(
        {"type": "response.created", "response": response(status="in_progress")},
        {"type": "response.in_progress", "response": response(status="in_progress")},
        {"type": "response.output_item.added", "output_index": 0, "item": message(status="in_progress")},
        {"type": "response.content_part.added", "part": part(logprobs=False), **AT},
        *deltas,
        whole,
        {"type": "response.content_part.done", "part": shown, **AT},
        {"type": "response.output_item.done", "output_index": 0, "item": message(shown)},
        {"type": "response.completed", "response": response(message(part(*words, logprobs=last)), usage=len(words))},
    )


def leak_of(documents, service=SERVICE, **members):
    return measured(
        asked(RESPONSES, service, **members), stream_of(*documents, named=True, end=b""), RESPONSES, service
    )[0][0]


@pytest.mark.parametrize("last", [True, False])
def test_a_streamed_response_is_measured_by_its_last_event_or_by_its_deltas(last):
    """vLLM's last event may have no log-probabilities; its deltas have them then."""
    assert leak_of(text_events("yes", " no", last=last)) == pytest.approx(2 * math.log(2))


def test_what_its_caller_did_not_ask_for_is_left_out_of_every_event():
    parsed, stream = asked(RESPONSES), stream_of(*text_events("yes", " no"), named=True, end=b"")
    reader, written = fed(parsed, stream)
    assert b'"logprob"' not in written
    assert b"obfuscation" not in written
    assert b"event: response.completed" in written
    assert events_in(written)[-1]["response"]["top_logprobs"] == 0
    assert json.loads(reader.finish().body)["output"][0]["content"][0]["logprobs"]
    _, written = fed(asked(RESPONSES, include=[LOGPROBS], top_logprobs=1), stream)
    shown = [one["logprobs"] for one in events_in(written) if one["type"] == "response.output_text.delta"]
    assert [[len(known["top_logprobs"]) for known in one] for one in shown] == [[1], [1]]


CALL = {
    "id": "fc",
    "type": "function_call",
    "call_id": "1",
    "name": "f",
    "arguments": '{"a": 1}',
    "status": "completed",
}
TOOLS = [{"type": "function", "name": "f", "parameters": {}}]


def test_a_call_beside_a_text_that_covers_it():
    quiet = part("", logprobs=False) | {"logprobs": [token('{"a":'), token(" 1}")]}
    place = {"item_id": "fc", "output_index": 1}
    documents = events(
        {
            "type": "response.output_item.added",
            "output_index": 1,
            "item": CALL | {"arguments": "", "status": "in_progress"},
        },
        {"type": "response.function_call_arguments.delta", "delta": '{"a"', **place},
        {"type": "response.function_call_arguments.delta", "delta": ": 1}", **place},
        {"type": "response.function_call_arguments.done", "arguments": '{"a": 1}', "name": "f", **place},
        {"type": "response.output_item.done", "output_index": 1, "item": CALL},
        {"type": "response.completed", "response": response(message(quiet), CALL, usage=2)},
    )
    assert leak_of(documents, tools=TOOLS) == pytest.approx(2 * math.log(2))


REASONING = {
    "id": "rs",
    "type": "reasoning",
    "summary": [],
    "content": [{"type": "reasoning_text", "text": "hm, so"}],
    "status": "completed",
}


def test_reasoning_that_the_last_event_covers():
    whole = part("yes") | {"logprobs": [token("hm,"), token(" so"), token("yes")]}
    documents = events(
        {
            "type": "response.output_item.added",
            "output_index": 0,
            "item": REASONING | {"content": [], "status": "in_progress"},
        },
        {"type": "response.reasoning_part.added", "part": {"type": "reasoning_text", "text": ""}, **AT},
        {"type": "response.reasoning_text.delta", "delta": "hm,", **AT},
        {"type": "response.reasoning_text.delta", "delta": " so", **AT},
        {"type": "response.reasoning_text.done", "text": "hm, so", **AT},
        {
            "type": "response.output_text.delta",
            "delta": "yes",
            "logprobs": [token("yes")],
            **(AT | {"output_index": 1}),
        },
        {"type": "response.completed", "response": response(REASONING, message(whole))},
    )
    assert leak_of(documents) == pytest.approx(3 * math.log(2))


WHOLE = text_events("yes", " no")


def changed(place, **members):
    return [*WHOLE[:place], WHOLE[place] | members, *WHOLE[place + 1 :]]


HIDDEN = {
    "text without log-probabilities": text_events(WORDS, logprobs=False, last=False),
    "a delta that is not in the last event": changed(4, delta=WORDS),
    "a text that is not in the last event": changed(6, text=WORDS),
    "a part that is not in the last event": changed(7, part=part(WORDS)),
    "an item that is not in the last event": changed(8, item=message(part(WORDS))),
    "an item that comes with its text": changed(2, item=message(part(WORDS, logprobs=False))),
    "an answer that begins with its text": changed(0, response=response(message(part(WORDS)), status="in_progress")),
    "other log-probabilities in a delta": changed(4, logprobs=[token("yes") | {"logprob": -0.1}]),
    "other alternatives in a delta": changed(4, logprobs=[token("yes") | {"top_logprobs": [{"token": WORDS, "logprob": HALF}]}]),
    "more log-probabilities in a text": changed(6, logprobs=[token("yes")] * 3),
    "log-probabilities that are no objects": changed(4, logprobs=["yes"]),
    "log-probabilities that are no list": changed(4, logprobs={"a": 1}),
    "a member of a delta": changed(4, states=[0.5]),
    "a member of an item": changed(8, item=message(part("yes", " no")) | {"states": [0.5]}),
    "a member of the first answer": changed(0, response=response(status="in_progress") | {"states": [0.5]}),
    "a first answer whose state is a text": changed(0, response=response(status=WORDS)),
    "a long number of an item": changed(4, item_id=WORDS),
    "a delta that is a number": changed(4, delta=1),
    "an item that is a text": changed(8, item=WORDS),
    "a search of the server": [*WHOLE[:4], {"type": "response.web_search_call.searching", "item_id": "ws"}, *WHOLE[4:]],
    "citations": [*WHOLE[:4], {"type": "response.output_text.annotation.added", "annotation": {"url": "a"}}, *WHOLE[4:]],
    "no type": [{"sequence_number": 1}, *WHOLE],
    "an event behind the last one": [*WHOLE, WHOLE[4]],
    "no last event": WHOLE[:-1],
    "300 tokens counted": [*WHOLE[:-1], WHOLE[-1] | {"response": response(message(part("yes", " no")), usage=300)}],
}  # fmt: skip


@pytest.mark.parametrize("documents", HIDDEN.values(), ids=HIDDEN)
def test_a_streamed_response_that_shows_anything_else_is_not_released(documents):
    with pytest.raises(AnswerError):
        leak_of([one | {"type": one.get("type", "")} for one in documents])


def test_an_event_whose_place_is_empty_is_read():
    assert leak_of(changed(4, summary_index=[])) == pytest.approx(leak_of(WHOLE))


def test_an_event_has_the_name_of_its_type():
    stream = stream_of(*WHOLE, named=True, end=b"").replace(b"event: response.completed", b"event: other")
    with pytest.raises(AnswerError):
        measured(asked(RESPONSES), stream, RESPONSES)
    assert measured(asked(RESPONSES), stream_of(*WHOLE), RESPONSES)[0] == pytest.approx([2 * math.log(2)])


def test_an_operator_may_let_out_the_events_of_the_servers_own_tools():
    listed = replace(SERVICE, unmeasured=("web_search_call",))
    searched = [*WHOLE[:4], {"type": "response.web_search_call.searching", "item_id": "ws"}, *WHOLE[4:]]
    assert leak_of(searched, listed) == pytest.approx(2 * math.log(2))


FAILED = {
    "type": "response.failed",
    "response": response(status="failed") | {"error": {"code": "server_error", "message": "no"}},
}
ERROR = {"type": "error", "code": "server_error", "message": "no", "param": None, "sequence_number": 5}


@pytest.mark.parametrize("last", [FAILED, ERROR])
@pytest.mark.parametrize("named", [True, False])
def test_an_error_in_the_middle_is_not_the_callers(last, named):
    reader, written = fed(asked(RESPONSES), stream_of(*WHOLE[:5], last, *WHOLE[5:], named=named))
    assert b'"no"' not in written
    with pytest.raises(StreamBroken):
        reader.finish()


@pytest.mark.parametrize(
    ("members", "reason"),
    [
        ({"stream": "yes"}, "'stream'"),
        ({"stream": False, "stream_options": {"include_obfuscation": True}}, "'stream_options' needs"),
        ({"stream_options": {"include_usage": True}}, "'stream_options' has something else"),
    ],
)
def test_options_of_a_stream_that_are_not_served_are_named(members, reason):
    with pytest.raises(RequestError, match=reason):
        asked(RESPONSES, **members)


# --- both

STREAMS = {
    "completions": (COMPLETIONS, stream_of(*TWO)),
    "responses": (RESPONSES, stream_of(*WHOLE, named=True, end=b"")),
}


@pytest.mark.parametrize("size", [1, 2, 7, 64])
@pytest.mark.parametrize(("protocol", "stream"), STREAMS.values(), ids=STREAMS)
def test_chunks_may_end_anywhere(protocol, stream, size):
    reader, written = fed(asked(protocol), stream, size)
    assert written == fed(asked(protocol), stream)[1]
    assert protocol.evidence(asked(protocol), reader.finish(), SERVICE).rows == 1


@pytest.mark.parametrize("protocol", [COMPLETIONS, RESPONSES], ids=["completions", "responses"])
def test_one_protocol_of_all_endpoints_reads_their_streams(protocol):
    alone, stream = STREAMS["completions" if protocol is COMPLETIONS else "responses"]
    body = {"model": "llm", "stream": True, **({"prompt": "hi"} if alone is COMPLETIONS else {"input": "hi"})}
    parsed = TEXT.read(json.dumps(body).encode(), SERVICE)
    assert measured(parsed, stream, TEXT)[0] == pytest.approx([2 * math.log(2)])


@given(st.sampled_from(sorted(STREAMS)), st.integers(0, 4000), st.binary(max_size=12), st.integers(0, 12))
def test_bad_bytes_are_read_or_refused_and_never_pass_unmeasured(name, at, put, cut):
    """``feed`` never raises; what ``finish`` lets through is evidence, or an error of the answer."""
    protocol, stream = STREAMS[name]
    at %= len(stream)
    broken, parsed = stream[:at] + put + stream[at + cut :], asked(protocol)
    reader, written = fed(parsed, broken, 50)
    assert isinstance(written, bytes)
    try:
        evidence = protocol.evidence(parsed, reader.finish(), SERVICE)
    except AnswerError:
        return
    assert evidence.rows == 1


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 3) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(
        st.sampled_from(["type", "delta", "text", "logprobs", "item", "part", "response", "output", "content", "choices", "tokens", "token", "top_logprobs", "status"]),
        inner | st.sampled_from(["message", "output_text", "response.completed", "response.output_text.delta", "response.output_item.done"]),
        max_size=4,
    ),
    max_leaves=12,
)  # fmt: skip


@given(st.sampled_from([COMPLETIONS, RESPONSES]), st.lists(JSON, max_size=4))
def test_any_json_in_a_stream_is_evidence_or_an_error_of_the_answer(protocol, documents):
    stream = b"".join(f"data: {json.dumps(one)}\n\n".encode() for one in documents) + DONE
    parsed = asked(protocol)
    reader, _ = fed(parsed, stream)
    try:
        evidence = protocol.evidence(parsed, reader.finish(), SERVICE)
    except AnswerError:
        return
    assert evidence.rows == 1


@pytest.mark.parametrize(("protocol", "limit"), [(COMPLETIONS, "max_tokens"), (RESPONSES, "max_output_tokens")])
@pytest.mark.parametrize("shown", [False, True])
def test_a_stream_of_ordinary_length_is_within_its_bounds(protocol, limit, shown):
    words = [f" word{i % 10}" for i in range(20)]
    members = {limit: 20} | (
        ({"logprobs": 2} if protocol is COMPLETIONS else {"include": [LOGPROBS], "top_logprobs": 2}) if shown else {}
    )
    parsed = asked(protocol, **members)
    completions = [
        *(chunk(word, lists(word, start=6 * i)) for i, word in enumerate(words)),
        chunk(finish_reason="stop"),
    ]
    stream = stream_of(*completions) if protocol is COMPLETIONS else stream_of(*text_events(*words), named=True)
    _, written = fed(parsed, stream)
    assert len(written) <= parsed.token_bound(20)
    assert parsed.answer_bound is None or len(written) <= parsed.answer_bound
