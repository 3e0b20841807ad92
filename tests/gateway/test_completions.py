"""Completions: what is priced is what the model reads, and nothing goes out that is not measured."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest

from modeltoll.errors import AnswerError, RequestError
from modeltoll.gateway.protocols.openai_completions import COMPLETION_MEMBERS, OpenAICompletions
from modeltoll.gateway.protocols.protocol import ServiceDescription
from modeltoll.leak.token_entropy import TokensMeasure
from modeltoll.records import Answer
from modeltoll.testing.protocols import ProtocolTrial, check_protocol

TEXTS = OpenAICompletions()
TEMPERED = ServiceDescription("llm", "", "tokens", max_rows=64)
RAW = replace(TEMPERED, logprobs="raw")
PROMPTS = ["a", "b", 'with "quotes" and ümläuts', "日本", "e"]
WORDS = " ".join(["word"] * 300)
HALF = math.log(0.5)


def read(service=RAW, prompt="hi", **members):
    return TEXTS.read(json.dumps({"model": "llm", "prompt": prompt, **members}).encode(), service)


def said(document):
    return Answer(200, "application/json", json.dumps(document).encode())


def lists(*words, chances=(0.5, 0.5)):
    """Log-probabilities as OpenAI, vLLM and llama-cpp-python write them."""
    shown = [{word if i == 0 else f"{word}{i}": math.log(p) for i, p in enumerate(chances)} for word in words]
    offsets = [sum(map(len, words[:i])) for i in range(len(words))]
    return {
        "tokens": list(words),
        "token_logprobs": [math.log(chances[0])] * len(words),
        "top_logprobs": shown,
        "text_offset": offsets,
    }


def content(*words):
    """The same as llama.cpp writes them: in the shape of a chat."""
    return {
        "content": [
            {
                "id": 7,
                "token": word,
                "bytes": list(word.encode()),
                "logprob": HALF,
                "top_logprobs": [{"id": 7 + i, "token": f"{word}{i}", "bytes": None, "logprob": HALF} for i in (0, 1)],
            }
            for word in words
        ]
    }


def completion(*choices, usage=None, **members):
    counts = (
        {} if usage is None else {"usage": {"prompt_tokens": 2, "completion_tokens": usage, "total_tokens": usage + 2}}
    )
    numbered = [{"index": i, "finish_reason": "stop", **choice} for i, choice in enumerate(choices)]
    return {
        "id": "cmpl-1",
        "object": "text_completion",
        "created": 1,
        "model": "llm",
        "choices": numbered,
        **counts,
        **members,
    }


def choice(*words, logprobs=lists, **members):
    return {"text": "".join(words), "logprobs": logprobs(*words), **members}


def leaks(document, parsed=None, service=RAW):
    return TokensMeasure().measure(TEXTS.evidence(parsed or read(), said(document), service)).tolist()


def table(scores):
    """One token per row, of which these probabilities are known."""
    return completion(*({"text": "x", "logprobs": lists("x", chances=row)} for row in scores.tolist()))


def test_it_keeps_the_law_of_serving_protocols():
    check_protocol(
        ProtocolTrial(
            TEXTS,
            RAW,
            PROMPTS,
            lambda prompts: json.dumps({"model": "llm", "prompt": list(prompts)}).encode(),
            lambda scores: said(table(scores)),
            scores_of=lambda found: (
                np.array([rows[0, :4] for rows in found.tokens if len(rows)]) if found.tokens else None
            ),
        )
    )


# --- what the model reads


def test_a_batch_of_prompts_is_as_many_rows_as_prompts_times_n():
    batch = read(prompt=["one", "two", [1, 2, 3]], n=2)
    assert len(set(batch.fingerprints)) == 6
    assert batch.fingerprints[2:4] == read(prompt="two", n=2).fingerprints
    assert batch.fingerprints[4:] == read(prompt=[1, 2, 3], n=2).fingerprints
    document = completion(*(choice(word) for word in "abcdef"))
    assert leaks(document, batch) == pytest.approx([math.log(2)] * 6)


@pytest.mark.parametrize("name", sorted(COMPLETION_MEMBERS.read - {"model", "prompt", "n", "best_of"}))
def test_each_member_that_is_read_is_in_the_fingerprint(name):
    plain, null, one, other = (read(**members).fingerprints for members in ({}, {name: None}, {name: [1]}, {name: [2]}))
    assert plain == null
    assert len({plain, one, other}) == 3


@pytest.mark.parametrize("name", sorted(COMPLETION_MEMBERS.harmless - {"stream", "logprobs", "stream_options"}))
def test_a_harmless_member_makes_no_other_row_and_goes_on(name):
    parsed = read(**{name: "x"})
    assert parsed.fingerprints == read().fingerprints
    assert json.loads(parsed.forward)[name] == "x"


def test_all_log_probabilities_are_asked_for_whatever_the_caller_sees():
    assert json.loads(read().forward) == {"model": "llm", "prompt": "hi", "logprobs": 20}
    assert json.loads(read(replace(RAW, top_logprobs=5), logprobs=1).forward)["logprobs"] == 5
    assert read(logprobs=20).forward is None
    assert read(logprobs=3).fingerprints == read().fingerprints


def test_a_server_that_tempers_is_asked_at_temperature_1():
    assert json.loads(read(TEMPERED).forward) == {
        "model": "llm", "prompt": "hi", "logprobs": 20,
        "temperature": 1, "top_p": 1, "frequency_penalty": 0, "presence_penalty": 0,
    }  # fmt: skip
    with pytest.raises(RequestError, match="'temperature' must be 1"):
        read(TEMPERED, temperature=0.01)


# --- what is refused

WRONG = {
    "no prompt": ({"prompt": None}, "'prompt' is not a text"),
    "a prompt that is a number": ({"prompt": 5}, "'prompt' is not a text"),
    "no prompts": ({"prompt": []}, "no rows"),
    "a prompt of words and numbers": ({"prompt": ["a", 1]}, "'prompt' holds something"),
    "a prompt of an object": ({"prompt": [{"text": "a"}]}, "'prompt' holds something"),
    "a list of texts in a list": ({"prompt": [["a", "b"]]}, "'prompt' holds something"),
    "negative numbers of tokens": ({"prompt": [[1, -1]]}, "'prompt' holds something"),
    "too many rows": ({"prompt": ["a"] * 33, "n": 2}, "at most 64"),
    "no completion": ({"n": 0}, "no rows"),
    "half a completion": ({"n": 1.5}, "'n' is not a whole number"),
    "log-probabilities that are true": ({"logprobs": True}, "'logprobs' is not 0 to 20"),
    "too many log-probabilities": ({"logprobs": 21}, "'logprobs' is not 0 to 20"),
    "log-probabilities of all": ({"logprobs": -1}, "'logprobs' is not 0 to 20"),
    "the prompt's own text": ({"echo": True}, "'echo'"),
    "log-probabilities of the prompt": ({"prompt_logprobs": 0}, "'prompt_logprobs'"),
    "the best of several": ({"best_of": 3, "n": 2}, "'best_of' is more than 'n'"),
    "embeddings as a prompt": ({"prompt_embeds": "AAAA"}, "'prompt_embeds'"),
    "a beam search": ({"use_beam_search": True}, "'use_beam_search'"),
    "messages": ({"messages": [{"role": "user"}]}, "'messages'"),
    "tools": ({"tools": [{}]}, "'tools'"),
}  # fmt: skip


@pytest.mark.parametrize(("members", "reason"), WRONG.values(), ids=WRONG)
def test_what_cannot_be_measured_is_refused_in_words_that_name_the_parameter(members, reason):
    with pytest.raises(RequestError, match=reason):
        read(**members)


@pytest.mark.parametrize("name", sorted(COMPLETION_MEMBERS.unmeasured | COMPLETION_MEMBERS.outside))
def test_what_asks_for_more_is_refused_by_name(name):
    with pytest.raises(RequestError, match=name):
        read(**{name: True})
    assert read(**{name: None}).fingerprints == read().fingerprints


def test_the_best_of_what_is_shown_is_no_choice():
    assert read(best_of=1).fingerprints
    assert read(best_of=2, n=2).fingerprints


# --- answers of real servers

HONEST = {
    "openai, without what was not asked for": completion(choice("yes", " no"), usage=2, system_fingerprint="fp_1"),
    "openai, places behind the prompt": completion({"text": "yes no", "logprobs": lists("yes", " no") | {"text_offset": [9, 12]}}),
    "openai, a character of several tokens": completion(
        {"text": "日", "logprobs": lists("bytes:\\xe6\\x97", "bytes:\\xa5") | {"text_offset": [0, 0]}}, usage=2
    ),
    "vllm": completion(
        {**choice("yes", " no"), "stop_reason": 151645, "token_ids": None, "prompt_logprobs": None, "routed_experts": None},
        usage=3, service_tier=None, kv_transfer_params=None, metrics=None,
    ),
    "sglang, which has no places": completion(
        {"text": "yes no", "logprobs": lists("yes", " no") | {"text_offset": [-1, -1]}, "matched_stop": 2}, usage=3
    ),
    "llama.cpp": completion(
        choice("yes", " no", logprobs=content), usage=3,
        timings={"prompt_n": 1, "predicted_ms": 2.5, "predicted_per_second": 400.0},
    ),
}  # fmt: skip


@pytest.mark.parametrize("document", HONEST.values(), ids=HONEST)
def test_ordinary_answers_of_honest_servers_are_released(document):
    assert leaks(document) == pytest.approx([2 * math.log(2)])
    assert json.loads(read().strip(said(document)).body)["choices"][0]["logprobs"] is None


def broken(**members):
    return completion({"text": "yes no", "logprobs": lists("yes", " no") | members})


UNMEASURED = {
    "text without log-probabilities (Text Generation Inference)": completion({"text": "yes", "logprobs": None}),
    "text that no token covers": completion({"text": WORDS, "logprobs": lists("yes")}),
    "no text": completion({"logprobs": lists("yes")}),
    "a message in place of a text": completion({"message": {"content": "yes"}, "logprobs": lists("yes")}),
    "300 tokens counted and two measured": completion(choice("yes", " no"), usage=300),
    "hidden states": completion(choice("yes", hidden_states=[0.5] * 4096)),
    "numbers of tokens": completion(choice("yes", token_ids=[1])),
    "log-probabilities of the prompt": completion(choice("yes", prompt_logprobs=[{"1": -0.5}])),
    "metrics": completion(choice("yes"), metrics={"entropy": 0.5}),
    "a member of the lists": broken(hidden=[0.5, 0.5]),
    "places that are numbers of another kind": broken(text_offset=[0, 4096]),
    "places that go back": broken(text_offset=[3, 0]),
    "places that are texts": broken(text_offset=["a", "b"]),
    "places that are no whole numbers": broken(text_offset=[0.25, 0.5]),
    "a place too many": broken(text_offset=[0, 3, 6]),
    "a token too many": broken(tokens=["yes", " no", "x"]),
    "a token that is a number": broken(tokens=[1, 2]),
    "no list of tokens": broken(tokens={"a": 1}),
    "no log-probabilities of the most probable": broken(top_logprobs=None),
    "a token without log-probabilities": broken(top_logprobs=[None, {"a": -0.5}]),
    "log-probabilities above 0": broken(token_logprobs=[1.0, 1.0]),
    "log-probabilities that are texts": broken(token_logprobs=["a", "b"]),
    "probabilities beyond 1": broken(top_logprobs=[{"a": -0.1, "b": -0.1}] * 2),
    "22 log-probabilities of a token": broken(top_logprobs=[{str(i): -9.0 for i in range(22)}] * 2),
    "no object": [1],
    "an error": {"error": {"message": "no"}},
}  # fmt: skip


@pytest.mark.parametrize("document", UNMEASURED.values(), ids=UNMEASURED)
def test_an_answer_that_is_not_measured_is_not_released(document):
    with pytest.raises(AnswerError):
        leaks(document)


@pytest.mark.parametrize("rows", [1, 3])
def test_one_completion_too_few_or_too_many_is_no_answer(rows):
    with pytest.raises(AnswerError):
        leaks(completion(*[choice("a")] * rows), read(prompt=["a", "b"]))


@pytest.mark.parametrize(
    ("asked", "shown"), [(0, ["a"]), (1, ["a", "a1"]), (2, ["a", "a1", "a2"]), (20, ["a", "a1", "a2"])]
)
def test_a_caller_sees_the_log_probabilities_that_they_asked_for(asked, shown):
    """And the token's own, as OpenAI and vLLM show it."""
    document = completion({"text": "a", "logprobs": lists("a", chances=(0.1, 0.6, 0.3))})
    found = json.loads(read(logprobs=asked).strip(said(document)).body)["choices"][0]["logprobs"]
    assert sorted(found["top_logprobs"][0]) == shown
    assert found["tokens"] == ["a"]
    in_chat_shape = completion(choice("a", logprobs=content))
    found = json.loads(read(logprobs=asked).strip(said(in_chat_shape)).body)["choices"][0]["logprobs"]
    assert len(found["content"][0]["top_logprobs"]) == min(asked, 2)


