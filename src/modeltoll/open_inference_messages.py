"""The messages of the Open Inference Protocol V2 over gRPC, in a descriptor pool of their own.

Names and numbers of the fields are those that KServe publishes, with the further parameters of Triton. The pool is private:
a process may also import tritonclient.grpc or kserve, whose files define the same full names in protobuf's default pool.
The classes are made at run time, so that type checkers see ``Any``. Needs the extra ``grpc``.
"""

from __future__ import annotations

from typing import Any

from google.protobuf.descriptor_pb2 import DescriptorProto, FieldDescriptorProto, FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass

__all__ = [
    "CONTENT_TYPE",
    "FILE",
    "MODEL_INFER",
    "MODEL_METADATA",
    "MODEL_READY",
    "MODEL_STREAM_INFER",
    "REPOSITORY_INDEX",
    "SERVER_LIVE",
    "SERVER_METADATA",
    "SERVER_READY",
    "SERVICE",
    "InferParameter",
    "InferTensorContents",
    "ModelInferRequest",
    "ModelInferResponse",
    "ModelMetadataRequest",
    "ModelMetadataResponse",
    "ModelReadyRequest",
    "ModelReadyResponse",
    "RepositoryIndexRequest",
    "RepositoryIndexResponse",
    "ServerLiveRequest",
    "ServerLiveResponse",
    "ServerMetadataRequest",
    "ServerMetadataResponse",
    "ServerReadyRequest",
    "ServerReadyResponse",
    "method_path",
]

CONTENT_TYPE = "application/x-open-inference-protobuf"  # of a serialised ModelInferRequest or ModelInferResponse
SERVICE = "inference.GRPCInferenceService"

_PACKAGE = "inference"
_TENSOR = ("string name = 1", "string datatype = 2", "repeated int64 shape = 3")
_VALUES = ("map InferParameter parameters = 4", "InferTensorContents contents = 5")
_NAMED_MODEL = ("string name = 1", "string version = 2")

# Fields are written as in a .proto file, but for maps, whose keys are all texts: "map VALUE NAME = NUMBER". A field after
# "oneof" belongs to the one choice of its message.
_MESSAGES: dict[str, tuple[str, ...]] = {
    "ServerLiveRequest": (),
    "ServerLiveResponse": ("bool live = 1",),
    "ServerReadyRequest": (),
    "ServerReadyResponse": ("bool ready = 1",),
    "ModelReadyRequest": _NAMED_MODEL,
    "ModelReadyResponse": ("bool ready = 1",),
    "ServerMetadataRequest": (),
    "ServerMetadataResponse": ("string name = 1", "string version = 2", "repeated string extensions = 3"),
    "ModelMetadataRequest": _NAMED_MODEL,
    "ModelMetadataResponse": (
        "string name = 1",
        "repeated string versions = 2",
        "string platform = 3",
        "repeated ModelMetadataResponse.TensorMetadata inputs = 4",
        "repeated ModelMetadataResponse.TensorMetadata outputs = 5",
    ),
    "ModelMetadataResponse.TensorMetadata": _TENSOR,
    "InferParameter": (
        "oneof bool bool_param = 1",
        "oneof int64 int64_param = 2",
        "oneof string string_param = 3",
        "oneof double double_param = 4",
        "oneof uint64 uint64_param = 5",
    ),
    "InferTensorContents": (
        "repeated bool bool_contents = 1",
        "repeated int32 int_contents = 2",
        "repeated int64 int64_contents = 3",
        "repeated uint32 uint_contents = 4",
        "repeated uint64 uint64_contents = 5",
        "repeated float fp32_contents = 6",
        "repeated double fp64_contents = 7",
        "repeated bytes bytes_contents = 8",
    ),
    "ModelInferRequest": (
        "string model_name = 1",
        "string model_version = 2",
        "string id = 3",
        "map InferParameter parameters = 4",
        "repeated ModelInferRequest.InferInputTensor inputs = 5",
        "repeated ModelInferRequest.InferRequestedOutputTensor outputs = 6",
        "repeated bytes raw_input_contents = 7",
    ),
    "ModelInferRequest.InferInputTensor": (*_TENSOR, *_VALUES),
    "ModelInferRequest.InferRequestedOutputTensor": ("string name = 1", "map InferParameter parameters = 2"),
    "ModelInferResponse": (
        "string model_name = 1",
        "string model_version = 2",
        "string id = 3",
        "map InferParameter parameters = 4",
        "repeated ModelInferResponse.InferOutputTensor outputs = 5",
        "repeated bytes raw_output_contents = 6",
    ),
    "ModelInferResponse.InferOutputTensor": (*_TENSOR, *_VALUES),
    # Of the extension for model repositories, which Triton and MLServer have; it is not served.
    "RepositoryIndexRequest": ("string repository_name = 1", "bool ready = 2"),
    "RepositoryIndexResponse": ("repeated RepositoryIndexResponse.ModelIndex models = 1",),
    "RepositoryIndexResponse.ModelIndex": (
        "string name = 1",
        "string version = 2",
        "string state = 3",
        "string reason = 4",
    ),
}

