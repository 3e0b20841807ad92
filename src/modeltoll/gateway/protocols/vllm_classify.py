"""vLLM's ``/classify``: texts in, a vector of probabilities for each out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from modeltoll.errors import AnswerError
from modeltoll.gateway.protocols.openai_shape import OpenAIErrors, numbered
from modeltoll.gateway.protocols.protocol import JSON, ParsedRequest, Routes, ServiceDescription
from modeltoll.gateway.protocols.rows import classification_evidence
from modeltoll.gateway.protocols.strict_json import load_object
from modeltoll.gateway.protocols.text_inputs import TextProtocol, check_model, fingerprints_of, texts_in

if TYPE_CHECKING:
    from modeltoll.records import Answer, Evidence

__all__ = ["VllmClassify"]

_DATUM = {"index", "label", "probs", "num_classes"}


class VllmClassify(OpenAIErrors, TextProtocol):
    """``{"model": ..., "input": text or texts}`` to ``{"data": [{"index": 0, "probs": [...]}]}``."""

    name = "vllm-classify"
    routes = Routes(infer=("/classify",), pass_through=("/v1/models", "/health"), metadata=None, ready="/health")

    def read(self, body: bytes, service: ServiceDescription, content_type: str = JSON) -> ParsedRequest:
        """Read a request."""
        del content_type
        document = load_object(body)
        check_model(document, service)
        texts = texts_in(document.get("input"), "input", tokens=True)
        return ParsedRequest(fingerprints_of(texts, service), None)

    def evidence(self, parsed: ParsedRequest, answer: Answer, service: ServiceDescription) -> Evidence:
        """The ``probs`` of each text."""
        data = numbered(answer, "data", len(parsed.fingerprints))
        if any(not item.keys() <= _DATUM for item in data):
            raise AnswerError("the model server's answer shows more than a label and its probabilities")
        return classification_evidence(parsed, [item.get("probs") for item in data], service)
