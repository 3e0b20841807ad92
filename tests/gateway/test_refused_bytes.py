"""Bytes from outside that are nearly right: each is refused for its own reason, before anything is asked or released."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from modeltoll import wire
from modeltoll.errors import AnswerError, RequestError
from modeltoll.gateway.protocols.json_path import JsonPath
from modeltoll.gateway.protocols.label_lists import LabelLists
from modeltoll.gateway.protocols.mlflow import MlflowScoring
from modeltoll.gateway.protocols.oip import OpenInference
from modeltoll.gateway.protocols.openai_chat import OpenAIChat
from modeltoll.gateway.protocols.protocol import DeclaredInput, ParsedRequest, ServiceDescription
from modeltoll.gateway.protocols.tensorflow_serving import TensorFlowServing
from modeltoll.records import Answer

SERVICE = ServiceDescription("digits", "p", "probabilities", classes=4, max_rows=64)
COLUMNS = replace(SERVICE, inputs=(DeclaredInput("a"), DeclaredInput("b")))
V1, MLFLOW, LISTS, OIP, CHAT = TensorFlowServing(), MlflowScoring(), LabelLists(), OpenInference(), OpenAIChat()
LENGTHS = JsonPath("/predict", "map(&length(@), rows)", "map(&length(@), result)")
FAR = 10**400  # beyond every float
DEEP = json.loads("[" * 40 + '"x"' + "]" * 40)  # deeper than a row may be


def chat(**members):
    return {"model": "digits", "messages": [{"role": "user", "content": "x"}], **members}


REQUESTS = {
    "a row too deep": (V1, {"instances": [DEEP, {"x": DEEP}]}, "nested too deeply|columns"),
    "one row of text too deep": (V1, {"instances": [DEEP]}, "nested too deeply"),
    "mlflow: rows of split that are none": (MLFLOW, {"dataframe_split": {"data": [1]}}, "not a list of rows"),
    "mlflow: split without rows": (MLFLOW, {"dataframe_split": {"columns": ["a"]}}, "not a list of rows"),
    "mlflow: records that are none": (MLFLOW, {"dataframe_records": [[1]]}, "not a list of objects"),
    "mlflow: one record alone": (MLFLOW, {"dataframe_records": {"a": 1}}, "not a list of objects"),
    "labels: parameters in a list": (LISTS, {"inputs": "a", "parameters": ["softmax"]}, "not an object"),
    "chat: half a completion": (CHAT, chat(n=1.5), "'n' is not a whole number"),
    "chat: true completions": (CHAT, chat(n=True), "'n' is not a whole number"),
    "json: lengths of numbers": (LENGTHS, {"rows": [1, 2]}, "where they should be"),
}


@pytest.mark.parametrize(("protocol", "document", "reason"), REQUESTS.values(), ids=REQUESTS)
def test_a_request_is_refused_for_its_own_reason(protocol, document, reason):
    with pytest.raises(RequestError, match=reason):
        protocol.read(json.dumps(document).encode(), SERVICE)


@pytest.mark.parametrize("number", ["1e999", "-1e999", "Infinity"])
@pytest.mark.parametrize("row", ['{{"b64": "YQ==", "x": {0}}}', '{{"x": "text", "y": {0}}}', '["text", {0}]'])
def test_no_infinite_number_goes_on_beside_texts(row, number):
    """Python's json would write it so that some model servers read it and others do not."""
    with pytest.raises(RequestError):
        V1.read(f'{{"instances": [{row.format(number)}]}}'.encode(), SERVICE)


@pytest.mark.parametrize("number", [2**64 - 1, 2**53 + 1, -(2**63), 0.1, 5e-324, 1.7976931348623157e308])
def test_a_request_that_is_written_anew_keeps_every_number(number):
    """It goes on with all log-probabilities asked for, and with nothing else changed."""
    asked = chat(seed=number)
    question = CHAT.read(json.dumps(asked).encode(), replace(SERVICE, logprobs="raw"))
    assert json.loads(question.forward) == asked | {"logprobs": True, "top_logprobs": 20}


