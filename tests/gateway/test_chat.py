"""Chats: what is priced is what the model reads, and nothing goes out that is not measured."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest

from modeltoll.errors import AnswerError, RequestError
from modeltoll.gateway.protocols.chat_requests import CHAT_MEMBERS
from modeltoll.gateway.protocols.openai_chat import OpenAIChat
from modeltoll.gateway.protocols.protocol import ServiceDescription
from modeltoll.leak.token_entropy import TokensMeasure
from modeltoll.records import Answer

CHAT = OpenAIChat()
TEMPERED = ServiceDescription("llm", "", "tokens", max_rows=64)
RAW = replace(TEMPERED, logprobs="raw")
HELLO = [{"role": "user", "content": "hi"}]
WORDS = " ".join(["word"] * 300)
STATE = [0.5] * 4096


def read(service=RAW, **members):
    return CHAT.read(json.dumps({"model": "llm", "messages": HELLO, **members}).encode(), service)


def said(document):
    return Answer(200, "application/json", json.dumps(document).encode())


def token(text, *probabilities, **members):
    known = [
        {"token": f"{text}{i}", "logprob": math.log(p), "bytes": None}
        for i, p in enumerate(probabilities or (0.5, 0.5))
    ]
    known[0]["token"] = text
    return {
        "token": text,
        "logprob": known[0]["logprob"],
        "bytes": list(text.encode()),
        "top_logprobs": known,
        **members,
    }


def completion(tokens, usage=None, members=(), choice=(), **message):
    """An answer of one choice; the message's content is its tokens' text, unless it is given."""
    content = "".join(one["token"] for one in tokens)
    one = {
        "index": 0,
        "message": {"role": "assistant", "content": content, **message},
        "logprobs": {"content": tokens},
        "finish_reason": "stop",
        **dict(choice),
    }
    counts = (
        {} if usage is None else {"usage": {"prompt_tokens": 9, "completion_tokens": usage, "total_tokens": usage + 9}}
    )
    return {
        "id": "1",
        "object": "chat.completion",
        "created": 1,
        "model": "llm",
        "choices": [one],
        **counts,
        **dict(members),
    }


def altered(**members):
    """An answer whose token's second alternative has other members."""
    one = token("yes")
    one["top_logprobs"][1] |= members
    return completion([one])


def leak(document, parsed=None, service=RAW):
    (found,) = TokensMeasure().measure(CHAT.evidence(parsed or read(), said(document), service))
    return found


THREE = [token("yes"), token(" no"), token(" maybe")]


# --- what the model reads


def variants():
    """44 requests that ask the same question of a model that reads something else each time."""
    for i in range(8):
        yield {"tools": [{"type": "function", "function": {"name": f"f{i}", "parameters": {}}}]}
        yield {"documents": [{"title": "t", "text": f"text {i}"}]}
        yield {"chat_template": "{{ messages }}" + " " * i}
        yield {"seed": 2**53 + i}
        yield {"temperature": 0.25 * i}
    for i in range(4):
        yield {"chat_template_kwargs": {"enable_thinking": i}}


def test_44_requests_with_other_tools_documents_templates_seeds_and_temperatures_are_44_rows():
    prints = {read(**members).fingerprints for members in variants()}
    assert len(prints) == len(list(variants())) == 44


@pytest.mark.parametrize("name", sorted(CHAT_MEMBERS.read - {"model", "messages", "n", "tools"}))
def test_each_member_that_is_read_is_in_the_fingerprint(name):
    """Null is as absent, for servers read it so."""
    plain, null, one, other = (read(**members).fingerprints for members in ({}, {name: None}, {name: [1]}, {name: [2]}))
    assert plain == null
    assert len({plain, one, other}) == 3


def test_all_parts_of_messages_are_in_the_fingerprint():
    def of(*parts, **members):
        return read(messages=[{"role": "user", "content": list(parts), **members}]).fingerprints

    text, image = (
        {"type": "text", "text": "a"},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}},
    )
    other = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAB"}}
    assert len({of(text), of(text, image), of(image, text), of(text, other), of(text, name="x")}) == 5


