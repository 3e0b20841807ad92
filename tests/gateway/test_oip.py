"""Open Inference Protocol: what is not clearly a request, or an answer to it, is refused before anybody acts on it."""

from __future__ import annotations

import json
import tracemalloc
from dataclasses import replace

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modeltoll import wire
from modeltoll.errors import AnswerError, RequestError
from modeltoll.gateway.protocols.fingerprints import fingerprint
from modeltoll.gateway.protocols.oip import OpenInference
from modeltoll.gateway.protocols.protocol import DeclaredInput, ParsedRequest, ServiceDescription
from modeltoll.records import Answer, Evidence
from modeltoll.testing.protocols import ProtocolTrial, check_protocol

OIP = OpenInference()
SERVICE = ServiceDescription("digits", "p", "probabilities", classes=4, max_rows=64)
METADATA = b'{"name":"digits","inputs":[{"name":"x","datatype":"FP64","shape":[-1,3]}]}'


def tensor(data, shape, datatype="FP64", name="x", **members):
    return {"name": name, "shape": shape, "datatype": datatype, "data": data, **members}


def message(*tensors, **members):
    return json.dumps({"inputs": list(tensors), **members}).encode()


def read(*tensors, service=SERVICE, **members):
    return OIP.read(message(*tensors, **members), service)


def answer(scores, output="p", **members):
    scores = np.asarray(scores)
    said = {"name": output, "shape": list(scores.shape), "datatype": "FP64", "data": scores.ravel().tolist(), **members}
    return Answer(200, "application/json", json.dumps({"outputs": [said]}).encode())


def evidence(said, rows=1, service=SERVICE):
    return OIP.evidence(ParsedRequest(tuple(bytes([n] * 8) for n in range(rows)), None), said, service)


def trial(protocol=OIP):
    inputs = np.random.default_rng(0).normal(size=(5, 3))
    return ProtocolTrial(
        protocol,
        SERVICE,
        inputs,
        lambda rows: protocol.ask(rows, METADATA, SERVICE),
        answer,
        integers=lambda numbers: message(tensor(numbers, [len(numbers)], "INT64" if min(numbers) < 0 else "UINT64")),
    )


def two_tensors(*names):
    """Writes rows of three numbers as two tensors, in that order."""
    parts = {"top": slice(0, 2), "bottom": slice(2, 3)}

    def write(rows):
        tensors = ((name, rows[:, parts[name]]) for name in names)
        return message(*(tensor(part.tolist(), list(part.shape), name=name) for name, part in tensors))

    return write


TWO = replace(SERVICE, inputs=(DeclaredInput("top", 2, "FP64"), DeclaredInput("bottom", 1, "FP64")))


def test_it_keeps_the_law_of_serving_protocols():
    check_protocol(trial())


def test_it_keeps_the_law_with_several_inputs():
    written = {
        "encode_request": two_tensors("top", "bottom"),
        "reorder": two_tensors("bottom", "top"),
        "integers": None,
    }
    one = replace(trial(), service=TWO, **written)
    check_protocol(one)


