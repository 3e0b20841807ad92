"""A chat that an application streams itself, with the gate inside that application; and one over real connections."""

from __future__ import annotations

import asyncio
import threading

import httpx
import pytest
import yaml
from fastapi import FastAPI, Request
from starlette.responses import StreamingResponse

from chat_streams import DONE, Exchange, documents_in, event, said
from modeltoll import wire
from modeltoll.gateway.middleware import TollMiddleware
from modeltoll.pricing.calibration_file import save_calibration
from modeltoll.puzzle.puzzle import SolveControl
from modeltoll.puzzle.seal import open_answer
from modeltoll.puzzle.solver import solve
from modeltoll.testing.model_servers import serving
from served_gateway import CHAT, served_gateway

PATH = "/v1/chat/completions"
EVENTS = [*map(event, said("Hello", " world")), DONE]
ASK = {"model": "llm", "messages": [{"role": "user", "content": "hi"}], "stream": True}


@pytest.fixture
def settings(tmp_path, chat_calibration):
    """Writes settings of a chat model, and gives their path."""
    save_calibration(chat_calibration, tmp_path / "llm.json")

    def write(**changes):
        output = {"kind": "tokens", "logprobs": "raw"}
        model = CHAT | {"tariff": "llm.json", "served_as": "llm", "output": output} | changes
        document = {"upstream": {"url": "app"}, "ledger": {"url": "memory://"}, "models": {"digits": model}}
        path = tmp_path / "modeltoll.yaml"
        path.write_text(yaml.safe_dump(document))
        return path

    return write


class ChatApplication:
    """A FastAPI application that streams a chat; ``release`` is awaited after the first event."""

    def __init__(self, settings, **changes):
        self.release, self.closed, self.background = asyncio.Event(), [], []
        self.app = FastAPI()
        self.app.post(PATH)(self.chat)
        self.app.add_middleware(TollMiddleware, settings=settings(**changes))

    async def chat(self, request: Request):
        assert (await request.json())["top_logprobs"] == 20
        return StreamingResponse(self.events(), media_type="text/event-stream")

    async def events(self):
        try:
            for place, one in enumerate(EVENTS):
                yield one
                if place == 0:
                    await self.release.wait()
        finally:
            self.closed.append(True)


def test_an_application_s_stream_is_sealed(settings):
    async def run():
        chat = ChatApplication(settings, mode="enforce", puzzle={"allow": ["sha256"]})
        chat.release.set()
        return await Exchange(chat.app, PATH, ASK, key=None).end()

    exchange = asyncio.run(run())
    assert exchange.status == 402
    toll = wire.decode_toll(exchange.body)
    associated = wire.canonical_challenge(toll.challenge, toll.mode)
    answer = open_answer(toll.payload, solve(toll.challenge, SolveControl()), associated).answer
    texts = [one["choices"][0]["delta"].get("content") for one in documents_in(answer.body)]
    assert texts == ["", "Hello", " world", None]


def test_an_application_s_stream_goes_out_as_it_comes_in_shadow_mode(settings):
    async def run():
        chat = ChatApplication(settings)
        exchange = Exchange(chat.app, PATH, ASK, key=None)
        await exchange.until(lambda: len(exchange.chunks) == 1)
        assert chat.closed == []
        chat.release.set()
        return await exchange.end()

    exchange = asyncio.run(run())
    assert exchange.status == 200
    assert len(documents_in(exchange.body)) == 4
    assert exchange.chunks[-1].startswith(b": Toll-Receipt: rows=1; work=")


def test_a_caller_who_leaves_ends_the_application_s_stream(settings):
    async def run():
        chat = ChatApplication(settings)
        exchange = Exchange(chat.app, PATH, ASK, key=None)
        await exchange.until(lambda: len(exchange.chunks) == 1)
        exchange.hang_up()
        await exchange.end()
        async with asyncio.timeout(10):
            while not chat.closed:  # noqa: ASYNC110  a generator says when it is closed, and to nobody else
                await asyncio.sleep(0)

    asyncio.run(run())


def test_over_real_connections_events_pass_one_by_one_and_a_hang_up_reaches_the_model_server(tmp_path):
    seen, left = threading.Event(), threading.Event()

    async def chat(scope, receive, send):
        await receive()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/event-stream")]})
        await send({"type": "http.response.body", "body": EVENTS[0], "more_body": True})
        await asyncio.to_thread(seen.wait, 20)
        for one in EVENTS[1:3]:
            await send({"type": "http.response.body", "body": one, "more_body": True})
        while (await receive())["type"] != "http.disconnect":
            pass
        left.set()

    with serving(chat) as upstream, served_gateway(tmp_path, upstream, {"llm": CHAT}) as gateway:
        with httpx.stream("POST", gateway.url + PATH, json=ASK, timeout=20) as response:
            assert (response.status_code, response.headers["x-accel-buffering"]) == (200, "no")
            chunks = response.iter_raw()
            assert documents_in(next(chunks))[0]["choices"][0]["delta"]["role"] == "assistant"
            seen.set()
            assert b"Hello" in next(chunks)
        assert left.wait(20)