@pytest.mark.parametrize(
    "name", sorted(CHAT_MEMBERS.harmless - {"stream", "stream_options", "logprobs", "top_logprobs"})
)
def test_a_harmless_member_makes_no_other_row_and_goes_on(name):
    parsed = read(**{name: "x"})
    assert parsed.fingerprints == read().fingerprints
    assert json.loads(parsed.forward)[name] == "x"


def test_completions_of_one_request_are_different_rows():
    assert len(set(read(n=3).fingerprints)) == 3


def test_the_log_probabilities_that_a_caller_sees_make_no_other_row():
    """All are measured and paid for, whatever of them the caller sees."""
    assert read(logprobs=True, top_logprobs=20).fingerprints == read().fingerprints


# --- what is refused


@pytest.mark.parametrize("name", sorted(CHAT_MEMBERS.unmeasured | CHAT_MEMBERS.outside))
def test_what_asks_for_more_than_text_and_log_probabilities_is_refused_by_name(name):
    with pytest.raises(RequestError, match=name):
        read(**{name: True})
    for nothing in (None, False, [], {}):
        assert read(**{name: nothing}).fingerprints == read().fingerprints


def test_zero_is_a_value():
    """vLLM answers ``prompt_logprobs: 0`` with the log-probabilities of the prompt's own tokens."""
    with pytest.raises(RequestError, match="prompt_logprobs"):
        read(prompt_logprobs=0)


def test_an_unknown_member_is_refused_by_name_unless_the_operator_allows_it():
    with pytest.raises(RequestError, match="'steering_vector'"):
        read(steering_vector=None)
    allowed = replace(RAW, allow_members=("steering_vector",))
    assert read(allowed, steering_vector=[1]).fingerprints != read(allowed, steering_vector=[2]).fingerprints


PARTS = {
    "a remote image": {"type": "image_url", "image_url": {"url": "https://example.org/a.png"}},
    "a remote image, written short": {"type": "image_url", "image_url": "http://example.org/a.png"},
    "a local file": {"type": "video_url", "video_url": {"url": "file:///etc/passwd"}},
    "an uploaded file": {"type": "file", "file": {"file_id": "file-1"}},
    "an image of another request": {"type": "image_url", "image_url": None, "uuid": "cat"},
    "an image by its hash": {"type": "image_url", "image_url": {"url": "data:,", "content_hash": "ab"}},
}


@pytest.mark.parametrize("part", PARTS.values(), ids=PARTS)
def test_a_message_holds_everything_that_it_shows_the_model(part):
    """Otherwise the same request could show the model another picture each time, and be one row."""
    with pytest.raises(RequestError, match="does not hold"):
        read(messages=[{"role": "user", "content": [part]}])


def test_an_operator_may_allow_remote_images():
    messages = [{"role": "user", "content": [PARTS["a remote image"]]}]
    assert read(replace(RAW, allow_members=("image_url",)), messages=messages).fingerprints


def test_arguments_of_earlier_calls_may_have_any_members():
    call = {"id": "1", "type": "function", "function": {"name": "f", "arguments": {"image_url": "https://e.org"}}}
    assert read(messages=[*HELLO, {"role": "assistant", "content": None, "tool_calls": [call]}]).fingerprints


@pytest.mark.parametrize("tool", [{"type": "web_search"}, {"type": 1}, "search"])
def test_a_tool_that_the_server_would_run_is_refused(tool):
    with pytest.raises(RequestError, match="tools"):
        read(tools=[tool])


@pytest.mark.parametrize(
    "value", ["1e999", "1" + "0" * 400, str(2**64), '"\\ud800"', "[" * 200 + "]" * 200, "[" * 3000 + "]" * 3000]
)
@pytest.mark.parametrize("name", ["temperature", "metadata"])
def test_what_servers_would_read_differently_is_refused(name, value):
    body = f'{{"model": "llm", "messages": [{{"role": "user"}}], "{name}": {value}}}'.encode()
    with pytest.raises(RequestError):
        CHAT.read(body, RAW)


