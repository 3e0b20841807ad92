"""Requests of the Open Inference Protocol for rows, named, shaped and typed as the model's metadata says."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from modeltoll.errors import AnswerError
from modeltoll.gateway.protocols.oip_tensors import BROKEN, NUMERIC, TEXT
from modeltoll.gateway.protocols.rows import split_rows

if TYPE_CHECKING:
    from modeltoll.gateway.protocols.protocol import ServiceDescription
    from modeltoll.records import Floats

__all__ = ["encode_numbers", "encode_values"]


class _TensorMetadata(msgspec.Struct):
    name: str
    datatype: str
    shape: list[int]


class _Metadata(msgspec.Struct):
    inputs: list[_TensorMetadata]


_metadata = msgspec.json.Decoder(_Metadata)


def encode_numbers(inputs: Floats, metadata: bytes, service: ServiceDescription) -> bytes:
    """The input tensors, named, shaped and typed as the model's metadata says; the declared output is asked for.

    The rows of several tensors are split as the service declares its inputs.

    Raises:
        AnswerError: the metadata are not of the protocol, or the model does not take the declared tensors of numbers.
    """
    described = _described(metadata)
    names = [declared.name for declared in service.inputs] or list(described)
    if len(names) != 1 and not service.inputs:
        raise AnswerError("the model takes several inputs; declare them with the setting inputs")
    if described.keys() != set(names) or any(one.datatype not in NUMERIC for one in described.values()):
        raise AnswerError(
            "the model does not take the declared tensors of numbers; give rows of its inputs by name, or recorded requests (--requests)"
        )
    tables = split_rows(inputs if service.batched else inputs[:1], service.inputs)
    bodies = [
        _described_tensor(described[name], table, batched=service.batched)
        for name, table in zip(names, tables, strict=True)
    ]
    return msgspec.json.encode({"inputs": bodies, "outputs": [{"name": service.output}]})


def encode_values(
    columns: tuple[str, ...], rows: list[list[Any]], metadata: bytes, service: ServiceDescription
) -> bytes:
    """One tensor for each named column, typed as the metadata says; values without names are those of the one tensor.

    Raises:
        AnswerError: the metadata are not of the protocol, or the columns are not exactly the model's inputs.
    """
    described = _described(metadata)
    rows = rows if service.batched else rows[:1]
    if len(described) == 1 and not set(columns) & described.keys():
        one = next(iter(described.values()))
        first, row = ([len(rows)], one.shape[1:]) if service.batched else ([], one.shape)
        shape = [*first, *(row if -1 not in row else (len(rows[0]),))]
        data = [value for row in rows for value in row]
        tensors = [{"name": one.name, "shape": shape, "datatype": one.datatype, "data": data}]
    elif set(columns) == described.keys():
        tensors = [
            _value_tensor(described[name], values, batched=service.batched)
            for name, values in zip(columns, zip(*rows, strict=True), strict=True)
        ]
    else:
        raise AnswerError(f"the rows do not have exactly the model's inputs {', '.join(described)}")
    return msgspec.json.encode({"inputs": tensors, "outputs": [{"name": service.output}]})


def _described(metadata: bytes) -> dict[str, _TensorMetadata]:
    """The inputs of the model by name.

    Raises:
        AnswerError: the metadata do not describe them.
    """
    try:
        return {one.name: one for one in _metadata.decode(metadata).inputs}
    except (ValueError, RecursionError) as error:  # msgspec.DecodeError is a ValueError
        raise AnswerError("the model's metadata is not of the protocol", private=str(error)) from None


def _value_tensor(described: _TensorMetadata, values: tuple[Any, ...], *, batched: bool) -> dict[str, Any]:
    """A tensor of one value, or one list of values, a row."""
    wide = isinstance(values[0], list)
    data = [item for value in values for item in value] if wide else list(values)
    if described.datatype == TEXT:
        data = [value if isinstance(value, str) or value is None else str(value) for value in data]
    further = [len(values[0])] if wide else [1] * (len(described.shape) - batched)
    shape = [len(values), *further] if batched else further
    return {"name": described.name, "shape": shape, "datatype": described.datatype, "data": data}


def _described_tensor(described: _TensorMetadata, rows: Floats, *, batched: bool) -> dict[str, Any]:
    """A tensor of these rows as the metadata describe it."""
    further = described.shape[1:] if batched else described.shape
    row = further if -1 not in further else list(rows.shape[1:])
    shape = [len(rows), *row] if batched else row
    whole = described.datatype not in BROKEN
    data = (rows.astype(np.int64) if whole else rows).reshape(-1).tolist()
    return {"name": described.name, "shape": shape, "datatype": described.datatype, "data": data}
