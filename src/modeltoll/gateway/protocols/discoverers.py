"""How ``init`` finds the models of servers of the built-in protocols, by requests that need no permission."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from modeltoll.errors import AnswerError
from modeltoll.gateway.protocols.oip import OpenInference
from modeltoll.gateway.protocols.oip_tensors import NUMERIC
from modeltoll.gateway.protocols.probe import (
    MODEL_NAME,
    DiscoveredModel,
    Probe,
    described_inputs,
    dimensions_of,
    kind_of_scores,
    member_at,
    names_in,
    sample_rows,
    with_scores,
)
from modeltoll.gateway.protocols.protocol import DeclaredInput, ServiceDescription
from modeltoll.gateway.protocols.registry import SAMPLE_BEGINNING, SAMPLE_TEXT
from modeltoll.gateway.protocols.response_requests import LOGPROBS
from modeltoll.gateway.protocols.tensorflow_serving import TensorFlowServing

__all__ = ["mlflow", "oip", "openai", "text_embeddings_inference", "v1"]

_COLUMN = re.compile(r"'([^'\\]+)': (\w+) \((?:required|optional)\)")  # of a signature in MLflow's errors
_TENSOR_SIGNATURE = re.compile(r"\[Tensor\('\w+', \(-1((?:, \d+)+)\)\)\]")  # likewise, of one tensor
_VALUES = {"string": SAMPLE_TEXT, "boolean": True, "datetime": "2024-01-01T00:00:00"}
_VALUES |= {"integer": 1, "long": 1, "float": 0.5, "double": 0.5}  # by the type of a column
_INVOCATIONS = "/invocations"
_LABELS = (
    "the answers are labels: give output.classes, their number; for probabilities save the model with "
    'pyfunc_predict_fn="predict_proba"'
)
_SURE = re.compile(r"prob|softmax", re.IGNORECASE)


# Open Inference Protocol


async def oip(probe: Probe, model: str | None) -> Sequence[DiscoveredModel]:
    if not await probe.ready("/v2/health/ready"):
        return ()
    names = [model] if model else names_in(await probe.post("/v2/repository/index", {}), "name")
    found = [await _oip_model(probe, name) for name in names if MODEL_NAME.fullmatch(name)]
    return [find for find in found if find is not None]


async def _oip_model(probe: Probe, name: str) -> DiscoveredModel | None:
    described = await probe.get(f"/v2/models/{name}")
    outputs = member_at(described, "outputs")
    if not isinstance(outputs, list) or not outputs:
        return None
    named = [output for output in outputs if isinstance(member_at(output, "name"), str)]
    scores = [output for output in named if member_at(output, "datatype") in NUMERIC and _width(output) != 1] or named
    if not scores:
        return None
    chosen = next((output for output in scores if _SURE.search(output["name"])), scores[0])["name"]
    others = tuple(output["name"] for output in named if output["name"] != chosen)
    guess = "no answer was seen: declare what the output holds"
    metadata = json.dumps(described).encode()
    find = DiscoveredModel(name, "oip", "probabilities", chosen, others=others, guessed=guess)
    first = [member_at(each, "shape", 0) for each in member_at(described, "inputs") or ()]
    fixed = bool(first) and all(type(size) is int and size > 0 for size in first)
    finds = [
        replace(find, inputs=described_inputs(metadata, batched=batched), batched=batched)
        for batched in ((True, False) if fixed else (True,))
    ]
    for each in finds:
        seen = with_scores(each, await _oip_scores(probe, each, metadata))
        if not seen.guessed:
            return seen
    return finds[-1]


async def _oip_scores(probe: Probe, find: DiscoveredModel, metadata: bytes) -> Any:
    """The scores of a few sample rows, or of one where there is no dimension of rows; None where none are seen."""
    dimensions = dimensions_of(metadata, batched=find.batched)
    if dimensions is None:
        return None
    service = ServiceDescription(find.model, find.output, find.kind, inputs=find.inputs, batched=find.batched)
    try:
        request = OpenInference().ask(sample_rows(dimensions), metadata, service)
        answer = await probe.post(f"/v2/models/{find.model}/infer", json.loads(request))
    except AnswerError:
        return None
    output = next((each for each in member_at(answer, "outputs") or () if member_at(each, "name") == find.output), None)
    shape = member_at(output, "shape")
    return _shaped(member_at(output, "data"), shape if find.batched else [1])


def _width(output: Any) -> int:
    shape = member_at(output, "shape")
    return math.prod(shape[1:]) if isinstance(shape, list) and all(type(n) is int for n in shape) else 0


def _shaped(data: Any, shape: Any) -> Any:
    try:
        return np.asarray(data, np.float64).reshape(shape[0], -1)
    except (ValueError, TypeError, IndexError):
        return None


# Text Embeddings Inference


async def text_embeddings_inference(probe: Probe, model: str | None) -> Sequence[DiscoveredModel]:
    info = await probe.get("/info")
    name, kind = member_at(info, "model_id"), member_at(info, "model_type")
    if not isinstance(name, str) or not isinstance(kind, dict):
        return ()
    numbered = member_at(kind, "classifier", "id2label")
    if isinstance(numbered, dict) and len(numbered) > 1:
        try:
            labels = tuple(str(numbered[key]) for key in sorted(numbered, key=int))
        except ValueError:
            return ()
        return [DiscoveredModel(model or name, "labels", "probabilities", labels=labels)]
    if "embedding" in kind:
        return [DiscoveredModel(model or name, "openai-embeddings", "embeddings")]
    return ()


# OpenAI's API


async def openai(probe: Probe, model: str | None) -> Sequence[DiscoveredModel]:
    """What lists its models at /v1/models as OpenAI does: chats, embeddings, and vLLM's classifiers."""
    theirs = names_in(member_at(await probe.get("/v1/models"), "data"), "id")
    return [await _openai_model(probe, name) for name in theirs if model in (None, name)]


