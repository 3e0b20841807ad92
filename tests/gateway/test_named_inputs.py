"""What is priced is what the model reads: inputs by their declared names, of their declared widths, integers exact."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modeltoll import wire
from modeltoll.errors import RequestError
from modeltoll.gateway.core.request import ServedModel
from modeltoll.gateway.protocols.json_path import JsonPath
from modeltoll.gateway.protocols.mlflow import MlflowScoring
from modeltoll.gateway.protocols.oip import OpenInference
from modeltoll.gateway.protocols.protocol import DeclaredInput, ServiceDescription
from modeltoll.gateway.protocols.tensorflow_serving import TensorFlowServing
from modeltoll.leak.novelty import NoveltyMeasure
from modeltoll.records import Answer

SERVICE = ServiceDescription("dual", "p", "probabilities", classes=2, max_rows=64)
DUAL = replace(SERVICE, inputs=(DeclaredInput("top", 32, "FP64"), DeclaredInput("bottom", 32, "FP64")))
OIP, V1, MLFLOW = OpenInference(), TensorFlowServing(), MlflowScoring()
RNG = np.random.default_rng(0)
ANSWER = Answer(
    200,
    "application/json",
    b'{"outputs":[{"name":"p","shape":[1,2],"datatype":"FP64","data":[0.75,0.25]}]}',
)


def tensor(name, data, datatype="FP64", shape=None, **members):
    data = np.asarray(data).tolist()
    return {"name": name, "shape": shape or [1, len(data)], "datatype": datatype, "data": data, **members}


def message(*tensors, **members):
    return json.dumps({"inputs": tensors, **members}).encode()


def test_the_order_in_which_tensors_are_listed_changes_no_leak():
    """A stolen row costs the same in the model's order of inputs and in any other."""
    private = RNG.normal(size=(300, 64)) + np.r_[np.zeros(32), np.full(32, 40.0)]
    model = ServedModel(DUAL, OIP, [NoveltyMeasure(private)])
    halves = {"top": private[0, 32:], "bottom": private[0, :32]}  # swapped: far from the private data
    leaks = []
    for names in (("top", "bottom"), ("bottom", "top")):
        parsed = model.read(message(*(tensor(name, halves[name]) for name in names)))
        leaks.append(model.leaks(parsed, ANSWER).values.item())
    assert (
        leaks[0]
        == leaks[1]
        > 5
        * model.leaks(
            model.read(message(tensor("top", halves["bottom"]), tensor("bottom", halves["top"]))), ANSWER
        ).values.item()
    )


ROW = [0.0] * 32
WRONG = {
    "a name twice": ((tensor("top", ROW), tensor("top", ROW)), "twice"),
    "a name twice beside all others": ((tensor("top", ROW), tensor("bottom", ROW), tensor("top", ROW)), "twice"),
    "a name missing": ((tensor("top", ROW),), "exactly the inputs top, bottom"),
    "a name unknown": ((tensor("top", ROW), tensor("middle", ROW)), "exactly the inputs"),
    "one too many": ((tensor("top", ROW), tensor("bottom", ROW), tensor("x", ROW)), "exactly the inputs"),
    "a width that differs": ((tensor("top", ROW[1:]), tensor("bottom", ROW)), "31 values .* takes 32"),
    "widths with the same sum": ((tensor("top", ROW[1:]), tensor("bottom", [*ROW, 0.0])), "31 values"),
    "a datatype that differs": ((tensor("top", ROW, "FP32"), tensor("bottom", ROW)), "datatype FP64, not FP32"),
    "no name": ((tensor("", ROW), tensor("bottom", ROW)), "no 'name'"),
    "a name that is not Unicode": ((tensor("\ud800", ROW), tensor("bottom", ROW)), "not Unicode"),
}


@pytest.mark.parametrize(("tensors", "reason"), WRONG.values(), ids=WRONG)
def test_other_tensors_than_the_declared_ones_are_refused(tensors, reason):
    with pytest.raises(RequestError, match=reason):
        OIP.read(message(*tensors), DUAL)