BODIES = {
    "not JSON": b'{"inputs": [',
    "not UTF-8": b'{"inputs": "\xff"}',
    "byte order mark": b'\xef\xbb\xbf{"inputs": []}',
    "two documents": b"{} {}",
    "deep nesting": b"[" * 100_000,
    "deep nesting inside": b'{"inputs":[{"shape":[1],"datatype":"FP64","data":'
    + b"[" * 50_000
    + b"]" * 50_000
    + b"}]}",
    "NaN": b'{"inputs":[{"shape":[1],"datatype":"FP64","data":[NaN]}]}',
    "Infinity": b'{"inputs":[{"shape":[1],"datatype":"FP64","data":[-Infinity]}]}',
    "1e999": b'{"inputs":[{"shape":[1],"datatype":"FP64","data":[1e999]}]}',
    "an endless integer": b'{"inputs":[{"shape":[1],"datatype":"FP64","data":[' + b"9" * 5000 + b"]}]}",
    "an integer beyond all floats": b'{"inputs":[{"shape":[1],"datatype":"FP64","data":[' + b"9" * 400 + b"]}]}",
    "a member twice": b'{"inputs":[],"inputs":[]}',
    "a member twice, deep down": b'{"inputs":[{"shape":[1],"shape":[1],"datatype":"FP64","data":[1]}]}',
    "not an object": b"[]",
    "no inputs": b"{}",
    "empty inputs": b'{"inputs":[]}',
    "inputs of another kind": b'{"inputs":{"x":1}}',
    "an input that is no object": b'{"inputs":[1]}',
    "outputs of another kind": b'{"inputs":[{"shape":[1],"datatype":"FP64","data":[1]}],"outputs":["p"]}',
    "parameters of another kind": b'{"inputs":[{"shape":[1],"datatype":"FP64","data":[1]}],"parameters":[1]}',
}


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
def test_what_is_no_request_is_refused(body):
    with pytest.raises(RequestError):
        OIP.read(body, SERVICE)


TENSORS = {
    "no shape": ({"name": "x", "datatype": "FP64", "data": [1]}, "shape"),
    "an empty shape": (tensor([1], []), "shape"),
    "a shape that is no list": (tensor([1], 1), "shape"),
    "a negative shape": (tensor([1], [-1, 1]), "shape"),
    "an empty batch": (tensor([], [0, 2]), "shape"),
    "a broken shape": (tensor([1], [1.0, 1]), "shape"),
    "a shape of truths": (tensor([1], [True, 1]), "shape"),
    "a shape without end": (tensor([1], [1] * 33), "shape"),
    "a giant shape": (tensor([1.0], [1, 2**40]), "shape"),
    "a shape that multiplies to much": (tensor([1.0], [1, 2**30, 2**30, 2**30]), "does not fill"),
    "too few": (tensor([1, 2, 3], [2, 2]), "does not fill"),
    "too many": (tensor([1, 2, 3, 4, 5], [2, 2]), "does not fill"),
    "ragged": (tensor([[1, 2], [3]], [2, 2]), "ragged"),
    "half nested": (tensor([[1, 2], 3, 4], [2, 2]), "number|float"),
    "nested in another way than its shape": (tensor([[1, 2, 3], [4, 5, 6]], [3, 2]), "nested"),
    "nested too deeply": (tensor([[[1], [2]]], [1, 2]), "holds something"),
    "no data": ({"name": "x", "datatype": "FP64", "shape": [1]}, "is not a list"),
    "one number for a list": (tensor(1.0, [1]), "is not a list"),
    "an object for a list": (tensor({"0": 1}, [1]), "is not a list"),
    "text for numbers": (tensor(["1.5"], [1]), "holds something"),
    "null for whole numbers": (tensor([None], [1], "INT32"), "holds something"),
    "numbers for text": (tensor([1], [1], "BYTES"), "holds something"),
    "no datatype": ({"name": "x", "shape": [1], "data": [1]}, "datatype"),
    "an unknown datatype": (tensor([1], [1], "FP8"), "datatype"),
    "a datatype of another kind": (tensor([1], [1], ["FP64"]), "datatype"),
    "half an integer": (tensor([0.5], [1], "INT64"), "no INT64"),
    "too large for a byte": (tensor([256], [1], "UINT8"), "no UINT8"),
    "negative where there is no sign": (tensor([-1], [1], "UINT32"), "no UINT32"),
    "neither true nor false": (tensor([2], [1], "BOOL"), "no BOOL"),
    "infinite as a float of 32 bits": (tensor([1e39], [1], "FP32"), "no FP32"),
    "infinite as a float of 16 bits": (tensor([65520], [1], "FP16"), "no FP16"),
    "shared memory": (tensor([1], [1], parameters={"shared_memory_region": "r"}), "shared_memory_region"),
    "raw data that did not come": (tensor([1], [1], parameters={"binary_data_size": 8}), "binary_data_size"),
}


