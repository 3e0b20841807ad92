"""Every serving protocol beside OIP: the one law, and what each has of its own."""

from __future__ import annotations

import base64
import json
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modeltoll.errors import AnswerError, RequestError, SettingsError
from modeltoll.gateway.protocols.json_path import JsonPath
from modeltoll.gateway.protocols.label_lists import LabelLists
from modeltoll.gateway.protocols.mlflow import MlflowScoring
from modeltoll.gateway.protocols.openai_chat import OpenAIChat
from modeltoll.gateway.protocols.openai_embeddings import OpenAIEmbeddings
from modeltoll.gateway.protocols.protocol import DeclaredInput, ParsedRequest, ServiceDescription
from modeltoll.gateway.protocols.tensorflow_serving import TensorFlowServing
from modeltoll.gateway.protocols.vllm_classify import VllmClassify
from modeltoll.leak.token_entropy import TokensMeasure
from modeltoll.records import Answer
from modeltoll.testing.protocols import ProtocolTrial, check_protocol

NUMBERS = np.random.default_rng(0).normal(size=(5, 3))
TEXTS = ["a", "b", 'with "quotes" and ümläuts', "日本", "e"]
LABELS = ("cat", "dog", "eel", "fox")
SERVICE = ServiceDescription("digits", "p", "probabilities", classes=4, max_rows=64)
V1, MLFLOW, LISTS, VLLM = TensorFlowServing(), MlflowScoring(), LabelLists(), VllmClassify()
EMBEDDINGS, CHAT = OpenAIEmbeddings(), OpenAIChat()
PATH = JsonPath("/predict", "rows[*].x", "result.rows[*].p", "/health")


def said(document):
    return Answer(200, "application/json", json.dumps(document).encode())


def body(document):
    return json.dumps(document).encode()


def lists(scores):
    return said([[{"label": LABELS[i], "score": p} for i, p in enumerate(row)] for row in scores.tolist()])


def data(rows, member):
    return said({"model": "digits", "data": [{"index": i, member: row} for i, row in enumerate(rows.tolist())]})


def token(*probabilities):
    """One token, of which these probabilities are known."""
    known = [{"token": str(i), "logprob": math.log(p)} for i, p in enumerate(probabilities)]
    return {"token": "0", "logprob": known[0]["logprob"] if known else 0.0, "top_logprobs": known}


def completions(*texts, **members):
    """What a chat server says: one completion per list of tokens."""
    choices = [
        {"index": i, "message": {"role": "assistant", "content": "x"}, "logprobs": {"content": list(text)}}
        for i, text in enumerate(texts)
    ]
    return said({"id": "1", "object": "chat.completion", "model": "digits", "choices": choices, **members})


def labelled_service(**changes):
    return replace(SERVICE, output="", labels=LABELS, **changes)


def declared(*names):
    return tuple(DeclaredInput(name) for name in names)


def trial(protocol, ask, answer, service=SERVICE, inputs=NUMBERS, **members):
    return ProtocolTrial(protocol, service, inputs, ask, answer, **members)


