"""Those who call the demo's API, over HTTP, one row a request."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import httpx
import msgspec
import numpy as np

from modeltoll.client.httpx import TollTransport
from modeltoll.client.purse import Purse
from modeltoll.demo.model_server import INPUT, MODEL, OUTPUT
from modeltoll.errors import ModeltollError, TollTooDear

if TYPE_CHECKING:
    from modeltoll.records import Floats, MachineProfile

__all__ = ["DemoRequest", "Endpoint", "PaidAnswer", "ask", "buy", "requests_for", "scores"]

_PATH = f"/v2/models/{MODEL}/infer"
_TIMEOUT = httpx.Timeout(60.0)


@dataclass(frozen=True, slots=True)
class DemoRequest:
    """One request: its body, and the API key under which it is sent."""

    body: bytes
    key: str


@dataclass(frozen=True, slots=True)
class PaidAnswer:
    """What came of one request. ``seconds`` of waiting, work included; ``body`` is None where the toll was not paid."""

    seconds: float
    body: bytes | None


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where to buy: the gateway's address, and the machine whose seconds a budget means."""

    url: str
    profile: MachineProfile


def requests_for(rows: Floats, keys: Sequence[str]) -> list[DemoRequest]:
    """One request per row, (rows, dimensions), the keys each for an equal run of rows."""
    share = math.ceil(len(rows) / len(keys))
    return [DemoRequest(_body(row), keys[number // share]) for number, row in enumerate(rows)]


def _body(row: Floats) -> bytes:
    tensor = {"name": INPUT, "shape": [1, len(row)], "datatype": "FP64", "data": row.tolist()}
    return msgspec.json.encode({"inputs": [tensor]})


def scores(body: bytes) -> Floats:
    """The probabilities in an answer, (classes,)."""
    outputs = msgspec.json.decode(body)["outputs"]
    return np.asarray(next(output["data"] for output in outputs if output["name"] == OUTPUT), np.float64)


def _post(client: httpx.Client, question: DemoRequest) -> bytes:
    headers = {"content-type": "application/json", "x-api-key": question.key}
    response = client.post(_PATH, content=question.body, headers=headers)
    if response.status_code != 200:
        raise ModeltollError(f"the server answered {response.status_code}: {response.text[:500]}")
    return response.content


def ask(url: str, asked: Iterable[DemoRequest], tick: Callable[[], None]) -> list[PaidAnswer]:
    """Ask the model server itself, the gateway out of the way."""
    with httpx.Client(base_url=url, timeout=_TIMEOUT) as client:
        return [_timed(client, question, tick) for question in asked]


def buy(
    seller: Endpoint, asked: Iterable[DemoRequest], tick: Callable[[], None], budget: float = math.inf
) -> list[PaidAnswer]:
    """Ask through the gateway and solve each toll on one core, until ``budget`` seconds of work are spent.

    What is dearer than the rest of the budget is not opened; the gateway has charged it all the same.
    """
    allowance = None if math.isinf(budget) else budget
    purse = Purse(math.inf, max_seconds_per_hour=allowance, profile=seller.profile)
    with httpx.Client(base_url=seller.url, timeout=_TIMEOUT, transport=TollTransport(purse=purse)) as client:
        return [_timed(client, question, tick) for question in asked]


def _timed(client: httpx.Client, question: DemoRequest, tick: Callable[[], None]) -> PaidAnswer:
    begin = time.perf_counter()
    body: bytes | None
    try:
        body = _post(client, question)
    except TollTooDear:
        body = None
    seconds = time.perf_counter() - begin
    tick()
    return PaidAnswer(seconds, body)