def test_without_the_setting_several_inputs_are_no_numbers_for_the_measures():
    """Nothing says in which order the model reads them. The fingerprint is the same in any order."""
    a, b = tensor("a", ROW), tensor("b", [1.0] * 32)
    found = OIP.read(message(a, b), SERVICE)
    assert found.inputs is None
    assert found.fingerprints == OIP.read(message(b, a), SERVICE).fingerprints
    assert found.fingerprints != OIP.read(message({**a, "name": "b"}, {**b, "name": "a"}), SERVICE).fingerprints
    assert V1.read(b'{"instances": [{"a": [1], "b": [2]}]}', SERVICE).inputs is None
    assert V1.read(b'{"instances": [{"a": [1, 2]}]}', SERVICE).inputs.tolist() == [[1, 2]]


def test_one_declared_input_is_the_same_row_with_its_name_and_without():
    one = replace(SERVICE, inputs=(DeclaredInput("x", 2),))
    named, plain = V1.read(b'{"instances": [{"x": [1, 2]}]}', one), V1.read(b'{"instances": [[1, 2]]}', one)
    assert named.fingerprints == plain.fingerprints
    for body in (b'{"instances": [{"y": [1, 2]}]}', b'{"instances": [[1, 2, 3]]}', b'{"inputs": {"x": [[1]]}}'):
        with pytest.raises(RequestError):
            V1.read(body, one)


FRAMES = [
    {"dataframe_records": [{"a": 1, "b": 2.5}]},
    {"dataframe_records": [{"b": 2.5, "a": 1}]},
    {"dataframe_split": {"columns": ["b", "a"], "data": [[2.5, 1]], "index": [7]}},
    {"inputs": {"b": [2.5], "a": [1.0]}},
]


@pytest.mark.parametrize("frame", FRAMES)
def test_data_frames_are_read_by_their_columns_in_every_form(frame):
    service = replace(SERVICE, inputs=(DeclaredInput("a"), DeclaredInput("b", 1)))
    found = MLFLOW.read(json.dumps(frame).encode(), service)
    assert found.inputs.tolist() == [[1.0, 2.5]]
    assert found.fingerprints == MLFLOW.read(json.dumps(FRAMES[0]).encode(), service).fingerprints


def prints(protocol, document, service=SERVICE):
    return protocol.read(json.dumps(document).encode(), service).fingerprints


BIG = 2**53


@pytest.mark.parametrize("datatype", ["INT64", "UINT64"])
def test_integers_are_exact(datatype):
    numbers = [BIG, BIG + 1, 2**63 - 1, 2**63 - 2, *((2**64 - 1, 2**64 - 2) if datatype == "UINT64" else (-(2**63),))]
    found = prints(OIP, {"inputs": [tensor("x", 0, shape=[len(numbers)]) | {"datatype": datatype, "data": numbers}]})
    assert len(set(found)) == len(numbers)
    for wrong in (2**64, 1.8446744073709552e19, 9007199254740994.0, -1e300, 0.5):
        with pytest.raises(RequestError, match=f"no {datatype}"):
            OIP.read(message(tensor("x", [0]) | {"datatype": datatype, "data": [wrong]}), SERVICE)


def test_integers_are_exact_where_nothing_has_a_type():
    for write in (
        lambda row: (V1, {"instances": [row]}),
        lambda row: (MLFLOW, {"inputs": [row]}),
        lambda row: (JsonPath("/p", "@", "@"), [row]),
        lambda row: (V1, {"instances": [{"a": row, "b": "text"}]}),
    ):
        assert prints(*write([BIG, 1])) != prints(*write([BIG + 1, 1]))
        assert prints(*write([1, 2])) == prints(*write([1.0, 2.0]))
        assert prints(*write([BIG, 1])) == prints(*write([float(BIG), 1.0]))
        for wrong in (2**64, -(2**63) - 1):
            with pytest.raises(RequestError, match="too large"):
                prints(*write([wrong]))


def test_a_row_has_one_fingerprint_whatever_stands_beside_it():
    rows = [[1, 2], [BIG + 1, 2]]
    assert prints(V1, {"instances": rows}) == (
        *prints(V1, {"instances": rows[:1]}),
        *prints(V1, {"instances": rows[1:]}),
    )


