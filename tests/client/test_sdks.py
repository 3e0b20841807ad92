"""The unmodified OpenAI SDK gets its answers with the httpx transport and through the sidecar."""

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
def openai_url(toll_server):
    """A server with tolls for embeddings and chats; its base URL."""
    for path, answer in (("/v1/embeddings", EMBEDDINGS), ("/v1/chat/completions", CHAT)):
        toll_server.serve_toll(Answer(200, "application/json", json.dumps(answer).encode()), path)
    return toll_server.url + "/v1"


def client_of(base_url, purse):
    transport = TollTransport(purse=purse, transport=httpx2.HTTPTransport(verify=False))
    return openai.OpenAI(base_url=base_url, api_key="sk-1", http_client=httpx2.Client(transport=transport))


def test_the_sdk_gets_its_answers_after_one_request_each(toll_server, openai_url):
    purse = Purse()
    with client_of(openai_url, purse) as client:
        assert client.embeddings.create(model="m", input="hi", encoding_format="float").data[0].embedding == [
            0.5,
            -0.25,
        ]
        assert client.chat.completions.create(model="m", messages=HELLO).choices[0].message.content == "hello"
    assert len(purse.payments) == len(toll_server.received) == 2
    assert {headers["authorization"] for _, _, headers, _ in toll_server.received} == {"Bearer sk-1"}


def test_the_async_sdk_gets_its_answers(openai_url):
    async def main():
        transport = AsyncTollTransport(transport=httpx2.AsyncHTTPTransport(verify=False))
        session = httpx2.AsyncClient(transport=transport)
        async with openai.AsyncOpenAI(base_url=openai_url, api_key="sk-1", http_client=session) as client:
            chats = [client.chat.completions.create(model="m", messages=HELLO) for _ in range(4)]
            return [chat.choices[0].message.content for chat in await asyncio.gather(*chats)]

    assert asyncio.run(main()) == ["hello"] * 4


def test_a_refused_toll_is_not_retried(toll_server, openai_url):
    """The SDK retries connection errors; a refusal of the purse is not one."""
    with client_of(openai_url, Purse(0.0)) as client, pytest.raises(TollTooDear):
        client.chat.completions.create(model="m", messages=HELLO)
    assert len(toll_server.received) == 1


def test_a_stream_without_a_toll_streams(toll_server):
    async def events():
        for word in ("a", "b"):
            choice = {"index": 0, "delta": {"content": word}}
            yield (
                b"data: "
                + json.dumps(CHAT | {"object": "chat.completion.chunk", "choices": [choice]}).encode()
                + b"\n\n"
            )
        yield b"data: [DONE]\n\n"

    toll_server.handlers["/v1/chat/completions"] = lambda *_: StreamingResponse(
        events(), media_type="text/event-stream"
    )
    with client_of(toll_server.url + "/v1", Purse()) as client:
        chunks = client.chat.completions.create(model="m", messages=HELLO, stream=True)
        assert [chunk.choices[0].delta.content for chunk in chunks] == ["a", "b"]