async def _openai_model(probe: Probe, name: str) -> DiscoveredModel:
    text = {"model": name, "input": SAMPLE_TEXT}
    classes = kind_of_scores([member_at(await probe.post("/classify", text), "data", 0, "probs")])
    if classes is not None:
        return DiscoveredModel(name, "vllm-classify", classes[0], classes=classes[1])
    if isinstance(member_at(await probe.post("/v1/embeddings", text), "data", 0, "embedding"), list):
        return DiscoveredModel(name, "openai-embeddings", "embeddings")
    found = [protocol for protocol, asked in _TEXT_ENDPOINTS.items() if await _gives_logprobs(probe, name, asked)]
    if not found:
        guess = "no log-probabilities were seen: the model server must give them"
        return DiscoveredModel(name, "openai-chat", "tokens", guessed=guess)
    return DiscoveredModel(name, found[0] if len(found) == 1 else "openai", "tokens")


async def _gives_logprobs(probe: Probe, name: str, asked: _TextEndpoint) -> bool:
    answer = await probe.post(asked.path, {"model": name, **asked.request})
    found = member_at(answer, *asked.logprobs)
    # A chat may end before its first token; llama.cpp's responses have an empty list, whatever they say.
    return isinstance(found, list | dict) and (asked.may_be_empty or bool(found))


@dataclass(frozen=True, slots=True)
class _TextEndpoint:
    """A request for a few tokens with log-probabilities, and where an answer has them."""

    path: str
    request: Mapping[str, object]
    logprobs: tuple[str | int, ...]
    may_be_empty: bool = True


_TEXT_ENDPOINTS: Mapping[str, _TextEndpoint] = {
    "openai-chat": _TextEndpoint(
        "/v1/chat/completions",
        {"messages": [{"role": "user", "content": SAMPLE_TEXT}], "max_tokens": 1, "logprobs": True},
        ("choices", 0, "logprobs", "content"),
    ),
    "openai-completions": _TextEndpoint(
        "/v1/completions", {"prompt": SAMPLE_BEGINNING, "max_tokens": 1, "logprobs": 1}, ("choices", 0, "logprobs")
    ),
    "openai-responses": _TextEndpoint(
        "/v1/responses",
        {"input": SAMPLE_TEXT, "max_output_tokens": 16, "include": [LOGPROBS], "store": False},
        ("output", -1, "content", 0, "logprobs"),
        may_be_empty=False,
    ),
}