@pytest.mark.parametrize(("wrong", "fault"), TENSORS.values(), ids=TENSORS)
def test_a_tensor_that_is_not_what_it_says_is_refused(wrong, fault):
    with pytest.raises(RequestError, match=fault):
        read(wrong)


CLASSIFY = {"name": "p", "parameters": {"classification": 2}}


@pytest.mark.parametrize(
    ("members", "service"),
    [
        ({"parameters": {"classification": 3}}, SERVICE),
        ({"outputs": [{"name": "p", "parameters": {"classification": True}}]}, SERVICE),
        ({"outputs": [{"name": "p", "parameters": {"classification": -1}}]}, SERVICE),
        ({"outputs": [CLASSIFY]}, replace(SERVICE, classes=None)),
        ({"outputs": [CLASSIFY]}, replace(SERVICE, kind="logits")),
    ],
)
def test_a_classification_that_cannot_be_measured_is_refused(members, service):
    with pytest.raises(RequestError, match="classification"):
        read(tensor([1], [1]), service=service, **members)


def ranked(*said, shape):
    output = {"name": "p", "shape": shape, "datatype": "BYTES", "data": list(said)}
    return Answer(200, "application/json", json.dumps({"outputs": [output]}).encode())


def test_of_a_classification_the_classes_that_are_shown_are_measured():
    question = read(tensor([1, 2], [2]), outputs=[CLASSIFY])
    said = ranked("0.75:3:seven:up", "0.125:0", "0.5:1:one", "0.25:2:two", shape=[2, 2])
    found = OIP.evidence(question, said, SERVICE)
    assert found.scores.tolist() == [[0.125, 0, 0, 0.75], [0, 0.5, 0.25, 0]]


def test_a_server_that_ignores_the_classification_shows_all_scores_and_all_are_measured():
    question = read(tensor([1], [1]), outputs=[CLASSIFY])
    scores = [[0.5, 0.25, 0.125, 0.125]]
    assert OIP.evidence(question, answer(scores), SERVICE).scores.tolist() == scores
    with pytest.raises(AnswerError):
        OIP.evidence(question, answer([[0.5, 0.25]]), SERVICE)


@pytest.mark.parametrize(
    "said",
    [
        ["0.5:1"],
        ["0.5:1", "0.5:4"],
        ["0.5:1", "0.5:-1"],
        ["0.5:1", "0.5"],
        ["0.5:1", "nan:2"],
        ["0.5:1", "0.9:2"],
        ["0.5:1", "-0.5:2"],
        [0.5, 0.25],
        None,
    ],
)
def test_a_classification_of_another_form_is_not_released(said):
    question = read(tensor([1], [1]), outputs=[CLASSIFY])
    output = {"name": "p", "shape": [1, 2], "datatype": "BYTES", "data": said}
    with pytest.raises(AnswerError):
        OIP.evidence(question, Answer(200, "application/json", json.dumps({"outputs": [output]}).encode()), SERVICE)


def binary(document, *tensors):
    """A message of JSON and raw tensors, and its content type."""
    head = json.dumps(document).encode()
    kind = wire.with_binary_length("application/octet-stream", str(len(head)))
    return head + b"".join(tensors), kind


def raw(values, kind):
    return np.asarray(values).astype(kind).tobytes()


RAW = {
    "FP64": raw([1, 2.5, -3, 4], "<f8"),
    "FP32": raw([1, 2.5, -3, 4], "<f4"),
    "FP16": raw([1, 2.5, -3, 4], "<f2"),
    "BF16": (np.array([1, 2.5, -3, 4], "<f4").view("<u4") >> 16).astype("<u2").tobytes(),
}


