"""The Responses API: what is priced is what the model reads, and nothing goes out that is not measured."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest

from modeltoll.errors import AnswerError, RequestError
from modeltoll.gateway.protocols.openai_responses import OpenAIResponses
from modeltoll.gateway.protocols.protocol import ServiceDescription
from modeltoll.gateway.protocols.response_requests import RESPONSE_MEMBERS
from modeltoll.leak.token_entropy import TokensMeasure
from modeltoll.records import Answer
from modeltoll.testing.protocols import ProtocolTrial, check_protocol

RESPONSES = OpenAIResponses()
TEMPERED = ServiceDescription("llm", "", "tokens", max_rows=64)
RAW = replace(TEMPERED, logprobs="raw")
WORDS = " ".join(["word"] * 300)
TOOLS = [{"type": "function", "name": "get_weather", "parameters": {"type": "object", "properties": {}}}]
LOGPROBS = "message.output_text.logprobs"


def read(service=RAW, given="hi", **members):
    return RESPONSES.read(json.dumps({"model": "llm", "input": given, **members}).encode(), service)


def said(document):
    return Answer(200, "application/json", json.dumps(document).encode())


def token(text, *chances, **members):
    known = [
        {"token": f"{text}{i}", "logprob": math.log(p), "bytes": None} for i, p in enumerate(chances or (0.5, 0.5))
    ]
    known[0]["token"] = text
    return {
        "token": text,
        "logprob": known[0]["logprob"],
        "bytes": list(text.encode()),
        "top_logprobs": known,
        **members,
    }


def part(*words, **members):
    text = "".join(words)
    return {
        "type": "output_text",
        "text": text,
        "annotations": [],
        "logprobs": [token(word) for word in words],
        **members,
    }


def message(*parts, **members):
    return {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "status": "completed",
        "content": list(parts),
        **members,
    }


def response(*items, usage=None, **members):
    """An answer as vLLM writes it."""
    counts = None if usage is None else {
        "input_tokens": 2, "output_tokens": usage, "total_tokens": usage + 2,
        "input_tokens_details": {"cached_tokens": 0, "input_tokens_per_turn": [], "cached_tokens_per_turn": []},
        "output_tokens_details": {"reasoning_tokens": 0, "tool_output_tokens": 0, "output_tokens_per_turn": [usage]},
    }  # fmt: skip
    return {
        "id": "resp_1", "object": "response", "created_at": 1, "model": "llm", "status": "completed", "output": list(items),
        "parallel_tool_calls": True, "temperature": 1.0, "top_p": 1.0, "tool_choice": "auto", "tools": [], "background": False,
        "max_output_tokens": 32000, "service_tier": "auto", "truncation": "disabled", "top_logprobs": 20, "usage": counts,
        "instructions": None, "metadata": None, "reasoning": None, "text": None, **members,
    }  # fmt: skip


def leak(document, parsed=None, service=RAW):
    (found,) = TokensMeasure().measure(RESPONSES.evidence(parsed or read(tools=TOOLS), said(document), service))
    return found


def test_it_keeps_the_law_of_serving_protocols():
    def answer(scores):
        shown = [{"token": str(i), "logprob": math.log(p) if p else None} for i, p in enumerate(scores[0].tolist())]
        one = {"token": "x", "logprob": shown[0]["logprob"], "top_logprobs": shown}
        return said(response(message(part("x", logprobs=[one]))))

    check_protocol(
        ProtocolTrial(
            RESPONSES,
            RAW,
            ["a", "b", 'with "quotes" and ümläuts', "日本"],
            lambda texts: json.dumps({"model": "llm", "input": texts[0]}).encode(),
            answer,
            scores_of=lambda found: np.vstack([found.tokens[0], np.zeros((1, 21))])[:1, :4],  # an answer may be empty
            one_row=True,
        )
    )


# --- what the model reads


@pytest.mark.parametrize("name", sorted(RESPONSE_MEMBERS.read - {"model", "input", "tools"}))
def test_each_member_that_is_read_is_in_the_fingerprint(name):
    plain, null, one, other = (read(**members).fingerprints for members in ({}, {name: None}, {name: [1]}, {name: [2]}))
    assert plain == null
    assert len({plain, one, other}) == 3


@pytest.mark.parametrize(
    "name", sorted(RESPONSE_MEMBERS.harmless - {"stream", "stream_options", "include", "top_logprobs"})
)
def test_a_harmless_member_makes_no_other_row_and_goes_on(name):
    parsed = read(**{name: "x"})
    assert parsed.fingerprints == read().fingerprints
    assert json.loads(parsed.forward)[name] == "x"


def test_all_parts_of_the_input_are_in_the_fingerprint():
    image = {"type": "input_image", "image_url": "data:image/png;base64,AAAA", "detail": "low"}
    inputs = [
        "hi",
        [{"role": "user", "content": "hi"}],
        [
            {"role": "user", "content": "hi"},
            {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "AA"},
        ],
        [{"role": "user", "content": [image]}],
        [{"role": "user", "content": [image | {"detail": "high"}]}],
        [{"role": "user", "content": "hi"}, {"type": "function_call_output", "call_id": "1", "output": "3"}],
    ]
    assert len({read(given=one).fingerprints for one in inputs}) == len(inputs)


def test_all_log_probabilities_are_asked_for_whatever_the_caller_sees():
    full = {"model": "llm", "input": "hi", "include": [LOGPROBS], "top_logprobs": 20}
    assert json.loads(read().forward) == full
    assert json.loads(read(include=[LOGPROBS], top_logprobs=3).forward) == full
    assert read(include=[LOGPROBS], top_logprobs=20).forward is None
    assert read(include=[LOGPROBS]).fingerprints == read().fingerprints


def test_a_server_that_tempers_is_asked_at_temperature_1():
    """With the members that the API has, and no others: OpenAI refuses those that it does not know."""
    forward = json.loads(read(TEMPERED).forward)
    assert forward == {
        "model": "llm",
        "input": "hi",
        "include": [LOGPROBS],
        "top_logprobs": 20,
        "temperature": 1,
        "top_p": 1,
    }
    with pytest.raises(RequestError, match="'temperature' must be 1"):
        read(TEMPERED, temperature=0.01)


# --- what is refused

USER = {"role": "user", "content": "hi"}
WRONG = {
    "no input": ({"given": None}, "'input' is not a text"),
    "an input that is empty": ({"given": []}, "'input' is not a text"),
    "an input of texts": ({"given": ["a"]}, "'input' is not a text"),
    "an answer that the server has kept": ({"previous_response_id": "resp_0"}, "'previous_response_id'"),
    "a conversation that the server has kept": ({"conversation": "conv_0"}, "'conversation'"),
    "a prompt that the server has kept": ({"prompt": {"id": "pmpt_0"}}, "'prompt'"),
    "an item that the server has kept": ({"given": [USER, {"type": "item_reference", "id": "msg_0"}]}, "item_reference"),
    "reasoning that the server has kept": ({"given": [USER, {"type": "reasoning", "id": "rs_0", "summary": []}]}, "'reasoning'"),
    "a search that the server made": ({"given": [USER, {"type": "web_search_call", "id": "ws_0"}]}, "web_search_call"),
    "an item of type 1": ({"given": [{"type": 1}]}, "type '1'"),
    "a file that the server has kept": ({"given": [{"role": "user", "content": [{"type": "input_file", "file_id": "f"}]}]}, "file_id"),
    "a remote image": ({"given": [{"role": "user", "content": [{"type": "input_image", "image_url": "https://a.b"}]}]}, "image_url"),
    "a remote image from a function": (
        {"given": [{"type": "function_call_output", "output": [{"type": "input_image", "image_url": "https://a.b"}]}]}, "image_url"
    ),
    "a search by the server": ({"tools": [{"type": "web_search"}]}, "'tools'"),
    "tools of a server": ({"tools": [{"type": "mcp", "server_url": "https://a.b"}]}, "'tools'"),
    "an answer that comes later": ({"background": True}, "'background'"),
    "a name for the stored answer": ({"request_id": "resp_1"}, "'request_id'"),
    "encrypted reasoning": ({"include": ["reasoning.encrypted_content"]}, "'reasoning.encrypted_content'"),
    "something to include that is no name": ({"include": [{"a": 1}]}, "'include'"),
    "an include that is no list": ({"include": LOGPROBS}, "'include'"),
    "too many log-probabilities": ({"include": [LOGPROBS], "top_logprobs": 21}, "'top_logprobs'"),
    "log-probabilities that are true": ({"top_logprobs": True}, "'top_logprobs'"),
    "the raw messages": ({"enable_response_messages": True}, "'enable_response_messages'"),
    "a member that nobody knows": ({"steering": 1}, "'steering'"),
    "an unknown option of the stream": ({"stream_options": {"include_usage": True}}, "'stream_options'"),
}  # fmt: skip


@pytest.mark.parametrize(("members", "reason"), WRONG.values(), ids=WRONG)
def test_what_cannot_be_measured_is_refused_in_words_that_name_the_parameter(members, reason):
    with pytest.raises(RequestError, match=reason):
        read(**members)


@pytest.mark.parametrize("name", sorted(RESPONSE_MEMBERS.unmeasured | RESPONSE_MEMBERS.outside))
def test_what_asks_for_more_is_refused_by_name(name):
    with pytest.raises(RequestError, match=name):
        read(**{name: True})
    assert read(**{name: None}).fingerprints == read().fingerprints


def test_an_operator_may_allow_what_refers_to_something_outside_the_request():
    """It is then part of the row's fingerprint."""
    allowed = replace(RAW, allow_members=("previous_response_id", "tools", "item_reference"))
    one, other = (read(allowed, previous_response_id=name).fingerprints for name in ("resp_0", "resp_1"))
    assert one != other
    assert read(allowed, tools=[{"type": "web_search"}], given=[{"type": "item_reference", "id": "a"}]).fingerprints


