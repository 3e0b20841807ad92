"""The clients in front of a real gateway: they settle what they pay, and their programs notice nothing."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor

import aiohttp
import httpx
import pytest
import requests

from modeltoll import wire
from modeltoll.client.aiohttp import TollMiddleware
from modeltoll.client.httpx import AsyncTollTransport, TollTransport
from modeltoll.client.purse import Purse
from modeltoll.client.requests import TollAdapter
from modeltoll.gateway.core.credit import Credit, CreditTerms
from modeltoll.testing.model_servers import serving

ALICE = {"x-api-key": "alice-key", "content-type": "application/json"}


def with_httpx(purse, url, bodies):
    with httpx.Client(transport=TollTransport(purse=purse), headers=ALICE, timeout=30) as client:
        return [client.post(url, content=body).content for body in bodies]


def with_requests(purse, url, bodies):
    with requests.Session() as session:
        session.mount("http://", TollAdapter(purse=purse))
        return [session.post(url, body, headers=ALICE, timeout=30).content for body in bodies]


def with_httpx_async(purse, url, bodies):
    async def main():
        transport = AsyncTollTransport(purse=purse)
        async with httpx.AsyncClient(transport=transport, headers=ALICE, timeout=30) as client:
            return [(await client.post(url, content=body)).content for body in bodies]

    return asyncio.run(main())


def with_aiohttp(purse, url, bodies):
    async def main():
        async with aiohttp.ClientSession(middlewares=[TollMiddleware(purse=purse)], headers=ALICE) as session:
            return [await (await session.post(url, data=body)).read() for body in bodies]

    return asyncio.run(main())


CLIENTS = {"httpx": with_httpx, "httpx-async": with_httpx_async, "requests": with_requests, "aiohttp": with_aiohttp}


@pytest.fixture(params=CLIENTS)
def send(request):
    """``send(purse, url, bodies)``: the answers that one client gets, which is then closed."""
    return CLIENTS[request.param]


@pytest.fixture
def harness(harness):
    """A gate with a credit of ten units for everybody."""
    credit = Credit(1e-9, 10.0)
    harness.credit = CreditTerms(credit, credit)
    return harness


class Gateway:
    """The harness's public application behind a proxy that removes a prefix; records (path, status) of its requests."""

    def __init__(self, app, prefix):
        self._app = app
        self._prefix = prefix
        self.requests = []
        self.url = ""

    async def __call__(self, scope, receive, send):
        async def record(message):
            if message["type"] == "http.response.start":
                self.requests.append((path, message["status"]))
            await send(message)

        assert scope["path"].startswith(self._prefix)
        path = scope["path"].removeprefix(self._prefix)
        await self._app(scope | {"path": path, "raw_path": path.encode()}, receive, record)


@pytest.fixture(params=["", "/eu/west"], ids=["root", "prefix"])
def gateway(harness, request):
    served = Gateway(harness.application(), request.param)
    with serving(served) as url:
        served.url = url + request.param
        yield served


def bodies_of(harness, requests_, rows):
    return [
        harness.infer_body(
            [[request * rows + row, 2] for row in range(rows)],
        )
        for request in range(requests_)
    ]


def answer_of(harness, rows):
    return harness.answer(harness.confident_scores(rows)).body


def test_requests_one_after_another_never_meet_admission(harness, gateway, send):
    """Seven credits in all; one more round trip, when the client closes, and nothing is owed at the end."""
    answers = send(Purse(), gateway.url + harness.path, bodies_of(harness, 12, 6))
    assert answers == [answer_of(harness, 6)] * 12
    assert [status for _, status in gateway.requests] == [402] * 12 + [204]
    assert {entry.mode for entry in harness.log()} == {"sealed"}
    standing = harness.standing()
    assert (standing.unsettled, standing.settled_rows) == (pytest.approx(0.0, abs=1e-9), 72)


def test_a_batch_beyond_the_credit_pays_first_and_what_follows_is_free_of_admission(harness, gateway, send):
    purse = Purse()
    batch, *small = [*bodies_of(harness, 1, 40), *bodies_of(harness, 3, 6)]
    answers = send(purse, gateway.url + harness.path, [batch, *small])
    assert answers == [answer_of(harness, 40), *[answer_of(harness, 6)] * 3]
    paths = [path for path, _ in gateway.requests]
    assert paths[:2] == [harness.path, wire.REDEEM_PATH]
    assert paths.count(wire.REDEEM_PATH) == 1
    assert harness.standing().unsettled == pytest.approx(0.0, abs=1e-9)


def test_many_calls_at_once_get_their_answers_and_owe_nothing(harness, gateway):
    """Ten credits: some calls wait for others or pay first, each gets its answer, and nobody pays twice."""
    purse, bodies = Purse(), bodies_of(harness, 20, 5)
    transport = TollTransport(purse=purse)
    with httpx.Client(transport=transport, headers=ALICE, timeout=60) as client, ThreadPoolExecutor(10) as pool:
        answers = list(pool.map(lambda body: client.post(gateway.url + harness.path, content=body).content, bodies))
    assert answers == [answer_of(harness, 5)] * 20
    standing, worth = harness.standing(), sum(entry.work.seconds for entry in harness.log())
    assert standing.unsettled == pytest.approx(0.0, abs=1e-9)
    paid = sum(payment.expected for payment in purse.payments)
    assert paid < 2.2 * (worth + standing.prepaid)  # the published work is rounded up, to less than twice the work


def test_a_client_without_receipts_redeems(harness, gateway, send):
    """And settles thereby."""
    purse = Purse()
    purse.accept_header = "sha256; mode=redeem"
    answers = send(purse, gateway.url + harness.path, bodies_of(harness, 6, 6))
    assert answers == [answer_of(harness, 6)] * 6
    assert gateway.requests == [(harness.path, 402), (wire.REDEEM_PATH, 200)] * 6
    assert harness.standing().settled_rows == 36