@pytest.mark.parametrize("datatype", RAW)
def test_raw_tensors_are_the_same_question_as_json(datatype):
    part = {"name": "x", "shape": [2, 2], "datatype": datatype, "parameters": {"binary_data_size": len(RAW[datatype])}}
    found = OIP.read(*_swapped(binary({"inputs": [part]}, RAW[datatype])))
    same = read(tensor([1, 2.5, -3, 4], [2, 2], datatype if datatype != "BF16" else "FP64"))
    if datatype != "BF16":  # which is sent raw only
        assert found.fingerprints == same.fingerprints
    assert np.array_equal(found.inputs, same.inputs)


def _swapped(message):
    """As ``read`` takes it."""
    body, kind = message
    return body, SERVICE, kind


def test_raw_texts_and_numbers_stand_one_behind_the_other():
    texts = b"".join(len(text).to_bytes(4, "little") + text for text in (b"one", b"\xff"))
    parts = [
        {"name": "t", "shape": [2], "datatype": "BYTES", "parameters": {"binary_data_size": len(texts)}},
        tensor([[1], [2]], [2, 1]),
        {"name": "b", "shape": [2], "datatype": "BOOL", "parameters": {"binary_data_size": 2}},
    ]
    found = OIP.read(*_swapped(binary({"inputs": parts}, texts, b"\x00\x01")))
    assert len(set(found.fingerprints)) == 2
    assert found.inputs is None


SIZED = {"name": "x", "shape": [2], "datatype": "FP32", "parameters": {"binary_data_size": 8}}
FLOATS = raw([1, 2], "<f4")
BROKEN_MESSAGES = {
    "cut short": (binary({"inputs": [SIZED]}, FLOATS[:-1])),
    "bytes left over": (binary({"inputs": [SIZED]}, FLOATS, b"x")),
    "another size than its shape": (binary({"inputs": [{**SIZED, "shape": [3]}]}, FLOATS)),
    "a size of another kind": (binary({"inputs": [{**SIZED, "parameters": {"binary_data_size": "8"}}]}, FLOATS)),
    "a negative size": (binary({"inputs": [{**SIZED, "parameters": {"binary_data_size": -8}}]}, FLOATS)),
    "data twice": (binary({"inputs": [{**SIZED, "data": [1, 2]}]}, FLOATS)),
    "infinite": (binary({"inputs": [SIZED]}, raw([1, np.inf], "<f4"))),
    "neither true nor false": (
        binary({"inputs": [{**SIZED, "datatype": "BOOL", "parameters": {"binary_data_size": 2}}]}, b"\x01\x02")
    ),
    "a text cut short": (
        binary({"inputs": [{**SIZED, "datatype": "BYTES", "parameters": {"binary_data_size": 6}}]}, b"\x09\0\0\0ab")
    ),
    "a text too few": (
        binary({"inputs": [{**SIZED, "datatype": "BYTES", "parameters": {"binary_data_size": 5}}]}, b"\x01\0\0\0a")
    ),
    "shorter than its JSON": (b"{}", "application/octet-stream; inference-header-content-length=3"),
    "not JSON": (b"{" + FLOATS, "application/octet-stream; inference-header-content-length=1"),
    "no length": (json.dumps({"inputs": [SIZED]}).encode() + FLOATS, "application/json"),
}


@pytest.mark.parametrize("message", BROKEN_MESSAGES.values(), ids=BROKEN_MESSAGES)
def test_raw_tensors_that_are_not_what_they_say_are_refused(message):
    with pytest.raises(RequestError):
        OIP.read(*_swapped(message))


def said_raw(scores, *more, size=None):
    scores = np.asarray(scores, "<f4")
    size = scores.nbytes if size is None else size
    output = {"name": "p", "shape": list(scores.shape), "datatype": "FP32", "parameters": {"binary_data_size": size}}
    body, kind = binary({"outputs": [output, *more]}, scores.tobytes())
    return Answer(200, kind, body)


def test_a_raw_answer_is_the_same_evidence_as_json():
    assert evidence(said_raw([[0.5, 0.25, 0.125, 0.125]])).scores.tolist() == [[0.5, 0.25, 0.125, 0.125]]


