"""The queue in front of the model server is bounded and ordered, and refused requests are not charged."""

from __future__ import annotations

import asyncio

import httpx
import pytest

from modeltoll.errors import UpstreamBusy, UpstreamError
from modeltoll.gateway.upstream.bounded_queue import BoundedUpstream
from modeltoll.records import Answer
from modeltoll.testing.model_servers import FakeUpstream, serving


class BlockingModelServer:
    """A model server that answers each body once ``release`` was called for it; ``started`` lists the bodies in order."""

    def __init__(self):
        self.started, self.gates = [], {}

    async def predict(self, path, body, content_type, head):
        self.started.append(body)
        await self.gates.setdefault(body, asyncio.Event()).wait()
        return Answer(200, "text/plain", body)

    def release(self, body):
        self.gates.setdefault(body, asyncio.Event()).set()


async def turns(count=20):
    for _ in range(count):
        await asyncio.sleep(0)


def test_concurrency_and_waiting_are_bounded_and_the_next_request_is_refused_at_once():
    async def story():
        server = BlockingModelServer()
        queue = BoundedUpstream(server, max_concurrent=2, max_waiting=2, max_wait_seconds=60.0)
        asked = [asyncio.create_task(queue.predict("/", body)) for body in (b"a", b"b", b"c", b"d")]
        await turns()
        assert (server.started, queue.active, queue.waiting) == ([b"a", b"b"], 2, 2)
        with pytest.raises(UpstreamBusy, match="too many"):
            await queue.predict("/", b"e")
        server.release(b"b")
        await turns()
        assert (server.started, queue.waiting) == ([b"a", b"b", b"c"], 1)
        for body in (b"a", b"c", b"d"):
            server.release(body)
        answers = await asyncio.gather(*asked)
        assert ([answer.body for answer in answers], queue.active, queue.waiting) == ([b"a", b"b", b"c", b"d"], 0, 0)
        assert server.started[-1] == b"d"

    asyncio.run(story())


def test_a_request_that_waits_too_long_is_refused_and_frees_its_place():
    async def story():
        server = BlockingModelServer()
        queue = BoundedUpstream(server, max_concurrent=1, max_waiting=1, max_wait_seconds=0.0)
        first = asyncio.create_task(queue.predict("/", b"a"))
        await turns()
        for _ in range(2):
            with pytest.raises(UpstreamBusy, match="waited too long"):
                await queue.predict("/", b"late")
        server.release(b"a")
        await first
        server.release(b"b")
        assert (await queue.predict("/", b"b")).body == b"b"
        assert (server.started, queue.active, queue.waiting) == ([b"a", b"b"], 0, 0)

    asyncio.run(story())


def test_cancelled_and_failed_requests_free_their_places():
    async def story():
        server = BlockingModelServer()
        queue = BoundedUpstream(server, max_concurrent=1, max_waiting=5, max_wait_seconds=60.0)
        inside, waiting = [asyncio.create_task(queue.predict("/", body)) for body in (b"a", b"b")]
        await turns()
        for gone in (waiting, inside):
            gone.cancel()
            await asyncio.wait((gone,))
        assert (queue.active, queue.waiting) == (0, 0)
        server.release(b"c")
        assert (await queue.predict("/", b"c")).body == b"c"
        broken = BoundedUpstream(
            FakeUpstream(UpstreamError("down")), max_concurrent=1, max_waiting=0, max_wait_seconds=1.0
        )
        for _ in range(3):
            with pytest.raises(UpstreamError, match="down"):
                await broken.predict("/", b"")

    asyncio.run(story())


def test_health_requests_are_not_queued():
    async def story():
        server = BlockingModelServer()
        server.fetch = lambda path, head: asyncio.sleep(0, Answer(200, "text/plain", path.encode()))
        queue = BoundedUpstream(server, max_concurrent=1, max_waiting=0, max_wait_seconds=1.0)
        inside = asyncio.create_task(queue.predict("/", b"a"))
        await turns()
        assert (await queue.fetch("/ready")).body == b"/ready"
        server.release(b"a")
        await inside

    asyncio.run(story())


def test_a_refused_request_gets_503_in_the_protocols_format_and_is_not_charged(harness):
    """503 with Retry-After: client libraries may retry, as they should."""

    class Full(FakeUpstream):
        async def predict(self, path, body, content_type, head):
            raise UpstreamBusy("too many requests are waiting for the model server; try again later")

    harness.upstream = Full(None)
    with serving(harness.application()) as url:
        response = httpx.post(
            url + harness.path,
            content=harness.infer_body([1, 2]),
            headers={"x-api-key": "alice-key", "content-type": "application/json"},
        )
    assert (response.status_code, list(response.json())) == (503, ["error"])
    assert int(response.headers["retry-after"]) >= 1
    assert (harness.account(), harness.log()) == (None, [])
    assert harness.metric('modeltoll_refusals_total{error="UpstreamBusy"}') == 1