# --- temperature

LOGITS = np.array([1.0, 0.8, 0.6, 0.4, 0.2])


def server(body, *, tempers):
    """A server of three tokens whose log-probabilities it reports after the temperature, or before it."""
    heat = max(json.loads(body).get("temperature", 0.6), 1e-6) if tempers else 1.0
    logits = (LOGITS - LOGITS.max()) / heat
    return completion(
        [token(word, *np.maximum(np.exp(logits) / np.exp(logits).sum(), 1e-300)) for word in ("yes", " no", " maybe")]
    )


def test_a_temperature_of_a_hundredth_cannot_lower_the_measured_leak():
    """Of a server that tempers, it is refused; without one the server is asked for 1, whatever its default is."""
    assert leak(server(json.dumps({"temperature": 0.01}), tempers=True)) < 1e-6  # what the caller would have paid for
    with pytest.raises(RequestError, match="'temperature' must be 1"):
        read(TEMPERED, temperature=0.01)
    tempered, raw = read(TEMPERED), read(RAW, temperature=0.01)
    assert leak(server(tempered.forward, tempers=True), tempered, TEMPERED) == pytest.approx(4.71, abs=0.005)
    assert leak(server(raw.forward, tempers=False), raw) == pytest.approx(4.71, abs=0.005)
    assert json.loads(raw.forward)["temperature"] == 0.01


SHARPENED = {
    "temperature": [0, 0.99, 2, True, "1", "0.01"],
    "top_p": [0.1, 0],
    "top_k": [1, 40],
    "min_p": [0.9],
    "typical_p": [0.5],
    "frequency_penalty": [1],
    "presence_penalty": [-2],
    "repetition_penalty": [1e-4],
    "repeat_penalty": [2],
    "logit_bias": [{"5": 100}, [[5, 100]]],
    "samplers": [["top_k"]],
    "mirostat": [2],
    "dynatemp_range": [0.5],
    "xtc_probability": [0.5],
    "dry_multiplier": [0.8],
    "top_n_sigma": [1],
}


@pytest.mark.parametrize("name", SHARPENED)
def test_whatever_tempers_is_pinned_where_log_probabilities_are_tempered(name):
    for value in SHARPENED[name]:
        with pytest.raises(RequestError, match=name):
            read(TEMPERED, **{name: value})
        assert read(RAW, **{name: value}).fingerprints
        assert read(replace(TEMPERED, allow_members=(name,)), **{name: value}).fingerprints


def test_neutral_values_are_served_and_openais_own_are_always_sent():
    neutral = {"temperature": 1.0, "top_p": 1, "top_k": -1, "min_p": 0.0, "repetition_penalty": 1.0, "logit_bias": {}}
    assert json.loads(read(TEMPERED, **neutral, presence_penalty=None).forward) == {
        "model": "llm",
        "messages": HELLO,
        **neutral,
        "frequency_penalty": 0,
        "presence_penalty": 0,
        "logprobs": True,
        "top_logprobs": 20,
    }
    assert "temperature" not in json.loads(read(RAW).forward)


def test_who_sees_all_log_probabilities_is_pinned_too():
    assert json.loads(read(TEMPERED, logprobs=True, top_logprobs=20).forward)["temperature"] == 1


# --- answers of real servers

