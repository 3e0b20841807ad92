"""Messages of the Open Inference Protocol are the same rows and answers as its JSON, and are converted without loss."""

from __future__ import annotations

import json
import struct
import time

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modeltoll import open_inference_messages as messages
from modeltoll.errors import AnswerError, RequestError
from modeltoll.gateway.protocols.oip import OpenInference
from modeltoll.gateway.protocols.oip_conversions import (
    json_of_answer,
    json_of_metadata,
    json_of_request,
    message_of_answer,
    message_of_metadata,
    message_of_request,
)
from modeltoll.gateway.protocols.oip_grpc import OpenInferenceGrpc
from modeltoll.gateway.protocols.oip_tensors import MOST_TEXTS
from modeltoll.gateway.protocols.protocol import ServiceDescription
from modeltoll.records import Answer

SERVICE = ServiceDescription("m", "p", "probabilities", 2)
REST, GRPC = OpenInference(), OpenInferenceGrpc()
TYPED = {
    "BOOL": ("bool_contents", [True, False]),
    "INT8": ("int_contents", [-128, 127]),
    "INT16": ("int_contents", [-32768, 32767]),
    "INT32": ("int_contents", [-(2**31), 2**31 - 1]),
    "INT64": ("int64_contents", [-(2**63), 2**63 - 1]),
    "UINT8": ("uint_contents", [0, 255]),
    "UINT16": ("uint_contents", [0, 65535]),
    "UINT32": ("uint_contents", [0, 2**32 - 1]),
    "UINT64": ("uint64_contents", [0, 2**64 - 1]),
    "FP32": ("fp32_contents", [0.1, -2.5]),
    "FP64": ("fp64_contents", [0.1, -2.5]),
    "BYTES": ("bytes_contents", [b"one", "zwölf".encode()]),
}


def request(datatype, shape=(2, 1), **members):
    message = messages.ModelInferRequest(model_name="m", **members)
    message.inputs.add(name="x", datatype=datatype, shape=shape)
    return message


def typed(datatype):
    field, values = TYPED[datatype]
    message = request(datatype)
    getattr(message.inputs[0].contents, field).extend(values)
    return message


def raw(datatype):
    message, (_, values) = request(datatype), TYPED[datatype]
    if datatype == "BYTES":
        packed = b"".join(struct.pack("<I", len(text)) + text for text in values)
    else:
        kinds = {"BOOL": "?", "FP32": "<f4", "FP64": "<f8"}
        kind = kinds.get(datatype) or f"<{'u' if datatype[0] == 'U' else 'i'}{int(datatype.lstrip('UINT')) // 8}"
        packed = np.array(values, kind).tobytes()
    message.raw_input_contents.append(packed)
    return message


def document(datatype):
    values = [value.decode() if isinstance(value, bytes) else value for value in TYPED[datatype][1]]
    return json.dumps({"inputs": [{"name": "x", "shape": [2, 1], "datatype": datatype, "data": values}]}).encode()


def fingerprints(message):
    return GRPC.read(message.SerializeToString(), SERVICE).fingerprints


@pytest.mark.parametrize("datatype", TYPED)
def test_rows_are_the_same_as_json_as_typed_and_as_raw_contents(datatype):
    wanted = REST.read(document(datatype), SERVICE).fingerprints
    assert fingerprints(typed(datatype)) == fingerprints(raw(datatype)) == wanted


@pytest.mark.parametrize("datatype", ["FP16", "BF16"])
def test_halves_are_raw_alone(datatype):
    numbers = np.array([0.5, -2.0], "<f2" if datatype == "FP16" else "<f4")
    packed = numbers.tobytes() if datatype == "FP16" else (numbers.view("<u4") >> 16).astype("<u2").tobytes()
    message = request(datatype)
    message.raw_input_contents.append(packed)
    assert GRPC.read(message.SerializeToString(), SERVICE).inputs.ravel().tolist() == [0.5, -2.0]
    message = request(datatype)
    message.inputs[0].contents.fp32_contents.extend([0.5, -2.0])
    with pytest.raises(RequestError, match="raw_input_contents"):
        GRPC.read(message.SerializeToString(), SERVICE)


@pytest.mark.parametrize(
    ("datatype", "field", "value"),
    [
        ("INT8", "int_contents", 128),
        ("UINT8", "uint_contents", 256),
        ("INT16", "int_contents", -32769),
        ("FP32", "fp32_contents", float("inf")),
        ("FP32", "fp64_contents", 1.0),
        ("INT64", "int_contents", 1),
        ("BYTES", "int_contents", 1),
    ],
)
def test_values_that_their_datatype_does_not_hold_are_refused(datatype, field, value):
    message = request(datatype, (1, 1))
    getattr(message.inputs[0].contents, field).append(value)
    with pytest.raises(RequestError):
        GRPC.read(message.SerializeToString(), SERVICE)