@pytest.mark.parametrize(
    "said",
    [
        said_raw([[0.5, 0.25, 0.125, 0.125]], size=12),
        said_raw([[0.5, 0.25, 0.125, 0.125]], size=20),
        said_raw([[0.5, 0.25, 0.125, np.nan]]),
        said_raw([[0.5, 0.25, 0.125, 0.125]], {"name": "q", "shape": [1], "datatype": "FP32", "data": [1]}),
        replace(said_raw([[0.5, 0.25, 0.125, 0.125]]), content_type="application/json"),
    ],
)
def test_a_raw_answer_of_another_form_is_not_released(said):
    with pytest.raises(AnswerError):
        evidence(said)


@given(st.binary(max_size=80), st.integers(0, 90))
def test_any_raw_bytes_are_a_question_or_a_request_error(noise, length):
    body, _ = binary({"inputs": [SIZED]}, FLOATS)
    for message in (noise, body[:length] + noise + body[length:]):
        kind = wire.with_binary_length("application/octet-stream", str(length))
        try:
            found = OIP.read(message, SERVICE, kind)
        except RequestError:
            continue
        assert len(found.fingerprints) == len(found.inputs)


def test_inputs_must_agree_on_the_rows_and_stay_within_the_limit():
    with pytest.raises(RequestError, match="same number of rows"):
        read(tensor([1, 2], [2]), tensor([1], [1], name="y"))
    with pytest.raises(RequestError, match="65 rows; at most 64"):
        read(tensor([1] * 65, [65]))
    assert len(read(tensor([1] * 64, [64])).fingerprints) == 64


def test_flat_and_nested_data_are_the_same_question():
    flat, nested = read(tensor([1, 2, 3, 4], [2, 2])), read(tensor([[1, 2], [3, 4]], [2, 2]))
    assert flat.fingerprints == nested.fingerprints
    assert np.array_equal(flat.inputs, nested.inputs)


def test_numbers_are_measured_as_the_model_server_reads_them():
    """What is one number to the model server has one fingerprint, however it is written."""
    exact = float(np.float32(0.1))
    assert read(tensor([0.1], [1], "FP32")).fingerprints == read(tensor([exact], [1], "FP32")).fingerprints
    assert read(tensor([0.1], [1], "FP32")).inputs[0, 0] == exact
    assert read(tensor([-0.0], [1])).fingerprints == read(tensor([0], [1])).fingerprints
    assert read(tensor([3.0], [1], "INT8")).fingerprints == read(tensor([3], [1], "INT8")).fingerprints
    assert read(tensor([True], [1], "BOOL")).inputs.tolist() == [[1.0]]


def test_several_inputs_stand_side_by_side_and_text_has_fingerprints_only():
    two = replace(SERVICE, inputs=(DeclaredInput("x"), DeclaredInput("a")))
    both = read(tensor([3, 4, 5, 6], [2, 2], name="a"), tensor([1, 2], [2]), service=two)
    assert both.inputs.tolist() == [[1, 3, 4], [2, 5, 6]]
    text = read(tensor(["a", "b", "aü"], [3, 1], "BYTES"))
    assert text.inputs is None
    assert len(set(text.fingerprints)) == 3
    mixed = read(tensor(["a", "b"], [2], "BYTES"), tensor([1, 1], [2], name="y"))
    assert mixed.inputs is None
    assert len(set(mixed.fingerprints)) == 2


@pytest.mark.parametrize("datatype", ["BYTES", "FP64"])
def test_one_long_text_does_not_multiply(datatype):
    """An array of text takes the longest text's memory for each item; a small body must not become gigabytes."""
    body = json.dumps({"inputs": [tensor(["x" * 1_000_000, *[""] * 2000], [1, 2001], datatype)]}).encode()
    tracemalloc.start()
    try:
        if datatype == "BYTES":
            OIP.read(body, SERVICE)
        else:
            with pytest.raises(RequestError):
                OIP.read(body, SERVICE)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 20 * len(body)