def test_the_bound_of_an_answer_depends_on_limits_alone():
    bound = read(max_tokens=100).answer_bound
    assert bound == read(max_tokens=100, seed=1, prompt="longer").answer_bound
    assert read(max_tokens=100, prompt=["a", "b"]).answer_bound == read(max_tokens=100, n=2).answer_bound > bound
    assert read().answer_bound is None


def test_an_answer_of_an_ordinary_length_is_within_its_bound():
    words = [f" word{i % 10}" for i in range(100)]
    for asked in (None, 0, 1):
        parsed = read(max_tokens=100, logprobs=asked)
        assert len(parsed.strip(said(completion(choice(*words), usage=100))).body) <= parsed.answer_bound


@pytest.mark.parametrize("heat", [0.01, 1.0])
def test_the_measured_leak_is_the_entropy_at_temperature_1(heat):
    """A server that tempers is asked for 1, whatever the caller leaves out; one that does not is paid the same at any."""
    logits = np.array([1.0, 0.8, 0.6, 0.4, 0.2])
    parsed = read(TEMPERED)
    asked = json.loads(parsed.forward)["temperature"]
    chances = np.exp(logits / asked) / np.exp(logits / asked).sum()
    words = ("yes", " no", " maybe")
    document = completion({"text": "".join(words), "logprobs": lists(*words, chances=chances)})
    assert leaks(document, parsed, TEMPERED) == pytest.approx([4.71], abs=0.005)
    assert leaks(document, read(temperature=heat)) == pytest.approx([4.71], abs=0.005)


