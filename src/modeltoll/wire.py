"""The wire format of tolls, problems and redemptions, with the headers of ``wire_headers``.

All input may come from a hostile peer. Parsing checks the type, range and size of each member before it is used. What
the client parses raises ``TollMalformed``; in headers that the server parses, unknown values are ignored.
"""

from __future__ import annotations

from collections.abc import Container
from functools import lru_cache
from typing import Any

from modeltoll.errors import TollMalformed
from modeltoll.toll_records import Toll
from modeltoll.wire_challenge import (
    MAX_BOUND,
    MAX_MEMORY_KIB,
    SEED_BYTES,
    VERSION,
    canonical_challenge,
    decode_challenge,
    json_object,
    json_text,
    puzzle_json,
)
from modeltoll.wire_headers import (
    ACCEPT_HEADER,
    ARGON2ID,
    AUTHENTICATE_HEADER,
    BINARY_HEADER,
    GRPC_PROOF_KEY,
    GRPC_TOLL_KEY,
    HASHCASH,
    HASHCASH_SHA1,
    HASHCASHES,
    MAX_HEADER_RECEIPTS,
    MODES,
    PUZZLES,
    RECEIPT_HEADER,
    REDEEM,
    SEALED,
    SETTLE_HEADER,
    SHA256,
    TIMELOCK,
    Accept,
    content_headers,
    format_accept,
    format_receipt,
    format_settle,
    parse_accept,
    parse_settle,
    with_binary_length,
)
from modeltoll.wire_json import (
    compact_json,
    decode_base64url,
    encode_base64url,
    parse_json,
    read_bytes,
    read_integer,
)
from modeltoll.wire_messages import (
    MAX_PARTS,
    MAX_RECEIPT_BYTES,
    MAX_SETTLEMENT_RECEIPTS,
    REDEEM_PATH,
    REDEEM_PROBE,
    SETTLE_PATH,
    Redemption,
    decode_redemption,
    decode_settlement,
    encode_redemption,
    encode_settlement,
    read_reference,
    relative_reference,
)

__all__ = [
    "ACCEPT_HEADER",
    "ARGON2ID",
    "AUTHENTICATE_HEADER",
    "BINARY_HEADER",
    "GRPC_PROOF_KEY",
    "GRPC_TOLL_KEY",
    "HASHCASH",
    "HASHCASHES",
    "HASHCASH_SHA1",
    "MAX_BOUND",
    "MAX_HEADER_RECEIPTS",
    "MAX_MEMORY_KIB",
    "MAX_PARTS",
    "MAX_RECEIPT_BYTES",
    "MAX_SETTLEMENT_RECEIPTS",
    "MAX_TOLL_BYTES",
    "MODES",
    "PROBLEM_TYPE",
    "PUZZLES",
    "RECEIPT_HEADER",
    "REDEEM",
    "REDEEM_PATH",
    "REDEEM_PROBE",
    "SEALED",
    "SETTLE_HEADER",
    "SETTLE_PATH",
    "SHA256",
    "STATUS",
    "TIMELOCK",
    "VERSION",
    "Accept",
    "Redemption",
    "canonical_challenge",
    "content_headers",
    "decode_base64url",
    "decode_challenge",
    "decode_redemption",
    "decode_settlement",
    "decode_toll",
    "encode_base64url",
    "encode_problem",
    "encode_redemption",
    "encode_settlement",
    "encode_toll",
    "encode_toll_object",
    "find_grpc_toll",
    "find_toll",
    "format_accept",
    "format_authenticate",
    "format_receipt",
    "format_settle",
    "parse_accept",
    "parse_settle",
    "relative_reference",
    "with_binary_length",
]

STATUS = 402
PROBLEMS = "urn:modeltoll:problems"
PROBLEM_TYPE = f"{PROBLEMS}:toll"
DETAIL = "Do the work to open the sealed answer; no money is asked."

MAX_TOLL_BYTES = 88 << 20  # a 402 with a sealed answer of 64 MiB
MAX_TYPICAL_SECONDS = 1e9
_NO_REFERENCES = {"redeem": REDEEM_PATH.removeprefix("/"), "settle": SETTLE_PATH.removeprefix("/")}
_HEAD = compact_json({"type": PROBLEM_TYPE, "title": "Toll", "status": STATUS, "detail": DETAIL})[:-1]