def test_long_shapes_are_refused_without_multiplying_them():
    body = b'{"inputs":[{"shape":[' + b"2147483647," * 200_000 + b'1],"datatype":"FP64","data":[1]}]}'
    with pytest.raises(RequestError, match="shape"):
        OIP.read(body, SERVICE)


ANSWERS = {
    "not JSON": b"<html>",
    "NaN": b'{"outputs":[{"name":"p","shape":[1,4],"datatype":"FP64","data":[NaN,0,0,1]}]}',
    "1e999": b'{"outputs":[{"name":"p","shape":[1,4],"datatype":"FP64","data":[1e999,0,0,0]}]}',
    "null": b'{"outputs":[{"name":"p","shape":[1,4],"datatype":"FP64","data":[null,0,0,1]}]}',
    "no outputs": b'{"model_name":"digits"}',
    "empty outputs": b'{"outputs":[]}',
    "deep nesting": b'{"outputs":' + b"[" * 100_000,
    "an endless integer": b'{"outputs":[{"name":"p","shape":[1,4],"datatype":"FP64","data":['
    + b"9" * 400
    + b",0,0,1]}]}",
    "an error": b'{"error":"no"}',
    "another output": answer([[0.5, 0.25, 0.125, 0.125]], output="q").body,
    "not summing to 1": answer([[0.7, 0.1, 0.1, 0.2]]).body,
    "negative": answer([[1.1, -0.1, 0, 0]]).body,
    "other classes": answer([[0.5, 0.25, 0.25]]).body,
    "a row more": answer([[0.5, 0.25, 0.125, 0.125]] * 2).body,
    "truths": answer([[True, False, False, False]]).body,
    "text": answer([["1", "0", "0", "0"]]).body,
    "ragged": answer([[0.5, 0.25, 0.125, 0.125]], data=[[0.7, 0.1], [0.2]]).body,
    "too few": answer([[0.5, 0.25, 0.125, 0.125]], data=[0.7, 0.3]).body,
    "no shape of its own": answer([[0.5, 0.25, 0.125, 0.125]], shape=[]).body,
    "a shape without end": answer([[0.5, 0.25, 0.125, 0.125]], shape=[1, 4] + [1] * 1000).body,
    "a picture": answer([[0.5, 0.25, 0.125, 0.125]], shape=[1, 2, 2]).body,
}


@pytest.mark.parametrize("body", ANSWERS.values(), ids=ANSWERS)
def test_what_cannot_be_measured_is_no_answer(body):
    with pytest.raises(AnswerError):
        evidence(Answer(200, "application/json", body))


def test_an_answer_to_other_rows_is_not_cut_to_fit():
    """Four logits of one row are not two logits of two rows, though their number fits."""
    logits = ServiceDescription("digits", "p", "logits")
    with pytest.raises(AnswerError):
        evidence(answer([[1, 2, 3, 4]]), rows=2, service=logits)
    assert evidence(answer([[1, 2], [3, 4]]), rows=2, service=logits).scores.shape == (2, 2)


def test_dimensions_of_one_do_not_count():
    said = answer([[0.5, 0.25, 0.125, 0.125]], shape=[1, 1, 4, 1])
    assert evidence(said).scores.tolist() == [[0.5, 0.25, 0.125, 0.125]]


@pytest.mark.parametrize("shape", [[3], [3, 1]])
def test_labels_are_one_per_row(shape):
    labels = ServiceDescription("digits", "p", "labels", classes=4)
    assert evidence(answer([2, 0, 3], shape=shape), rows=3, service=labels).scores.argmax(axis=1).tolist() == [2, 0, 3]
    for wrong in ([2, 0, 4], [2, 0, 0.5], [2, 0, -1]):
        with pytest.raises(AnswerError):
            evidence(answer(wrong, shape=shape), rows=3, service=labels)