@pytest.mark.parametrize("asked", [None, 0, 1, 2])
def test_a_stream_is_measured_whole_whatever_of_its_log_probabilities_is_shown(asked):
    """An event that goes out is cut to what its caller asked for; what was measured of it is not."""
    parsed = read(stream=True, **({} if asked is None else {"logprobs": asked}))
    reader = parsed.stream()
    for word in ("one", "two", None):
        choice = {"index": 0, "text": word or "", "logprobs": content(word) if word else None}
        event = {"id": "1", "object": "text_completion", "created": 1, "model": "llm"}
        choice["finish_reason"] = None if word else "stop"
        reader.feed(b"data: %b\n\n" % json.dumps(event | {"choices": [choice]}).encode())
    reader.feed(b"data: [DONE]\n\n")
    whole = said({"choices": [{"index": 0, "text": "onetwo", "logprobs": content("one", "two")}]})
    measures = [TokensMeasure().measure(TEXTS.evidence(parsed, answer, RAW)) for answer in (reader.finish(), whole)]
    assert measures[0] == pytest.approx(measures[1])


@pytest.mark.parametrize("name", ["stop_reason", "matched_stop"])
@pytest.mark.parametrize(("words", "fits"), [(("so", "cat"), True), (("so",), False)])
def test_a_stop_that_an_answer_names_is_shown_and_must_be_measured(name, words, fits):
    """Else a caller whose stops are the answers that they expect would get them for nothing."""
    choice = {"index": 0, "text": "so", "logprobs": lists(*words), "finish_reason": "stop", name: "cat"}
    parsed = read(stop=["cat", "dog"])
    if fits:
        TEXTS.evidence(parsed, said({"choices": [choice]}), RAW)
    else:
        with pytest.raises(AnswerError, match="shows more"):
            TEXTS.evidence(parsed, said({"choices": [choice]}), RAW)