# --- answers of real servers

CALL = {
    "id": "fc_1", "type": "function_call", "call_id": "call_1", "name": "get_weather", "status": "completed",
    "arguments": '{"city": "Oslo", "days": 3}',
}  # fmt: skip
REASONING = {"id": "rs_1", "type": "reasoning", "summary": [], "status": None, "encrypted_content": None}
HONEST = {
    "vllm": response(message(part("yes", " no")), usage=3, kv_transfer_params=None, input_messages=None),
    "vllm, cut at its limit": response(message(part("yes", " no")), status="incomplete", incomplete_details={"reason": "max_output_tokens"}),
    "vllm, with reasoning that its tokens cover": response(
        REASONING | {"content": [{"type": "reasoning_text", "text": "hm"}]},
        message({**part("yes"), "logprobs": [token("hm"), token("yes")]}), usage=3,
    ),
    "a call beside a text that covers it": response(
        message({**part(""), "logprobs": [token('{"city":"Oslo",'), token('"days":3}')]}), CALL, usage=2,
    ),
    "openai": response(
        message(part("yes", " no"), phase="final_answer"), usage=2, billing={"payer": "developer"}, store=True,
        text={"format": {"type": "text"}, "verbosity": "medium"}, reasoning={"effort": None, "summary": None}, error=None,
        tools=[{**TOOLS[0], "description": None, "strict": True}], completed_at=1741476543.25, created_at=1741476542.0,
    ),
    "a refusal whose text has tokens": response(
        message({**part(""), "logprobs": [token("I"), token(" refuse")]}, {"type": "refusal", "refusal": "I refuse"})
    ),
    "an answer whose texts are joined as well": response(message(part("yes", " no")), output_text="yes no"),
}  # fmt: skip


