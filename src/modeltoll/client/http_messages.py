"""Header rules and the size limit of tolls, shared by the drivers of all HTTP libraries."""

from __future__ import annotations

from io import BytesIO
from typing import TYPE_CHECKING, Any

from modeltoll.client.event_streams import is_event_stream
from modeltoll.decompression import CODINGS
from modeltoll.errors import TollMalformed
from modeltoll.wire import ACCEPT_HEADER, MAX_TOLL_BYTES, SETTLE_HEADER, content_headers

if TYPE_CHECKING:
    from collections.abc import Iterable, MutableMapping

    from modeltoll.records import Answer

__all__ = ["BoundedBody", "announce", "is_forwarded", "is_kept", "opened_headers"]

_OF_THE_BODY = frozenset(("content-encoding", "content-length", "content-type", "transfer-encoding"))
_OF_THE_REQUEST = _OF_THE_BODY | {"expect", "range", SETTLE_HEADER.lower()}
_OF_THE_TOLL = _OF_THE_BODY | {"cache-control", "etag", "trailer", "www-authenticate"}


def _text(name: str | bytes) -> str:
    return (name if isinstance(name, str) else name.decode("latin-1")).lower()


def announce(headers: MutableMapping[str, Any], accept: str) -> None:
    """Set the request's ``Toll-Accept``, unless it has one, and leave out codings in which a toll cannot be read.

    Libraries announce every coding that is installed, for example Brotli, and networks then compress tolls with it.
    """
    headers.setdefault(ACCEPT_HEADER, accept)
    encodings = headers.get("Accept-Encoding")
    if isinstance(encodings, str):
        offered = [coding.strip() for coding in encodings.split(",")]
        readable = [coding for coding in offered if coding.partition(";")[0].strip().lower() in CODINGS]
        if readable != offered:
            headers["Accept-Encoding"] = ", ".join(readable) or "identity"


def is_forwarded(name: str | bytes) -> bool:
    """Whether the redeem request copies this header from the original request."""
    return _text(name) not in _OF_THE_REQUEST


def is_kept(name: str | bytes) -> bool:
    """Whether an opened answer keeps this header of the 402."""
    return _text(name) not in _OF_THE_TOLL


def opened_headers(headers: Iterable[tuple[str, str]], answer: Answer) -> list[tuple[str, str]]:
    """The headers of an opened answer: its own, and those of the 402 that are kept. An event stream has no length."""
    kept = [(name, value) for name, value in headers if is_kept(name)]
    if not is_event_stream(answer):
        kept.append(("Content-Length", str(len(answer.body))))
    if answer.content_type:
        kept += content_headers(answer.content_type).items()
    return kept


class BoundedBody:
    """Collects the chunks of a body of at most ``MAX_TOLL_BYTES`` bytes; raises ``TollMalformed`` above that."""

    def __init__(self) -> None:
        self._body = BytesIO()
        self._left = MAX_TOLL_BYTES

    def check_declared_size(self, size: str) -> None:
        """Refuse a ``Content-Length`` above the limit before the body is read."""
        if size.isdecimal() and int(size[:20]) > self._left:
            self._refuse()

    def add(self, chunk: bytes) -> None:
        """Append a chunk."""
        self._left -= len(chunk)
        if self._left < 0:
            self._refuse()
        self._body.write(chunk)

    def content(self) -> bytes:
        """All chunks as one body."""
        return self._body.getvalue()  # without a copy

    @staticmethod
    def _refuse() -> None:
        raise TollMalformed(f"the toll is larger than {MAX_TOLL_BYTES} bytes")
