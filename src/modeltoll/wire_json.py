"""JSON of the wire format: written compactly, read member by member, because it may come from a hostile peer.

The ``read_`` functions raise ``TollMalformed`` if a member is missing or not of the stated form.
"""

from __future__ import annotations

import base64
import binascii
import json
from typing import Any

from modeltoll.errors import TollMalformed

__all__ = [
    "MAX_VALUES",
    "compact_json",
    "decode_base64url",
    "encode_base64url",
    "parse_json",
    "read_bytes",
    "read_integer",
    "read_member",
]

_URL = bytes.maketrans(b"+/", b"-_")
_compact = json.JSONEncoder(separators=(",", ":"))

MAX_VALUES = 10_000  # parsed JSON of many small values takes twenty times its size in memory


def encode_base64url(data: bytes) -> str:
    """Base64 with the URL alphabet and no padding (RFC 4648, section 5)."""
    return binascii.b2a_base64(data, newline=False).rstrip(b"=").translate(_URL).decode("ascii")


def decode_base64url(text: str) -> bytes:
    """Decode base64 with the URL alphabet, strictly.

    Raises:
        ValueError: another character, padding, or not the canonical encoding of the bytes.
    """
    try:
        data = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, UnicodeEncodeError) as error:
        raise ValueError(f"not base64url: {error}") from None
    if encode_base64url(data) != text:
        raise ValueError("not canonical base64url")
    return data


def compact_json(value: object) -> str:
    """ASCII JSON without white space; members keep their order."""
    return _compact.encode(value)


def read_member(members: dict[str, Any], name: str, kind: type) -> Any:
    """The member of that name and type; a boolean does not count as a number."""
    value = members.get(name)
    if not isinstance(value, kind) or isinstance(value, bool):
        raise TollMalformed(f"the toll's {name!r} is missing or not of type {kind.__name__}")
    return value


def read_integer(members: dict[str, Any], name: str, low: int, high: int) -> int:
    """The integer of that name, in ``low``..``high``; a float does not count as an integer."""
    value: int = read_member(members, name, int)
    if not low <= value <= high:
        raise TollMalformed(f"the toll's {name!r} is outside {low}..{high}")
    return value


def read_bytes(members: dict[str, Any], name: str, size: int | None = None) -> bytes:
    """The bytes of that name, from strict base64url; ``size`` bytes if given."""
    try:
        data = decode_base64url(read_member(members, name, str))
    except ValueError:
        raise TollMalformed(f"the toll's {name!r} is not base64url") from None
    if size is not None and len(data) != size:
        raise TollMalformed(f"the toll's {name!r} is not {size} bytes long")
    return data


def parse_json(body: bytes) -> Any:
    """Parse JSON of at most ``MAX_VALUES`` values, without NaN and Infinity.

    Raises:
        TollMalformed: not such JSON.
    """

    def refuse(token: str) -> None:
        raise ValueError(token)

    if sum(map(body.count, (b",", b"[", b"{"))) > MAX_VALUES:
        raise TollMalformed("the toll holds more values than a toll has")
    try:
        return json.loads(body, parse_constant=refuse)
    except (ValueError, RecursionError):
        raise TollMalformed("the toll is not JSON") from None
