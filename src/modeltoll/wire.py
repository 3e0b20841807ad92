"""Header names, encodings and the protocol's version; nothing else knows them.

Everything that arrives here may come from a hostile peer: parsing checks each member's type, range and size before
anything is believed, and raises ``TollMalformed`` (client side) or ignores what it does not know (server side).
"""

from __future__ import annotations

import base64
import binascii
import json
import math
from dataclasses import dataclass
from typing import Any

from modeltoll.errors import TollMalformed
from modeltoll.records import Challenge, Part, Toll

__all__ = [
    "ACCEPT_HEADER",
    "ARGON2ID",
    "AUTHENTICATE_HEADER",
    "HASHCASH",
    "MAX_TOLL_BYTES",
    "MODES",
    "PROBLEM_TYPE",
    "RECEIPT_HEADER",
    "REDEEM",
    "REDEEM_PATH",
    "SEALED",
    "SHA256",
    "STATUS",
    "VERSION",
    "Accept",
    "authenticate",
    "canonical_challenge",
    "decode_base64url",
    "decode_challenge",
    "decode_redemption",
    "decode_toll",
    "encode_base64url",
    "encode_redemption",
    "encode_toll",
    "find_toll",
    "format_accept",
    "parse_accept",
    "receipt",
]

VERSION = 1
STATUS = 402
ACCEPT_HEADER = "Toll-Accept"
RECEIPT_HEADER = "Toll-Receipt"
AUTHENTICATE_HEADER = "WWW-Authenticate"
REDEEM_PATH = "/.well-known/modeltoll/redeem"
PROBLEM_TYPE = "urn:modeltoll:problems:toll"
DETAIL = "Do the work to open the sealed answer; no money is asked."

SEALED, REDEEM = "sealed", "redeem"
MODES = (SEALED, REDEEM)
ARGON2ID, SHA256, HASHCASH = "argon2id", "sha256", "hashcash"
PUZZLES = (ARGON2ID, SHA256, HASHCASH)

MAX_TOLL_BYTES = 88 << 20  # a 402 with a sealed answer of 64 MiB
MAX_PARTS = 16
MAX_BOUND = 2**53 - 1  # the largest integer that every JSON reader keeps exact
MAX_MEMORY_KIB = 256 * 1024
SEED_BYTES = 16
CHECK_BYTES = 16
MAX_TYPICAL_SECONDS = 1e9
MAX_VALUES = 10_000  # JSON of many small values takes twenty times its own size in memory
_MIB = 1024


def encode_base64url(data: bytes) -> str:
    """Base64 with the URL alphabet and no padding (RFC 4648, section 5)."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


def decode_base64url(text: str) -> bytes:
    """The inverse, strict: any other character, or padding, raises ``ValueError``."""
    try:
        data = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, UnicodeEncodeError) as error:
        raise ValueError(f"not base64url: {error}") from None
    if encode_base64url(data) != text:
        raise ValueError("not canonical base64url")
    return data


def canonical_json(value: object) -> bytes:
    """ASCII JSON with sorted keys and no white space: the same bytes in every language for strings and integers."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode("ascii")


def _challenge_members(challenge: Challenge) -> dict[str, Any]:
    members: dict[str, Any] = {"name": challenge.puzzle}
    if challenge.puzzle == ARGON2ID:
        members |= {"m_kib": challenge.memory_kib, "t": challenge.passes, "p": challenge.lanes}
    members["parts"] = [
        {"seed": encode_base64url(part.seed), "n": part.bound}
        | ({"check": encode_base64url(part.check)} if part.check else {})
        for part in challenge.parts
    ]
    return members


def canonical_challenge(challenge: Challenge, mode: str) -> bytes:
    """The bytes that every seal covers: version, mode and the whole puzzle. Changing any of them breaks the seal."""
    return canonical_json({"mode": mode, "puzzle": _challenge_members(challenge), "v": VERSION})