# TensorFlow Serving, and KServe's protocol V1


async def v1(probe: Probe, model: str | None) -> Sequence[DiscoveredModel]:
    """What lists its models at /v1/models as KServe does, or has one of that name."""
    listed = await probe.get("/v1/models")
    if names_in(member_at(listed, "data"), "id"):  # OpenAI's API
        return ()
    names = [model] if model else names_in(member_at(listed, "models"))
    found = [await _v1_model(probe, name) for name in names if MODEL_NAME.fullmatch(name)]
    return [find for find in found if find is not None]


async def _v1_model(probe: Probe, name: str) -> DiscoveredModel | None:
    if not await probe.ready(f"/v1/models/{name}"):
        return None
    find = DiscoveredModel(name, "v1", "probabilities", guessed="no answer was seen: declare what the predictions hold")
    signature = member_at(await probe.get(f"/v1/models/{name}/metadata"), "metadata", "signature_def", "signature_def")
    listed = member_at(signature, "serving_default", "inputs")
    named = listed.items() if isinstance(listed, dict) else ()
    inputs = tuple(DeclaredInput(each, _signature_width(tensor)) for each, tensor in named if each)
    find = replace(find, inputs=inputs)
    widths = [each.width for each in inputs]
    if not widths or None in widths:
        return find
    service = ServiceDescription(name, "", "probabilities", inputs=inputs)
    request = TensorFlowServing().ask(sample_rows(sum(width or 0 for width in widths)), b"", service)
    return with_scores(
        find, member_at(await probe.post(f"/v1/models/{name}:predict", json.loads(request)), "predictions")
    )


def _signature_width(tensor: Any) -> int | None:
    """How many numbers of a signature's tensor one row holds; None where its shape is open."""
    try:
        sizes = [int(member_at(size, "size")) for size in member_at(tensor, "tensor_shape", "dim")[1:]]
    except (TypeError, ValueError):
        return None
    return math.prod(sizes) if min(sizes, default=1) > 0 else None


# MLflow


async def mlflow(probe: Probe, model: str | None) -> Sequence[DiscoveredModel]:
    if not (await probe.ready("/ping") and await probe.ready("/version")):
        return ()
    guess = "no answer was seen: declare what the predictions hold"
    refusal = await probe.refusal(_INVOCATIONS, {"dataframe_split": {"columns": [], "data": []}})
    signature = refusal.partition("with schema")[2]  # a model with a signature says what it misses
    columns = dict(_COLUMN.findall(signature))
    inputs = tuple(DeclaredInput(column, 1) for column in columns)
    find = DiscoveredModel(model or "model", "mlflow", "probabilities", guessed=guess, inputs=inputs)
    sample = _mlflow_sample(signature, columns)
    predictions = None if sample is None else member_at(await probe.post(_INVOCATIONS, sample), "predictions")
    if isinstance(predictions, list) and predictions and all(type(each) in (int, str) for each in predictions):
        return [replace(find, kind="labels", guessed=_LABELS)]
    return [with_scores(find, predictions)]


def _mlflow_sample(signature: str, columns: dict[str, str]) -> dict[str, Any] | None:
    """A request of one row that a model of this signature takes; None where it has none that is known."""
    if columns and set(columns.values()) <= _VALUES.keys():
        row = [_VALUES[kind] for kind in columns.values()]
        return {"dataframe_split": {"columns": list(columns), "data": [row]}}
    tensor = _TENSOR_SIGNATURE.search(signature)
    if tensor is None:
        return None
    sizes = [int(size) for size in tensor[1].split(",")[1:]]
    return {"inputs": sample_rows(math.prod(sizes)).reshape(-1, *sizes).tolist()}