TRIALS = {
    "v1 in rows": trial(
        V1,
        lambda rows: V1.ask(rows, b"", SERVICE),
        lambda s: said({"predictions": s.tolist()}),
        replace(SERVICE, output=""),
        integers=lambda numbers: body({"instances": [[number] for number in numbers]}),
    ),
    "v1 in rows of named tensors": trial(
        V1,
        lambda rows: body({"instances": [{"x": row[:2], "y": row[2:]} for row in rows.tolist()]}),
        lambda s: said({"predictions": [{"p": row} for row in s.tolist()]}),
        replace(SERVICE, inputs=(DeclaredInput("x", 2), DeclaredInput("y", 1))),
        reorder=lambda rows: body({"instances": [{"y": row[2:], "x": row[:2]} for row in rows.tolist()]}),
    ),
    "v1 in columns": trial(
        V1,
        lambda rows: body({"inputs": {"x": rows[:, :2].tolist(), "y": rows[:, 2].tolist()}}),
        lambda s: said({"outputs": {"p": s.tolist()}}),
        replace(SERVICE, inputs=declared("x", "y")),
        reorder=lambda rows: body({"inputs": {"y": rows[:, 2].tolist(), "x": rows[:, :2].tolist()}}),
    ),
    "v1 of texts": trial(
        V1,
        lambda texts: body({"instances": [{"b64": base64.b64encode(text.encode()).decode()} for text in texts]}),
        lambda s: said({"predictions": [{"p": row} for row in s.tolist()]}),
        inputs=TEXTS,
    ),
    "mlflow inputs": trial(
        MLFLOW,
        lambda rows: MLFLOW.ask(rows, b"", SERVICE),
        lambda s: said({"predictions": s.tolist()}),
        replace(SERVICE, output=""),
    ),
    "mlflow split": trial(
        MLFLOW,
        lambda rows: MLFLOW.ask(rows, b"", replace(SERVICE, inputs=declared("b", "a", "c"))),
        lambda s: said({"predictions": [dict(zip(LABELS, row, strict=True)) for row in s.tolist()]}),
        labelled_service(inputs=declared("b", "a", "c")),
        reorder=lambda rows: body(
            {"dataframe_split": {"columns": ["a", "b", "c"], "data": rows[:, [1, 0, 2]].tolist()}}
        ),
    ),
    "mlflow records": trial(
        MLFLOW,
        lambda rows: body({"dataframe_records": [dict(zip("abc", row, strict=True)) for row in rows.tolist()]}),
        lambda s: said({"predictions": [{"p": row} for row in s.tolist()]}),
        replace(SERVICE, inputs=declared("a", "b", "c")),
    ),
    "mlflow instances of texts": trial(
        MLFLOW,
        lambda texts: body({"instances": list(texts)}),
        lambda s: said({"predictions": s.tolist()}),
        replace(SERVICE, output=""),
        TEXTS,
    ),
    "label lists": trial(
        LISTS, lambda texts: body({"inputs": list(texts)}), lists, labelled_service(), TEXTS, partial=True
    ),
    "vllm": trial(
        VLLM,
        lambda texts: body({"model": "digits", "input": list(texts)}),
        lambda s: data(s, "probs"),
        replace(SERVICE, output=""),
        TEXTS,
    ),
    "embeddings": trial(
        EMBEDDINGS,
        lambda texts: body({"model": "digits", "input": list(texts)}),
        lambda s: data(s, "embedding"),
        replace(SERVICE, output="", kind="embeddings"),
        TEXTS,
        scores_of=lambda evidence: evidence.inputs,
    ),
    "json path": trial(
        PATH,
        lambda rows: body({"rows": [{"x": row} for row in rows.tolist()]}),
        lambda s: said({"result": {"rows": [{"p": row} for row in s.tolist()]}}),
        replace(SERVICE, output=""),
    ),
    "json, the whole of it": trial(
        JsonPath("/predict", "@", "@"),
        lambda rows: JsonPath("/predict", "@", "@").ask(rows, b"", SERVICE),
        lambda s: said(s.tolist()),
        replace(SERVICE, output=""),
    ),
}


@pytest.mark.parametrize("one", TRIALS.values(), ids=TRIALS)
def test_each_keeps_the_law_of_serving_protocols(one):
    check_protocol(one)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(["b64", "x", "p"]), inner, max_size=2),
    max_leaves=12,
)
MEMBERS = [
    "instances",
    "inputs",
    "dataframe_split",
    "dataframe_records",
    "columns",
    "data",
    "params",
    "model",
    "input",
    "messages",
    "n",
    "logprobs",
    "top_logprobs",
    "stream",
    "raw_scores",
    "parameters",
    "encoding_format",
    "rows",
    "predictions",
    "outputs",
    "choices",
    "index",
    "probs",
    "embedding",
]
DOCUMENTS = st.dictionaries(st.sampled_from(MEMBERS), VALUES, max_size=4) | VALUES
ALL = [(one.protocol, one.service) for one in TRIALS.values()] + [(CHAT, replace(SERVICE, kind="tokens"))]


@given(DOCUMENTS.map(json.dumps), st.sampled_from(ALL))
def test_any_json_is_a_sound_question_or_a_request_error(text, spoken):
    protocol, service = spoken
    try:
        question = protocol.read(text.encode(), service)
    except RequestError:
        return
    assert 1 <= len(question.fingerprints) <= service.max_rows
    assert question.inputs is None or not np.isinf(question.inputs).any()  # NaN: a value is missing