@pytest.mark.parametrize("typed_contents", [True, False])
def test_texts_are_bounded_in_number_for_each_takes_time(typed_contents):
    message = request("BYTES", (1, MOST_TEXTS + 1))
    if typed_contents:
        message.inputs[0].contents.bytes_contents.extend([b""] * (MOST_TEXTS + 1))
    else:
        message.raw_input_contents.append(bytes(4 * (MOST_TEXTS + 1)))
    with pytest.raises(RequestError, match="texts"):
        GRPC.read(message.SerializeToString(), SERVICE)


@pytest.mark.parametrize("field", ["parameters", "inputs", "outputs", "raw_input_contents"])
def test_a_request_of_millions_of_empty_fields_is_refused_before_they_take_memory(field):
    number = messages.ModelInferRequest.DESCRIPTOR.fields_by_name[field].number
    begin = time.perf_counter()
    with pytest.raises(RequestError, match="more than 4096"):
        GRPC.read(bytes([number << 3 | 2, 0]) * (4 << 20), SERVICE)
    assert time.perf_counter() - begin < 1.0


def test_millions_of_unknown_fields_in_an_input_are_refused_at_once():
    unknown = b"\xf8\x06\x01" * (1 << 20)
    length = bytes(
        [len(unknown) & 127 | 128, len(unknown) >> 7 & 127 | 128, len(unknown) >> 14 & 127 | 128, len(unknown) >> 21]
    )
    begin = time.perf_counter()
    with pytest.raises(RequestError, match="not served here"):
        GRPC.read(b"\x2a" + length + unknown, SERVICE)
    assert time.perf_counter() - begin < 1.0


def test_a_request_that_is_written_in_its_own_order_is_sent_on_as_it_is():
    body = typed("FP32").SerializeToString(deterministic=True)
    assert GRPC.read(body, SERVICE).forward is None


@pytest.mark.parametrize("datatype", TYPED)
def test_a_request_as_json_is_the_same_request(datatype):
    body, content_type = json_of_request(typed(datatype).SerializeToString())
    assert REST.read(body, SERVICE, content_type).fingerprints == fingerprints(typed(datatype))


@pytest.mark.parametrize("datatype", TYPED)
def test_a_request_in_json_as_a_message_is_the_same_request(datatype):
    body, asked = message_of_request(("m", ""), document(datatype), "application/json")
    assert asked == frozenset()
    assert GRPC.read(body, SERVICE).fingerprints == REST.read(document(datatype), SERVICE).fingerprints


def test_what_json_cannot_hold_stands_behind_it():
    """Halves, texts that are not UTF-8, and numbers that are missing."""
    message = request("FP16")
    message.raw_input_contents.append(np.array([0.5, 1.0], "<f2").tobytes())
    body, content_type = json_of_request(message.SerializeToString())
    assert REST.read(body, SERVICE, content_type).fingerprints == fingerprints(message)
    message = request("BYTES", (1, 1))
    message.inputs[0].contents.bytes_contents.append(b"\xff\xfe")
    body, content_type = json_of_request(message.SerializeToString())
    assert REST.read(body, SERVICE, content_type).fingerprints == fingerprints(message)


def test_parameters_outputs_and_ids_are_kept_in_both_directions():
    message = typed("FP32")
    message.id = "7"
    message.parameters["priority"].int64_param = 3
    message.inputs[0].parameters["content_type"].string_param = "np"
    message.outputs.add(name="p").parameters["classification"].int64_param = 1
    body, content_type = json_of_request(message.SerializeToString())
    back, _ = message_of_request(("m", ""), body, content_type)
    read = messages.ModelInferRequest.FromString(back)
    for part in ("id", "parameters", "outputs", "model_name"):
        assert getattr(read, part) == getattr(message, part)
    assert read.inputs[0].parameters == message.inputs[0].parameters


def answer(datatype, values, **members):
    message = messages.ModelInferResponse(model_name="m", model_version="1", **members)
    message.outputs.add(name="p", datatype=datatype, shape=[1, len(values)])
    if datatype == "BYTES":
        message.raw_output_contents.append(b"".join(struct.pack("<I", len(text)) + text for text in values))
    else:
        kind = {"FP32": "<f4", "FP64": "<f8", "INT64": "<i8", "FP16": "<f2"}[datatype]
        message.raw_output_contents.append(np.array(values, kind).tobytes())
    return message


def as_answer(message):
    return Answer(200, messages.CONTENT_TYPE, message.SerializeToString())


@pytest.mark.parametrize(
    ("datatype", "values"), [("FP32", [0.1, 0.9]), ("FP64", [0.1, 0.9]), ("INT64", [-1, 2]), ("BYTES", [b"0.5:1"])]
)
@pytest.mark.parametrize("binary", [True, False])
def test_an_answer_is_the_same_in_json_and_back(datatype, values, binary):
    message = answer(datatype, values, id="7")
    message.outputs[0].parameters["content_type"].string_param = "np"
    converted = json_of_answer(as_answer(message), None if binary else frozenset())
    assert messages.ModelInferResponse.FromString(message_of_answer(converted)) == message


