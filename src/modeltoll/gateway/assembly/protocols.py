"""Serving protocols as the settings name them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from modeltoll.gateway.protocols.json_path import JsonPath
from modeltoll.gateway.protocols.label_lists import LabelLists
from modeltoll.gateway.protocols.mlflow import MlflowScoring
from modeltoll.gateway.protocols.oip import OpenInference
from modeltoll.gateway.protocols.openai_chat import OpenAIChat
from modeltoll.gateway.protocols.openai_embeddings import OpenAIEmbeddings
from modeltoll.gateway.protocols.protocol import ServiceDescription
from modeltoll.gateway.protocols.v1 import TensorFlowServing
from modeltoll.gateway.protocols.vllm_classify import VllmClassify

if TYPE_CHECKING:
    from collections.abc import Iterator

    from modeltoll.gateway.core.request import ServedModel
    from modeltoll.gateway.protocols.protocol import ServingProtocol
    from modeltoll.gateway.settings.models import ModelSettings

__all__ = ["PROTOCOLS", "build_service", "path_conflicts"]

_NAMES_ITS_MODEL = ("openai-chat", "openai-embeddings", "vllm-classify")  # in the request's body


def _json_path(model: ModelSettings) -> ServingProtocol:
    path = model.json_path
    assert path is not None  # settings_models.py demands it
    return JsonPath(path.route, path.inputs, path.scores, path.ready, one=path.one_row)


PROTOCOLS: Mapping[str, Callable[[ModelSettings], ServingProtocol]] = {
    "oip": lambda _: OpenInference(),
    "v1": lambda _: TensorFlowServing(),
    "mlflow": lambda _: MlflowScoring(),
    "labels": lambda _: LabelLists(),
    "vllm-classify": lambda _: VllmClassify(),
    "openai-embeddings": lambda _: OpenAIEmbeddings(),
    "openai-chat": lambda _: OpenAIChat(),
    "json": _json_path,
}


def build_service(name: str, model: ModelSettings, max_rows: int) -> ServiceDescription:
    """A model as its owner declares it."""
    output = model.output
    return ServiceDescription(
        name,
        output.name,
        output.kind,
        output.number_of_classes,
        unmeasured=output.unmeasured,
        max_rows=max_rows,
        partial=output.partial,
        labels=output.labels,
        columns=model.columns,
        served_as=model.served_as,
    )


def path_conflicts(subjects: Mapping[str, ServedModel]) -> Iterator[str]:
    """One sentence for each path at which a request could be for more than one model."""
    behind: dict[str, list[ServedModel]] = {}
    for subject in subjects.values():
        for template in subject.protocol.routes.infer:
            if "{model}" not in template:
                behind.setdefault(template, []).append(subject)
    for template, those in behind.items():
        names = ", ".join(subject.service.model for subject in those)
        if (
            any(subject.protocol.name not in _NAMES_ITS_MODEL for subject in those[1:])
            or len({subject.protocol.name for subject in those}) > 1
        ):
            yield f"models: {names} are all asked at {template}, and nothing says which is meant"
        addressed = Counter(subject.service.served_as or subject.service.model for subject in those)
        if addressed.most_common(1)[0][1] > 1:
            yield f"models: {names} have the same name at {template}; give each its own served_as"
