"""The lengths to which answers are padded before they are sealed, so that the length of a seal does not tell the answer."""

from __future__ import annotations

import math
from hashlib import blake2b
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from modeltoll.gateway.protocols.protocol import ParsedRequest
    from modeltoll.records import Evidence

__all__ = ["LEAST_BYTES", "MOST_BYTES", "answer_bound", "dither", "padded_length"]

LEAST_BYTES = 1024
MOST_BYTES = 64 << 20  # of an answer: a client takes no larger toll (wire.MAX_TOLL_BYTES)
_STEPS = 2.0**64


def dither(key: bytes, fingerprints: Iterable[bytes]) -> float:
    """A number in [0, 1) that depends on what the model reads and on a secret: the same each time for the same rows."""
    digest = blake2b(key=key, digest_size=8)
    for fingerprint in fingerprints:
        digest.update(fingerprint)
    return int.from_bytes(digest.digest(), "big") / _STEPS


def answer_bound(parsed: ParsedRequest, evidence: Evidence, offset: float) -> int | None:
    """The largest length of an answer to such a request, in bytes; None where there is none.

    Where the request has none and the protocol bounds an answer by its number of tokens, it is the bound of
    2 ** ceil(log2(tokens) + offset) tokens. So the lengths of a stream in all its forms (with and without log-probabilities
    or the numbers of tokens) tell the same of one answer, and none more than the others.
    """
    if parsed.answer_bound is not None or parsed.token_bound is None:
        return parsed.answer_bound
    tokens = sum(len(row) for row in evidence.tokens or ())
    return parsed.token_bound(1 << math.ceil(math.log2(max(tokens, 1)) + offset))


def padded_length(length: int, bound: int | None, offset: float, most: int = MOST_BYTES) -> int:
    """The padded length in bytes of a body of ``length`` bytes.

    It is ``bound``, the largest length of an answer to such a request, wherever the body is within it, and at least
    ``LEAST_BYTES``: then it depends on the request alone. Without a bound it is 2 ** ceil(log2(length) + offset). With an
    offset in [0, 1) that is uniform over requests and fixed for one, the probability of each power of two varies
    continuously with the length, and asking again tells no more. It is at most ``most``, the largest answer that the
    gateway takes from its upstream, unless the body is longer.
    """
    if bound is not None and length <= bound:
        return max(LEAST_BYTES, length, min(bound, most))
    power = math.ceil(math.log2(max(length, 1)) + offset)
    return max(LEAST_BYTES, length, min(1 << power, most))
