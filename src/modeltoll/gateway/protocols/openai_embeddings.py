"""OpenAI-style embeddings: the measures read the answer's vectors."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING

import numpy as np

from modeltoll.errors import AnswerError, RequestError
from modeltoll.gateway.protocols.openai_shape import OpenAIErrors, numbered
from modeltoll.gateway.protocols.protocol import JSON, ParsedRequest, Routes, ServiceDescription
from modeltoll.gateway.protocols.rows import score_table
from modeltoll.gateway.protocols.strict_json import load_object
from modeltoll.gateway.protocols.text_inputs import TextProtocol, check_model, fingerprints_of, texts_in
from modeltoll.records import Evidence

if TYPE_CHECKING:
    from modeltoll.records import Answer

__all__ = ["OpenAIEmbeddings"]

_FORMATS = ("float", "base64")
_DATUM = {"index", "object", "embedding"}


def _vector(written: object) -> object:
    """A vector as it is, or out of base64: little-endian numbers of 32 bits."""
    if not isinstance(written, str):
        return written
    try:
        return np.frombuffer(base64.b64decode(written, validate=True), "<f4").astype(np.float64).tolist()
    except ValueError:  # binascii.Error is one
        raise AnswerError("the model server's answer holds a vector that is not base64 of numbers") from None


class OpenAIEmbeddings(OpenAIErrors, TextProtocol):
    """``/v1/embeddings``. Measures of inputs, such as novelty, read the vectors: they are the inputs' embedding."""

    name = "openai-embeddings"
    routes = Routes(
        infer=("/v1/embeddings",), pass_through=("/v1/models", "/health"), metadata=None, ready="/v1/models"
    )

    def read(self, body: bytes, service: ServiceDescription, content_type: str = JSON) -> ParsedRequest:
        """Read a request for the embeddings of texts or of lists of token numbers."""
        del content_type
        document = load_object(body)
        check_model(document, service)
        if document.get("encoding_format", "float") not in _FORMATS:
            raise RequestError("'encoding_format' is not float or base64")
        texts = texts_in(document.get("input"), "input", tokens=True)
        return ParsedRequest(fingerprints_of(texts, service), None)

    def evidence(self, parsed: ParsedRequest, answer: Answer, service: ServiceDescription) -> Evidence:
        """The vectors, as inputs (rows, dimensions)."""
        del service
        rows = len(parsed.fingerprints)
        data = numbered(answer, "data", rows)
        if any(not item.keys() <= _DATUM for item in data):
            raise AnswerError("the model server's answer shows more than vectors")
        vectors = score_table([_vector(item.get("embedding")) for item in data], rows)
        if not np.isfinite(vectors).all():
            raise AnswerError("the model server's answer holds a vector that is not finite")
        return Evidence(parsed.fingerprints, inputs=vectors)