CALL = {
    "id": "call_1",
    "type": "function",
    "function": {"name": "get_weather", "arguments": '{"city": "Oslo", "days": 3}'},
}
TOOLS = [{"type": "function", "function": {"name": "get_weather", "parameters": {}}}]
CALL_TOKENS = [
    token(t)
    for t in (
        "<tool_call>",
        '{"name":"get_weather","arguments":',
        '{"city":"Oslo","days":3}',
        "}",
        "</tool_call>",
        "<|im_end|>",
    )
]
HONEST = {
    "vllm": completion(
        [*THREE, token("<|im_end|>")],
        4,
        {"prompt_logprobs": None, "kv_transfer_params": None, "service_tier": None, "system_fingerprint": None},
        {"stop_reason": 151645, "token_ids": None, "routed_experts": None},
        content="yes no maybe",
        reasoning_content=None,
        refusal=None,
        annotations=None,
        audio=None,
        tool_calls=[],
    ),
    "vllm, of a tokenizer that loses spaces": completion(
        [token("yes"), token("no"), token("maybe"), token("</s>")], 4, content="yes no maybe"
    ),
    "vllm, with its reasoning twice": completion(
        [token("<think>"), token("hm hm"), token("</think>"), token("yes")],
        4,
        content="yes",
        reasoning="hm hm",
        reasoning_content="hm hm",
    ),
    "vllm, a tool call": completion(CALL_TOKENS, 6, content=None, tool_calls=[CALL]),
    "vllm, the arguments of a named tool alone": completion(
        [token('{"city":"Oslo","days":3}')], 1, content="", tool_calls=[CALL]
    ),
    "sglang": completion(
        THREE,
        4,
        {
            "metadata": {"weight_version": "default"},
            "usage": {"completion_tokens": 4, "reasoning_tokens": 0, "prompt_tokens_details": None},
        },
        {"matched_stop": 2, "hidden_states": None},
        tool_calls=None,
    ),
    "llama.cpp": completion(
        [token("日本", id=7), token("", id=2)],
        7,  # two characters of three tokens each, and the end
        {
            "system_fingerprint": "b6117-abc",
            "timings": {"prompt_n": 1, "predicted_ms": 2.5, "predicted_per_second": 400.0},
        },
    ),
    "tgi, with an object of arguments": completion(
        CALL_TOKENS,
        content=None,
        tool_calls=[
            {
                "id": "0",
                "type": "function",
                "function": {"description": None, "name": "get_weather", "arguments": {"city": "Oslo"}},
            }
        ],
    ),
    "openai": completion(
        THREE,
        4,
        {
            "service_tier": "default",
            "system_fingerprint": "fp_1",
            "usage": {
                "completion_tokens": 24,
                "completion_tokens_details": {"reasoning_tokens": 0, "rejected_prediction_tokens": 20},
                "prompt_tokens_details": {"cached_tokens": 0},
            },
        },
        refusal=None,
        annotations=[],
    ),
    "openai, a refusal": completion(
        [],
        3,
        (),
        {"logprobs": {"content": None, "refusal": [token("I"), token(" refuse")]}},
        content=None,
        refusal="I refuse",
    ),
    "a filtered completion": completion([], 0, (), {"logprobs": None, "finish_reason": "content_filter"}),
}


@pytest.mark.parametrize("document", HONEST.values(), ids=HONEST)
def test_ordinary_answers_of_honest_servers_are_released(document):
    logprobs = document["choices"][0]["logprobs"] or {}
    measured = sum(len(tokens or ()) for tokens in logprobs.values())
    assert leak(document, read(tools=TOOLS)) == pytest.approx(measured * math.log(2))