@given(DOCUMENTS.map(json.dumps), st.sampled_from(ALL), st.integers(1, 3))
def test_any_json_is_evidence_or_an_answer_error(text, spoken, rows):
    protocol, service = spoken
    question = ParsedRequest(tuple(bytes([n] * 8) for n in range(rows)), None)
    try:
        found = protocol.evidence(question, Answer(200, "application/json", text.encode()), service)
    except AnswerError:
        return
    assert found.rows == rows


WRONG = {
    "both forms": (V1, {"instances": [1], "inputs": [1]}),
    "neither form": (V1, {}),
    "a row with names among others": (V1, {"instances": [{"x": 1}, [1]]}),
    "no rows": (V1, {"instances": []}),
    "rows that are no list": (V1, {"instances": 5}),
    "columns of different lengths": (V1, {"inputs": {"x": [1], "y": [1, 2]}}),
    "a column that is no list": (V1, {"inputs": {"x": 1}}),
    "base64 that is none": (V1, {"instances": [{"b64": "?!"}]}),
    "base64 beside something": (V1, {"instances": [{"b64": "YQ==", "x": 1}]}),
    "a number beyond all floats": (V1, {"instances": [[10**400]]}),
    "too many rows": (V1, {"instances": [[1]] * 65}),
    "split without an object": (MLFLOW, {"dataframe_split": [[1]]}),
    "split with a ragged row": (MLFLOW, {"dataframe_split": {"columns": ["a", "b"], "data": [[1]]}}),
    "split with a column twice": (MLFLOW, {"dataframe_split": {"columns": ["a", "a"], "data": [[1, 2]]}}),
    "an unknown member": (MLFLOW, {"inputs": [[1]], "extra": 1}),
    "a text and a number": (LISTS, {"inputs": ["a", 1]}),
    "no text": (LISTS, {"inputs": None}),
    "scores by a function of another kind": (LISTS, {"inputs": "a", "parameters": {"function_to_apply": "sigmoid"}}),
    "raw scores that are no choice": (LISTS, {"inputs": "a", "raw_scores": 1}),
    "another model": (VLLM, {"model": "other", "input": "a"}),
    "no model": (EMBEDDINGS, {"input": "a"}),
    "an unknown format": (EMBEDDINGS, {"model": "digits", "input": "a", "encoding_format": "int8"}),
    "token numbers below zero": (EMBEDDINGS, {"model": "digits", "input": [[1, -1]]}),
    "a stream or none": (CHAT, {"model": "digits", "messages": [{"role": "user"}], "stream": "yes"}),
    "no messages": (CHAT, {"model": "digits", "messages": []}),
    "too many completions": (CHAT, {"model": "digits", "messages": [{}], "n": 65}),
    "no completion": (CHAT, {"model": "digits", "messages": [{}], "n": 0}),
    "more log-probabilities than there are": (
        CHAT,
        {"model": "digits", "messages": [{}], "logprobs": True, "top_logprobs": 21},
    ),
    "log-probabilities of the prompt": (CHAT, {"model": "digits", "messages": [{}], "prompt_logprobs": 5}),
    "log-probabilities of nothing": (CHAT, {"model": "digits", "messages": [{}], "top_logprobs": 2}),
    "nothing at the path": (PATH, {"row": []}),
    "not a list at the path": (JsonPath("/p", "x", "@"), {"x": "text"}),
}


@pytest.mark.parametrize(("protocol", "document"), WRONG.values(), ids=WRONG)
def test_what_is_no_request_is_refused(protocol, document):
    with pytest.raises(RequestError):
        protocol.read(body(document), SERVICE)


