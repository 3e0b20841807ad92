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

_MLFLOW = "mlflow"  # whose inputs are columns of a data frame


def _declared_width(served_model: ServedModel) -> int:
    """How many numbers a row has by the settings: a column of a data frame has one. 0 where they do not say."""
    inputs = served_model.service.inputs
    frame = served_model.protocol.name == _MLFLOW
    widths = [one.width or int(frame) for one in inputs]
    return sum(widths) if widths and min(widths) > 0 else 0


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
        dimensions = _declared_width(served_model) or dimensions_of(metadata)
        if not dimensions:
            raise AnswerError("the length of a row is not known; give rows with --inputs")
        rows = sample_rows(dimensions)
    return served_model.protocol.ask(rows, metadata, served_model.service)