_UNARY = ("ServerLive", "ServerReady", "ModelReady", "ServerMetadata", "ModelMetadata", "ModelInfer")


def _entry(field: str, value: str) -> DescriptorProto:
    """The message of a map's entries, as protoc makes it."""
    entry = DescriptorProto(name=f"{field.title().replace('_', '')}Entry")
    for name, number, kind in (("key", 1, "string"), ("value", 2, value)):
        _add_field(entry, (kind, name, number), repeated=False)
    entry.options.map_entry = True
    return entry


def _add_field(
    message: DescriptorProto, declared: tuple[str, str, int], *, repeated: bool, prefix: str = ""
) -> FieldDescriptorProto:
    """Add a field of a kind, a name and a number. ``prefix``: of the kind's full name, where it is a message."""
    kind, name, number = declared
    field: FieldDescriptorProto = message.field.add(name=name, number=number)
    field.label = FieldDescriptorProto.LABEL_REPEATED if repeated else FieldDescriptorProto.LABEL_OPTIONAL
    if kind[0].islower():
        field.type = FieldDescriptorProto.Type.Value(f"TYPE_{kind.upper()}")
    else:
        field.type, field.type_name = FieldDescriptorProto.TYPE_MESSAGE, f".{_PACKAGE}.{prefix}{kind}"
    return field


def _declare(message: DescriptorProto, full_name: str, declaration: str) -> None:
    """Add the field of one line of ``_MESSAGES``."""
    *words, name, _, number = declaration.split()
    label, kind = words[0] if len(words) == 2 else "", words[-1]
    if label == "map":
        entry = message.nested_type.add()
        entry.CopyFrom(_entry(name, kind))
        _add_field(message, (entry.name, name, int(number)), repeated=True, prefix=f"{full_name}.")
        return
    field = _add_field(message, (kind, name, int(number)), repeated=label == "repeated")
    if label == "oneof":
        if not message.oneof_decl:
            message.oneof_decl.add(name="parameter_choice")
        field.oneof_index = 0


def _file() -> FileDescriptorProto:
    file = FileDescriptorProto(name="open_inference_grpc.proto", package=_PACKAGE, syntax="proto3")
    messages: dict[str, DescriptorProto] = {}
    for full_name, fields in _MESSAGES.items():
        outer, _, name = full_name.rpartition(".")
        message = (messages[outer].nested_type if outer else file.message_type).add(name=name)
        messages[full_name] = message
        for declaration in fields:
            _declare(message, full_name, declaration)
    service = file.service.add(name=SERVICE.rpartition(".")[2])
    for method in _UNARY:
        service.method.add(
            name=method, input_type=f".{_PACKAGE}.{method}Request", output_type=f".{_PACKAGE}.{method}Response"
        )
    return file


def method_path(method: str) -> str:
    """The path of a method on the wire, such as ``/inference.GRPCInferenceService/ModelInfer``."""
    return f"/{SERVICE}/{method}"


SERVER_LIVE, SERVER_READY, MODEL_READY, SERVER_METADATA, MODEL_METADATA, MODEL_INFER = map(method_path, _UNARY)
MODEL_STREAM_INFER = method_path("ModelStreamInfer")
REPOSITORY_INDEX = method_path("RepositoryIndex")

FILE: FileDescriptorProto = _file()  # of all messages and of the service
_pool = DescriptorPool()
_pool.Add(FILE)


def _class(name: str) -> Any:
    return GetMessageClass(_pool.FindMessageTypeByName(f"{_PACKAGE}.{name}"))


ServerLiveRequest = _class("ServerLiveRequest")
ServerLiveResponse = _class("ServerLiveResponse")
ServerReadyRequest = _class("ServerReadyRequest")
ServerReadyResponse = _class("ServerReadyResponse")
ModelReadyRequest = _class("ModelReadyRequest")
ModelReadyResponse = _class("ModelReadyResponse")
ServerMetadataRequest = _class("ServerMetadataRequest")
ServerMetadataResponse = _class("ServerMetadataResponse")
ModelMetadataRequest = _class("ModelMetadataRequest")
ModelMetadataResponse = _class("ModelMetadataResponse")
InferParameter = _class("InferParameter")
InferTensorContents = _class("InferTensorContents")
ModelInferRequest = _class("ModelInferRequest")
ModelInferResponse = _class("ModelInferResponse")
RepositoryIndexRequest = _class("RepositoryIndexRequest")
RepositoryIndexResponse = _class("RepositoryIndexResponse")