ONE = ParsedRequest((b"8 bytes!",), None)
LIE = {
    "NaN": (V1, b'{"predictions": [[NaN, 1, 0, 0]]}'),
    "an error with status 200": (V1, b'{"error": "no"}'),
    "more than predictions": (V1, b'{"predictions": [[1, 0, 0, 0]], "features": [1, 2]}'),
    "an output that is not measured": (V1, b'{"predictions": [{"p": [1, 0, 0, 0], "features": [1]}]}'),
    "rows of different kinds": (V1, b'{"predictions": [{"p": [1, 0, 0, 0]}, [1, 0, 0, 0]]}'),
    "metadata beside predictions": (MLFLOW, b'{"predictions": [[1, 0, 0, 0]], "explanations": [[3]]}'),
    "a label that is not declared": (LISTS, b'[[{"label": "cow", "score": 1}]]'),
    "a label twice": (LISTS, b'[[{"label": "cat", "score": 0.5}, {"label": "cat", "score": 0.5}]]'),
    "no label": (LISTS, b"[[]]"),
    "more than labels": (LISTS, b'[[{"label": "cat", "score": 1, "features": [1]}]]'),
    "features beside probabilities": (VLLM, b'{"data": [{"index": 0, "probs": [1, 0, 0, 0], "hidden": [1]}]}'),
    "an index too many": (
        VLLM,
        b'{"data": [{"index": 0, "probs": [1, 0, 0, 0]}, {"index": 0, "probs": [1, 0, 0, 0]}]}',
    ),
    "a vector that is no base64": (EMBEDDINGS, b'{"data": [{"index": 0, "embedding": "?"}]}'),
    "a vector cut short": (EMBEDDINGS, b'{"data": [{"index": 0, "embedding": "AAAA"}]}'),
    "a vector with NaN": (EMBEDDINGS, b'{"data": [{"index": 0, "embedding": "AADAfw=="}]}'),
    "no log-probabilities": (CHAT, b'{"choices": [{"index": 0, "logprobs": null}]}'),
    "a log-probability above 0": (
        CHAT,
        b'{"choices": [{"index": 0, "logprobs": {"content": [{"top_logprobs": [{"logprob": 1}]}]}}]}',
    ),
    "nothing at the path": (PATH, b'{"rows": []}'),
    "numbers that are not measured": (PATH, b'{"result": {"rows": [{"p": [1, 0, 0, 0], "features": [0.1, 0.2]}]}}'),
}


@pytest.mark.parametrize(("protocol", "said_so"), LIE.values(), ids=LIE)
def test_an_answer_of_another_form_is_not_released(protocol, said_so):
    with pytest.raises(AnswerError):
        protocol.evidence(ONE, Answer(200, "application/json", said_so), replace(SERVICE, labels=LABELS))


def test_named_columns_are_read_in_the_order_of_the_private_data():
    asked = body({"dataframe_records": [{"a": 1, "b": 2}]})
    assert MLFLOW.read(asked, SERVICE).inputs is None  # nothing says in which order the model reads them
    assert MLFLOW.read(asked, replace(SERVICE, inputs=declared("a", "b"))).inputs.tolist() == [[1, 2]]
    assert MLFLOW.read(asked, replace(SERVICE, inputs=declared("b", "a"))).inputs.tolist() == [[2, 1]]
    with pytest.raises(RequestError, match="inputs b, c"):
        MLFLOW.read(asked, replace(SERVICE, inputs=declared("b", "c")))


def test_missing_values_are_not_a_number_and_null_is_another_row_than_nan():
    rows = [[None], [float("nan")], [1], [2**60]]
    found = MLFLOW.read(body({"dataframe_split": {"columns": ["a"], "data": rows}}), SERVICE)
    assert np.array_equal(found.inputs, [[np.nan], [np.nan], [1.0], [2.0**60]], equal_nan=True)
    assert len(set(found.fingerprints)) == 4
    one = MLFLOW.read(body({"dataframe_split": {"columns": ["a"], "data": rows[:1]}}), SERVICE)
    assert one.fingerprints == found.fingerprints[:1]


def test_a_record_without_a_column_is_the_one_with_nan_there():
    """As pandas reads records; null is another value."""
    lacking = MLFLOW.read(body({"dataframe_records": [{"a": 1, "b": 2}, {"b": 3}]}), SERVICE)
    nan, null = (
        MLFLOW.read(body({"dataframe_records": [{"b": 2, "a": 1}, {"b": 3, "a": missing}]}), SERVICE)
        for missing in (float("nan"), None)
    )
    assert lacking.fingerprints == nan.fingerprints != null.fingerprints


