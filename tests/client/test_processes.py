"""Clients in forked processes and in several event loops."""

from __future__ import annotations

import asyncio
import multiprocessing
import threading

import httpx
import pytest

from modeltoll.client.forks import ForkSafeLock
from modeltoll.client.httpx import AsyncTollTransport, TollTransport
from modeltoll.client.purse import Purse
from modeltoll.records import Answer

pytestmark = [
    pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="the system has no fork"),
    pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning"),
]
ANSWER = b'{"scores": [[0.5, 0.5]]}'


def in_a_fork(work):
    """What ``work`` returns in a forked process, or the text of its error."""
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)

    def run():
        try:
            sender.send(work())
        except BaseException as error:  # noqa: BLE001  sent to the parent
            sender.send(repr(error))

    process = context.Process(target=run)
    process.start()
    assert receiver.poll(30), "the forked process does not end"
    result = receiver.recv()
    process.join()
    return result


@pytest.fixture
def toll_url(toll_server):
    return toll_server.serve_toll(Answer(200, "application/json", ANSWER))


def test_a_forked_process_uses_connections_of_its_own_and_those_of_the_parent_stay_usable(toll_url):
    with httpx.Client(transport=TollTransport(), timeout=30) as client:
        assert client.get(toll_url).content == ANSWER
        assert in_a_fork(lambda: [client.get(toll_url).content for _ in range(2)]) == [ANSWER] * 2
        assert client.get(toll_url).content == ANSWER


def test_a_transport_that_was_given_and_used_before_the_fork_says_so(toll_url):
    with httpx.Client(transport=TollTransport(transport=httpx.HTTPTransport()), timeout=30) as client:
        assert in_a_fork(lambda: client.get(toll_url).content) == ANSWER
        assert client.get(toll_url).content == ANSWER
        assert "make a client after the fork" in in_a_fork(lambda: client.get(toll_url).content)


def test_receipts_stay_with_the_parent_and_calls_in_progress_hold_no_child_up():
    purse = Purse()
    account = ("http://server", "")
    purse.receipts.add(account, "/settle", b"receipt")
    with purse.receipts.flight(account) as parents:
        purse.receipts.start(account, parents)

        def childs():
            with purse.receipts.flight(account) as flight:
                return purse.receipts.has_others(account, flight), len(purse.receipts)

        assert in_a_fork(childs) == (False, 0)
    assert len(purse.receipts) == 1


def test_a_lock_that_another_thread_holds_at_the_fork_is_free_in_the_child():
    lock, held, done = ForkSafeLock(), threading.Event(), threading.Event()

    def hold():
        with lock:
            held.set()
            done.wait(60)

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait(60)

    def take():
        with lock:
            return True

    try:
        assert in_a_fork(take) is True
    finally:
        done.set()
        thread.join()


def test_one_transport_serves_several_event_loops_one_after_the_other(toll_url):
    transport = AsyncTollTransport()

    async def ask():
        client = httpx.AsyncClient(transport=transport, timeout=30)
        answers = await asyncio.gather(*(client.get(toll_url) for _ in range(3)))
        await client.aclose()
        return [answer.content for answer in answers]

    for _ in range(3):
        assert asyncio.run(ask()) == [ANSWER] * 3
