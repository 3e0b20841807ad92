"""A harmless question for each kind of model, for those who try a model server before anybody else asks it."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from modeltoll.errors import AnswerError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from modeltoll.gateway.core.request import ServedModel
    from modeltoll.records import Floats

__all__ = ["SENTENCE", "dimensions_of", "sample_request", "sample_rows"]

SENTENCE = "The quick brown fox jumps over the lazy dog."
_ROWS = 4


class _Tensor(msgspec.Struct):
    shape: list[int]


class _Metadata(msgspec.Struct):
    inputs: list[_Tensor]


def _named(subject: ServedModel) -> str:
    return subject.service.served_as or subject.service.model


_OF_TEXTS: Mapping[str, Callable[[ServedModel], Any]] = {
    "labels": lambda _: {"inputs": SENTENCE},
    "vllm-classify": lambda subject: {"model": _named(subject), "input": SENTENCE},
    "openai-embeddings": lambda subject: {"model": _named(subject), "input": SENTENCE},
    "openai-chat": lambda subject: {
        "model": _named(subject),
        "messages": [{"role": "user", "content": SENTENCE}],
        "max_tokens": 8,
    },
}


def dimensions_of(metadata: bytes) -> int | None:
    """How many numbers a row has, by an Open Inference model's description of itself; None where it does not say."""
    try:
        inputs = msgspec.json.decode(metadata, type=_Metadata).inputs
    except (ValueError, RecursionError):  # msgspec.DecodeError is a ValueError
        return None
    shape = inputs[0].shape[1:] if len(inputs) == 1 else []
    return math.prod(shape) if shape and min(shape) > 0 else None


def sample_rows(dimensions: int) -> Floats:
    """A few rows of numbers between 0 and 1, always the same, (rows, dimensions)."""
    return np.random.default_rng(0).random((_ROWS, dimensions))


def sample_request(subject: ServedModel, metadata: bytes, rows: Floats | None) -> bytes:
    """A request that the model can answer: of ``rows``, (rows, dimensions), or of what it says that it takes.

    Raises:
        AnswerError: it takes numbers, and nobody says how many.
    """
    text = _OF_TEXTS.get(subject.protocol.name)
    if text is not None:
        return json.dumps(text(subject)).encode()
    if rows is None:
        dimensions = len(subject.service.columns) or dimensions_of(metadata)
        if not dimensions:
            raise AnswerError("how many numbers a row of it has is not known here; give rows with --inputs")
        rows = sample_rows(dimensions)
    return subject.protocol.ask(rows, metadata, subject.service)