BIT = math.log(2)


def json_format(kind):
    """The format of JSON of one type, as OpenAI's chats have it."""
    return {"type": "json_schema", "json_schema": {"name": "a", "schema": {"type": kind}}}


ENDS = {
    "a stop that the server has cut off": (["so"], {}, {"stop": ["cat"]}, 2 * BIT),
    "a stop before any token": ([], {}, {"stop": "cat"}, BIT),
    "a stop whose token is reported": (["so", "cat"], {"text": "so"}, {"stop": ["cat"]}, 2 * BIT),
    "a token that ends it and is reported": (["so", "</s>"], {"text": "so"}, {"stop_token_ids": [2]}, 2 * BIT),
    "a grammar that may end anywhere": (["so"], {}, {"guided_regex": "so(me)?"}, 2 * BIT),
    "a schema of numbers": (["so"], {}, {"guided_json": {"enum": [1, 12]}}, 2 * BIT),
    "a schema of numbers that says object": (["so"], {}, {"json_schema": {"type": "object", "enum": [1, 12]}}, 2 * BIT),
    "a format of numbers": (["so"], {}, {"response_format": json_format("integer")}, 2 * BIT),
    "a format of another kind": (["so"], {}, {"response_format": {"type": "regex", "value": "so(me)?"}}, 2 * BIT),
    "a format that ends with a bracket": (["so"], {}, {"response_format": json_format("object")}, BIT),
    "a format of any object": (["so"], {}, {"response_format": {"type": "json_object"}}, BIT),
    "a format of text": (["so"], {}, {"response_format": {"type": "text"}}, BIT),
    "the limit": (["so"], {"finish_reason": "length"}, {"stop": ["cat"]}, BIT),
    "an end that nobody chose": (["so"], {}, {}, BIT),
    "an end that nobody chose, before any token": ([], {}, {}, BIT),
    "the limit before any token": ([], {"finish_reason": "length"}, {"stop": ["cat"]}, 0.0),
}


@pytest.mark.parametrize("case", ENDS)
@pytest.mark.parametrize("shape", [lists, content])
def test_an_end_that_the_caller_has_chosen_is_paid_for_though_the_server_hides_it(case, shape):
    """A stop for each label that a thief expects would tell the label for nothing."""
    words, members, asked, expected = ENDS[case]
    document = completion({**choice(*words, logprobs=shape), **members})
    assert leaks(document, read(**asked)) == pytest.approx([expected])
