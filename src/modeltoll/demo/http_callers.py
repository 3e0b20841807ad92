"""The HTTP client of the demo's callers: one row per request, directly to the model server or through the gateway."""

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

__all__ = ["DemoRequest", "GatewayEndpoint", "TimedAnswer", "ask_directly", "ask_with_toll", "requests_for", "scores"]

_PATH = f"/v2/models/{MODEL}/infer"
_TIMEOUT = httpx.Timeout(60.0)


@dataclass(frozen=True, slots=True)
class DemoRequest:
    """One request: its body and the API key it is sent with."""

    body: bytes
    key: str


@dataclass(frozen=True, slots=True)
class TimedAnswer:
    """The answer to one request. ``seconds`` is the wait, work included; ``body`` is None if the toll was not paid."""

    seconds: float
    body: bytes | None


@dataclass(frozen=True, slots=True)
class GatewayEndpoint:
    """The gateway's URL, and the profile of the machine in whose seconds a budget is stated."""

    url: str
    profile: MachineProfile


def requests_for(rows: Floats, keys: Sequence[str]) -> list[DemoRequest]:
    """One request per row of (rows, dimensions); each key is used for an equal number of consecutive rows."""
    share = math.ceil(len(rows) / len(keys))
    return [DemoRequest(_body(row), keys[number // share]) for number, row in enumerate(rows)]


def _body(row: Floats) -> bytes:
    tensor = {"name": INPUT, "shape": [1, len(row)], "datatype": "FP64", "data": row.tolist()}
    return msgspec.json.encode({"inputs": [tensor]})


def scores(body: bytes) -> Floats:
    """The probabilities (classes,) in an answer's body."""
    outputs = msgspec.json.decode(body)["outputs"]
    return np.asarray(next(output["data"] for output in outputs if output["name"] == OUTPUT), np.float64)


def _post(client: httpx.Client, request: DemoRequest) -> bytes:
    headers = {"content-type": "application/json", "x-api-key": request.key}
    response = client.post(_PATH, content=request.body, headers=headers)
    if response.status_code != 200:
        raise ModeltollError(f"the server answered {response.status_code}: {response.text[:500]}")
    return response.content


def ask_directly(url: str, requests: Iterable[DemoRequest], on_answer: Callable[[], None]) -> list[TimedAnswer]:
    """Send the requests to the model server, without the gateway; ``on_answer`` is called after each."""
    with httpx.Client(base_url=url, timeout=_TIMEOUT) as client:
        return [_timed(client, request, on_answer) for request in requests]


def ask_with_toll(
    endpoint: GatewayEndpoint, requests: Iterable[DemoRequest], on_answer: Callable[[], None], budget: float = math.inf
) -> list[TimedAnswer]:
    """Send the requests through the gateway and solve each toll on one core, within ``budget`` seconds of work.

    An answer whose toll exceeds the rest of the budget is not opened; the gateway has charged it nevertheless.
    """
    allowance = None if math.isinf(budget) else budget
    purse = Purse(math.inf, max_seconds_per_hour=allowance, profile=endpoint.profile)
    with httpx.Client(base_url=endpoint.url, timeout=_TIMEOUT, transport=TollTransport(purse=purse)) as client:
        return [_timed(client, request, on_answer) for request in requests]


def _timed(client: httpx.Client, request: DemoRequest, on_answer: Callable[[], None]) -> TimedAnswer:
    begin = time.perf_counter()
    body: bytes | None
    try:
        body = _post(client, request)
    except TollTooDear:
        body = None
    seconds = time.perf_counter() - begin
    on_answer()
    return TimedAnswer(seconds, body)