def test_ragged_rows_of_tokens_are_rows_without_numbers_for_the_measures():
    found = V1.read(body({"instances": [[1, 2, 3], [4, 5]]}), SERVICE)
    assert (found.inputs, len(set(found.fingerprints))) == (None, 2)


def test_of_a_list_of_labels_what_is_shown_is_measured():
    question = LISTS.read(body({"inputs": "a", "parameters": {"top_k": 2}}), labelled_service())
    shown = said([{"label": "eel", "score": 0.5}, {"label": "cat", "score": 0.25}])
    assert LISTS.evidence(question, shown, labelled_service()).scores.tolist() == [[0.25, 0, 0.5, 0]]


def test_raw_scores_are_logits_and_need_every_label():
    question = LISTS.read(body({"inputs": ["a"], "raw_scores": True}), labelled_service())
    logits = np.log([[0.5, 0.25, 0.125, 0.125]]) + 3
    assert np.allclose(LISTS.evidence(question, lists(logits), labelled_service()).scores, [[0.5, 0.25, 0.125, 0.125]])
    with pytest.raises(AnswerError, match="all labels"):
        LISTS.evidence(question, said([[{"label": "cat", "score": 3.0}]]), labelled_service())


def test_all_labels_that_do_not_sum_to_one_are_no_probabilities():
    question = LISTS.read(body({"inputs": "a"}), labelled_service())
    with pytest.raises(AnswerError, match="sum to 1"):
        LISTS.evidence(question, lists(np.array([[0.2, 0.2, 0.2, 0.2]])), labelled_service())


def test_a_vector_in_base64_is_the_same_evidence():
    vector = np.array([0.5, -1.25, 3.0])
    written = base64.b64encode(vector.astype("<f4").tobytes()).decode()
    found = EMBEDDINGS.evidence(ONE, said({"data": [{"index": 0, "embedding": written}]}), SERVICE)
    assert found.inputs.tolist() == [vector.tolist()]


@pytest.mark.parametrize("given", ["a", ["a"], [1, 2], [[1, 2]]])
def test_a_text_may_come_in_four_ways(given):
    assert len(EMBEDDINGS.read(body({"model": "digits", "input": given}), SERVICE).fingerprints) == 1


def test_a_model_may_have_another_name_in_bodies():
    service = replace(SERVICE, served_as="org/model-7b")
    assert VLLM.read(body({"model": "org/model-7b", "input": "a"}), service).fingerprints
    with pytest.raises(RequestError, match="no such model"):
        VLLM.read(body({"model": "digits", "input": "a"}), service)


def chat(service=SERVICE, **members):
    return CHAT.read(body({"model": "digits", "messages": [{"role": "user", "content": "hi"}], **members}), service)


def test_all_log_probabilities_are_asked_for_and_only_those_wanted_go_out():
    answer = completions([token(0.5, 0.25), token(0.9)], usage={"total_tokens": 2})
    whole = json.loads(answer.body)
    for members, shown in (
        ({}, None),
        ({"logprobs": False}, None),
        ({"logprobs": True}, [[], []]),
        (
            {"logprobs": True, "top_logprobs": 1},
            [whole["choices"][0]["logprobs"]["content"][0]["top_logprobs"][:1]] * 1,
        ),
    ):
        question = chat(**members)
        asked = json.loads(question.forward)
        assert (asked["logprobs"], asked["top_logprobs"]) == (True, 20)
        found = json.loads(question.strip(answer).body)
        logprobs = found["choices"][0]["logprobs"]
        if shown is None:
            assert logprobs is None
        else:
            kept = [one["top_logprobs"] for one in logprobs["content"]]
            assert kept[: len(shown)] == shown
        assert {**found, "choices": 0} == {**whole, "choices": 0}


def test_who_asks_for_all_log_probabilities_gets_the_answer_as_it_is():
    question = chat(replace(SERVICE, logprobs="raw"), logprobs=True, top_logprobs=20)
    answer = completions([token(0.5, 0.25), token(0.9)])
    assert question.forward is None
    assert json.loads(question.strip(answer).body) == json.loads(answer.body)


