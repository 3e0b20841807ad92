"""Text classification as Hugging Face's inference API and Text Embeddings Inference serve it: lists of labels with scores."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from modeltoll.errors import AnswerError, RequestError
from modeltoll.gateway.protocols.plain_errors import PlainErrors
from modeltoll.gateway.protocols.protocol import JSON, ParsedRequest, Routes, ServiceDescription
from modeltoll.gateway.protocols.rows import label_evidence
from modeltoll.gateway.protocols.strict_json import load_answer, load_object
from modeltoll.gateway.protocols.text_inputs import TextProtocol, fingerprints_of, texts_in
from modeltoll.leak.scores import check_scores, probabilities
from modeltoll.records import Evidence

if TYPE_CHECKING:
    from modeltoll.records import Answer

__all__ = ["LabelLists"]

_LOGITS, _PROBABILITIES = "logits", "probabilities"
_FUNCTIONS = {"softmax": _PROBABILITIES, "none": _LOGITS}  # ``function_to_apply``: what the scores then are


def _kind(document: dict[str, Any], service: ServiceDescription) -> str:
    """The kind of the scores that the request's options ask for."""
    parameters = document.get("parameters")
    if parameters is not None and not isinstance(parameters, dict):
        raise RequestError("'parameters' is not an object")
    function = (parameters or {}).get("function_to_apply")
    if function is not None and (not isinstance(function, str) or function not in _FUNCTIONS):
        raise RequestError("'function_to_apply' is not softmax or none")
    raw = document.get("raw_scores", False)
    if not isinstance(raw, bool):
        raise RequestError("'raw_scores' is not true or false")
    if raw:
        return _LOGITS
    return service.kind if function is None else _FUNCTIONS[function]


def _pairs(row: object) -> list[tuple[str, float]]:
    """One row's labels with their scores."""
    if not isinstance(row, list):
        raise AnswerError("the model server's answer is not a list of labels per input")
    pairs = []
    for item in row:
        label, score = (item.get("label"), item.get("score")) if isinstance(item, dict) else (None, None)
        if not isinstance(label, str) or not isinstance(score, int | float) or isinstance(score, bool):
            raise AnswerError("the model server's answer is not of labels with scores")
        if len(item) != 2:
            raise AnswerError("the model server's answer shows more than labels with scores")
        pairs.append((label, float(score)))
    return pairs


class LabelLists(PlainErrors, TextProtocol):
    """``{"inputs": text or texts}`` in, ``[{"label": ..., "score": ...}]`` out, one list per text."""

    name = "labels"
    routes = Routes(
        infer=("/predict", "/models/{model}"), pass_through=("/health", "/info"), metadata=None, ready="/health"
    )

    def read(self, body: bytes, service: ServiceDescription, content_type: str = JSON) -> ParsedRequest:
        """Read a request; display options (``top_k``, ``raw_scores``) are forwarded unchanged."""
        del content_type
        document = load_object(body)
        texts = texts_in(document.get("inputs"), "inputs")
        return ParsedRequest(fingerprints_of(texts, service), None, note=_kind(document, service))

    def evidence(self, parsed: ParsedRequest, answer: Answer, service: ServiceDescription) -> Evidence:
        """The scores that are shown, in the order of ``service.labels``; raw scores need every label."""
        rows, document = len(parsed.fingerprints), load_answer(answer)
        if not isinstance(document, list):
            raise AnswerError("the model server's answer is not a list")
        single = rows == 1 and all(isinstance(item, dict) for item in document)  # one text: its list may stand bare
        lists = [_pairs(row) for row in ([document] if single else document)]
        if len(lists) != rows:
            raise AnswerError("the model server's answer does not have one list of labels per input")
        if not all(lists):
            raise AnswerError("the model server's answer shows no label for an input")
        table = label_evidence(lists, service.labels)
        if parsed.note == _LOGITS:
            if any(len(row) != len(service.labels) for row in lists):
                raise AnswerError("raw scores are measured only where all labels are shown")
            scores = probabilities(table, _LOGITS)
        else:
            everything = sum(map(len, lists)) == rows * len(service.labels)
            scores = check_scores(table, partial=not everything)
        return Evidence(parsed.fingerprints, scores=scores)

    def error(self, message: str) -> bytes:
        """``{"error": message, "error_type": ...}``."""
        return msgspec.json.encode({"error": message, "error_type": "validation"})
