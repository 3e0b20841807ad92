"""Texts to be classified or embedded, as requests hold them: one text, several, pairs, or lists of token numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from modeltoll.errors import AnswerError, RequestError, UnknownModel
from modeltoll.gateway.protocols.fingerprints import row_fingerprints
from modeltoll.gateway.protocols.rows import check_row_limit
from modeltoll.gateway.protocols.strict_json import canonical

if TYPE_CHECKING:
    from modeltoll.gateway.protocols.protocol import ServiceDescription
    from modeltoll.records import Floats

__all__ = ["TextProtocol", "check_model", "fingerprints_of", "is_tokens", "only_texts", "texts_in"]


def is_tokens(value: object) -> bool:
    """Whether this is one text, written as the numbers of its tokens."""
    return isinstance(value, list) and bool(value) and all(type(item) is int and item >= 0 for item in value)


def fingerprints_of(texts: list[Any], service: ServiceDescription, context: bytes = b"") -> tuple[bytes, ...]:
    """One fingerprint per text, pair of texts or list of token numbers. ``context``: what else the model reads.

    Raises:
        RequestError: none, too many, or something else among them.
    """
    check_row_limit(len(texts), service)
    for text in texts:
        several = isinstance(text, list) and bool(text) and all(isinstance(part, str) for part in text)
        if not (isinstance(text, str) or several or is_tokens(text) or _is_named_pair(text)):
            raise RequestError("the request holds something that is not a text")
    return row_fingerprints((b"texts", context), ((canonical(text),) for text in texts))


def _is_named_pair(value: object) -> bool:
    """Whether this is ``{"text": ..., "text_pair": ...}``, as Hugging Face's pipelines read pairs."""
    names = {"text", "text_pair"}
    return (
        isinstance(value, dict)
        and {"text"} <= value.keys() <= names
        and all(isinstance(part, str) or (part is None and name != "text") for name, part in value.items())
    )


def check_model(document: dict[str, Any], service: ServiceDescription) -> None:
    """Refuse a request for another model than the one that is measured.

    Raises:
        UnknownModel: it is one.
    """
    if document.get("model") != (service.served_as or service.model):
        raise UnknownModel("there is no such model here")


def texts_in(given: object, member: str, *, tokens: bool = False) -> list[Any]:
    """The texts of a request's member: one, or a list of them; with ``tokens`` also the numbers of one text's tokens.

    Raises:
        RequestError: something else.
    """
    if isinstance(given, str) or (tokens and is_tokens(given)) or (not tokens and _is_named_pair(given)):
        return [given]
    if not isinstance(given, list):
        raise RequestError(f"{member!r} is not a text or a list of texts")
    return given


def only_texts(rows: list[list[Any]]) -> list[str]:
    """The texts of rows that hold one text each.

    Raises:
        AnswerError: they hold something else.
    """
    if any(len(row) != 1 or not isinstance(row[0], str) for row in rows):
        raise AnswerError("the model takes texts: give rows of one text each, or recorded requests (--requests)")
    return [row[0] for row in rows]


class TextProtocol:
    """A serving protocol of texts. ``text_member`` is the member of a request that holds them."""

    text_member = "input"
    names_model = True

    def ask(self, inputs: Floats, metadata: bytes, service: ServiceDescription) -> bytes:
        """It takes texts."""
        del inputs, metadata, service
        raise AnswerError("the model takes texts, not rows of numbers: give texts, or recorded requests (--requests)")

    def ask_values(
        self, columns: tuple[str, ...], rows: list[list[Any]], metadata: bytes, service: ServiceDescription
    ) -> bytes:
        """Texts in the member of the request, with the model's name where requests have it."""
        del columns, metadata
        texts = only_texts(rows)
        named = {"model": service.served_as or service.model} if self.names_model else {}
        return msgspec.json.encode({**named, self.text_member: texts[0] if len(texts) == 1 else texts})
