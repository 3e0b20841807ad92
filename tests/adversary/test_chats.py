"""A thief of a language model against a whole gateway: what is asked, what is hidden in answers, what is paid."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from modeltoll.records import Answer
from text_gateway import text_thief

LOGITS = np.array([1.0, 0.8, 0.6, 0.4, 0.2])
WORDS = " ".join(["word"] * 300)
PATH = "/v1/chat/completions"
MESSAGES = [{"role": "user", "content": "hi"}]


def choice_of(heat=1.0):
    """Three tokens, with the log-probabilities of a temperature."""
    logits = LOGITS / max(heat, 1e-6)
    logprobs = np.maximum(logits - logits.max() - np.log(np.exp(logits - logits.max()).sum()), -9999.0).tolist()
    tokens = [
        {
            "token": word,
            "logprob": logprobs[0],
            "bytes": None,
            "top_logprobs": [{"token": f"{word}{i}", "logprob": one, "bytes": None} for i, one in enumerate(logprobs)],
        }
        for word in ("yes", " no", " maybe")
    ]
    message = {"role": "assistant", "content": "yes no maybe"}
    return {"index": 0, "message": message, "logprobs": {"content": tokens}, "finish_reason": "stop"}


def answer_of(choice, **members):
    document = {"id": "x", "object": "chat.completion", "model": "llm", "choices": [choice], **members}
    return Answer(200, "application/json", json.dumps(document).encode())


@pytest.fixture
def thief(tmp_path):
    """``thief(says, logprobs)``: asks a gateway in front of a model server; also its upstream and its ledger's leaks."""

    def start(says, logprobs=None):
        return Thief(text_thief(tmp_path, says, "openai-chat", logprobs))

    return start


class Thief:
    """A thief of chats."""

    def __init__(self, any_text):
        self._any_text = any_text
        self.upstream, self.leaks, self.different_rows = any_text.upstream, any_text.leaks, any_text.different_rows

    def ask(self, *requests):
        """The responses to chats with these members."""
        return self._any_text.ask(PATH, *({"messages": MESSAGES, **members} for members in requests))


def tempering(path, body):
    return answer_of(choice_of(json.loads(body).get("temperature", 0.6)))


def untempering(path, body):
    return answer_of(choice_of())


def test_44_requests_that_the_model_reads_differently_are_44_rows(thief):
    variants = [
        {member: value(i)}
        for i in range(9)
        for member, value in {
            "tools": lambda i: [{"type": "function", "function": {"name": f"f{i}"}}],
            "documents": lambda i: [{"title": "t", "text": f"text {i}"}],
            "chat_template": lambda i: "{{ messages }}" + " " * i,
            "seed": lambda i: 2**53 + i,
            "temperature": lambda i: i / 8,
        }.items()
    ][:44]
    caller = thief(untempering, "raw")
    assert {response.status_code for response in caller.ask(*variants)} == {402}
    assert len(caller.leaks()) == 44
    assert caller.different_rows() == pytest.approx(44, abs=1e-3)


def test_a_low_temperature_does_not_make_an_answer_cheap(thief):
    """Undeclared, a server is taken for one that tempers: it is asked at temperature 1, and nothing else is served."""
    caller = thief(tempering)
    cold, plain, one = caller.ask({"temperature": 0.01}, {}, {"temperature": 1})
    assert (cold.status_code, plain.status_code, one.status_code) == (400, 402, 402)
    assert "temperature" in cold.json()["error"]["message"]
    assert [json.loads(body)["temperature"] for _, body in caller.upstream.requests] == [1, 1]
    assert caller.leaks() == pytest.approx([4.71, 4.71], abs=0.005)


def test_of_a_server_that_reports_the_model_itself_a_low_temperature_costs_the_same(thief):
    caller = thief(untempering, "raw")
    assert [response.status_code for response in caller.ask({"temperature": 0.01}, {})] == [402, 402]
    assert caller.leaks() == pytest.approx([4.71, 4.71], abs=0.005)


CALL = {"id": "1", "type": "function", "function": {"name": "f", "arguments": json.dumps({"text": WORDS})}}
SILENT = {"logprobs": {"content": []}}
LETTER = {"id": "1", "type": "function", "function": {"name": "e", "arguments": ""}}
HIDDEN = {
    "4,096 numbers of hidden state": answer_of(choice_of() | {"hidden_states": [0.5] * 4096}),
    "meta_info": answer_of(choice_of() | {"meta_info": {"output_top_logprobs": [[-0.5, 7]]}}),
    "completion_probabilities": answer_of(choice_of(), completion_probabilities=[{"token": "yes", "logprob": -0.5}]),
    "300 words in a tool call": answer_of(
        choice_of() | SILENT | {"message": {"role": "assistant", "content": None, "tool_calls": [CALL]}}
    ),
    "300 letters, each the name of a function of the caller": answer_of(
        choice_of() | SILENT | {"message": {"role": "assistant", "content": None, "tool_calls": [LETTER] * 300}}
    ),
    "300 words in text": answer_of(choice_of() | SILENT | {"message": {"role": "assistant", "content": WORDS}}),
    "300 words in reasoning": answer_of(
        choice_of() | {"message": {"role": "assistant", "content": "yes", "reasoning_content": WORDS}}
    ),
    "300 tokens that were not measured": answer_of(choice_of(), usage={"completion_tokens": 300}),
}


@pytest.mark.parametrize("hidden", HIDDEN.values(), ids=HIDDEN)
def test_an_answer_that_is_not_measured_does_not_go_out(thief, hidden):
    caller = thief(lambda path, body: hidden, "raw")
    (response,) = caller.ask({"tools": [{"type": "function", "function": {"name": name}} for name in "abcdefgh"]})
    assert response.status_code == 502
    assert WORDS not in response.text
    assert caller.leaks() == []


def test_what_would_ask_for_it_never_reaches_the_model_server(thief):
    caller = thief(untempering, "raw")
    names = ("return_hidden_states", "return_meta_info", "n_probs", "prompt_logprobs", "echo", "anything_else")
    responses = caller.ask(*({name: 1} for name in names))
    assert [response.status_code for response in responses] == [400] * len(names)
    assert all(name in response.json()["error"]["message"] for name, response in zip(names, responses, strict=True))
    assert caller.upstream.requests == []


def test_the_measured_leak_is_the_entropy_at_temperature_1():
    chances = np.exp(LOGITS) / np.exp(LOGITS).sum()
    assert 3 * -sum(p * math.log(p) for p in chances) == pytest.approx(4.71, abs=0.005)