@pytest.mark.parametrize("document", HONEST.values(), ids=HONEST)
def test_ordinary_answers_of_honest_servers_are_released(document):
    assert leak(document) == pytest.approx(2 * math.log(2))


HIDDEN = {
    "text without log-probabilities (llama.cpp)": response(message(part(WORDS, logprobs=[]))),
    "text with null log-probabilities": response(message(part(WORDS, logprobs=None))),
    "text that no token covers": response(message(part(WORDS, logprobs=[token("word")]))),
    "a call without tokens": response(CALL),
    "300 calls without arguments": response(*[CALL | {"arguments": ""}] * 300),
    "a call of a function that is not the caller's": response(CALL | {"name": WORDS, "arguments": ""}),
    "a custom call without tokens": response({"type": "custom_tool_call", "call_id": "1", "name": "x", "input": WORDS}),
    "reasoning without tokens": response(REASONING | {"content": [{"type": "reasoning_text", "text": WORDS}]}, message(part("yes"))),
    "a summary without tokens": response(REASONING | {"summary": [{"type": "summary_text", "text": WORDS}]}, message(part("yes"))),
    "encrypted reasoning": response(REASONING | {"encrypted_content": WORDS}, message(part("yes"))),
    "300 tokens counted and one measured": response(message(part("yes")), usage=300),
    "a refusal without tokens": response(message({"type": "refusal", "refusal": WORDS})),
    "a search by the server": response({"id": "ws_1", "type": "web_search_call", "status": "completed"}, message(part("yes"))),
    "an item of no type": response({"id": "1"}),
    "an item that is a text": response("yes"),
    "a part of no type": response(message({"text": "yes"})),
    "a part that is a sound": response(message({"type": "output_audio", "data": "AAAA"})),
    "content that is a text": response(message() | {"content": WORDS}),
    "citations": response(message(part("yes", annotations=[{"type": "url_citation", "url": "https://a.b"}]))),
    "hidden states in a part": response(message(part("yes", hidden_states=[0.5] * 4096))),
    "hidden states in an item": response(message(part("yes"), hidden_states=[0.5] * 4096)),
    "hidden states beside the items": response(message(part("yes")), hidden_states=[0.5] * 4096),
    "numbers in what should repeat the request": response(message(part("yes")), metadata={"states": [i / 7 for i in range(4096)]}),
    "text in what should repeat the request": response(message(part("yes")), instructions=WORDS),
    "text in the tools": response(message(part("yes")), tools=[{**TOOLS[0], "description": WORDS}]),
    "text as an identifier": response(message(part("yes")), id=WORDS),
    "text in the details of the end": response(message(part("yes")), incomplete_details={"reason": WORDS}),
    "texts that are joined to something else": response(message(part("yes")), output_text=WORDS),
    "the raw messages": response(message(part("yes")), output_messages=[{"message": WORDS}]),
    "numbers in the usage": response(message(part("yes")), usage=None) | {"usage": {"scores": [0.5]}},
    "numbers per turn that are no counts": response(message(part("yes"))) | {"usage": {"a_tokens_details": {"a_tokens_per_turn": [0.5]}}},
    "an alternative's hidden state": response(message({**part("yes"), "logprobs": [token("yes", state=[1.0])]})),
    "log-probabilities in a refusal that are no list": response(message({"type": "refusal", "refusal": "no", "logprobs": {"a": 1}})),
    "an answer that is not ready": response(status="queued"),
    "an answer that failed": response(status="failed", error={"code": "server_error", "message": "no"}),
    "no items": response() | {"output": None},
    "no object": [1],
}  # fmt: skip


