"""Solving never blocks the event loop, stops when the call is cancelled, and uses at most all cores."""

from __future__ import annotations

import importlib.util
import os
import threading

import anyio
import httpx
import httpx2
import pytest
from starlette.responses import Response

from modeltoll.client.httpx import AsyncTollTransport
from modeltoll.client.purse import Purse
from modeltoll.errors import TollTooDear
from modeltoll.puzzle.counter import Argon2idCounter
from modeltoll.records import Answer, MachineProfile
from modeltoll.toll_records import Challenge, Part, Toll

ANSWER = Answer(200, "a/b", b"body")
UNIT = MachineProfile("unit", "an evaluation takes a second", 1.0, {256: 1.0})
BACKENDS = ["asyncio", *(["trio"] if importlib.util.find_spec("trio") else [])]
ENDLESS = Toll("sealed", Challenge("sha256", (Part(b"s" * 16, 2**46 - 1, b"\0" * 16),)), b"", 1, 1.0)
NO_LIMIT = float("inf")


@pytest.fixture(params=BACKENDS)
def run(request):
    return lambda function: anyio.run(function, backend=request.param)


@pytest.fixture(params=[httpx, httpx2], ids=lambda library: library.__name__)
def library(request):
    return request.param


class WatchedPurse(Purse):
    """Knows how many tolls are worked at, and how many ever were at once."""

    def __init__(self, max_seconds=NO_LIMIT, **options):
        super().__init__(max_seconds, **options)
        self._count = threading.Lock()
        self.inside = self.most = self.work_started = 0

    def pay(self, toll, cancelled=None):
        with self._count:
            self.work_started += 1
            self.inside += 1
            self.most = max(self.most, self.inside)
        try:
            return super().pay(toll, cancelled)
        finally:
            with self._count:
                self.inside -= 1


def client_of(library, purse):
    inner = library.AsyncHTTPTransport(verify=False)
    return library.AsyncClient(transport=AsyncTollTransport(purse=purse, transport=inner))


def test_the_event_loop_runs_while_a_puzzle_is_solved(run, library, toll_server):
    """The solver waits for the loop before it goes on, and never in vain."""
    url = toll_server.serve_toll(ANSWER, evaluations=300.0, maker=Argon2idCounter(UNIT, ladder=[256]))
    ticked, looks = threading.Event(), []

    def progress(done, _most):
        ticked.clear()
        looks.append(done)
        assert ticked.wait(10)

    async def main():
        async with client_of(library, WatchedPurse(progress=progress)) as client, anyio.create_task_group() as group:

            async def tick():
                while True:
                    await anyio.sleep(0.001)
                    ticked.set()

            group.start_soon(tick)
            assert (await client.get(url)).content == b"body"
            group.cancel_scope.cancel()

    run(main)
    assert len(looks) > 2


def test_cancelling_the_call_ends_the_work(run, library, toll_server, toll_response, wait_until):
    url = toll_server.serve_response(toll_response(ENDLESS))
    work_started = threading.Event()
    purse = WatchedPurse(progress=lambda *_: work_started.set())

    async def main():
        async with client_of(library, purse) as client, anyio.create_task_group() as group:
            group.start_soon(client.get, url)
            await anyio.to_thread.run_sync(work_started.wait, 10)
            group.cancel_scope.cancel()

    run(main)
    wait_until(lambda: purse.inside == 0)
    assert purse.work_started == 1
    assert purse.payments == ()


def test_a_call_that_is_cancelled_while_it_waits_for_a_core_spends_nothing(
    run, library, toll_server, toll_response, wait_until
):
    """More calls than cores, on an allowance that holds them all: those that never began leave theirs untouched."""
    url = toll_server.serve_response(toll_response(ENDLESS))
    calls = 3 * (os.cpu_count() or 1)
    cores = os.cpu_count() or 1
    purse = WatchedPurse(max_seconds_per_hour=calls * 2.0**46, profile=UNIT)

    async def main():
        async with client_of(library, purse) as client, anyio.create_task_group() as group:
            for _ in range(calls):
                group.start_soon(client.get, url)
            while purse.work_started < cores or len(toll_server.received) < calls:  # noqa: ASYNC110  another thread counts
                await anyio.sleep(0.005)
            group.cancel_scope.cancel()

    run(main)
    wait_until(lambda: purse.inside == 0)
    assert (purse.work_started, purse.most) == (cores, cores)
    with pytest.raises(TollTooDear) as caught:
        purse.pay(Toll("sealed", Challenge("sha256", (Part(b"s" * 16, 2**50, b"\0" * 16),)), b"", 1, 1.0))
    assert caught.value.limit > calls * 2.0**46 - 1000.0


def test_many_tasks_share_one_client(run, library, toll_server):
    """Each gets its own answer, and no more tolls are worked at than there are cores."""
    for number in range(50):
        toll_server.serve_toll(Answer(200, "a/b", str(number).encode()), f"/{number}", evaluations=200.0)
    purse = WatchedPurse()
    got = {}

    async def main():
        async with client_of(library, purse) as client, anyio.create_task_group() as group:

            async def ask(number):
                got[number] = (await client.get(f"{toll_server.url}/{number}")).content

            for number in range(50):
                group.start_soon(ask, number)

    run(main)
    assert got == {number: str(number).encode() for number in range(50)}
    assert len(purse.payments) == 50
    assert purse.most <= (os.cpu_count() or 1)


def test_a_purse_of_many_cores_lets_fewer_work_at_once(run, library, toll_server):
    toll_server.serve_toll(ANSWER)
    purse = WatchedPurse(cores=1000)

    async def main():
        async with client_of(library, purse) as client, anyio.create_task_group() as group:
            for _ in range(8):
                group.start_soon(client.get, toll_server.url + "/infer")

    run(main)
    assert purse.most == 1


def test_one_transport_serves_one_loop_after_another(run, library, toll_server):
    """As long as its connections are closed in between, as the libraries ask for themselves."""
    toll_server.serve_toll(ANSWER)
    transport = AsyncTollTransport(transport=library.AsyncHTTPTransport(verify=False))

    async def main():
        async with library.AsyncClient(transport=transport, headers={"connection": "close"}) as client:
            assert (await client.get(toll_server.url + "/infer")).content == b"body"

    run(main)
    run(main)


def test_the_librarys_own_transport_is_made_when_it_is_needed(run, library, toll_server):
    toll_server.serve_response(Response(b"plain"))

    async def main():
        async with library.AsyncClient(transport=AsyncTollTransport()) as client:
            assert client._transport._inner is None
            assert (await client.get(toll_server.url + "/infer")).content == b"plain"
            assert type(client._transport._inner) is library.AsyncHTTPTransport

    run(main)
