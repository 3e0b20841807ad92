"""vLLM's ``/classify``: texts in, a vector of probabilities for each out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from modeltoll.errors import AnswerError
from modeltoll.gateway.protocols.answer_lengths import NUMBER_BYTES
from modeltoll.gateway.protocols.answer_members import ValueCheck, is_anything, is_count, is_short_text
from modeltoll.gateway.protocols.openai_shape import OpenAIErrors, bounded, data_rows, text_fingerprints
from modeltoll.gateway.protocols.protocol import JSON, ParsedRequest, Routes, ServiceDescription
from modeltoll.gateway.protocols.request_members import RequestMembers, names
from modeltoll.gateway.protocols.rows import classification_evidence
from modeltoll.gateway.protocols.strict_json import load_object
from modeltoll.gateway.protocols.text_inputs import TextProtocol, check_model, texts_in

if TYPE_CHECKING:
    from modeltoll.records import Answer, Evidence

__all__ = ["VllmClassify"]

_MEMBERS = RequestMembers(
    read=names(
        """model input truncate_prompt_tokens truncation_side add_special_tokens use_activation activation softmax
        mm_processor_kwargs"""
    ),
    harmless=names("user request_id cache_salt"),
    unmeasured=names("return_token_ids return_hidden_states"),
    outside=names("lora lora_path messages"),
)
_DATUM: Mapping[str, ValueCheck] = {
    "index": is_count,
    "label": is_short_text,
    "probs": is_anything,
    "num_classes": is_count,
}


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
        prints = text_fingerprints(texts, document, _MEMBERS, service)
        bound = bounded(len(prints), service.classes * NUMBER_BYTES) if service.classes else None
        return ParsedRequest(prints, None, answer_bound=bound)

    def evidence(self, parsed: ParsedRequest, answer: Answer, service: ServiceDescription) -> Evidence:
        """The ``probs`` of each text."""
        data = data_rows(answer, len(parsed.fingerprints), _DATUM, service)
        for item in data:
            scores, classes = item.get("probs"), item.get("num_classes")
            if classes is not None and isinstance(scores, list) and classes != len(scores):
                raise AnswerError("the model server's answer counts other classes than it shows")
        return classification_evidence(parsed, [item.get("probs") for item in data], service)