def test_an_output_that_nobody_measures_is_not_released_unless_it_is_listed():
    outputs = [json.loads(answer([[0.5, 0.25, 0.125, 0.125]], name).body)["outputs"][0] for name in ("p", "embedding")]
    both = Answer(200, "application/json", json.dumps({"outputs": outputs}).encode())
    twice = Answer(200, "application/json", json.dumps({"outputs": [outputs[0], outputs[0]]}).encode())
    with pytest.raises(AnswerError, match="not measured"):
        evidence(both)
    listed = replace(SERVICE, unmeasured=("embedding",))
    assert evidence(both, service=listed).scores.tolist() == [[0.5, 0.25, 0.125, 0.125]]
    with pytest.raises(AnswerError, match="once"):
        evidence(twice, service=replace(SERVICE, unmeasured=("p",)))


def test_rows_are_asked_for_as_the_metadata_says():
    metadata = b'{"inputs":[{"name":"image","datatype":"UINT8","shape":[-1,2,2]}]}'
    asked = msgspec.json.decode(OIP.ask(np.array([[1.0, 2.0, 3.0, 4.0]]), metadata, SERVICE))
    assert asked == {
        "inputs": [{"name": "image", "shape": [1, 2, 2], "datatype": "UINT8", "data": [1, 2, 3, 4]}],
        "outputs": [{"name": "p"}],
    }
    for wrong in (b"{}", b"<html>", b'{"inputs":[]}', b'{"inputs":[{"name":"x","datatype":"BYTES","shape":[-1]}]}'):
        with pytest.raises(AnswerError):
            OIP.ask(np.ones((1, 1)), wrong, SERVICE)


def numbers_and_nonsense():
    scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
    return st.recursive(scalars, lambda inner: st.lists(inner, max_size=5), max_leaves=12)


TENSOR_LIKE = st.fixed_dictionaries(
    {},
    optional={
        "name": st.just("x") | numbers_and_nonsense(),
        "shape": st.lists(st.integers(0, 3), max_size=4) | numbers_and_nonsense(),
        "datatype": st.sampled_from(["FP32", "INT8", "BOOL", "BYTES", "FP16"]) | numbers_and_nonsense(),
        "data": st.lists(st.integers(-2, 300) | st.floats(), max_size=9) | numbers_and_nonsense(),
        "parameters": st.none() | st.dictionaries(st.text(max_size=4), numbers_and_nonsense(), max_size=2),
    },
)
DOCUMENT_LIKE = st.fixed_dictionaries(
    {},
    optional={
        "inputs": st.lists(TENSOR_LIKE, max_size=3) | numbers_and_nonsense(),
        "outputs": st.lists(st.just({"name": "p"}) | TENSOR_LIKE, max_size=3) | numbers_and_nonsense(),
        "parameters": numbers_and_nonsense(),
    },
)


@given(st.binary(max_size=300) | (DOCUMENT_LIKE | numbers_and_nonsense()).map(lambda it: json.dumps(it).encode()))
def test_any_bytes_are_a_sound_question_or_a_request_error(body):
    try:
        question = OIP.read(body, SERVICE)
    except RequestError:
        return
    assert 1 <= len(question.fingerprints) <= SERVICE.max_rows
    assert all(len(fingerprint) == 32 for fingerprint in question.fingerprints)
    if question.inputs is not None:
        assert question.inputs.shape[0] == len(question.fingerprints)
        assert np.isfinite(question.inputs).all()


@given(
    st.binary(max_size=300) | (DOCUMENT_LIKE | numbers_and_nonsense()).map(lambda it: json.dumps(it).encode()),
    st.sampled_from(["probabilities", "logits", "labels"]),
    st.integers(1, 3),
)
def test_any_bytes_are_sound_evidence_or_an_answer_error(body, kind, rows):
    service = ServiceDescription("digits", "x", kind, classes=3)
    try:
        found = evidence(Answer(200, "application/json", body), rows, service)
    except AnswerError:
        return
    assert isinstance(found, Evidence)
    assert found.scores.shape == (rows, 3)
    assert np.allclose(found.scores.sum(axis=1), 1.0)


