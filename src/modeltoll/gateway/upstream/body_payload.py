"""The body of a request to the model server, as aiohttp writes it: a large one piece by piece, as fast as it is taken.

aiohttp hands the bytes of a body to the transport all at once, which keeps a copy of what the model server has not taken yet.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiohttp.payload import Payload

from modeltoll.gateway.threads import LARGE_BYTES

if TYPE_CHECKING:
    from aiohttp.abc import AbstractStreamWriter

__all__ = ["body_payload"]

_PIECE_BYTES = 64 * 1024


def body_payload(body: bytes | None) -> bytes | Payload | None:
    """What to give to aiohttp for a body; small ones as they are."""
    return _LargeBody(body) if body is not None and len(body) > LARGE_BYTES else body


class _LargeBody(Payload):
    """Bytes that are written in pieces, each of which waits until the transport has room. It may be written again."""

    _value: bytes
    _autoclose = True  # there is nothing to close

    def __init__(self, value: bytes) -> None:
        super().__init__(value)
        self._size = len(value)

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        """See ``Payload.decode``."""
        return self._value.decode(encoding, errors)

    async def write(self, writer: AbstractStreamWriter) -> None:
        """See ``Payload.write``."""
        await self.write_with_length(writer, None)

    async def write_with_length(self, writer: AbstractStreamWriter, content_length: int | None) -> None:
        """See ``Payload.write_with_length``: at most ``content_length`` bytes."""
        whole = memoryview(self._value)[:content_length]
        for begin in range(0, len(whole), _PIECE_BYTES):
            await writer.write(whole[begin : begin + _PIECE_BYTES])