def encode_toll(toll: Toll, error: object, path: str) -> bytes:
    """The body of a 402 response: the members of RFC 9457, the serving protocol's own ``error``, and the toll.

    ``path``: of the request whose response this is, below the gateway's root, percent-encoded as in its URL.
    """
    members = _toll_members(toll, path, payload=True)
    text = _quoted(error) if isinstance(error, str) else compact_json(error)
    return f'{_HEAD},"error":{text},"toll":{members}}}'.encode("ascii")


@lru_cache(maxsize=16)  # the text is the same in each toll of a serving protocol
def _quoted(text: str) -> str:
    return compact_json(text)


def encode_toll_object(toll: Toll, path: str, *, payload: bool) -> bytes:
    """The JSON of the ``toll`` object alone, with its payload or without. ``path``: as of ``encode_toll``."""
    return _toll_members(toll, path, payload=payload).encode("ascii")


def _toll_members(toll: Toll, path: str, *, payload: bool) -> str:
    members = {
        "v": f"{VERSION}",
        "id": json_text(encode_base64url(toll.challenge.parts[0].seed)),
        "mode": json_text(toll.mode),
        "puzzle": puzzle_json(toll.challenge),
        "rows": f"{toll.rows}",
        "typical_seconds": repr(float(f"{toll.typical_seconds:.4g}")),
    }
    if payload:
        members["sealed" if toll.mode == SEALED else "token"] = json_text(encode_base64url(toll.payload))
    if toll.mode == REDEEM:
        members["redeem"] = json_text(relative_reference(path, REDEEM_PATH))
        if toll.expires is not None:
            members["expires"] = f"{toll.expires}"
        if toll.admission:
            members["admission"] = "true"
    elif toll.settles:
        members["settle"] = json_text(relative_reference(path, SETTLE_PATH))
    return json_object(members.items())


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


def find_grpc_toll(text: bytes, payload: bytes | None = None, further: Container[str] = ()) -> Toll | None:
    """The toll in a JSON ``toll`` object that came by gRPC, or None if the text is no JSON object.

    ``payload``: the seal or the token, if it came beside the object instead of in it. ``redeem`` and ``settle`` may be
    absent: over gRPC a proof and receipts return as metadata.

    Raises:
        TollMalformed: the object is a toll that is not valid, as in ``decode_toll``.
    """
    try:
        members = parse_json(text)
    except TollMalformed:
        return None
    if not isinstance(members, dict):
        return None
    return _decode_members(_NO_REFERENCES | members, further, payload)


def _decode_members(members: dict[str, Any], further: Container[str], beside: bytes | None = None) -> Toll:
    """A toll from its object. ``beside``: the payload, if it is no member."""
    if type(members.get("v")) is not int or members["v"] != VERSION:  # True and 1.0 equal 1
        raise TollMalformed(f"the toll is not of version {VERSION}")
    mode = members.get("mode")
    if mode not in MODES:
        raise TollMalformed("the toll's mode is not known")
    typical = members.get("typical_seconds")
    if not isinstance(typical, int | float) or isinstance(typical, bool) or not 0 <= typical <= MAX_TYPICAL_SECONDS:
        raise TollMalformed("the toll's 'typical_seconds' is not a number of seconds")
    challenge = decode_challenge(members.get("puzzle"), further)
    if read_bytes(members, "id", SEED_BYTES) != challenge.parts[0].seed:
        raise TollMalformed("the toll's 'id' is not its puzzle's first seed")
    if mode == SEALED and challenge.puzzle in HASHCASHES:
        raise TollMalformed(f"a {challenge.puzzle} puzzle cannot open a toll of mode {mode}")
    payload = read_bytes(members, "sealed" if mode == SEALED else "token") if beside is None else beside
    rows = read_integer(members, "rows", 1, MAX_BOUND)
    if mode == SEALED:
        settle = read_reference(members, "settle") if "settle" in members else ""
        return Toll(mode, challenge, payload, rows, float(typical), settles=bool(settle), settle=settle)
    return Toll(
        mode,
        challenge,
        payload,
        rows,
        float(typical),
        expires=read_integer(members, "expires", 0, MAX_BOUND) if "expires" in members else None,
        admission=members.get("admission") is True,
        redeem=read_reference(members, "redeem"),
    )
