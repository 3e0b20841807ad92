"""Header names, encodings and the protocol's version; nothing else knows them.

Everything that arrives here may come from a hostile peer: parsing checks each member's type, range and size before
anything is believed, and raises ``TollMalformed`` (client side) or ignores what it does not know (server side).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from modeltoll.errors import TollMalformed
from modeltoll.records import Challenge, Part, Toll
from modeltoll.wire_json import (
    canonical_json,
    compact_json,
    decode_base64url,
    encode_base64url,
    parse_json,
    read_bytes,
    read_integer,
    read_member,
)

__all__ = [
    "ACCEPT_HEADER",
    "ARGON2ID",
    "AUTHENTICATE_HEADER",
    "BINARY_HEADER",
    "HASHCASH",
    "HASHCASHES",
    "HASHCASH_SHA1",
    "MAX_TOLL_BYTES",
    "MODES",
    "PROBLEM_TYPE",
    "RECEIPT_HEADER",
    "REDEEM",
    "REDEEM_PATH",
    "SEALED",
    "SHA256",
    "STATUS",
    "TIMELOCK",
    "VERSION",
    "Accept",
    "authenticate",
    "canonical_challenge",
    "decode_base64url",
    "decode_challenge",
    "decode_redemption",
    "decode_toll",
    "encode_base64url",
    "encode_problem",
    "encode_redemption",
    "encode_toll",
    "find_toll",
    "fold_type",
    "format_accept",
    "parse_accept",
    "receipt",
    "type_headers",
]

VERSION = 1
STATUS = 402
ACCEPT_HEADER = "Toll-Accept"
RECEIPT_HEADER = "Toll-Receipt"
AUTHENTICATE_HEADER = "WWW-Authenticate"
BINARY_HEADER = "Inference-Header-Content-Length"  # Open Inference Protocol, binary tensor data extension
REDEEM_PATH = "/.well-known/modeltoll/redeem"
PROBLEMS = "urn:modeltoll:problems"
PROBLEM_TYPE = f"{PROBLEMS}:toll"
DETAIL = "Do the work to open the sealed answer; no money is asked."

SEALED, REDEEM = MODES = ("sealed", "redeem")
HASHCASH, HASHCASH_SHA1 = HASHCASHES = ("hashcash", "hashcash-sha1")  # for redeem mode only
ARGON2ID, SHA256, TIMELOCK = "argon2id", "sha256", "timelock"  # the last for sealed mode only
PUZZLES = (ARGON2ID, SHA256, *HASHCASHES, TIMELOCK)

MAX_TOLL_BYTES = 88 << 20  # a 402 with a sealed answer of 64 MiB
MAX_PARTS = 16
MAX_BOUND = 2**53 - 1  # the largest integer that every JSON reader keeps exact
MAX_MEMORY_KIB = 256 * 1024
SEED_BYTES, CHECK_BYTES, MODULUS_BYTES = 16, 16, 256
MAX_TYPICAL_SECONDS = 1e9
_MIB = 1024
_BINARY_PARAMETER = f"; {BINARY_HEADER.lower()}="
_BINARY_DIGITS = 10


@lru_cache(maxsize=16)  # a toll needs it for its seal, its header and its body
def _puzzle_json(challenge: Challenge) -> str:
    """The ``puzzle`` member of a toll, canonical."""
    members: dict[str, Any] = {"name": challenge.puzzle}
    if challenge.puzzle == ARGON2ID:
        members |= {"m_kib": challenge.memory_kib, "t": challenge.passes, "p": challenge.lanes}
    if challenge.puzzle == TIMELOCK:
        members["modulus"] = encode_base64url(challenge.modulus)
    members["parts"] = [_part_members(part) for part in challenge.parts]
    return canonical_json(members)


def _part_members(part: Part) -> dict[str, Any]:
    members: dict[str, Any] = {"seed": encode_base64url(part.seed), "n": part.bound}
    if part.check:
        members["check"] = encode_base64url(part.check)
    if part.start:
        members["start"] = part.start
    return members


def canonical_challenge(challenge: Challenge, mode: str) -> bytes:
    """The bytes that every seal covers: version, mode and the whole puzzle. Changing any of them breaks the seal."""
    return f'{{"mode":{canonical_json(mode)},"puzzle":{_puzzle_json(challenge)},"v":{VERSION}}}'.encode("ascii")


def encode_toll(toll: Toll, error: object) -> bytes:
    """The body of the 402: RFC 9457 members, the caller's protocol's own ``error``, and the toll."""
    document = {"type": PROBLEM_TYPE, "title": "Toll", "status": STATUS, "detail": DETAIL, "error": error}
    members: dict[str, Any] = {
        "v": VERSION,
        "mode": toll.mode,
        "rows": toll.rows,
        "typical_seconds": float(f"{toll.typical_seconds:.4g}"),
        "sealed" if toll.mode == SEALED else "token": encode_base64url(toll.cargo),
    }
    if toll.mode == REDEEM:
        members["redeem"] = REDEEM_PATH
        if toll.expires is not None:
            members["expires"] = toll.expires
        if toll.entry:
            members["entry"] = True
    head, rest = compact_json(document), compact_json(members)
    return f'{head[:-1]},"toll":{{"puzzle":{_puzzle_json(toll.challenge)},{rest[1:]}}}'.encode("ascii")


def encode_problem(name: str, status: int, detail: str, error: object) -> bytes:
    """The body of a refusal that clients may want to tell apart: RFC 9457 members and the protocol's own ``error``."""
    head = {"type": f"{PROBLEMS}:{name}", "title": name.capitalize(), "status": status}
    return compact_json({**head, "detail": detail, "error": error}).encode("ascii")