UNMEASURED = {
    "hidden states in a choice": completion(THREE, choice={"hidden_states": STATE}),
    "numbers in a choice": completion(THREE, choice={"embedding": STATE}),
    "meta_info in a choice": completion(THREE, choice={"meta_info": {"output_token_logprobs": [[-0.5, 1, None]]}}),
    "token numbers": completion(THREE, choice={"token_ids": [1, 2, 3]}),
    "routed experts": completion(THREE, choice={"routed_experts": "AAAA"}),
    "a long reason": completion(THREE, choice={"finish_reason": WORDS}),
    "completion_probabilities": completion(THREE, members={"completion_probabilities": [{"token": "a", "logprob": -0.5}]}),
    "hidden states beside the choices": completion(THREE, members={"hidden_states": STATE}),
    "the prompt's log-probabilities": completion(THREE, members={"prompt_logprobs": [{"1": -0.5}]}),
    "metrics": completion(THREE, members={"metrics": {"entropy": 0.5}}),
    "numbers in the usage": completion(THREE, members={"usage": {"scores": STATE}}),
    "numbers in the usage's details": completion(THREE, members={"usage": {"completion_tokens_details": {"a_tokens": STATE}}}),
    "numbers in the timings": completion(THREE, members={"timings": {"state_n": STATE}}),
    "text in the metadata": completion(THREE, members={"metadata": {"text": WORDS}}),
    "text as an identifier": completion(THREE, members={"id": WORDS}),
    "sound": completion(THREE, audio={"id": "1", "data": "AAAA", "transcript": WORDS}),
    "citations": completion(THREE, annotations=[{"type": "url_citation"}]),
    "an unknown member of a message": completion(THREE, thoughts=WORDS),
    "an unknown part of a message": completion(THREE, content=[{"type": "text", "text": "yes", "state": STATE}]),
    "numbers in place of a text": completion(THREE, content=STATE),
    "a member of a call": completion(CALL_TOKENS, content="", tool_calls=[{**CALL, "state": STATE}]),
    "a member of a function": completion(CALL_TOKENS, content="", tool_calls=[{"function": {"name": "f", "state": STATE}}]),
    "a member of a token": completion([token("yes", hidden=STATE)]),
    "bytes of a token that are not its text": completion([token("yes", bytes=[1] * 4096)]),
    "numbers in place of a token's number": completion([token("yes", id=STATE)]),
    "numbers in place of an alternative's text": altered(token=STATE),
    "bytes of an alternative that are not its text": altered(bytes=[1] * 4096),
    "a member of an alternative": altered(hidden=STATE),
    "alternatives of an alternative": altered(top_logprobs=[{"token": "a", "logprob": -0.5}]),
    "bytes of a token that are none": completion([token("yes", bytes=STATE)]),
    "other lists of log-probabilities": completion(THREE, choice={"logprobs": {"content": THREE, "layers": STATE}}),
}  # fmt: skip


@pytest.mark.parametrize("document", UNMEASURED.values(), ids=UNMEASURED)
def test_an_answer_that_holds_anything_else_is_not_released(document):
    with pytest.raises(AnswerError):
        leak(document, read(tools=TOOLS))


def test_an_operator_may_let_a_member_out_unmeasured():
    listed = replace(RAW, unmeasured=("metrics", "content_filter_results"))
    document = completion(THREE, members={"metrics": {"entropy": 0.5}}, choice={"content_filter_results": {"hate": {}}})
    assert leak(document, service=listed) == pytest.approx(3 * math.log(2))


def test_what_goes_out_is_what_was_measured():
    """A member that the server repeats is read once: the last of them, by the gateway and by the caller."""
    twice = json.dumps(completion(THREE)).replace('"content": "yes', f'"content": "{WORDS}", "content": "yes').encode()
    answer, parsed = Answer(200, "application/json", twice), read(logprobs=True, top_logprobs=20)
    assert CHAT.evidence(parsed, answer, RAW).rows == 1
    released = parsed.strip(answer).body
    assert WORDS.encode() not in released
    assert json.loads(released) == completion(THREE)


@pytest.mark.parametrize("wrong", [b'"content": "\\ud800"', b'"content": "a", "seed": 1e999', b'"content": NaN'])
def test_an_answer_that_json_has_not_is_not_released(wrong):
    body = json.dumps(completion(THREE)).encode().replace(b'"content": "yes no maybe"', wrong)
    with pytest.raises(AnswerError, match="not JSON"):
        CHAT.evidence(read(), Answer(200, "application/json", body), RAW)


# --- tokens cover what is shown

