"""Streams of chats as model servers write them, and an ``Upstream`` that streams what a test says, when it says so."""

from __future__ import annotations

import asyncio
import json
import math
from contextlib import asynccontextmanager

from modeltoll.gateway.upstream.upstream import NO_HEAD, AnswerStream
from modeltoll.records import Answer
from modeltoll.testing.model_servers import FakeUpstream

DONE = b"data: [DONE]\n\n"
EVENT_STREAM = "text/event-stream; charset=utf-8"


def token(text, *probabilities):
    """A token with its log-probabilities, most probable first."""
    known = [
        {"token": text if not i else f"{text}{i}", "logprob": math.log(p), "bytes": None}
        for i, p in enumerate(probabilities or (0.5, 0.5))
    ]
    return {"token": text, "logprob": known[0]["logprob"], "bytes": list(text.encode()), "top_logprobs": known}


def chunk(delta=None, logprobs=None, *, index=0, finish=None, choice=(), **members):
    """One event's document; ``logprobs``: its tokens."""
    one = {
        "index": index,
        "delta": {} if delta is None else delta,
        "logprobs": None if logprobs is None else {"content": logprobs},
        "finish_reason": finish,
        **dict(choice),
    }
    head = {"id": "chat-1", "object": "chat.completion.chunk", "created": 1, "model": "llm"}
    return {**head, "choices": [one], **members}


def usage_chunk(completion, prompt=9):
    """The last event, which counts tokens."""
    usage = {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}
    return chunk() | {"choices": [], "usage": usage}


def event(document):
    """The bytes of an event."""
    return b"data: " + json.dumps(document, ensure_ascii=False).encode() + b"\n\n"


def said(*texts, finish="stop", counted=True):
    """The documents of a stream that says these texts, one token each."""
    yield chunk({"role": "assistant", "content": ""})
    for text in texts:
        yield chunk({"content": text}, [token(text)])
    yield chunk(finish=finish)
    if counted:
        yield usage_chunk(len(texts) + 1)


def stream_of(*documents, done=DONE):
    """The bytes of a whole stream."""
    return b"".join(map(event, documents)) + done


def documents_in(events):
    """The documents of a stream's events; comments and the last event are left out."""
    blocks = [block for block in events.decode().split("\n\n") if block.startswith("data: ")]
    return [json.loads(block[6:]) for block in blocks if block != "data: [DONE]"]


class Exchange:
    """One request to an ASGI application in this event loop, whose messages are read as they come.

    ``chunks`` and ``status`` are what has come; ``is_over`` is set with the last message.
    """

    def __init__(self, app, path, document, key="alice-key", accept="argon2id, sha256; mode=sealed; receipts"):
        headers = {"content-type": "application/json", "toll-accept": accept}
        headers |= {"authorization": f"Bearer {key}"} if key else {}
        self._scope = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "method": "POST",
            "scheme": "http",
            "path": path,
            "raw_path": path.encode(),
            "query_string": b"",
            "root_path": "",
            "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
            "client": ("127.0.0.1", 5),
            "server": ("127.0.0.1", 80),
        }
        self._body = json.dumps(document).encode()
        self._gone, self._news = asyncio.Event(), asyncio.Event()
        self.status, self.headers, self.chunks = None, {}, []
        self.is_over = asyncio.Event()
        self.task = asyncio.create_task(app(self._scope, self._receive, self._send))

    async def _receive(self):
        if self._body is not None:
            body, self._body = self._body, None
            return {"type": "http.request", "body": body, "more_body": False}
        await self._gone.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message):
        assert not self.is_over.is_set()
        if message["type"] == "http.response.start":
            assert self.status is None
            self.status = message["status"]
            self.headers = {name.decode(): value.decode() for name, value in message["headers"]}
        else:
            assert self.status is not None
            if message.get("body"):
                self.chunks.append(message["body"])
            if not message.get("more_body", False):
                self.is_over.set()
        self._news.set()

    @property
    def body(self):
        return b"".join(self.chunks)

    async def until(self, condition):
        """Wait until ``condition()`` holds of what has come."""
        async with asyncio.timeout(30):
            while not condition():
                self._news.clear()
                await self._news.wait()

    async def end(self):
        """Wait for the end; the exchange itself."""
        async with asyncio.timeout(30):
            await self.task
        return self

    def hang_up(self):
        self._gone.set()


class StreamingUpstream(FakeUpstream):
    """An ``Upstream`` whose streams consist of ``script``: chunks to send, events to wait for, errors to raise.

    ``opened`` and ``closed`` count streams. ``status`` and ``content_type`` are those of their heads.
    """

    def __init__(self, *script, status=200, content_type=EVENT_STREAM):
        super().__init__(lambda path, body: Answer(200, "application/json", b"{}"))
        self.script, self.status, self.content_type = script, status, content_type
        self.opened = self.closed = 0
        self.is_open = asyncio.Event()

    @asynccontextmanager
    async def stream(self, path, body, content_type="application/json", head=NO_HEAD):
        self.requests.append((path, body))
        self.opened += 1
        self.is_open.set()
        try:
            yield AnswerStream(self.status, self.content_type, (("x-from", "server"),), self._chunks())
        finally:
            self.closed += 1

    async def _chunks(self):
        for step in self.script:
            if isinstance(step, Exception):
                raise step
            if isinstance(step, bytes):
                yield step
            elif isinstance(step, asyncio.Event):
                await step.wait()
            else:
                await asyncio.sleep(step)
