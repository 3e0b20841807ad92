"""Text classification as Hugging Face's inference API and Text Embeddings Inference serve it: lists of labels with scores."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from modeltoll.errors import AnswerError, RequestError
from modeltoll.gateway.protocols.answer_lengths import ANSWER_OVERHEAD, NUMBER_BYTES, text_bytes
from modeltoll.gateway.protocols.plain_errors import PlainErrors
from modeltoll.gateway.protocols.protocol import JSON, ParsedRequest, Routes, ServiceDescription
from modeltoll.gateway.protocols.request_members import other_members
from modeltoll.gateway.protocols.rows import label_evidence
from modeltoll.gateway.protocols.strict_json import canonical, load_answer, load_object
from modeltoll.gateway.protocols.text_inputs import TextProtocol, fingerprints_of, texts_in
from modeltoll.leak.scores import check_scores, probabilities
from modeltoll.records import Evidence

if TYPE_CHECKING:
    from modeltoll.records import Answer

__all__ = ["LabelLists"]

_LOGITS, _PROBABILITIES = "logits", "probabilities"
_FUNCTIONS = {"softmax": _PROBABILITIES, "none": _LOGITS}  # ``function_to_apply``: what the scores then are
_MEMBERS = ("inputs", "parameters", "raw_scores", "truncate", "truncation_direction")
_PARAMETERS = ("function_to_apply", "top_k")
_PAIR = 2  # texts
_SIDES = ("Left", "Right", "left", "right")
_PAIR_BYTES = len('{"label": , "score": }, ')


@dataclass(frozen=True, slots=True)
class _Display:
    """What a request's options ask for: the kind of its scores, and of how many labels; None: as many as the server shows."""

    kind: str
    labels: int | None


def _display(document: dict[str, Any], parameters: dict[str, Any], service: ServiceDescription) -> _Display:
    """The display options, which are checked."""
    function, raw, shown = (
        parameters.get("function_to_apply"),
        document.get("raw_scores"),
        parameters.get("top_k"),
    )
    if function is not None and (not isinstance(function, str) or function not in _FUNCTIONS):
        raise RequestError("'function_to_apply' is not softmax or none")
    if raw is not None and not isinstance(raw, bool):
        raise RequestError("'raw_scores' is not true or false")
    if shown is not None and (type(shown) is not int or shown < 1):
        raise RequestError("'top_k' is not a number of labels")
    kind = _LOGITS if raw else service.kind if function is None else _FUNCTIONS[function]
    return _Display(kind, shown and min(shown, len(service.labels)))


def _truncation(document: dict[str, Any]) -> list[object]:
    """The options of truncation, which change what the model reads; they are checked."""
    cut, side = document.get("truncate"), document.get("truncation_direction")
    if cut is not None and not isinstance(cut, bool):
        raise RequestError("'truncate' is not true or false")
    if side is not None and side not in _SIDES:
        raise RequestError(f"'truncation_direction' is not {' or '.join(_SIDES)}")
    return [cut, side]


def _bound(rows: int, display: _Display, service: ServiceDescription) -> int:
    """The most bytes of an answer of so many labels: the longest ones."""
    longest = sorted((text_bytes(label) + NUMBER_BYTES + _PAIR_BYTES for label in service.labels), reverse=True)
    return ANSWER_OVERHEAD + rows * (sum(longest[: display.labels]) + 4)


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
        try:
            pairs.append((label, float(score)))
        except OverflowError:
            raise AnswerError("the model server's answer holds a score that is too large") from None
    return pairs


class LabelLists(PlainErrors, TextProtocol):
    """``{"inputs": text or texts}`` in, ``[{"label": ..., "score": ...}]`` out, one list per text."""

    name = "labels"
    text_member, names_model = "inputs", False
    routes = Routes(
        infer=("/predict", "/models/{model}", "/"), pass_through=("/health", "/info"), metadata=None, ready="/health"
    )

    def read(self, body: bytes, service: ServiceDescription, content_type: str = JSON) -> ParsedRequest:
        """Read a request; its options are part of every row's fingerprint."""
        del content_type
        document = load_object(body)
        parameters = document.get("parameters") or {}
        if not isinstance(parameters, dict):
            raise RequestError("'parameters' is not an object")
        others = other_members(document, _MEMBERS, service, of="the request")
        others += other_members(parameters, _PARAMETERS, service, of="'parameters'")
        display, texts = _display(document, parameters, service), texts_in(document.get("inputs"), "inputs")
        context = canonical([display.kind, display.labels, *_truncation(document)]) + others
        if len(texts) == _PAIR:  # some servers read two texts as one pair: then each is read with the other
            context += canonical(texts)
        bound = _bound(len(texts), display, service)
        return ParsedRequest(fingerprints_of(texts, service, context), None, note=display.kind, answer_bound=bound)

    def evidence(self, parsed: ParsedRequest, answer: Answer, service: ServiceDescription) -> Evidence:
        """The scores that are shown, in the order of ``service.labels``; raw scores need every label."""
        rows, document = len(parsed.fingerprints), load_answer(answer)
        if not isinstance(document, list):
            raise AnswerError("the model server's answer is not a list")
        bare = rows <= _PAIR and all(isinstance(item, dict) for item in document)  # of one text, or of one pair
        lists = [_pairs(row) for row in ([document] if bare else document)]
        if rows == _PAIR and bare:  # a server that reads two texts as one pair: what it shows counts for each of them
            lists = lists * rows
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
            scores = check_scores(table, partial=not everything, tolerance=service.tolerance)
        return Evidence(parsed.fingerprints, scores=scores)

    def error(self, message: str) -> bytes:
        """``{"error": message, "error_type": ...}``."""
        return msgspec.json.encode({"error": message, "error_type": "validation"})