def test_answers_that_json_cannot_hold_are_not_released():
    for message in (answer("FP32", [float("nan")]), answer("BYTES", [b"\xff"])):
        with pytest.raises(AnswerError):
            json_of_answer(as_answer(message), frozenset())


def test_an_answer_with_a_field_that_is_not_known_is_not_measured_and_not_released():
    message = answer("FP32", [0.1, 0.9])
    message.outputs[0].MergeFromString(bytes([0xFA, 0x3E, 0x02, 0x68, 0x69]))
    parsed = GRPC.read(request_of_one_row(), SERVICE)
    with pytest.raises(AnswerError):
        GRPC.evidence(parsed, as_answer(message), SERVICE)


def request_of_one_row():
    message = request("FP32", (1, 2))
    message.raw_input_contents.append(bytes(8))
    return message.SerializeToString()


def test_contents_that_hold_nothing_beside_raw_ones_are_read_as_mlserver_means_them():
    message = raw("FP32")
    message.inputs[0].contents.SetInParent()
    assert fingerprints(message) == fingerprints(raw("FP32"))
    message.inputs[0].contents.fp32_contents.append(0.1)
    with pytest.raises(RequestError, match="beside typed"):
        fingerprints(message)


@pytest.mark.parametrize(("size", "fits"), [(8, True), (7, False), (0, False), (-8, False)])
def test_a_stated_size_is_that_of_its_tensor_as_kserve_writes_it(size, fits):
    message = raw("FP32")
    message.inputs[0].parameters["binary_data_size"].int64_param = size
    if fits:
        assert fingerprints(message) == fingerprints(raw("FP32"))
        return
    with pytest.raises(RequestError, match="binary_data_size"):
        fingerprints(message)


def test_a_stated_size_is_a_whole_number():
    message = raw("FP32")
    message.inputs[0].parameters["binary_data_size"].string_param = "8"
    with pytest.raises(RequestError, match="binary_data_size"):
        fingerprints(message)


@pytest.mark.parametrize("typed_contents", [True, False])
def test_the_evidence_of_an_answer_is_the_same_as_over_http(typed_contents):
    message = answer("FP64", [0.25, 0.75])
    if typed_contents:
        message.ClearField("raw_output_contents")
        message.outputs[0].contents.fp64_contents.extend([0.25, 0.75])
    parsed = GRPC.read(request_of_one_row(), SERVICE)
    evidence = GRPC.evidence(parsed, Answer(200, messages.CONTENT_TYPE, message.SerializeToString()), SERVICE)
    output = {"name": "p", "datatype": "FP64", "shape": [1, 2], "data": [0.25, 0.75]}
    over_http = REST.evidence(
        parsed, Answer(200, "application/json", json.dumps({"outputs": [output]}).encode()), SERVICE
    )
    assert evidence.scores.tolist() == over_http.scores.tolist() == [[0.25, 0.75]]
    assert parsed.answer_bound >= message.ByteSize()


@pytest.mark.parametrize(
    "spoil",
    [
        lambda message: message.outputs.add(name="hidden", datatype="FP64", shape=[1]),
        lambda message: message.parameters["embedding"].__setattr__("string_param", "x"),
        lambda message: message.raw_output_contents.append(b"12345678"),
        lambda message: message.outputs[0].__setattr__("name", "other"),
        lambda message: message.raw_output_contents.__setitem__(0, b"1234"),
    ],
)
def test_an_answer_with_anything_unmeasured_is_not_released(spoil):
    message = answer("FP64", [0.25, 0.75])
    spoil(message)
    with pytest.raises(AnswerError):
        GRPC.evidence(
            GRPC.read(request_of_one_row(), SERVICE),
            Answer(200, messages.CONTENT_TYPE, message.SerializeToString()),
            SERVICE,
        )


def test_descriptions_are_the_same_in_json_and_back():
    message = messages.ModelMetadataResponse(name="m", versions=["1", "2"], platform="onnx")
    message.inputs.add(name="x", datatype="FP32", shape=[-1, 3])
    message.outputs.add(name="p", datatype="FP32", shape=[-1, 2])
    described = json_of_metadata(messages.ModelMetadataResponse, message.SerializeToString())
    assert msgspec.json.decode(described)["inputs"] == [{"name": "x", "datatype": "FP32", "shape": [-1, 3]}]
    back = message_of_metadata(messages.ModelMetadataResponse, described)
    assert messages.ModelMetadataResponse.FromString(back) == message


@given(st.binary(max_size=64))
def test_any_bytes_are_a_request_or_a_refusal(body):
    try:
        parsed = GRPC.read(body, SERVICE)
    except RequestError:
        return
    assert parsed.fingerprints


@given(st.binary(max_size=64), st.integers(0, 200))
def test_a_changed_request_is_read_as_what_is_sent_on(junk, place):
    body = raw("FP32").SerializeToString(deterministic=True)
    changed = body[: place % len(body)] + junk + body[place % len(body) :]
    try:
        parsed = GRPC.read(changed, SERVICE)
    except RequestError:
        return
    assert GRPC.read(parsed.forward or changed, SERVICE).fingerprints == parsed.fingerprints
