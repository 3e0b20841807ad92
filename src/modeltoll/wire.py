"""The toll on the wire, with the names of headers and modes (``wire_headers``); nothing else knows them.

Everything that arrives here may come from a hostile peer: parsing checks each member's type, range and size before
anything is believed, and raises ``TollMalformed`` (client side) or ignores what it does not know (server side).
"""

from __future__ import annotations

from collections.abc import Container, Iterable
from functools import lru_cache
from typing import Any

from modeltoll.errors import TollMalformed
from modeltoll.records import Challenge, Part, Toll
from modeltoll.wire_headers import (
    ACCEPT_HEADER,
    ARGON2ID,
    AUTHENTICATE_HEADER,
    BINARY_HEADER,
    HASHCASH,
    HASHCASH_SHA1,
    HASHCASHES,
    MODES,
    PUZZLES,
    RECEIPT_HEADER,
    REDEEM,
    SEALED,
    SHA256,
    TIMELOCK,
    Accept,
    fold_type,
    format_accept,
    parse_accept,
    receipt,
    type_headers,
)
from modeltoll.wire_json import (
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
REDEEM_PATH = "/.well-known/modeltoll/redeem"
PROBLEMS = "urn:modeltoll:problems"
PROBLEM_TYPE = f"{PROBLEMS}:toll"
DETAIL = "Do the work to open the sealed answer; no money is asked."

MAX_TOLL_BYTES = 88 << 20  # a 402 with a sealed answer of 64 MiB
MAX_PARTS = 16
MAX_BOUND = 2**53 - 1  # the largest integer that every JSON reader keeps exact
MAX_MEMORY_KIB = 256 * 1024
SEED_BYTES, CHECK_BYTES, MODULUS_BYTES = 16, 16, 256
MAX_TYPICAL_SECONDS = 1e9
_HEAD = compact_json({"type": PROBLEM_TYPE, "title": "Toll", "status": STATUS, "detail": DETAIL})[:-1]


@lru_cache(maxsize=16)  # a toll needs it for its seal, its header and its body
def _puzzle_json(challenge: Challenge) -> str:
    """The ``puzzle`` member of a toll, canonical."""
    members = {"name": _text(challenge.puzzle), "parts": f"[{','.join(map(_part_json, challenge.parts))}]"}
    if challenge.puzzle == ARGON2ID:
        members |= {"m_kib": f"{challenge.memory_kib}", "t": f"{challenge.passes}", "p": f"{challenge.lanes}"}
    if challenge.puzzle == TIMELOCK:
        members["modulus"] = _text(encode_base64url(challenge.modulus))
    return _object(sorted(members.items()))


def _part_json(part: Part) -> str:
    members = {"seed": _text(encode_base64url(part.seed)), "n": f"{part.bound}"}
    if part.check:
        members["check"] = _text(encode_base64url(part.check))
    if part.start:
        members["start"] = f"{part.start}"
    return _object(sorted(members.items()))


def _text(plain: str) -> str:
    """JSON of a text that needs no escapes, such as a name of ours or base64."""
    return f'"{plain}"'


def _object(members: Iterable[tuple[str, str]]) -> str:
    """An object whose members' values are JSON already, in that order; an encoder takes longer."""
    return "{" + ",".join([f'"{name}":{value}' for name, value in members]) + "}"


def canonical_challenge(challenge: Challenge, mode: str) -> bytes:
    """The bytes that every seal covers: version, mode and the whole puzzle. Changing any of them breaks the seal."""
    members = (("mode", _text(mode)), ("puzzle", _puzzle_json(challenge)), ("v", f"{VERSION}"))
    return _object(members).encode("ascii")


def encode_toll(toll: Toll, error: object) -> bytes:
    """The body of the 402: RFC 9457 members, the caller's protocol's own ``error``, and the toll."""
    members = {
        "puzzle": _puzzle_json(toll.challenge),
        "v": f"{VERSION}",
        "mode": _text(toll.mode),
        "rows": f"{toll.rows}",
        "typical_seconds": repr(float(f"{toll.typical_seconds:.4g}")),
        "sealed" if toll.mode == SEALED else "token": _text(encode_base64url(toll.cargo)),
    }
    if toll.mode == REDEEM:
        members["redeem"] = _text(REDEEM_PATH)
        if toll.expires is not None:
            members["expires"] = f"{toll.expires}"
        if toll.entry:
            members["entry"] = "true"
    return f'{_HEAD},"error":{compact_json(error)},"toll":{_object(members.items())}}}'.encode("ascii")


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
    none = puzzle in HASHCASHES or (puzzle not in PUZZLES and "check" not in part)
    check = b"" if none else read_bytes(part, "check", CHECK_BYTES)
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


def decode_challenge(members: object, further: Container[str] = ()) -> Challenge:
    """Parse and check the ``puzzle`` member of a toll. ``further`` puzzles have nothing but parts, with or without check.

    Raises:
        TollMalformed: a member is missing, of the wrong type, out of range, or a seed occurs twice.
    """
    if not isinstance(members, dict):
        raise TollMalformed("the toll's puzzle is not an object")
    name = read_member(members, "name", str)
    if name not in PUZZLES and name not in further:
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


def find_toll(body: bytes, further: Container[str] = ()) -> Toll | None:
    """The toll in the body of a 402, or None where the body is somebody else's (there, money may be asked).

    ``further`` are the names of puzzles that are accepted beside those of this version.

    Raises:
        TollMalformed: as ``decode_toll``.
    """
    try:
        document = parse_json(body)
    except TollMalformed:
        return None
    members = document.get("toll") if isinstance(document, dict) else None
    return _decode_members(members, further) if isinstance(members, dict) else None


def decode_toll(body: bytes) -> Toll:
    """Parse and check the body of a 402.

    Raises:
        TollMalformed: not a toll of this version, or a member is missing, of the wrong type or out of range.
    """
    toll = find_toll(body)
    if toll is None:
        raise TollMalformed("the answer carries no toll")
    return toll


def _decode_members(members: dict[str, Any], further: Container[str]) -> Toll:
    if type(members.get("v")) is not int or members["v"] != VERSION:  # True and 1.0 equal 1
        raise TollMalformed(f"the toll is not of version {VERSION}")
    mode = members.get("mode")
    if mode not in MODES:
        raise TollMalformed("the toll's mode is not known")
    typical = members.get("typical_seconds")
    if not isinstance(typical, int | float) or isinstance(typical, bool) or not 0 <= typical <= MAX_TYPICAL_SECONDS:
        raise TollMalformed("the toll's 'typical_seconds' is not a number of seconds")
    challenge = decode_challenge(members.get("puzzle"), further)
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
