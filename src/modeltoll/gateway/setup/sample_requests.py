"""A harmless request for each kind of model, to try a model server before its callers do."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from modeltoll.errors import AnswerError
from modeltoll.gateway.protocols.probe import dimensions_of, sample_rows
from modeltoll.gateway.protocols.registry import PROTOCOLS

if TYPE_CHECKING:
    from modeltoll.gateway.core.request import ServedModel
    from modeltoll.records import Floats

__all__ = ["sample_request"]


def sample_request(served_model: ServedModel, metadata: bytes, rows: Floats | None) -> bytes:
    """A request that the model can answer: of ``rows``, (rows, dimensions), or of made-up rows or texts.

    Raises:
        AnswerError: the model takes numbers, and the length of a row is not known.
    """
    spec = PROTOCOLS.find(served_model.protocol.name)
    if spec.sample is not None:
        named = {"model": served_model.service.served_as or served_model.service.model} if spec.names_model else {}
        return json.dumps({**named, **spec.sample}).encode()
    if rows is None:
        widths = [declared.width for declared in served_model.service.inputs]
        declared = 0 if None in widths else sum(width or 0 for width in widths)
        dimensions = declared or dimensions_of(metadata) or len(widths)  # a column of a data frame is one number
        if not dimensions:
            raise AnswerError("the length of a row is not known; give rows with --inputs")
        rows = sample_rows(dimensions)
    return served_model.protocol.ask(rows, metadata, served_model.service)
