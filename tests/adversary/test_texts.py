"""A thief of a language model at all endpoints of generated text: what is asked, what is hidden in answers, what is paid."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from modeltoll.records import Answer
from text_gateway import text_thief

LOGITS = np.array([1.0, 0.8, 0.6, 0.4, 0.2])
TOKENS = ("yes", " no", " maybe")
WORDS = " ".join(["word"] * 300)
CHAT, COMPLETIONS, RESPONSES = "/v1/chat/completions", "/v1/completions", "/v1/responses"
HI = {
    CHAT: {"messages": [{"role": "user", "content": "hi"}]},
    COMPLETIONS: {"prompt": "hi"},
    RESPONSES: {"input": "hi"},
}
LEAK = 3 * -sum(p * math.log(p) for p in np.exp(LOGITS) / np.exp(LOGITS).sum())


def chances(heat):
    logits = LOGITS / max(heat, 1e-6)
    return np.maximum(logits - logits.max() - np.log(np.exp(logits - logits.max()).sum()), -9999.0).tolist()


def tokens(heat=1.0):
    known = [{"token": str(i), "logprob": one} for i, one in enumerate(chances(heat))]
    return [{"token": word, "logprob": known[0]["logprob"], "top_logprobs": known} for word in TOKENS]


def lists(heat=1.0):
    shown = dict(zip("01234", chances(heat), strict=True))
    return {"tokens": TOKENS, "token_logprobs": [shown["0"]] * 3, "top_logprobs": [shown] * 3, "text_offset": [0, 3, 6]}


def completion(heat=1.0, count=1, document=(), **choice):
    one = {"text": "".join(TOKENS), "logprobs": lists(heat), "finish_reason": "stop", **choice}
    choices = [{"index": i, **one} for i in range(count)]
    return {"id": "x", "object": "text_completion", "model": "llm", "choices": choices, **dict(document)}


def part(heat=1.0, **members):
    return {"type": "output_text", "text": "".join(TOKENS), "annotations": [], "logprobs": tokens(heat), **members}


def message(*parts):
    return {"id": "m", "type": "message", "role": "assistant", "status": "completed", "content": list(parts)}


def response(*items, **members):
    return {"id": "r", "object": "response", "model": "llm", "status": "completed", "output": list(items), **members}


def chat(heat=1.0):
    said = {"role": "assistant", "content": "".join(TOKENS)}
    choice = {"index": 0, "message": said, "logprobs": {"content": tokens(heat)}, "finish_reason": "stop"}
    return {"id": "x", "object": "chat.completion", "model": "llm", "choices": [choice]}


def said(document):
    return Answer(200, "application/json", json.dumps(document).encode())


def tempering(path, body):
    """A server of all endpoints, whose log-probabilities are those of the request's temperature; 0.6 if it has none."""
    asked = json.loads(body)
    heat = asked.get("temperature", 0.6)
    if path == CHAT:
        return said(chat(heat))
    if path == RESPONSES:
        return said(response(message(part(heat))))
    prompts = asked["prompt"] if isinstance(asked["prompt"], list) else [asked["prompt"]]
    return said(completion(heat, len(prompts) * asked.get("n", 1)))


@pytest.fixture
def thief(tmp_path):
    return lambda says, logprobs=None, protocol="openai": text_thief(tmp_path, says, protocol, logprobs)


@pytest.mark.parametrize("path", [COMPLETIONS, RESPONSES])
def test_a_low_temperature_does_not_make_an_answer_cheap(thief, path):
    caller = thief(tempering)
    cold, plain = caller.ask(path, HI[path] | {"temperature": 0.01}, HI[path])
    assert (cold.status_code, plain.status_code) == (400, 402)
    assert "temperature" in cold.json()["error"]["message"]
    assert [json.loads(body)["temperature"] for _, body in caller.upstream.requests] == [1]
    assert caller.leaks() == pytest.approx([LEAK])


def test_each_completion_of_a_batch_is_paid_for(thief):
    caller = thief(tempering)
    (response_,) = caller.ask(COMPLETIONS, {"prompt": ["a", "b", [1, 2]], "n": 2})
    assert response_.status_code == 402
    assert response_.json()["toll"]["rows"] == 6
    assert caller.leaks() == pytest.approx([LEAK] * 6)
    assert caller.different_rows() == pytest.approx(6, abs=1e-3)


def test_a_thief_at_three_endpoints_has_one_account(thief):
    """What was asked at one endpoint counts at the others."""
    caller = thief(tempering)
    assert {caller.ask(path, members)[0].status_code for path, members in HI.items()} == {402}
    assert caller.leaks() == pytest.approx([LEAK] * 3)
    assert caller.different_rows() == pytest.approx(3, abs=1e-3)