@pytest.mark.parametrize("document", HIDDEN.values(), ids=HIDDEN)
def test_an_answer_that_is_not_measured_is_not_released(document):
    with pytest.raises(AnswerError):
        leak(document)


def test_a_call_without_log_probabilities_says_what_to_leave_out():
    with pytest.raises(AnswerError, match="leave 'tools' out"):
        leak(response(REASONING, CALL))


def test_an_operator_may_let_out_items_of_the_servers_own_tools():
    listed = replace(RAW, unmeasured=("web_search_call",))
    assert leak(response({"id": "ws_1", "type": "web_search_call"}, message(part("yes"))), service=listed) > 0


@pytest.mark.parametrize(("asked", "shown"), [(None, None), (0, 0), (1, 1), (20, 2)])
def test_a_caller_sees_the_log_probabilities_that_they_asked_for(asked, shown):
    members = {} if asked is None else {"include": [LOGPROBS], "top_logprobs": asked}
    found = json.loads(read(**members).strip(said(response(message(part("yes"))))).body)
    logprobs = found["output"][0]["content"][0]["logprobs"]
    assert logprobs == [] if shown is None else len(logprobs[0]["top_logprobs"]) == shown
    assert found["top_logprobs"] == (asked or 0)  # what they asked for, not what the gateway did


def test_what_goes_out_is_what_was_measured():
    twice = (
        json.dumps(response(message(part("yes")))).replace('"text": "yes', f'"text": "{WORDS}", "text": "yes').encode()
    )
    answer, parsed = Answer(200, "application/json", twice), read(include=[LOGPROBS], top_logprobs=20)
    assert RESPONSES.evidence(parsed, answer, RAW).rows == 1
    assert WORDS.encode() not in parsed.strip(answer).body


def test_the_bound_of_an_answer_depends_on_the_request_alone():
    bound = read(max_output_tokens=100).answer_bound
    assert bound == read(max_output_tokens=100, given="longer").answer_bound
    assert read(max_output_tokens=100, instructions=WORDS).answer_bound > bound + len(WORDS)
    assert read(max_output_tokens=100, include=[LOGPROBS]).answer_bound > bound
    assert read().answer_bound is None


def test_an_answer_of_an_ordinary_length_is_within_its_bound():
    words = [f" word{i % 10}" for i in range(100)]
    for members in ({}, {"include": [LOGPROBS]}, {"include": [LOGPROBS], "top_logprobs": 2}):
        parsed = read(max_output_tokens=100, instructions="ü" * 300, tools=TOOLS, **members)
        document = response(message(part(*words)), usage=100, instructions="ü" * 300, tools=TOOLS)
        assert len(parsed.strip(said(document)).body) <= parsed.answer_bound


@pytest.mark.parametrize(
    ("words", "asked", "status", "bits"),
    [
        (["so"], {"stop": ["cat"]}, "completed", 2),
        ([], {"stop": ["cat"]}, "completed", 1),
        (["so"], {}, "completed", 1),
        (["so"], {"stop": ["cat"]}, "incomplete", 1),
    ],
)
def test_the_end_of_a_response_is_paid_for_where_it_was_chosen_and_is_not_reported(words, asked, status, bits):
    document = response(message(part(*words)), status=status)
    assert leak(document, read(**asked)) == pytest.approx(bits * math.log(2))