def encode_toll(toll: Toll, error: object) -> bytes:
    """The body of the 402: RFC 9457 members, the caller's protocol's own ``error``, and the toll."""
    members: dict[str, Any] = {
        "v": VERSION,
        "mode": toll.mode,
        "puzzle": _challenge_members(toll.challenge),
        "rows": toll.rows,
        "typical_seconds": float(f"{toll.typical_seconds:.4g}"),
        "sealed" if toll.mode == SEALED else "token": encode_base64url(toll.cargo),
    }
    if toll.mode == REDEEM:
        members["redeem"] = REDEEM_PATH
    document = {"type": PROBLEM_TYPE, "title": "Toll", "status": STATUS, "detail": DETAIL, "error": error}
    return json.dumps(document | {"toll": members}, separators=(",", ":")).encode()


def authenticate(toll: Toll, realm: str) -> str:
    """The value of ``WWW-Authenticate``: the challenge in the form of the ``Payment`` scheme."""
    identity = encode_base64url(toll.challenge.parts[0].seed)
    request = encode_base64url(canonical_challenge(toll.challenge, toll.mode))
    quoted = realm.replace("\\", "").replace('"', "")
    return f'Payment id="{identity}", realm="{quoted}", method="pow", intent="charge", request="{request}"'


def _member(members: dict[str, Any], name: str, kind: type) -> Any:
    value = members.get(name)
    if not isinstance(value, kind) or isinstance(value, bool):
        raise TollMalformed(f"the toll's {name!r} is missing or not of type {kind.__name__}")
    return value


def _integer(members: dict[str, Any], name: str, low: int, high: int) -> int:
    value: int = _member(members, name, int)
    if not low <= value <= high:
        raise TollMalformed(f"the toll's {name!r} is outside {low}..{high}")
    return value


def _bytes(members: dict[str, Any], name: str, size: int | None = None) -> bytes:
    try:
        data = decode_base64url(_member(members, name, str))
    except ValueError:
        raise TollMalformed(f"the toll's {name!r} is not base64url") from None
    if size is not None and len(data) != size:
        raise TollMalformed(f"the toll's {name!r} is not {size} bytes long")
    return data


def _decode_part(part: object, *, checked: bool) -> Part:
    if not isinstance(part, dict):
        raise TollMalformed("a part of the toll's puzzle is not an object")
    check = _bytes(part, "check", CHECK_BYTES) if checked else b""
    return Part(_bytes(part, "seed", SEED_BYTES), _integer(part, "n", 1, MAX_BOUND), check)


def decode_challenge(members: object) -> Challenge:
    """Parse and check the ``puzzle`` member of a toll.

    Raises:
        TollMalformed: a member is missing, of the wrong type, out of range, or a seed occurs twice.
    """
    if not isinstance(members, dict):
        raise TollMalformed("the toll's puzzle is not an object")
    name = _member(members, "name", str)
    if name not in PUZZLES:
        raise TollMalformed("the toll names a puzzle that this client does not know")
    entries = _member(members, "parts", list)
    if not 1 <= len(entries) <= MAX_PARTS:
        raise TollMalformed(f"the toll's puzzle has not 1..{MAX_PARTS} parts")
    parts = tuple(_decode_part(entry, checked=name != HASHCASH) for entry in entries)
    if len({part.seed for part in parts}) != len(parts):
        raise TollMalformed("the toll's puzzle repeats a seed")
    if name != ARGON2ID:
        return Challenge(name, parts)
    return Challenge(
        name,
        parts,
        memory_kib=_integer(members, "m_kib", 8, MAX_MEMORY_KIB),
        passes=_integer(members, "t", 1, 1),
        lanes=_integer(members, "p", 1, 1),
    )


def _parse_json(body: bytes) -> Any:
    def refuse(token: str) -> None:
        raise ValueError(token)

    if sum(map(body.count, (b",", b"[", b"{"))) > MAX_VALUES:
        raise TollMalformed("the toll holds more values than a toll has")
    try:
        return json.loads(body, parse_constant=refuse)
    except (ValueError, RecursionError):
        raise TollMalformed("the toll is not JSON") from None


