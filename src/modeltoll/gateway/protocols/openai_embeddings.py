"""OpenAI-style embeddings: the measures read the answer's vectors."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from modeltoll.errors import AnswerError, RequestError
from modeltoll.gateway.protocols.answer_lengths import NUMBER_BYTES
from modeltoll.gateway.protocols.answer_members import ValueCheck, is_anything, is_count, is_short_text
from modeltoll.gateway.protocols.openai_shape import OpenAIErrors, bounded, data_rows, openai_routes, text_fingerprints
from modeltoll.gateway.protocols.protocol import JSON, ParsedRequest, ServiceDescription
from modeltoll.gateway.protocols.request_members import RequestMembers, names
from modeltoll.gateway.protocols.rows import score_table
from modeltoll.gateway.protocols.strict_json import load_object
from modeltoll.gateway.protocols.text_inputs import TextProtocol, check_model, texts_in
from modeltoll.records import Evidence

if TYPE_CHECKING:
    from modeltoll.records import Answer

__all__ = ["OpenAIEmbeddings"]

_FORMATS = ("float", "base64")
_MEMBERS = RequestMembers(
    read=names(
        """model input dimensions encoding_format truncate truncation_direction truncate_prompt_tokens truncation_side
        add_special_tokens normalize use_activation prompt_name input_type task mm_processor_kwargs"""
    ),
    harmless=names("user request_id rid cache_salt"),
    unmeasured=names("embed_dtype endianness return_token_ids return_hidden_states return_sparse return_multivector"),
    outside=names("lora lora_path messages custom_params"),
)
_DATUM: Mapping[str, ValueCheck] = {"index": is_count, "object": is_short_text, "embedding": is_anything}
_NUMBER_BYTES = {"float": NUMBER_BYTES, "base64": 6}  # of one number of a vector


def _vector(written: object) -> object:
    """A vector as it is, or out of base64: little-endian numbers of 32 bits."""
    if not isinstance(written, str):
        if isinstance(written, list) and list in set(map(type, written)):
            raise AnswerError("the model server's answer holds several vectors for one text")
        return written
    try:
        return np.frombuffer(base64.b64decode(written, validate=True), "<f4").astype(np.float64).tolist()
    except ValueError:  # binascii.Error is one
        raise AnswerError("the model server's answer holds a vector that is not base64 of numbers") from None


def _answer_bound(document: dict[str, Any], rows: int) -> int | None:
    """Where the request says how many numbers a vector has."""
    dimensions = document.get("dimensions")
    if type(dimensions) is not int or dimensions < 1:
        return None
    return bounded(rows, dimensions * _NUMBER_BYTES[document.get("encoding_format") or "float"])


class OpenAIEmbeddings(OpenAIErrors, TextProtocol):
    """``/v1/embeddings``. Measures of inputs, such as novelty, read the vectors: they are the inputs' embedding."""

    name = "openai-embeddings"
    routes = openai_routes("/v1/embeddings")

    def read(self, body: bytes, service: ServiceDescription, content_type: str = JSON) -> ParsedRequest:
        """Read a request for the embeddings of texts or of lists of token numbers."""
        del content_type
        document = load_object(body, missing=False)
        check_model(document, service)
        if document.get("encoding_format") not in (*_FORMATS, None):
            raise RequestError("'encoding_format' is not float or base64")
        texts = texts_in(document.get("input"), "input", tokens=True)
        prints = text_fingerprints(texts, document, _MEMBERS, service)
        return ParsedRequest(prints, None, answer_bound=_answer_bound(document, len(prints)))

    def evidence(self, parsed: ParsedRequest, answer: Answer, service: ServiceDescription) -> Evidence:
        """The vectors, as inputs (rows, dimensions)."""
        rows = len(parsed.fingerprints)
        data = data_rows(answer, rows, _DATUM, service)
        vectors = score_table([_vector(item.get("embedding")) for item in data], rows)
        if not np.isfinite(vectors).all():
            raise AnswerError("the model server's answer holds a vector that is not finite")
        return Evidence(parsed.fingerprints, inputs=vectors)
