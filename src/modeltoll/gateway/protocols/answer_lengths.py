"""Upper bounds of the length of an answer, from the shape of its request and the settings alone.

A sealed answer is padded to its bound, so that its length says nothing about what is in it. The bounds hold for servers
that write compact JSON, or Python's, with the shortest digits of each number; a longer answer is padded by another rule.
"""

from __future__ import annotations

import json
from functools import lru_cache
from typing import TYPE_CHECKING

from modeltoll.names import EMBEDDINGS, TOKENS

if TYPE_CHECKING:
    from modeltoll.gateway.protocols.protocol import ServiceDescription

__all__ = [
    "ANSWER_OVERHEAD",
    "NUMBER_BYTES",
    "declared_text_bytes",
    "numbers_per_row",
    "scores_bound",
    "text_bytes",
]

NUMBER_BYTES = 26  # "-2.2250738585072014e-308" and what separates it from the next
ANSWER_OVERHEAD = 512  # the document around the rows, and the headers of tensors
_ROW_OVERHEAD = 16  # brackets, separators, and the indentation of one row per line


def text_bytes(text: str) -> int:
    """The most bytes that a text takes as JSON, in its quotes: with or without escapes, a slash escaped too."""
    escaped, plain = json.dumps(text), json.dumps(text, ensure_ascii=False)
    return max(len(escaped), len(plain.encode(errors="surrogatepass"))) + text.count("/")


@lru_cache(maxsize=64)
def declared_text_bytes(texts: tuple[str, ...]) -> int:
    """The sum of ``text_bytes`` of some texts of the settings. Texts of requests would fill the cache."""
    return sum(map(text_bytes, texts))


def numbers_per_row(service: ServiceDescription) -> int | None:
    """How many numbers the measured output has per row; None where the settings do not say."""
    if service.kind == "labels":
        return 1
    return None if service.kind in (EMBEDDINGS, TOKENS) else service.classes or len(service.labels) or None


def scores_bound(rows: int, service: ServiceDescription, *, alone: bool = False) -> int | None:
    """The most bytes of JSON in which each row is the scores of the measured output, perhaps under its name or the labels'.

    None where the number of classes is not declared, or where further outputs may stand beside the measured one. ``alone``:
    no further output is asked for.
    """
    numbers = numbers_per_row(service)
    if numbers is None or (service.unmeasured and not alone):
        return None
    names = declared_text_bytes((service.output,)) + declared_text_bytes(service.labels) + 2 * len(service.labels)
    return ANSWER_OVERHEAD + rows * (numbers * NUMBER_BYTES + names + _ROW_OVERHEAD)
