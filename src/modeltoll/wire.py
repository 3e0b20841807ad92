"""The wire format of tolls, problems and redemptions, with the headers of ``wire_headers``.

All input may come from a hostile peer. Parsing checks the type, range and size of each member before it is used. What
the client parses raises ``TollMalformed``; in headers that the server parses, unknown values are ignored.
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
    content_headers,
    format_accept,
    format_receipt,
    parse_accept,
    with_binary_length,
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
    "canonical_challenge",
    "content_headers",
    "decode_base64url",
    "decode_challenge",
    "decode_redemption",
    "decode_toll",
    "encode_base64url",
    "encode_problem",
    "encode_redemption",
    "encode_toll",
    "find_toll",
    "format_accept",
    "format_authenticate",
    "format_receipt",
    "parse_accept",
    "with_binary_length",
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


@lru_cache(maxsize=16)  # the seal, the header and the body of a toll all contain it
def _puzzle_json(challenge: Challenge) -> str:
    """The ``puzzle`` member of a toll as canonical JSON: members sorted by name, no white space."""
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
    """The JSON string of a text that needs no escapes, such as a puzzle's name or base64."""
    return f'"{plain}"'


def _object(members: Iterable[tuple[str, str]]) -> str:
    """A JSON object of members whose values are JSON already, in the given order. Faster than an encoder."""
    return "{" + ",".join([f'"{name}":{value}' for name, value in members]) + "}"


def canonical_challenge(challenge: Challenge, mode: str) -> bytes:
    """The canonical JSON of version, mode and puzzle: the associated data of every seal, so that none can be changed."""
    members = (("mode", _text(mode)), ("puzzle", _puzzle_json(challenge)), ("v", f"{VERSION}"))
    return _object(members).encode("ascii")


def encode_toll(toll: Toll, error: object) -> bytes:
    """The body of a 402 response: the members of RFC 9457, the serving protocol's own ``error``, and the toll."""
    members = {
        "puzzle": _puzzle_json(toll.challenge),
        "v": f"{VERSION}",
        "mode": _text(toll.mode),
        "rows": f"{toll.rows}",
        "typical_seconds": repr(float(f"{toll.typical_seconds:.4g}")),
        "sealed" if toll.mode == SEALED else "token": _text(encode_base64url(toll.payload)),
    }
    if toll.mode == REDEEM:
        members["redeem"] = _text(REDEEM_PATH)
        if toll.expires is not None:
            members["expires"] = f"{toll.expires}"
        if toll.admission:
            members["entry"] = "true"
    return f'{_HEAD},"error":{compact_json(error)},"toll":{_object(members.items())}}}'.encode("ascii")


def encode_problem(name: str, status: int, detail: str, error: object) -> bytes:
    """The body of a refusal: the members of RFC 9457, whose type ends in ``name``, and the protocol's own ``error``."""
    head = {"type": f"{PROBLEMS}:{name}", "title": name.capitalize(), "status": status}
    return compact_json({**head, "detail": detail, "error": error}).encode("ascii")


def format_authenticate(toll: Toll, realm: str) -> str:
    """The value of ``WWW-Authenticate``: the challenge in the form of the ``Payment`` authentication scheme."""
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
    if "start" in part:  # of precomputed argon2id puzzles; absent means 0
        start = read_integer(part, "start", 1, MAX_BOUND - bound if puzzle == ARGON2ID else 0)
    return Part(read_bytes(part, "seed", SEED_BYTES), bound, check, start)


def _decode_modulus(members: dict[str, Any]) -> bytes:
    modulus = read_bytes(members, "modulus", MODULUS_BYTES)
    if not (modulus[0] & 0x80 and modulus[-1] & 1):
        raise TollMalformed("the toll's 'modulus' is not an odd number of 2048 bits")
    return modulus


def decode_challenge(members: object, further: Container[str] = ()) -> Challenge:
    """Parse and validate the ``puzzle`` member of a toll. ``further`` puzzles have parts only, with or without check.

    Raises:
        TollMalformed: a member is missing, of the wrong type, out of range, or a seed occurs twice.
    """
    if not isinstance(members, dict):
        raise TollMalformed("the toll's puzzle is not an object")
    name = read_member(members, "name", str)
    if name not in PUZZLES and name not in further:
        raise TollMalformed("the toll names a puzzle that this client does not know")
    encoded = read_member(members, "parts", list)
    if not 1 <= len(encoded) <= MAX_PARTS:
        raise TollMalformed(f"the toll's puzzle does not have 1..{MAX_PARTS} parts")
    parts = tuple(_decode_part(part, name) for part in encoded)
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
    """The toll in the body of a 402 response, or None if the body carries none (it may ask for money).

    ``further`` are the names of puzzles that are accepted beside those of this version.

    Raises:
        TollMalformed: the body has a toll that is not valid, as in ``decode_toll``.
    """
    try:
        document = parse_json(body)
    except TollMalformed:
        return None
    members = document.get("toll") if isinstance(document, dict) else None
    return _decode_members(members, further) if isinstance(members, dict) else None


def decode_toll(body: bytes) -> Toll:
    """Parse and validate the body of a 402 response.

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
    payload = read_bytes(members, "sealed" if mode == SEALED else "token")
    rows = read_integer(members, "rows", 1, MAX_BOUND)
    expires = read_integer(members, "expires", 0, MAX_BOUND) if mode == REDEEM and "expires" in members else None
    return Toll(
        mode, challenge, payload, rows, float(typical), expires, mode == REDEEM and members.get("entry") is True
    )


def encode_redemption(token: bytes, counters: tuple[int, ...]) -> bytes:
    """The body that a client posts to ``REDEEM_PATH``: the token and one counter per part, as JSON."""
    return compact_json({"token": encode_base64url(token), "solution": list(counters)}).encode()


def decode_redemption(body: bytes) -> tuple[bytes, tuple[int, ...]]:
    """Parse a body posted to ``REDEEM_PATH`` into the token and one counter per part.

    Raises:
        TollMalformed: the body does not have that form.
    """
    document = parse_json(body)
    if not isinstance(document, dict):
        raise TollMalformed("the redemption is not an object")
    counters = read_member(document, "solution", list)
    if not 1 <= len(counters) <= MAX_PARTS or not all(type(n) is int and 0 <= n < 2**64 for n in counters):
        raise TollMalformed(f"the redemption's 'solution' is not a list of 1..{MAX_PARTS} counters")
    return read_bytes(document, "token"), tuple(counters)