def test_a_completion_leaks_the_entropy_of_its_tokens():
    question = chat(n=2)
    answer = completions([token(0.5, 0.5), token(0.5, 0.5)], [token(1.0)])
    leaks = TokensMeasure().measure(CHAT.evidence(question, answer, SERVICE))
    assert np.allclose(leaks, [2 * math.log(2), 0.0])


def test_the_tokens_of_a_refusal_are_measured_and_stripped_too():
    answer = json.loads(completions([token(0.5, 0.5)]).body)
    held = answer["choices"][0]["logprobs"]
    answer["choices"][0]["logprobs"] = {"content": None, "refusal": held["content"]}
    leaks = TokensMeasure().measure(CHAT.evidence(chat(), said(answer), SERVICE))
    assert np.allclose(leaks, [math.log(2)])
    kept = json.loads(chat(logprobs=True, top_logprobs=1).strip(said(answer)).body)["choices"][0]["logprobs"]
    assert [len(one["top_logprobs"]) for one in kept["refusal"]] == [1]


@pytest.mark.parametrize("place", ["answer", "choice", "logprobs"])
def test_log_probabilities_of_anything_else_are_not_released(place):
    answer = json.loads(completions([token(0.5, 0.5)]).body)
    choice = answer["choices"][0]
    {"answer": answer, "choice": choice, "logprobs": choice["logprobs"]}[place]["prompt_logprobs"] = [{"1": -0.5}]
    with pytest.raises(AnswerError):
        CHAT.evidence(chat(), said(answer), SERVICE)


def test_tokens_belong_to_the_rows_of_the_question():
    evidence = CHAT.evidence(chat(), completions([token(0.5, 0.5)]), SERVICE)
    with pytest.raises(AnswerError, match="2 rows"):
        TokensMeasure().measure(replace(evidence, fingerprints=evidence.fingerprints * 2))


def test_tokens_that_cannot_be_measured_are_an_answer_error():
    question = chat()
    with pytest.raises(AnswerError, match="more than 1"):
        CHAT.evidence(question, completions([token(0.9, 0.9)]), SERVICE)
    with pytest.raises(AnswerError, match="for a token"):
        CHAT.evidence(question, completions([token()]), SERVICE)
    with pytest.raises(AnswerError, match="no tokens"):
        TokensMeasure().measure(V1.evidence(ONE, said({"predictions": [[1, 0, 0, 0]]}), replace(SERVICE, output="")))


def test_errors_are_in_each_protocols_shape():
    assert json.loads(MLFLOW.error("no"))["message"] == "no"
    assert json.loads(CHAT.error("no"))["error"]["message"] == "no"
    assert CHAT.error_member("pay")["code"] == "toll"
    assert json.loads(PATH.error("no"))["detail"] == "no"


def test_an_expression_that_is_none_is_a_fault_of_the_settings():
    with pytest.raises(SettingsError, match="JMESPath"):
        JsonPath("/p", "rows[", "@")


def test_one_row_may_be_the_whole_request():
    one = JsonPath("/p", "features", "scores", one=True)
    question = one.read(one.ask(NUMBERS[:1], b"", SERVICE), SERVICE)
    assert np.array_equal(question.inputs, NUMBERS[:1])
    answer, listed = said({"scores": [1, 0, 0, 0], "label": "cat"}), replace(SERVICE, unmeasured=("label",))
    assert one.evidence(question, answer, listed).scores.tolist() == [[1, 0, 0, 0]]
    with pytest.raises(AnswerError, match="not measured"):
        one.evidence(question, answer, SERVICE)


def test_numbers_below_members_that_are_not_measured_may_go_out():
    answer = said({"result": {"rows": [{"p": [1, 0, 0, 0]}]}, "seconds": 0.1})
    with pytest.raises(AnswerError, match="not measured"):
        PATH.evidence(ONE, answer, SERVICE)
    assert PATH.evidence(ONE, answer, replace(SERVICE, unmeasured=("seconds",))).scores.tolist() == [[1, 0, 0, 0]]


@pytest.mark.parametrize("protocol", [LISTS, VLLM, EMBEDDINGS, CHAT, PATH])
def test_where_no_request_can_be_written_of_numbers_that_is_said(protocol):
    with pytest.raises(AnswerError, match=r"shadow mode|recorded requests"):
        protocol.ask(NUMBERS, b"", SERVICE)