def authenticate(toll: Toll, realm: str) -> str:
    """The value of ``WWW-Authenticate``: the challenge in the form of the ``Payment`` scheme."""
    identity = encode_base64url(toll.challenge.parts[0].seed)
    request = encode_base64url(canonical_challenge(toll.challenge, toll.mode))
    quoted = realm.replace("\\", "").replace('"', "")
    return f'Payment id="{identity}", realm="{quoted}", method="pow", intent="charge", request="{request}"'


def _decode_part(part: object, puzzle: str) -> Part:
    if not isinstance(part, dict):
        raise TollMalformed("a part of the toll's puzzle is not an object")
    check = b"" if puzzle in HASHCASHES else read_bytes(part, "check", CHECK_BYTES)
    bound = read_integer(part, "n", 1, MAX_BOUND)
    start = 0
    if "start" in part:  # of argon2id made ahead; 0 is said by leaving it out
        start = read_integer(part, "start", 1, MAX_BOUND - bound if puzzle == ARGON2ID else 0)
    return Part(read_bytes(part, "seed", SEED_BYTES), bound, check, start)


def _decode_modulus(members: dict[str, Any]) -> bytes:
    modulus = read_bytes(members, "modulus", MODULUS_BYTES)
    if not (modulus[0] & 0x80 and modulus[-1] & 1):
        raise TollMalformed("the toll's 'modulus' is not an odd number of 2048 bits")
    return modulus


def decode_challenge(members: object) -> Challenge:
    """Parse and check the ``puzzle`` member of a toll.

    Raises:
        TollMalformed: a member is missing, of the wrong type, out of range, or a seed occurs twice.
    """
    if not isinstance(members, dict):
        raise TollMalformed("the toll's puzzle is not an object")
    name = read_member(members, "name", str)
    if name not in PUZZLES:
        raise TollMalformed("the toll names a puzzle that this client does not know")
    entries = read_member(members, "parts", list)
    if not 1 <= len(entries) <= MAX_PARTS:
        raise TollMalformed(f"the toll's puzzle has not 1..{MAX_PARTS} parts")
    parts = tuple(_decode_part(entry, name) for entry in entries)
    if len({part.seed for part in parts}) != len(parts):
        raise TollMalformed("the toll's puzzle repeats a seed")
    if name == TIMELOCK:
        return Challenge(name, parts, modulus=_decode_modulus(members))
    if name != ARGON2ID:
        return Challenge(name, parts)
    return Challenge(
        name,
        parts,
        memory_kib=read_integer(members, "m_kib", 8, MAX_MEMORY_KIB),
        passes=read_integer(members, "t", 1, 1),
        lanes=read_integer(members, "p", 1, 1),
    )


def find_toll(body: bytes) -> Toll | None:
    """The toll in the body of a 402, or None where the body is somebody else's (there, money may be asked).

    Raises:
        TollMalformed: as ``decode_toll``.
    """
    try:
        document = parse_json(body)
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
    if challenge.puzzle in (HASHCASHES if mode == SEALED else (TIMELOCK,)):
        raise TollMalformed(f"a {challenge.puzzle} puzzle cannot open a toll of mode {mode}")
    cargo = read_bytes(members, "sealed" if mode == SEALED else "token")
    rows = read_integer(members, "rows", 1, MAX_BOUND)
    expires = read_integer(members, "expires", 0, MAX_BOUND) if mode == REDEEM and "expires" in members else None
    return Toll(mode, challenge, cargo, rows, float(typical), expires, mode == REDEEM and members.get("entry") is True)


def encode_redemption(token: bytes, counters: tuple[int, ...]) -> bytes:
    """The body that a client posts to the redeem path."""
    return compact_json({"token": encode_base64url(token), "solution": list(counters)}).encode()


def decode_redemption(body: bytes) -> tuple[bytes, tuple[int, ...]]:
    """Parse what a client posts to the redeem path: the token and one counter per part.

    Raises:
        TollMalformed: not an object of that form.
    """
    document = parse_json(body)
    if not isinstance(document, dict):
        raise TollMalformed("the redemption is not an object")
    counters = read_member(document, "solution", list)
    if not 1 <= len(counters) <= MAX_PARTS or not all(type(n) is int and 0 <= n < 2**64 for n in counters):
        raise TollMalformed(f"the redemption's 'solution' is not a list of 1..{MAX_PARTS} counters")
    return read_bytes(document, "token"), tuple(counters)


@dataclass(frozen=True, slots=True)
class Accept:
    """What a client says that it can do. It only ever chooses among what the route allows."""

    puzzles: tuple[str, ...] = (ARGON2ID, SHA256)
    mode: str = SEALED
    memory_kib: int = 64 * _MIB


def format_accept(accept: Accept) -> str:
    """``argon2id, sha256; mode=sealed; memory=64MiB``."""
    return f"{', '.join(accept.puzzles)}; mode={accept.mode}; memory={accept.memory_kib // _MIB}MiB"


@lru_cache(maxsize=256)  # a client says the same each time
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


def fold_type(content_type: str, length: str | None) -> str:
    """A content type that also tells the value of ``BINARY_HEADER``, as a parameter: a seal has room for a type alone.

    A length that is None, or no number of at most 10 digits, is left out.
    """
    if length is None or not (length.isascii() and length.isdecimal() and len(length) <= _BINARY_DIGITS):
        return content_type
    return content_type.partition(_BINARY_PARAMETER)[0] + _BINARY_PARAMETER + length


def type_headers(content_type: str) -> dict[str, str]:
    """The headers that a content type of ``fold_type`` stands for."""
    plain, parameter, length = content_type.partition(_BINARY_PARAMETER)
    if not parameter or fold_type(plain, length) != content_type:
        return {"Content-Type": content_type}
    return {"Content-Type": plain, BINARY_HEADER: length}
