"""The unmodified OpenAI SDK gets its answers through a toll house, by a transport of its own or by the sidecar."""

from __future__ import annotations

import asyncio
import json

import httpx2
import openai
import pytest
from starlette.responses import StreamingResponse

from modeltoll.client.httpx import AsyncTollTransport, TollTransport
from modeltoll.client.purse import Purse
from modeltoll.errors import TollTooDear
from modeltoll.records import Answer

EMBEDDING = {"object": "embedding", "index": 0, "embedding": [0.5, -0.25]}
USAGE = {"prompt_tokens": 1, "total_tokens": 1, "completion_tokens": 0}
EMBEDDINGS = {"object": "list", "data": [EMBEDDING], "model": "m", "usage": USAGE}
CHOICE = {"index": 0, "message": {"role": "assistant", "content": "hello"}, "finish_reason": "stop"}
CHAT = {"id": "1", "object": "chat.completion", "created": 1, "model": "m", "choices": [CHOICE], "usage": USAGE}
HELLO = [{"role": "user", "content": "hi"}]


@pytest.fixture
def shop(house):
    """A house that sells embeddings and chats; the base URL."""
    for path, answer in (("/v1/embeddings", EMBEDDINGS), ("/v1/chat/completions", CHAT)):
        house.sell(Answer(200, "application/json", json.dumps(answer).encode()), path)
    return house.url + "/v1"


def client_of(base_url, purse):
    transport = TollTransport(purse=purse, transport=httpx2.HTTPTransport(verify=False))
    return openai.OpenAI(base_url=base_url, api_key="sk-1", http_client=httpx2.Client(transport=transport))


def test_the_sdk_gets_its_answers_after_one_request_each(house, shop):
    purse = Purse()
    with client_of(shop, purse) as client:
        assert client.embeddings.create(model="m", input="hi", encoding_format="float").data[0].embedding == [
            0.5,
            -0.25,
        ]
        assert client.chat.completions.create(model="m", messages=HELLO).choices[0].message.content == "hello"
    assert len(purse.payments) == len(house.seen) == 2
    assert {headers["authorization"] for _, _, headers, _ in house.seen} == {"Bearer sk-1"}


def test_the_async_sdk_gets_its_answers(shop):
    async def main():
        transport = AsyncTollTransport(transport=httpx2.AsyncHTTPTransport(verify=False))
        session = httpx2.AsyncClient(transport=transport)
        async with openai.AsyncOpenAI(base_url=shop, api_key="sk-1", http_client=session) as client:
            chats = [client.chat.completions.create(model="m", messages=HELLO) for _ in range(4)]
            return [chat.choices[0].message.content for chat in await asyncio.gather(*chats)]

    assert asyncio.run(main()) == ["hello"] * 4


def test_a_dear_toll_is_not_tried_again(house, shop):
    """The SDK repeats what fails on the way; a refusal of the purse is none of that."""
    with client_of(shop, Purse(0.0)) as client, pytest.raises(TollTooDear):
        client.chat.completions.create(model="m", messages=HELLO)
    assert len(house.seen) == 1


def test_a_stream_without_a_toll_streams(house):
    async def events():
        for word in ("a", "b"):
            choice = {"index": 0, "delta": {"content": word}}
            yield (
                b"data: "
                + json.dumps(CHAT | {"object": "chat.completion.chunk", "choices": [choice]}).encode()
                + b"\n\n"
            )
        yield b"data: [DONE]\n\n"

    house.handlers["/v1/chat/completions"] = lambda *_: StreamingResponse(events(), media_type="text/event-stream")
    with client_of(house.url + "/v1", Purse()) as client:
        chunks = client.chat.completions.create(model="m", messages=HELLO, stream=True)
        assert [chunk.choices[0].delta.content for chunk in chunks] == ["a", "b"]