def test_names_for_what_changes_nothing_make_no_further_rows(thief):
    """Else a thief would fill an account with rows that look new and honest."""
    caller = thief(tempering)
    harmless = [
        {"user": str(i), "service_tier": str(i), "cache_salt": str(i), "metadata": {"a": str(i)}} for i in range(4)
    ]
    for path in (COMPLETIONS, RESPONSES):
        caller.ask(path, *(HI[path] | one for one in harmless))
    assert len(caller.leaks()) == 8
    assert caller.different_rows() == pytest.approx(2, abs=1e-3)


@pytest.mark.parametrize(
    ("path", "body"), [(CHAT, {"prompt": "hi"}), (COMPLETIONS, {"input": "hi"}), (RESPONSES, {"prompt": "hi"})]
)
def test_a_request_at_the_path_of_another_endpoint_gets_nothing_for_nothing(thief, path, body):
    """Servers refuse it; one that answers as its path says is not believed."""
    caller = thief(tempering, "raw")
    answers = {CHAT: chat(), COMPLETIONS: completion(), RESPONSES: response(message(part()))}
    caller.upstream.handler = lambda asked, _: said(answers[asked])
    (got,) = caller.ask(path, body)
    assert got.status_code == 502
    assert caller.leaks() == []


REASONING = {"id": "rs", "type": "reasoning", "summary": [], "content": [{"type": "reasoning_text", "text": WORDS}]}
CALL = {"type": "function_call", "call_id": "1", "name": "f", "arguments": json.dumps({"text": WORDS})}
HIDDEN = {
    "4,096 numbers of hidden state": (COMPLETIONS, completion(hidden_states=[0.5] * 4096)),
    "4,096 numbers as places of tokens": (COMPLETIONS, completion(logprobs=lists() | {"text_offset": [0, 4095, 7]})),
    "300 words in a completion": (COMPLETIONS, completion(text=WORDS)),
    "300 words without log-probabilities": (COMPLETIONS, completion(text=WORDS, logprobs=None)),
    "the prompt's log-probabilities": (COMPLETIONS, completion(prompt_logprobs=[{"1": -0.5}])),
    "300 tokens that were not measured": (COMPLETIONS, completion(document={"usage": {"completion_tokens": 300}})),
    "300 words in a response": (RESPONSES, response(message(part(text=WORDS)))),
    "300 words in a call": (RESPONSES, response(message(part()), CALL)),
    "300 words in reasoning": (RESPONSES, response(REASONING, message(part()))),
    "300 words in encrypted reasoning": (RESPONSES, response(REASONING | {"content": [], "encrypted_content": WORDS}, message(part()))),
    "300 words among what repeats the request": (RESPONSES, response(message(part()), instructions=WORDS)),
    "hidden states among what repeats the request": (RESPONSES, response(message(part()), metadata={"a": [i / 7 for i in range(999)]})),
    "300 tokens of a response that were not measured": (RESPONSES, response(message(part()), usage={"output_tokens": 300})),
}  # fmt: skip


@pytest.mark.parametrize(("path", "hidden"), HIDDEN.values(), ids=HIDDEN)
def test_an_answer_that_is_not_measured_does_not_go_out(thief, path, hidden):
    caller = thief(lambda *_: said(hidden), "raw")
    (got,) = caller.ask(path, HI[path] | ({"tools": [{"type": "function", "name": "f"}]} if path == RESPONSES else {}))
    assert got.status_code == 502
    assert WORDS not in got.text
    assert caller.leaks() == []


REFUSED = {
    COMPLETIONS: ("echo", "prompt_logprobs", "logprob_token_ids", "use_beam_search", "return_token_ids", "n_probs", "prompt_embeds", "anything_else"),
    RESPONSES: ("previous_response_id", "conversation", "background", "prompt", "enable_response_messages", "vllm_xargs", "anything_else"),
}  # fmt: skip


@pytest.mark.parametrize("path", REFUSED)
def test_what_would_ask_for_it_never_reaches_the_model_server(thief, path):
    names = REFUSED[path]
    protocol = {COMPLETIONS: "openai-completions", RESPONSES: "openai-responses"}[path]
    caller = thief(tempering, "raw", protocol)
    responses = caller.ask(path, *(HI[path] | {name: 1} for name in names))
    assert [one.status_code for one in responses] == [400] * len(names)
    assert all(name in one.json()["error"]["message"] for name, one in zip(names, responses, strict=True))
    assert caller.upstream.requests == []
