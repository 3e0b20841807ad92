"""A model server over HTTP, for callers over gRPC: their messages are written as JSON, and its answers as messages."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from modeltoll.gateway.protocols.oip_conversions import json_of_request, message_of_answer
from modeltoll.gateway.protocols.protocol import JSON
from modeltoll.gateway.threads import LARGE_BYTES, off_loop
from modeltoll.gateway.upstream.upstream import NO_HEAD, UpstreamWrapper, convert_answer, streamed_whole
from modeltoll.open_inference_messages import CONTENT_TYPE

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager

    from modeltoll.gateway.upstream.upstream import AnswerStream, RequestHead
    from modeltoll.records import Answer

__all__ = ["MessagesOverHttp"]

_OK = 200


class MessagesOverHttp(UpstreamWrapper):
    """An upstream that takes messages."""

    async def predict(self, path: str, body: bytes, content_type: str = JSON, head: RequestHead = NO_HEAD) -> Answer:
        """See ``Upstream.predict``; an answer of status 200 to a message is a message. Raises ``RequestError``, too."""
        if content_type != CONTENT_TYPE:
            return await self._upstream.predict(path, body, content_type, head)
        written, written_type = await off_loop(len(body) > LARGE_BYTES, json_of_request, body)
        answer = await self._upstream.predict(path, written, written_type, head)
        if answer.status != _OK:
            return answer
        return replace(answer, content_type=CONTENT_TYPE, body=await convert_answer(message_of_answer, answer))

    def stream(
        self, path: str, body: bytes, content_type: str = JSON, head: RequestHead = NO_HEAD
    ) -> AbstractAsyncContextManager[AnswerStream]:
        """See ``Upstream.stream``; an answer to a message comes as a whole."""
        if content_type != CONTENT_TYPE:
            return self._upstream.stream(path, body, content_type, head)
        return streamed_whole(self.predict(path, body, content_type, head))
