"""The puzzle of a toll on the wire: its canonical JSON, which seals authenticate, and how it is parsed.

Parsing checks the type, range and size of each member before it is used, because it may come from a hostile peer.
"""

from __future__ import annotations

from collections.abc import Container, Iterable
from functools import lru_cache
from typing import Any

from modeltoll.errors import TollMalformed
from modeltoll.names import ARGON2ID, HASHCASHES, PUZZLES, TIMELOCK
from modeltoll.toll_records import Challenge, Part
from modeltoll.wire_json import encode_base64url, read_bytes, read_integer, read_member
from modeltoll.wire_messages import MAX_PARTS

__all__ = [
    "CHECK_BYTES",
    "MAX_BOUND",
    "MAX_MEMORY_KIB",
    "MODULUS_BYTES",
    "SEED_BYTES",
    "VERSION",
    "canonical_challenge",
    "decode_challenge",
    "json_object",
    "json_text",
    "puzzle_json",
]

VERSION = 2
MAX_BOUND = 2**53 - 1  # the largest integer that every JSON reader keeps exact
MAX_MEMORY_KIB = 256 * 1024
SEED_BYTES, CHECK_BYTES, MODULUS_BYTES = 16, 16, 256


@lru_cache(maxsize=16)  # the seal, the header and the body of a toll all contain it
def puzzle_json(challenge: Challenge) -> str:
    """The ``puzzle`` member of a toll as canonical JSON: members sorted by name, no white space."""
    members = {"name": json_text(challenge.puzzle), "parts": f"[{','.join(map(_part_json, challenge.parts))}]"}
    if challenge.puzzle == ARGON2ID:
        members |= {"m_kib": f"{challenge.memory_kib}", "t": f"{challenge.passes}", "p": f"{challenge.lanes}"}
    if challenge.puzzle == TIMELOCK:
        members["modulus"] = json_text(encode_base64url(challenge.modulus))
    return json_object(sorted(members.items()))


def _part_json(part: Part) -> str:
    members = {"seed": json_text(encode_base64url(part.seed)), "n": f"{part.bound}"}
    if part.check:
        members["check"] = json_text(encode_base64url(part.check))
    if part.start:
        members["start"] = f"{part.start}"
    return json_object(sorted(members.items()))


def json_text(plain: str) -> str:
    """The JSON string of a text that needs no escapes, such as a puzzle's name or base64."""
    return f'"{plain}"'


def json_object(members: Iterable[tuple[str, str]]) -> str:
    """A JSON object of members whose values are JSON already, in the given order. Faster than an encoder."""
    return "{" + ",".join([f'"{name}":{value}' for name, value in members]) + "}"


@lru_cache(maxsize=16)  # the seal and the header of a toll both contain it
def canonical_challenge(challenge: Challenge, mode: str) -> bytes:
    """The canonical JSON of version, mode and puzzle: the associated data of every seal, so that none can be changed."""
    members = (("mode", json_text(mode)), ("puzzle", puzzle_json(challenge)), ("v", f"{VERSION}"))
    return json_object(members).encode("ascii")


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