class Guessing(OpenInference):
    """Cuts an answer to the question's rows."""

    def evidence(self, question, answer, service):
        document = json.loads(answer.body)
        output = document["outputs"][0]
        rows, width = len(question.fingerprints), output["shape"][1]
        output["data"], output["shape"] = (output["data"] * 2)[: rows * width], [rows, width]
        return super().evidence(question, Answer(200, "", json.dumps(document).encode()), service)


class Crashing(OpenInference):
    """Takes any JSON for a request."""

    def read(self, body, service, content_type="application/json"):
        json.loads(body)["inputs"]
        return super().read(body, service)


class Positional(OpenInference):
    """Numbers the rows in their fingerprints."""

    def read(self, body, service, content_type="application/json"):
        question = super().read(body, service)
        return ParsedRequest(tuple(n.to_bytes(8, "big") for n in range(len(question.fingerprints))), question.inputs)


class Listed(OpenInference):
    """Reads inputs in the order in which the request lists them."""

    def read(self, body, service, content_type="application/json"):
        names = [one["name"] for one in json.loads(super().read(body, service) and body)["inputs"]]
        return super().read(body, replace(service, inputs=tuple(map(DeclaredInput, names))))


class Lenient(OpenInference):
    """Drops members that it does not know."""

    def read(self, body, service, content_type="application/json"):
        try:
            return super().read(body, service)
        except RequestError:
            document = json.loads(body)
            if not isinstance(document, dict):
                raise
            return super().read(json.dumps({"inputs": document.get("inputs")}).encode(), service)


class Rounded(OpenInference):
    """Takes fingerprints of floats."""

    def read(self, body, service, content_type="application/json"):
        parsed = super().read(body, service)
        return replace(parsed, fingerprints=tuple(fingerprint(row.tobytes()) for row in parsed.inputs))


class Showing(OpenInference):
    """Looks at the measured output alone."""

    def evidence(self, question, answer, service):
        try:
            outputs = json.loads(answer.body)["outputs"]
            kept = [{name: one.get(name) for name in ("name", "shape", "datatype", "data")} for one in outputs]
        except (ValueError, KeyError, TypeError, AttributeError):
            return super().evidence(question, answer, service)
        return super().evidence(question, Answer(200, "", json.dumps({"outputs": kept}).encode()), service)


class Short(OpenInference):
    """Bounds answers by what is usual."""

    def read(self, body, service, content_type="application/json"):
        return replace(super().read(body, service), answer_bound=100)


class Chatty(OpenInference):
    """Repeats all that a model server complains of."""

    def error_text(self, answer):
        return answer.body.decode("utf-8", "replace")


@pytest.mark.parametrize("broken", [Guessing, Crashing, Positional, Chatty])
def test_the_suite_finds_out_who_breaks_the_law(broken):
    with pytest.raises((AssertionError, ValueError, KeyError, TypeError)):
        check_protocol(trial(broken()))


BROKEN_READINGS = {
    Listed: "depends? on the order of what the model reads by name",
    Lenient: "members that are not known were read",
    Rounded: "different whole numbers have the same fingerprint",
    Showing: "in a member that is not measured was accepted",
    Short: "longer than its bound",
}


@pytest.mark.parametrize("broken", BROKEN_READINGS)
def test_the_suite_finds_out_what_is_not_priced_as_it_is_read(broken):
    one = replace(trial(broken()), encode_request=two_tensors("top", "bottom"), service=TWO, integers=None)
    one = trial(broken()) if broken is Rounded else replace(one, reorder=two_tensors("bottom", "top"))
    with pytest.raises(AssertionError, match=BROKEN_READINGS[broken]):
        check_protocol(one)
