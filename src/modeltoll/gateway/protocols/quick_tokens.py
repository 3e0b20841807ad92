"""Reads the usual log-probabilities of tokens several times as fast as they are read one by one.

What is unusual in any way is left to ``token_tables``, which says what is wrong with it, or knows it all the same.
"""

from __future__ import annotations

import math
from typing import Annotated, Any

import msgspec

__all__ = ["LEAST", "ROUNDING", "quick_probabilities"]

ROUNDING = 1e-3
LEAST = -1000.0  # a log-probability whose probability is 0 in 64 bits

_Byte = Annotated[int, msgspec.Meta(ge=0, le=255)]


class _Alternative(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """One of the most probable tokens. Some servers write minus infinity as null."""

    token: str
    logprob: float | None
    bytes: list[_Byte] | None = None
    id: int = 0


class _Token(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """A token of a completion."""

    token: str
    logprob: float
    top_logprobs: list[_Alternative]
    bytes: list[_Byte] | None = None
    id: int = 0


def quick_probabilities(tokens: list[Any], most: int) -> list[list[float]] | None:
    """The known probabilities of each token, as ``token_tables`` reads them; None where something is unusual.

    ``most``: of one token.
    """
    try:
        read = msgspec.convert(tokens, list[_Token])
    except (ValueError, RecursionError, OverflowError):  # msgspec.ValidationError is a ValueError
        return None
    table = []
    for token in read:
        shown: list[_Token | _Alternative] = [token, *token.top_logprobs]
        if [one for one in shown if one.bytes and len(one.bytes) > 4 * len(one.token) + 4]:  # not bytes of its text
            return None
        logs = [LEAST if one.logprob is None else one.logprob for one in shown]
        if len(logs) < 2 or max(logs) > ROUNDING or math.isnan(sum(logs)):  # a NaN has no place in an order
            return None
        if max(logs) > 0.0 or min(logs) < LEAST:
            logs = [max(min(log, 0.0), LEAST) for log in logs]
        own, *known = map(math.exp, logs)
        if own not in known:
            known.append(own)
        if len(known) > most:
            return None
        table.append(known)
    return table
