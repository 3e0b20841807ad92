"""The messages of the Open Inference Protocol over gRPC agree with those of the field's own clients, and live beside them."""

from __future__ import annotations

import subprocess
import sys

import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from modeltoll import open_inference_messages as messages

THEIR_FILES = """
import sys
from tritonclient.grpc import model_config_pb2, service_pb2
for each in (model_config_pb2, service_pb2):
    sys.stdout.write(each.DESCRIPTOR.serialized_pb.hex() + chr(10))
"""


@pytest.fixture(scope="module")
def triton():
    """The file of Triton's client, in a pool of its own: other tests may import KServe's, which has the same names."""
    done = subprocess.run([sys.executable, "-c", THEIR_FILES], check=True, capture_output=True, text=True)
    pool = descriptor_pool.DescriptorPool()
    files = [descriptor_pb2.FileDescriptorProto.FromString(bytes.fromhex(line)) for line in done.stdout.split()]
    for file in files:
        pool.Add(file)
    return pool.FindFileByName(files[-1].name)


def described(message):
    """Every field of a message type as (name, number, type, label), with those of nested types by their names."""
    fields = {(field.name, field.number, field.type, field.is_repeated) for field in message.fields}
    return fields, {nested.name: described(nested) for nested in message.nested_types}


MESSAGES = sorted(message.name for message in messages.FILE.message_type)


@pytest.mark.parametrize("name", MESSAGES)
def test_every_message_has_the_fields_of_tritons_client(name, triton):
    assert described(getattr(messages, name).DESCRIPTOR) == described(triton.message_types_by_name[name])


def test_the_service_has_the_methods_of_tritons_client(triton):
    service, other = messages.FILE.service[0], triton.services_by_name["GRPCInferenceService"]
    assert other.full_name == messages.SERVICE
    for method in service.method:
        theirs = other.methods_by_name[method.name]
        assert (method.input_type, method.output_type) == (
            f".{theirs.input_type.full_name}",
            f".{theirs.output_type.full_name}",
        )
    assert messages.MODEL_INFER == "/inference.GRPCInferenceService/ModelInfer"
    assert messages.MODEL_STREAM_INFER == "/inference.GRPCInferenceService/ModelStreamInfer"


def test_a_request_with_every_field_reads_the_same_in_both(triton):
    request = messages.ModelInferRequest(model_name="m", model_version="2", id="a")
    for name, value in (("b", True), ("i", -3), ("t", "text"), ("d", 0.5), ("u", 2**63)):
        kind = {bool: "bool", int: "int64", str: "string", float: "double"}[type(value)] if name != "u" else "uint64"
        setattr(request.parameters[name], f"{kind}_param", value)
    tensor = request.inputs.add(name="x", datatype="FP32", shape=[1, 2])
    tensor.contents.fp32_contents.extend([1.5, -2.0])
    tensor.contents.bytes_contents.append(b"\xff")
    request.outputs.add(name="y").parameters["classification"].int64_param = 2
    request.raw_input_contents.append(b"\x00\x01")
    their_request = message_factory.GetMessageClass(triton.message_types_by_name["ModelInferRequest"])
    theirs = their_request.FromString(request.SerializeToString())
    assert theirs.SerializeToString(deterministic=True) == request.SerializeToString(deterministic=True)
    assert messages.ModelInferRequest.FromString(theirs.SerializeToString()) == request


@pytest.mark.parametrize("order", ["ours first", "theirs first"])
def test_one_process_may_import_the_messages_and_both_clients(order):
    ours = "import modeltoll.open_inference_messages as m; m.ModelInferRequest(model_name='x')"
    theirs = "import tritonclient.grpc.service_pb2 as t; t.ModelInferRequest(model_name='x')"
    lines = [ours, theirs] if order == "ours first" else [theirs, ours]
    lines.append("assert t.ModelInferRequest.FromString(m.ModelInferRequest(id='1').SerializeToString()).id == '1'")
    subprocess.run([sys.executable, "-c", "\n".join(lines)], check=True)


def test_the_default_pool_does_not_have_them():
    script = (
        "import modeltoll.open_inference_messages\n"
        "from google.protobuf import descriptor_pool\n"
        "try: descriptor_pool.Default().FindMessageTypeByName('inference.ModelInferRequest')\n"
        "except KeyError: raise SystemExit(0)\n"
        "raise SystemExit('it is there')"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


def test_the_file_can_be_added_to_another_pool():
    """Reflection serves it from a pool of its own."""
    copy = descriptor_pb2.FileDescriptorProto.FromString(messages.FILE.SerializeToString())
    assert copy == messages.FILE
