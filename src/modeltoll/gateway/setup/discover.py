"""Finds out what a model server speaks and serves, by asking it what its protocol lets anybody ask, and a sample question.

What an answer holds is seen where it can be, and marked as a guess where it cannot: whoever runs the server decides.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from modeltoll.errors import AnswerError, ModeltollError, UpstreamError
from modeltoll.gateway.protocols.oip import OpenInference
from modeltoll.gateway.protocols.oip_tensors import NUMERIC
from modeltoll.gateway.protocols.protocol import ServiceDescription
from modeltoll.gateway.protocols.v1 import TensorFlowServing
from modeltoll.gateway.setup.sample_requests import SENTENCE, dimensions_of, sample_rows

if TYPE_CHECKING:
    from modeltoll.gateway.upstream.upstream import Upstream

__all__ = ["DiscoveredModel", "NothingDiscovered", "discover"]

_SURE = re.compile(r"prob|softmax", re.IGNORECASE)
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
_TOLERANCE = 1e-3


class NothingDiscovered(ModeltollError):
    """The server speaks nothing that is known here, or serves no model that it would name."""


@dataclass(frozen=True, slots=True)
class DiscoveredModel:
    """A model that can be put behind a gateway. ``guessed`` says what was not seen in an answer; empty: all was."""

    model: str
    protocol: str
    kind: str
    output: str = ""
    classes: int | None = None
    labels: tuple[str, ...] = ()
    others: tuple[str, ...] = ()
    guessed: str = ""

    @property
    def setting(self) -> str:
        """Its name in the settings: its own, as far as that may stand there."""
        last = self.model.rpartition("/")[2]
        cleaned = re.sub(r"[^A-Za-z0-9_.-]+", "-", last).lstrip("_.-")[:64]
        return cleaned or "model"


async def discover(upstream: Upstream, model: str | None) -> tuple[DiscoveredModel, ...]:
    """The models of a server, or the one that is named.

    Raises:
        UpstreamError: it does not answer at all.
        NothingFound: it speaks none of the protocols, or does not tell its models' names.
    """
    await upstream.fetch("/")  # whatever it says: that it can be reached
    for look in _LOOKS:
        found = await look(_ProbeClient(upstream), model)
        if found:
            return tuple(found)
    if model is None:
        raise NothingDiscovered(
            "the server names no model in a protocol that is known here; if it has one, name it: --model"
        )
    raise NothingDiscovered(
        f"no model {model!r} answers in a protocol that is known here; any other JSON over HTTP is protocol: json"
    )


class _ProbeClient:
    """Asks, and takes whatever is not an answer of JSON for none."""

    def __init__(self, upstream: Upstream) -> None:
        self.upstream = upstream

    async def get(self, path: str) -> Any:
        return await self._read(self.upstream.fetch(path))

    async def post(self, path: str, document: Any) -> Any:
        return await self._read(self.upstream.predict(path, json.dumps(document).encode()))

    async def ready(self, path: str) -> bool:
        try:
            return (await self.upstream.fetch(path)).status == 200
        except (UpstreamError, AnswerError):
            return False

    @staticmethod
    async def _read(asking: Awaitable[Any]) -> Any:
        try:
            answer = await asking
            return json.loads(answer.body) if answer.status == 200 else None
        except (UpstreamError, AnswerError, ValueError, RecursionError):
            return None


def _at(document: Any, *path: str | int) -> Any:
    """A member of a member, or None."""
    for step in path:
        if isinstance(document, dict) and isinstance(step, str):
            document = document.get(step)
        elif isinstance(document, list) and isinstance(step, int) and -len(document) <= step < len(document):
            document = document[step]
        else:
            return None
    return document


def _names(listed: Any, member: str | None = None) -> list[str]:
    items = listed if isinstance(listed, list) else []
    names = [_at(item, member) if member else item for item in items]
    return [name for name in names if isinstance(name, str) and name]


def _kind_of(scores: Any) -> tuple[str, int] | None:
    """What rows of scores are, and of how many classes; None where they are no such rows."""
    try:
        table = np.asarray(scores, np.float64)
    except (ValueError, TypeError):
        return None
    if table.ndim != 2 or table.shape[1] < 2 or not np.isfinite(table).all():
        return None
    sums = bool((table >= 0).all() and np.allclose(table.sum(axis=1), 1.0, atol=_TOLERANCE, rtol=0))
    return ("probabilities" if sums else "logits"), table.shape[1]


def _recognised(find: DiscoveredModel, scores: Any) -> DiscoveredModel:
    """With what an answer showed."""
    kind = _kind_of(scores)
    if kind is None:
        return find
    return replace(find, kind=kind[0], classes=kind[1], guessed="")


# Open Inference Protocol


async def _oip(asker: _ProbeClient, model: str | None) -> Sequence[DiscoveredModel]:
    if not await asker.ready("/v2/health/ready"):
        return ()
    names = [model] if model else _names(await asker.post("/v2/repository/index", {}), "name")
    found = [await _oip_model(asker, name) for name in names if _NAME.fullmatch(name)]
    return [find for find in found if find is not None]


async def _oip_model(asker: _ProbeClient, name: str) -> DiscoveredModel | None:
    described = await asker.get(f"/v2/models/{name}")
    outputs = _at(described, "outputs")
    if not isinstance(outputs, list) or not outputs:
        return None
    named = [output for output in outputs if isinstance(_at(output, "name"), str)]
    scores = [output for output in named if _at(output, "datatype") in NUMERIC and _width(output) != 1] or named
    if not scores:
        return None
    chosen = next((output for output in scores if _SURE.search(output["name"])), scores[0])["name"]
    others = tuple(output["name"] for output in named if output["name"] != chosen)
    guess = "no answer was seen: say what the output holds"
    find = DiscoveredModel(name, "oip", "probabilities", chosen, others=others, guessed=guess)
    dimensions = dimensions_of(json.dumps(described).encode())
    if dimensions is None:
        return find
    service, protocol = ServiceDescription(name, chosen, "probabilities"), OpenInference()
    try:
        question = protocol.ask(sample_rows(dimensions), json.dumps(described).encode(), service)
        answer = await asker.post(f"/v2/models/{name}/infer", json.loads(question))
    except AnswerError:
        return find
    said = next((each for each in _at(answer, "outputs") or () if _at(each, "name") == chosen), None)
    return _recognised(find, _shaped(_at(said, "data"), _at(said, "shape")))


def _width(output: Any) -> int:
    shape = _at(output, "shape")
    return math.prod(shape[1:]) if isinstance(shape, list) and all(type(n) is int for n in shape) else 0


def _shaped(data: Any, shape: Any) -> Any:
    try:
        return np.asarray(data, np.float64).reshape(shape[0], -1)
    except (ValueError, TypeError, IndexError):
        return None


# Text Embeddings Inference


async def _tei(asker: _ProbeClient, model: str | None) -> Sequence[DiscoveredModel]:
    info = await asker.get("/info")
    name, kind = _at(info, "model_id"), _at(info, "model_type")
    if not isinstance(name, str) or not isinstance(kind, dict):
        return ()
    numbered = _at(kind, "classifier", "id2label")
    if isinstance(numbered, dict) and len(numbered) > 1:
        try:
            labels = tuple(str(numbered[key]) for key in sorted(numbered, key=int))
        except ValueError:
            return ()
        return [DiscoveredModel(model or name, "labels", "probabilities", labels=labels)]
    if "embedding" in kind:
        return [DiscoveredModel(model or name, "openai-embeddings", "embeddings")]
    return ()


# What lists its models at /v1/models: OpenAI's API, and KServe's protocol V1


async def _v1_models(asker: _ProbeClient, model: str | None) -> Sequence[DiscoveredModel]:
    listed = await asker.get("/v1/models")
    theirs = _names(_at(listed, "data"), "id")
    if theirs:
        names = [name for name in theirs if model in (None, name)]
        return [await _openai_model(asker, name) for name in names]
    names = [model] if model else _names(_at(listed, "models"))
    found = [await _v1_model(asker, name) for name in names if _NAME.fullmatch(name)]
    return [find for find in found if find is not None]


async def _openai_model(asker: _ProbeClient, name: str) -> DiscoveredModel:
    text = {"model": name, "input": SENTENCE}
    classes = _kind_of([_at(await asker.post("/classify", text), "data", 0, "probs")])
    if classes is not None:
        return DiscoveredModel(name, "vllm-classify", classes[0], classes=classes[1])
    if isinstance(_at(await asker.post("/v1/embeddings", text), "data", 0, "embedding"), list):
        return DiscoveredModel(name, "openai-embeddings", "embeddings")
    turn = {"model": name, "messages": [{"role": "user", "content": SENTENCE}], "max_tokens": 1, "logprobs": True}
    said = await asker.post("/v1/chat/completions", turn)
    shown = isinstance(_at(said, "choices", 0, "logprobs", "content"), list)
    guess = "" if shown else "no log-probabilities were seen: the model server must give them"
    return DiscoveredModel(name, "openai-chat", "tokens", guessed=guess)


async def _v1_model(asker: _ProbeClient, name: str) -> DiscoveredModel | None:
    if not await asker.ready(f"/v1/models/{name}"):
        return None
    find = DiscoveredModel(name, "v1", "probabilities", guessed="no answer was seen: say what the predictions hold")
    signature = _at(await asker.get(f"/v1/models/{name}/metadata"), "metadata", "signature_def", "signature_def")
    inputs = _at(signature, "serving_default", "inputs")
    shapes = [_at(each, "tensor_shape", "dim") for each in inputs.values()] if isinstance(inputs, dict) else []
    try:
        sizes = [int(_at(size, "size")) for size in shapes[0][1:]] if len(shapes) == 1 else []
    except (TypeError, ValueError):
        sizes = []
    if not sizes or min(sizes) < 1:
        return find
    service = ServiceDescription(name, "", "probabilities")
    question = TensorFlowServing().ask(sample_rows(math.prod(sizes)), b"", service)
    return _recognised(find, _at(await asker.post(f"/v1/models/{name}:predict", json.loads(question)), "predictions"))


# MLflow


async def _mlflow(asker: _ProbeClient, model: str | None) -> Sequence[DiscoveredModel]:
    if not (await asker.ready("/ping") and await asker.ready("/version")):
        return ()
    return [
        DiscoveredModel(
            model or "model", "mlflow", "probabilities", guessed="no answer was seen: say what the predictions hold"
        )
    ]


_LOOKS: Sequence[Callable[[_ProbeClient, str | None], Awaitable[Sequence[DiscoveredModel]]]] = (
    _oip,
    _tei,
    _v1_models,
    _mlflow,
)
