"""Programs that stream a chat with a call of a tool, with unmodified libraries: what they saw, in order.

Each takes the base URL of an API, and an HTTP client of its library or None for the SDK's own.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace

import httpx2
import openai
from pydantic_ai import Agent
from pydantic_ai.messages import FunctionToolResultEvent
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider

from modeltoll.client.httpx import AsyncTollTransport, TollTransport

KEY = "sk-1"
FUNCTION = {
    "name": "get_weather",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}
CHAT = {
    "model": "chat",
    "messages": [{"role": "user", "content": "How is the weather in Oslo?"}],
    "tools": [{"type": "function", "function": FUNCTION}],
    "stream": True,
    "stream_options": {"include_usage": True},
}


def sync_client(purse):
    """An HTTP client for ``openai.OpenAI`` that pays tolls."""
    return httpx2.Client(transport=TollTransport(purse=purse, transport=httpx2.HTTPTransport(verify=False)))


def async_client(purse):
    """An HTTP client for ``openai.AsyncOpenAI`` that pays tolls."""
    transport = AsyncTollTransport(purse=purse, transport=httpx2.AsyncHTTPTransport(verify=False))
    return httpx2.AsyncClient(transport=transport)


def openai_chunks(url, http_client=None, **members):
    """The chunks that the OpenAI SDK gives, as documents."""
    with openai.OpenAI(base_url=url + "/v1", api_key=KEY, http_client=http_client, max_retries=0) as client:
        return [chunk.model_dump() for chunk in client.chat.completions.create(**CHAT | members)]


def openai_events(url, http_client=None):
    """The events of the SDK's helper, which puts deltas together."""
    with (
        openai.OpenAI(base_url=url + "/v1", api_key=KEY, http_client=http_client, max_retries=0) as client,
        client.chat.completions.stream(**{name: value for name, value in CHAT.items() if name != "stream"}) as stream,
    ):
        return [event.model_dump() for event in stream]


def async_openai_chunks(url, http_client=None):
    """The same as ``openai_chunks`` for the async SDK."""

    async def main():
        async with openai.AsyncOpenAI(
            base_url=url + "/v1", api_key=KEY, http_client=http_client, max_retries=0
        ) as client:
            return [chunk.model_dump() async for chunk in await client.chat.completions.create(**CHAT)]

    return asyncio.run(main())


def agent_events(url, http_client=None):
    """The events of an agent of Pydantic AI that calls a tool and reports what it said: two streamed chats."""

    async def main():
        async with openai.AsyncOpenAI(
            base_url=url + "/v1", api_key=KEY, http_client=http_client, max_retries=0
        ) as client:
            agent = Agent(OpenAIChatModel("chat", provider=OpenAIProvider(openai_client=client)))
            agent.tool_plain(get_weather)
            async with agent.run_stream_events("How is the weather in Oslo?") as events:
                return [without_times(event) async for event in events]

    return asyncio.run(main())


def get_weather(city: str) -> str:
    """The weather of a city."""
    return f"rain in {city}"


def without_times(event):
    """The event as text, without the time at which the tool was called and what the whole run's result holds."""
    if isinstance(event, FunctionToolResultEvent):
        event = replace(event, part=replace(event.part, timestamp=None))
    return f"{type(event).__name__} {event.result.output}" if hasattr(event, "result") else repr(event)
