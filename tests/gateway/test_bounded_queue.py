"""The queue in front of the model server: bounded, in order, and nothing is charged for what it turns away."""

from __future__ import annotations

import asyncio

import httpx
import pytest

from modeltoll.errors import UpstreamBusy, UpstreamError
from modeltoll.gateway.upstream.bounded_queue import BoundedUpstream
from modeltoll.records import Answer
from modeltoll.testing.protocols import FakeUpstream, serving


class Held:
    """A model server that answers when it is let go; ``begun`` keeps the bodies in the order in which they came."""

    def __init__(self):
        self.begun, self.gates = [], {}

    async def predict(self, path, body, content_type):
        self.begun.append(body)
        await self.gates.setdefault(body, asyncio.Event()).wait()
        return Answer(200, "text/plain", body)

    def let(self, body):
        self.gates.setdefault(body, asyncio.Event()).set()


async def turns(count=20):
    for _ in range(count):
        await asyncio.sleep(0)


def test_so_many_are_inside_so_many_wait_in_order_and_the_next_is_refused_at_once():
    async def story():
        held = Held()
        queue = BoundedUpstream(held, max_concurrent=2, max_waiting=2, max_wait_seconds=60.0)
        asked = [asyncio.create_task(queue.predict("/", body)) for body in (b"a", b"b", b"c", b"d")]
        await turns()
        assert (held.begun, queue.active, queue.waiting) == ([b"a", b"b"], 2, 2)
        with pytest.raises(UpstreamBusy, match="too many"):
            await queue.predict("/", b"e")
        held.let(b"b")
        await turns()
        assert (held.begun, queue.waiting) == ([b"a", b"b", b"c"], 1)
        for body in (b"a", b"c", b"d"):
            held.let(body)
        answers = await asyncio.gather(*asked)
        assert ([answer.body for answer in answers], queue.active, queue.waiting) == ([b"a", b"b", b"c", b"d"], 0, 0)
        assert held.begun[-1] == b"d"

    asyncio.run(story())


def test_who_waits_too_long_is_refused_and_his_place_is_free_again():
    async def story():
        held = Held()
        queue = BoundedUpstream(held, max_concurrent=1, max_waiting=1, max_wait_seconds=0.0)
        first = asyncio.create_task(queue.predict("/", b"a"))
        await turns()
        for _ in range(2):
            with pytest.raises(UpstreamBusy, match="no time"):
                await queue.predict("/", b"late")
        held.let(b"a")
        await first
        held.let(b"b")
        assert (await queue.predict("/", b"b")).body == b"b"
        assert (held.begun, queue.active, queue.waiting) == ([b"a", b"b"], 0, 0)

    asyncio.run(story())


def test_callers_who_leave_and_model_servers_that_fail_give_their_places_back():
    async def story():
        held = Held()
        queue = BoundedUpstream(held, max_concurrent=1, max_waiting=5, max_wait_seconds=60.0)
        inside, waiting = [asyncio.create_task(queue.predict("/", body)) for body in (b"a", b"b")]
        await turns()
        for gone in (waiting, inside):
            gone.cancel()
            await asyncio.wait((gone,))
        assert (queue.active, queue.waiting) == (0, 0)
        held.let(b"c")
        assert (await queue.predict("/", b"c")).body == b"c"
        broken = BoundedUpstream(
            FakeUpstream(UpstreamError("down")), max_concurrent=1, max_waiting=0, max_wait_seconds=1.0
        )
        for _ in range(3):
            with pytest.raises(UpstreamError, match="down"):
                await broken.predict("/", b"")

    asyncio.run(story())


def test_health_does_not_stand_in_the_queue():
    async def story():
        held = Held()
        held.fetch = lambda path: asyncio.sleep(0, Answer(200, "text/plain", path.encode()))
        queue = BoundedUpstream(held, max_concurrent=1, max_waiting=0, max_wait_seconds=1.0)
        inside = asyncio.create_task(queue.predict("/", b"a"))
        await turns()
        assert (await queue.fetch("/ready")).body == b"/ready"
        held.let(b"a")
        await inside

    asyncio.run(story())


def test_who_is_turned_away_gets_503_in_the_protocols_shape_and_pays_nothing(harness):
    """503 with Retry-After: client libraries may try again, and that is right here."""

    class Full(FakeUpstream):
        async def predict(self, path, body, content_type):
            raise UpstreamBusy("too many requests wait for the model; try again later")

    harness.upstream = Full(None)
    with serving(harness.application()) as url:
        response = httpx.post(
            url + harness.path, content=harness.infer_body([1, 2]), headers={"x-api-key": "alice-key"}
        )
    assert (response.status_code, list(response.json())) == (503, ["error"])
    assert int(response.headers["retry-after"]) >= 1
    assert (harness.account(), harness.log()) == (None, [])
    assert harness.metric('modeltoll_refusals_total{error="UpstreamBusy"}') == 1