LONG = {"id": "1", "type": "function", "function": {"name": "get_weather", "arguments": json.dumps({"city": WORDS})}}
HIDDEN = {
    "text without tokens": completion([], content=WORDS),
    "text without log-probabilities": completion([], choice={"logprobs": None}, content=WORDS),
    "text with null lists": completion([], choice={"logprobs": {"content": None, "refusal": None}}, content=WORDS),
    "a tool call without tokens": completion([], content=None, tool_calls=[LONG]),
    "a tool call beside a word": completion([token("yes")], content="yes", tool_calls=[LONG]),
    "a call whose arguments repeat a member": completion([token("x" * 40)], content=None, tool_calls=[
        {"function": {"name": "get_weather", "arguments": f'{{"city": "{WORDS}", "city": 1}}'}}]),
    "a call with a number of many digits": completion([token("x" * 40)], content=None, tool_calls=[
        {"function": {"name": "get_weather", "arguments": '{"city": 0.' + "12" * 300 + "}"}}]),
    "a stop that no token covers": completion([], choice={"stop_reason": WORDS[:200]}, content=""),
    "a name that is no function of the caller": completion([], content=None, tool_calls=[{"function": {"name": WORDS}}]),
    "a call of a custom tool": completion([], content=None, tool_calls=[{"custom": {"name": "get_weather", "input": WORDS}}]),
    "a function call without tokens": completion([], content=None, function_call=LONG["function"]),
    "reasoning without tokens": completion(THREE, reasoning_content=WORDS),
    "reasoning under its other name": completion(THREE, reasoning=WORDS),
    "two different reasonings": completion([token(WORDS)], content="", reasoning=WORDS, reasoning_content=WORDS[::-1]),
    "a refusal without tokens": completion(THREE, refusal=WORDS),
    "text in parts": completion([], content=[{"type": "text", "text": WORDS}]),
    "300 tokens counted and none measured": completion([], 300),
    "300 tokens counted and three measured": completion(THREE, 300),
    "no message": completion(THREE, choice={"message": None}),
}  # fmt: skip


@pytest.mark.parametrize("document", HIDDEN.values(), ids=HIDDEN)
def test_300_words_that_no_token_covers_are_not_released(document):
    with pytest.raises(AnswerError):
        leak(document, read(tools=TOOLS))


def test_300_words_that_tokens_cover_are_paid_for():
    words = [token(f"{word} ") for word in WORDS.split()]
    assert leak(completion(words, 300)) == pytest.approx(300 * math.log(2))


def counted(tokens, usage, stop=None, **choice):
    return leak(completion(tokens, usage, choice=choice), read(stop=stop))


TOLERANCES = {
    "two tokens end a completion": (THREE, 5, {}),
    "a character has as many tokens as bytes": ([token("日本")], 8, {}),
    "a stop that was found has as many tokens as bytes": (THREE, 8, {"stop": ["x", "END"]}),
}


@pytest.mark.parametrize(("tokens", "most", "options"), TOLERANCES.values(), ids=TOLERANCES)
def test_the_tolerance_of_counted_tokens_from_both_sides(tokens, most, options):
    assert counted(tokens, most, **options) > 0
    with pytest.raises(AnswerError, match="counted more tokens"):
        counted(tokens, most + 1, **options)


def test_a_stop_that_was_not_found_excuses_nothing():
    with pytest.raises(AnswerError, match="counted more tokens"):
        counted(THREE, 8, stop="END", finish_reason="length")


@pytest.mark.parametrize(("extra", "released"), [(3, True), (4, False)])
def test_one_byte_per_token_may_be_missing(extra, released):
    """Decoded one by one, tokens of some tokenizers lose the space before them."""
    document = completion(THREE, content="yes no maybe" + "!" * extra)
    if released:
        assert leak(document) > 0
    else:
        with pytest.raises(AnswerError, match="shows more than the tokens"):
            leak(document)


def test_arguments_are_compared_without_the_white_space_and_escapes_that_servers_add():
    arguments = {"city": "Orléans 日本", "days": [1, 2, 3]}
    tokens = [token(json.dumps(arguments, separators=(",", ":"), ensure_ascii=False))]
    for written in (json.dumps(arguments, indent=4), arguments):
        call = {"function": {"name": "get_weather", "arguments": written}}
        assert leak(completion(tokens, content=None, tool_calls=[call]), read(tools=TOOLS)) > 0
    call = {"function": {"name": "get_weather", "arguments": json.dumps(arguments | {"x": 1})}}
    with pytest.raises(AnswerError, match="shows more than the tokens"):
        leak(completion(tokens, content=None, tool_calls=[call]), read(tools=TOOLS))