@pytest.mark.parametrize("number", [FAR, 2**64, -(2**63) - 1])
def test_a_whole_number_that_64_bits_do_not_hold_is_refused(number):
    """Some readers of JSON round it, and others do not take it."""
    with pytest.raises(RequestError, match="too large"):
        CHAT.read(json.dumps(chat(seed=number)).encode(), replace(SERVICE, logprobs="raw"))


@pytest.mark.parametrize(
    "members", [{"logprobs": None}, {"top_logprobs": None}, {"logprobs": None, "top_logprobs": None}]
)
def test_log_probabilities_that_are_null_are_not_asked_for(members):
    """As OpenAI's own clients write what was left out; the caller then sees none."""
    question, plain = (CHAT.read(json.dumps(chat(**more)).encode(), SERVICE) for more in (members, {}))
    assert question.fingerprints == plain.fingerprints
    assert json.loads(question.forward)["logprobs"] is True
    said = {"choices": [{"message": {"content": "x"}, "logprobs": {"content": []}}]}
    answer = Answer(200, "application/json", json.dumps(said).encode())
    assert question.strip(answer).body == plain.strip(answer).body
    assert json.loads(question.strip(answer).body)["choices"][0].get("logprobs") is None


@pytest.mark.parametrize("columns", [None, ["a", "b"]])
def test_a_split_data_frame_needs_no_names(columns):
    """Rows with names and rows without are read alike where the names are in the rows' own order."""
    frame = {"data": [[1.0, 2.0], [3.0, 4.0]]} | ({"columns": columns} if columns else {})
    question = MLFLOW.read(json.dumps({"dataframe_split": frame}).encode(), COLUMNS)
    assert question.inputs.tolist() == [[1.0, 2.0], [3.0, 4.0]]


def said(output, **members):
    return {"outputs": [{"name": "p", "datatype": "FP64", "shape": [1, 4], **output}], **members}


ANSWERS = {
    "v1: a score beyond all floats": (V1, {"predictions": [[FAR, 0, 0, 0]]}, "one row of numbers"),
    "v1: scores that are truths": (V1, {"predictions": [[True, False, False, False]]}, "one row of numbers"),
    "v1: a row without scores": (V1, {"predictions": [[]]}, "one row of numbers"),
    "labels: a row that is a label": (LISTS, [{"label": "cat", "score": 1.0}, "cat"], "labels"),
    "oip: raw bytes that did not come": (OIP, said({"parameters": {"binary_data_size": 32}}), "one row of numbers"),
    "json: lengths of numbers": (LENGTHS, {"result": [1]}, "cannot be searched"),
}


@pytest.mark.parametrize(("protocol", "document", "reason"), ANSWERS.values(), ids=ANSWERS)
def test_an_answer_that_cannot_be_measured_is_not_released(protocol, document, reason):
    question = ParsedRequest((bytes(8),), None)
    service = replace(SERVICE, labels=("cat", "dog", "eel", "fox")) if protocol is LISTS else SERVICE
    service = replace(service, output="") if protocol is V1 else service
    with pytest.raises(AnswerError, match=reason):
        protocol.evidence(question, Answer(200, "application/json", json.dumps(document).encode()), service)


def test_raw_scores_that_are_texts_are_not_released():
    """Even where there are as many as there should be."""
    raw = b"\0\0\0\0" * 4
    head = json.dumps(said({"datatype": "BYTES", "parameters": {"binary_data_size": len(raw)}})).encode()
    answer = Answer(200, wire.with_binary_length("application/octet-stream", str(len(head))), head + raw)
    with pytest.raises(AnswerError) as refused:
        OIP.evidence(ParsedRequest((bytes(8),), None), answer, SERVICE)
    assert refused.value.private == "is of datatype BYTES"


def test_a_classification_shows_as_many_classes_as_were_asked_for():
    question = ParsedRequest((bytes(8),), None, note=2)
    for shown in (1, 3):
        output = {"datatype": "BYTES", "shape": [1, shown], "data": ["0.5:0", "0.3:1", "0.2:2"][:shown]}
        with pytest.raises(AnswerError, match="one row of numbers"):
            OIP.evidence(question, Answer(200, "application/json", json.dumps(said(output)).encode()), SERVICE)