@given(st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=4), st.booleans())
def test_raw_integers_and_those_of_json_are_the_same_rows(numbers, nested):
    shape = [1, len(numbers)]
    written = message(tensor("x", 0, shape=shape) | {"datatype": "INT64", "data": [numbers] if nested else numbers})
    part = {"name": "x", "shape": shape, "datatype": "INT64", "parameters": {"binary_data_size": 8 * len(numbers)}}
    head = json.dumps({"inputs": [part]}).encode()
    kind = wire.with_binary_length("application/octet-stream", str(len(head)))
    raw = OIP.read(head + np.array(numbers, "<i8").tobytes(), SERVICE, kind)
    assert raw.fingerprints == OIP.read(written, SERVICE).fingerprints


def test_raw_texts_and_those_of_json_are_the_same_rows():
    text = "größer"
    encoded = len(text.encode()).to_bytes(4, "little") + text.encode()
    part = {"name": "x", "shape": [1], "datatype": "BYTES", "parameters": {"binary_data_size": len(encoded)}}
    head = json.dumps({"inputs": [part]}).encode()
    kind = wire.with_binary_length("application/octet-stream", str(len(head)))
    written = OIP.read(message(tensor("x", [text], "BYTES", [1])), SERVICE)
    assert OIP.read(head + encoded, SERVICE, kind).fingerprints == written.fingerprints


def test_the_shape_and_the_datatype_of_a_row_are_part_of_it():
    row = [1.0, 2.0, 3.0, 4.0]
    shapes = [prints(V1, {"instances": [one]}) for one in (row, [row], [row[:2], row[2:]])]
    shapes += [
        prints(OIP, {"inputs": [tensor("x", row, kind, shape)]})
        for kind, shape in (("FP64", [1, 4]), ("FP64", [1, 2, 2]), ("FP32", [1, 4]))
    ]
    assert len(set(shapes)) == len(shapes)


def test_base64_is_read_as_its_bytes():
    """The last bits of base64 that belong to no byte are nobody's."""
    assert prints(V1, {"instances": [{"b64": "YQ=="}]}) == prints(V1, {"instances": [{"b64": "YR=="}]})
    assert prints(V1, {"instances": [{"b64": "YQ=="}]}) != prints(V1, {"instances": [{"b64": "Yg=="}]})


@pytest.mark.parametrize("protocol", [V1, OIP])
def test_rows_of_another_width_than_the_private_data_are_refused_by_the_model_before_it_is_asked(protocol):
    model = ServedModel(SERVICE, protocol, [NoveltyMeasure(RNG.normal(size=(30, 3)))])
    bodies = {
        V1: b'{"instances": [[%s]]}',
        OIP: b'{"inputs":[{"name":"x","datatype":"FP64","shape":[1,%d],"data":[%s]}]}',
    }
    for width in (2, 3, 4):
        data = b",".join([b"1"] * width)
        body = bodies[protocol] % ((data,) if protocol is V1 else (width, data))
        if width == 3:
            assert model.read(body).inputs.shape == (1, 3)
        else:
            with pytest.raises(RequestError, match=f"{width} numbers where the model takes 3"):
                model.read(body)


def test_rows_are_split_among_the_declared_inputs():
    metadata = json.dumps(
        {"inputs": [{"name": name, "datatype": "FP32", "shape": [-1, 2, 1]} for name in ("b", "a")]}
    ).encode()
    service = replace(SERVICE, inputs=(DeclaredInput("a", 2), DeclaredInput("b", 2)))
    rows = np.array([[1.0, 2.0, 3.0, 4.0]])
    asked = json.loads(OIP.ask(rows, metadata, service))["inputs"]
    assert [(one["name"], one["shape"], one["data"]) for one in asked] == [
        ("a", [1, 2, 1], [1, 2]),
        ("b", [1, 2, 1], [3, 4]),
    ]
    for protocol in (V1, OIP, MLFLOW):
        assert protocol.read(protocol.ask(rows, metadata, service), service).inputs.tolist() == rows.tolist()