def test_a_token_that_is_not_among_the_most_probable_is_measured_too():
    chosen = {**token("rare"), "logprob": math.log(0.1), "top_logprobs": [{"token": "a", "logprob": math.log(0.9)}]}
    assert leak(completion([chosen])) == pytest.approx(-0.1 * math.log(0.1) - 0.9 * math.log(0.9))


@pytest.mark.parametrize("logprob", [-9999.0, -(10**400)])
def test_a_log_probability_below_all_floats_is_one_of_nothing(logprob):
    assert leak(altered(logprob=logprob)) == pytest.approx(0.5 * math.log(2))


def test_the_choices_of_an_answer_are_counted_together():
    document = completion(THREE, 10)
    document["choices"].append({**document["choices"][0], "index": 1})
    assert len(CHAT.evidence(read(n=2), said(document), RAW).tokens) == 2
    document["usage"]["completion_tokens"] = 11
    with pytest.raises(AnswerError, match="counted more tokens"):
        CHAT.evidence(read(n=2), said(document), RAW)


# --- the length of an answer


def test_the_bound_of_an_answer_depends_on_limits_alone():
    bound = read(max_tokens=100).answer_bound
    assert bound == read(max_tokens=100, seed=1, messages=[*HELLO, *HELLO]).answer_bound
    assert read(max_tokens=100, n=2).answer_bound > bound
    assert read(max_completion_tokens=200).answer_bound > bound
    assert read(max_tokens=100, logprobs=True).answer_bound > bound
    assert read(max_tokens=100, max_completion_tokens=None).answer_bound == bound
    assert [read(**members).answer_bound for members in ({}, {"max_tokens": True}, {"max_tokens": 0})] == [None] * 3


def test_an_answer_of_an_ordinary_length_is_within_its_bound():
    tokens = [token(f" word{i % 10}") for i in range(100)]
    for members in ({}, {"logprobs": True}, {"logprobs": True, "top_logprobs": 2}):
        parsed = read(max_tokens=100, **members)
        answer = said(completion(tokens, 100))
        assert len(parsed.strip(answer).body) <= parsed.answer_bound


@pytest.mark.parametrize(("tokens", "bounded"), [(1900, True), (2000, False), (10**9, False)])
def test_a_bound_beyond_64_kib_is_none(tokens, bounded):
    bound = read(max_tokens=tokens).answer_bound
    assert bound is not None and bound <= 65536 if bounded else bound is None


@pytest.mark.parametrize("constant", ["NaN", "Infinity", "-Infinity"])
def test_no_value_of_a_chat_is_missing(constant):
    """A server gets NaN as null, which would be another row that the model reads alike."""
    body = json.dumps({"model": "llm", "messages": HELLO})[:-1] + f', "seed": {constant}}}'
    with pytest.raises(RequestError, match=constant):
        CHAT.read(body.encode(), RAW)


@pytest.mark.parametrize(
    ("said", "asked", "bits"),
    [
        (["yes"], {"stop": ["no"]}, 2),
        ([], {"stop": ["no"]}, 1),
        ([], {}, 1),
        (["yes"], {}, 1),
        (["yes", "<|end|>"], {"stop": ["no"]}, 2),
        (["<think>", "yes"], {"stop": ["no"]}, 3),  # a token that is not shown comes first
        (["yes"], {"stop_token_ids": [7]}, 2),
    ],
)
def test_the_end_of_a_chat_is_paid_for_where_it_was_chosen_and_is_not_reported(said, asked, bits):
    document = completion([token(text) for text in said], content="yes" if said else "")
    assert leak(document, read(**asked)) == pytest.approx(bits * math.log(2))
    ended = document["choices"][0] | {"finish_reason": "length"}
    assert leak(document | {"choices": [ended]}, read(**asked)) == pytest.approx(len(said) * math.log(2))
