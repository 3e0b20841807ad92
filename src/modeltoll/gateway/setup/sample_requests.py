"""Harmless requests for each kind of model, to try a model server before its callers do."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np

from modeltoll.errors import AnswerError
from modeltoll.gateway.protocols.probe import dimensions_of
from modeltoll.gateway.protocols.registry import PROTOCOLS, SAMPLE_TEXT

if TYPE_CHECKING:
    from modeltoll.gateway.core.request import ServedModel

__all__ = ["sample_requests"]


def sample_requests(served_model: ServedModel, metadata: bytes, count: int = 64) -> list[bytes]:
    """Requests of one made-up row or text each, ``count`` of them where rows are numbers.

    Raises:
        AnswerError: the model takes numbers, and the length of a row is not known.
    """
    spec = PROTOCOLS.find(served_model.protocol.name)
    if spec.sample is not None:
        named = {"model": served_model.service.served_as or served_model.service.model} if spec.names_model else {}
        return [json.dumps({**named, **spec.sample}).encode()]
    widths = [declared.width for declared in served_model.service.inputs]
    declared = 0 if None in widths else sum(width or 0 for width in widths)
    dimensions = (
        declared or dimensions_of(metadata, batched=served_model.service.batched) or len(widths)
    )  # a column of a data frame is one number
    if not dimensions and spec.json_path and (ask := getattr(served_model.protocol, "ask_values", None)):
        return [ask((), [[SAMPLE_TEXT]], metadata, served_model.service)]
    if not dimensions:
        raise AnswerError("the length of a row is not known; give rows with --inputs, or recorded ones with --requests")
    rows = np.random.default_rng(0).random((count, dimensions))
    return [served_model.protocol.ask(row[None], metadata, served_model.service) for row in rows]
