"""How ``init`` asks a model server what it serves: the record of a model, the probe, and helpers for unknown JSON."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Awaitable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

import msgspec
import numpy as np

from modeltoll.errors import AnswerError, UpstreamError
from modeltoll.gateway.protocols.protocol import DeclaredInput

if TYPE_CHECKING:
    from modeltoll.records import Answer, Floats

__all__ = [
    "MODEL_NAME",
    "DiscoveredModel",
    "ModelServer",
    "Probe",
    "described_inputs",
    "dimensions_of",
    "kind_of_scores",
    "member_at",
    "names_in",
    "sample_rows",
    "with_scores",
]

MODEL_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
_TOLERANCE = 1e-3
_ROWS = 4
_BINARY = 2  # classes of a model that shows one score


@dataclass(frozen=True, slots=True)
class DiscoveredModel:
    """A model that can be put behind a gateway. ``guessed`` says what no answer confirmed; empty: nothing is guessed.

    ``inputs`` are the model's named inputs in its order, where its description lists them. ``json_path`` are the members of
    that section of the settings, ``unmeasured`` members beside the scores that show a label, and ``tolerance`` is what the
    scores that were seen need; None: the default is enough. ``batched``: as of ``ServiceDescription``.
    """

    model: str
    protocol: str
    kind: str
    output: str = ""
    classes: int | None = None
    labels: tuple[str, ...] = ()
    others: tuple[str, ...] = ()
    guessed: str = ""
    inputs: tuple[DeclaredInput, ...] = ()
    json_path: tuple[tuple[str, object], ...] = ()
    unmeasured: tuple[str, ...] = ()
    tolerance: float | None = None
    batched: bool = True

    @property
    def setting(self) -> str:
        """The name in the settings: the model's own, without the characters that settings do not allow."""
        last = self.model.rpartition("/")[2]
        cleaned = re.sub(r"[^A-Za-z0-9_.-]+", "-", last).lstrip("_.-")[:64]
        return cleaned or "model"


class ModelServer(Protocol):
    """What a probe needs of a model server's client."""

    async def fetch(self, path: str) -> Answer:
        """GET a path."""

    async def predict(self, path: str, body: bytes) -> Answer:
        """POST JSON to a path."""


class Probe:
    """Sends requests to a model server. Anything but JSON with status 200 is None."""

    def __init__(self, server: ModelServer) -> None:
        self._server = server

    async def get(self, path: str) -> Any:
        return await self._read(self._server.fetch(path))

    async def post(self, path: str, document: Any) -> Any:
        return await self._read(self._server.predict(path, json.dumps(document).encode()))

    async def refusal(self, path: str, document: Any) -> str:
        """The text with which a server refuses JSON (status 4xx), or an empty one."""
        try:
            answer = await self._server.predict(path, json.dumps(document).encode())
        except (UpstreamError, AnswerError):
            return ""
        return answer.body.decode("utf-8", "replace") if 400 <= answer.status < 500 else ""

    async def ready(self, path: str) -> bool:
        try:
            return (await self._server.fetch(path)).status == 200
        except (UpstreamError, AnswerError):
            return False

    @staticmethod
    async def _read(asking: Awaitable[Any]) -> Any:
        try:
            answer = await asking
            return json.loads(answer.body) if answer.status == 200 else None
        except (UpstreamError, AnswerError, ValueError, RecursionError):
            return None


def member_at(document: Any, *path: str | int) -> Any:
    """A member of a member, or None."""
    for step in path:
        if isinstance(document, dict) and isinstance(step, str):
            document = document.get(step)
        elif isinstance(document, list) and isinstance(step, int) and -len(document) <= step < len(document):
            document = document[step]
        else:
            return None
    return document


def names_in(listed: Any, member: str | None = None) -> list[str]:
    """The names in a list, or in such a member of its objects."""
    items = listed if isinstance(listed, list) else []
    names = [member_at(item, member) if member else item for item in items]
    return [name for name in names if isinstance(name, str) and name]


def kind_of_scores(scores: Any) -> tuple[str, int] | None:
    """What rows of scores are, and of how many classes; None where they are no such rows."""
    try:
        table = np.asarray(scores, np.float64)
    except (ValueError, TypeError):
        return None
    if table.ndim == 2 and table.shape[1] == 1 and np.isfinite(table).all():  # of a binary model
        return ("probabilities" if bool(((table >= 0) & (table <= 1)).all()) else "logits"), _BINARY
    if table.ndim != 2 or table.shape[1] < 2 or not np.isfinite(table).all():
        return None
    sums = bool((table >= 0).all() and np.allclose(table.sum(axis=1), 1.0, atol=_TOLERANCE, rtol=0))
    return ("probabilities" if sums else "logits"), table.shape[1]


def with_scores(find: DiscoveredModel, scores: Any) -> DiscoveredModel:
    """The model with what the scores of an answer show: their kind and the number of classes."""
    kind = kind_of_scores(scores)
    if kind is None:
        return find
    return replace(find, kind=kind[0], classes=kind[1], guessed="")


class _Tensor(msgspec.Struct):
    name: str
    shape: list[int]
    datatype: str = ""


class _Metadata(msgspec.Struct):
    inputs: list[_Tensor]


def described_inputs(metadata: bytes, *, batched: bool = True) -> tuple[DeclaredInput, ...]:
    """The inputs in an Open Inference model's description of itself, in its order; empty where it is no such description.

    A width is None where the description leaves a dimension open. ``batched``: the first dimension is that of the rows.
    """
    try:
        inputs = msgspec.json.decode(metadata, type=_Metadata).inputs
    except (ValueError, RecursionError):  # msgspec.DecodeError is a ValueError
        return ()
    rows = [(one, one.shape[1:] if batched else one.shape) for one in inputs if one.name and one.shape]
    return tuple(
        DeclaredInput(one.name, math.prod(shape) if min(shape, default=1) > 0 else None, one.datatype)
        for one, shape in rows
    )


def dimensions_of(metadata: bytes, *, batched: bool = True) -> int | None:
    """How many numbers a row has, by an Open Inference model's description of itself; None where it does not say."""
    widths = [one.width for one in described_inputs(metadata, batched=batched)]
    return None if None in widths or not widths else sum(width or 0 for width in widths)


def sample_rows(dimensions: int) -> Floats:
    """A few rows of numbers between 0 and 1, always the same, (rows, dimensions)."""
    return np.random.default_rng(0).random((_ROWS, dimensions))