def find_toll(body: bytes) -> Toll | None:
    """The toll in the body of a 402, or None where the body is somebody else's (there, money may be asked).

    Raises:
        TollMalformed: as ``decode_toll``.
    """
    try:
        document = _parse_json(body)
    except TollMalformed:
        return None
    members = document.get("toll") if isinstance(document, dict) else None
    return _decode_members(members) if isinstance(members, dict) else None


def decode_toll(body: bytes) -> Toll:
    """Parse and check the body of a 402.

    Raises:
        TollMalformed: not a toll of this version, or a member is missing, of the wrong type or out of range.
    """
    toll = find_toll(body)
    if toll is None:
        raise TollMalformed("the answer carries no toll")
    return toll


def _decode_members(members: dict[str, Any]) -> Toll:
    if type(members.get("v")) is not int or members["v"] != VERSION:  # True and 1.0 equal 1
        raise TollMalformed(f"the toll is not of version {VERSION}")
    mode = members.get("mode")
    if mode not in MODES:
        raise TollMalformed("the toll's mode is not known")
    typical = members.get("typical_seconds")
    if not isinstance(typical, int | float) or isinstance(typical, bool) or not 0 <= typical <= MAX_TYPICAL_SECONDS:
        raise TollMalformed("the toll's 'typical_seconds' is not a number of seconds")
    challenge = decode_challenge(members.get("puzzle"))
    if challenge.puzzle == HASHCASH and mode == SEALED:
        raise TollMalformed("a hashcash puzzle cannot open a sealed answer")
    cargo = _bytes(members, "sealed" if mode == SEALED else "token")
    return Toll(mode, challenge, cargo, _integer(members, "rows", 1, MAX_BOUND), float(typical))


def encode_redemption(token: bytes, counters: tuple[int, ...]) -> bytes:
    """The body that a client posts to the redeem path."""
    return json.dumps({"token": encode_base64url(token), "solution": list(counters)}).encode()


def decode_redemption(body: bytes) -> tuple[bytes, tuple[int, ...]]:
    """Parse what a client posts to the redeem path: the token and one counter per part.

    Raises:
        TollMalformed: not an object of that form.
    """
    document = _parse_json(body)
    if not isinstance(document, dict):
        raise TollMalformed("the redemption is not an object")
    counters = _member(document, "solution", list)
    if not 1 <= len(counters) <= MAX_PARTS or not all(type(n) is int and 0 <= n < 2**64 for n in counters):
        raise TollMalformed(f"the redemption's 'solution' is not a list of 1..{MAX_PARTS} counters")
    return _bytes(document, "token"), tuple(counters)


@dataclass(frozen=True, slots=True)
class Accept:
    """What a client says that it can do. It only ever chooses among what the route allows."""

    puzzles: tuple[str, ...] = (ARGON2ID, SHA256)
    mode: str = SEALED
    memory_kib: int = 64 * _MIB


def format_accept(accept: Accept) -> str:
    """``argon2id, sha256; mode=sealed; memory=64MiB``."""
    return f"{', '.join(accept.puzzles)}; mode={accept.mode}; memory={accept.memory_kib // _MIB}MiB"


def parse_accept(value: str) -> Accept:
    """Read a ``Toll-Accept`` header. What is not understood is left at its default; nothing here can raise."""
    names, *options = value[:256].split(";")
    puzzles = tuple(name for name in (part.strip().lower() for part in names.split(",")) if name in PUZZLES)
    default = Accept()
    mode, memory = default.mode, default.memory_kib
    for option in options:
        key, _, given = option.strip().lower().partition("=")
        if key == "mode" and given in MODES:
            mode = given
        digits = given.removesuffix("mib")
        if key == "memory" and digits.isascii() and digits.isdigit() and len(digits) < 7:
            memory = int(digits) * _MIB
    return Accept(puzzles or default.puzzles, mode, memory)


def receipt(rows: int, seconds: float, mode: str) -> str:
    """The value of ``Toll-Receipt``: rows, expected reference seconds, and how they were settled."""
    work = seconds if math.isfinite(seconds) else 0.0
    return f"rows={rows}; work={work:.4g}; mode={mode}"
