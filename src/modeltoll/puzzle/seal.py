"""Encryption of answers under a puzzle's solution, and of tokens under the gateway's keys; both with AES-256-GCM.

Sealed answer: nonce (12 bytes) || ciphertext, with the key HKDF-SHA256 of the secrets of the parts. The key is for one
answer, so that a fixed nonce would suffice; a random one costs 12 bytes and keeps the seal secure even if a puzzle is
used twice, for example after a fork or a restored snapshot.

Token: version (1 byte) || key id (4 bytes) || nonce (12 bytes) || ciphertext, with a key of the gateway's key ring. It
contains the answer, so the gateway stores nothing. Redeeming it twice gives the same bytes, so replay gains nothing.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from hashlib import sha256
from hmac import compare_digest
from typing import TYPE_CHECKING, Any, NoReturn

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from modeltoll.errors import AnswerError, SealBroken, SettingsError, TokenExpired, TokenRefused
from modeltoll.puzzle.functions import COUNTERS, HASHCASHES, SECRET_BYTES, TIMELOCK, solves
from modeltoll.records import Answer, Challenge, Part, Solution

if TYPE_CHECKING:
    import random

__all__ = [
    "KEY_BYTES",
    "REFUSED",
    "TOKEN_VERSION",
    "KeyRing",
    "RedeemClaim",
    "digest_solution",
    "open_answer",
    "open_token",
    "redeem_claim",
    "seal_answer",
    "seal_token",
]

KEY_BYTES = 32
TOKEN_VERSION = 1
_NONCE_BYTES = 12
_KEY_ID_BYTES = 4
_HEAD_BYTES = 1 + _KEY_ID_BYTES
_SEAL_LABEL = b"modeltoll seal v1"
_TOKEN_LABEL = b"modeltoll token v1"
_SOLUTION_LABEL = b"modeltoll solution v1"
_SKEW_SECONDS = 60.0  # between the clocks of two gateways
# One message for all reasons, so that a refusal tells a forger nothing.
REFUSED = "the token is not valid here, or its puzzle is not solved"


def seal_answer(answer: Answer, solution: Solution, associated: bytes, rng: random.Random) -> bytes:
    """Encrypt an answer, so that only the solution's secret opens it.

    ``associated``: the canonical challenge (``wire.canonical_challenge``), which is authenticated but not contained.
    Plain text: length of the content type (2 bytes, big-endian), content type (ASCII), status (2 bytes), body.

    Raises:
        AnswerError: the answer's content type or status does not fit that form.
        ValueError: the solution has no secret, as for hashcash: it would seal nothing.
    """
    kind = answer.content_type
    if not (kind.isascii() and kind.isprintable() and len(kind) < 2**16 and 100 <= answer.status <= 599):
        raise AnswerError("the upstream's status or content type cannot be sealed")
    text = len(kind).to_bytes(2, "big") + kind.encode("ascii") + answer.status.to_bytes(2, "big") + answer.body
    nonce = rng.randbytes(_NONCE_BYTES)
    return nonce + AESGCM(_seal_key(solution)).encrypt(nonce, text, associated)


def open_answer(payload: bytes, solution: Solution, associated: bytes) -> Answer:
    """Open what ``seal_answer`` sealed, with the same ``associated`` bytes.

    Raises:
        SealBroken: another solution, another challenge, or any byte changed.
    """
    try:
        key = _seal_key(solution)
        text = AESGCM(key).decrypt(payload[:_NONCE_BYTES], payload[_NONCE_BYTES:], associated)
    except (InvalidTag, ValueError):
        raise SealBroken("the solution does not open the seal") from None
    head = 2 + int.from_bytes(text[:2], "big")
    kind, status, body = text[2:head], int.from_bytes(text[head : head + 2], "big"), text[head + 2 :]
    if len(text) < head + 2 or not kind.isascii() or not 100 <= status <= 599:
        raise SealBroken("what was sealed is not an answer")
    content_type = kind.decode("ascii")
    if not content_type.isprintable():
        raise SealBroken("what was sealed is not an answer")
    return Answer(status, content_type, body)


def _seal_key(solution: Solution) -> bytes:
    secret = solution.secret
    if not secret or len(secret) != SECRET_BYTES * len(solution.counters):
        raise ValueError("the solution's secret is not one value per part")
    return HKDF(algorithm=SHA256(), length=KEY_BYTES, salt=None, info=_SEAL_LABEL).derive(secret)


@dataclass(frozen=True, slots=True)
class KeyRing:
    """The gateway's keys of 32 random bytes. The first one encrypts, all of them decrypt.

    To rotate, put a new key in front, and remove the old one when its last token has expired. A key may encrypt at most
    2^32 tokens (random nonces, NIST SP 800-38D): at 1000 per second rotate monthly.

    Raises:
        SettingsError: no key, a key of another length, or one key twice.
    """

    keys: tuple[bytes, ...] = field(repr=False)

    def __post_init__(self) -> None:
        faults = []
        if not self.keys:
            faults.append("the key ring is empty: give it at least one key of 32 random bytes")
        if any(len(key) != KEY_BYTES for key in self.keys):
            faults.append("the key ring holds a key that is not 32 bytes long")
        if len({_key_id(key) for key in self.keys}) != len(self.keys):
            faults.append("the key ring holds a key twice")
        if faults:
            raise SettingsError(faults)

    def find(self, identity: bytes) -> bytes | None:
        """The key whose id (the first 4 bytes of its SHA-256) is ``identity``, or None."""
        return next((key for key in self.keys if _key_id(key) == identity), None)


def _key_id(key: bytes) -> bytes:
    return sha256(key).digest()[:_KEY_ID_BYTES]


@dataclass(frozen=True, slots=True)
class RedeemClaim:
    """The content of a token.

    ``solution_digest``: of ``digest_solution``; empty for hashcash, whose solution is checked by hashing. ``issued``,
    ``expires``: seconds since the epoch. ``caller``: the only caller that may redeem the token. ``request_digest``:
    SHA-256 of the request's body. ``admission``: (model, path) of an admission toll; ``answer.body`` is then the
    request, which is processed when the token is redeemed.
    """

    answer: Answer
    challenge: Challenge
    solution_digest: bytes
    expires: float
    caller: str
    request_digest: bytes
    issued: float = 0.0
    admission: tuple[str, str] | None = None


def digest_solution(counters: tuple[int, ...]) -> bytes:
    """SHA-256 of a label and the counters, 8 bytes each, big-endian; every counter is in [0, 2^64)."""
    return sha256(_SOLUTION_LABEL + b"".join(n.to_bytes(8, "big") for n in counters)).digest()


def seal_token(ring: KeyRing, claim: RedeemClaim, rng: random.Random) -> bytes:
    """Encrypt a claim into a token, with the first key of the ring.

    Raises:
        ValueError: the claim is of a time lock, whose counters prove no work.
    """
    if claim.challenge.puzzle == TIMELOCK:
        raise ValueError("a time lock is for sealed mode only; its counters prove no work")
    key = ring.keys[0]
    head = bytes((TOKEN_VERSION,)) + _key_id(key)
    nonce = rng.randbytes(_NONCE_BYTES)
    return head + nonce + AESGCM(key).encrypt(nonce, _pack(claim), _TOKEN_LABEL + head)


def open_token(ring: KeyRing, token: bytes, caller: str, now: float) -> RedeemClaim:
    """Decrypt a token for the caller that it was issued to. ``now`` is in seconds since the epoch.

    Raises:
        TokenRefused: forged, truncated, of an unknown key, of another caller, or issued in the future; the public
            message does not say which.
        TokenExpired: past its expiry.
    """
    head, rest = token[:_HEAD_BYTES], token[_HEAD_BYTES:]
    key = ring.find(head[1:])
    if head[:1] != bytes((TOKEN_VERSION,)) or key is None:
        _refuse("unknown version or key")
    try:
        claim = _unpack(AESGCM(key).decrypt(rest[:_NONCE_BYTES], rest[_NONCE_BYTES:], _TOKEN_LABEL + head))
    except (InvalidTag, ValueError):
        _refuse("forged or truncated")
    if not compare_digest(claim.caller.encode(), caller.encode()):
        _refuse(f"issued to {claim.caller}, shown by {caller}")
    if now < claim.issued - _SKEW_SECONDS:
        _refuse(f"issued at {claim.issued:.0f}, shown at {now:.0f}")
    if now >= claim.expires:
        raise TokenExpired("the token has expired; ask again")
    return claim


def redeem_claim(claim: RedeemClaim, counters: tuple[int, ...]) -> Answer:
    """The answer of a claim, if the counters solve its puzzle; the same bytes each time.

    Raises:
        TokenRefused: not one counter per part, a counter out of range, or the counters do not solve the puzzle.
    """
    if len(counters) != len(claim.challenge.parts) or not all(0 <= n < COUNTERS for n in counters):
        _refuse("not one counter per part")
    if claim.challenge.puzzle in HASHCASHES:
        solved = solves(claim.challenge, counters)
    else:
        solved = compare_digest(digest_solution(counters), claim.solution_digest)
    if not solved:
        _refuse("not solved")
    return claim.answer


def _refuse(private: str) -> NoReturn:
    raise TokenRefused(REFUSED, private=private)


def _pack(claim: RedeemClaim) -> bytes:
    """Length of the head (4 bytes, big-endian) || head (JSON) || body of the answer."""
    challenge = claim.challenge
    head: dict[str, Any] = {
        "status": claim.answer.status,
        "type": claim.answer.content_type,
        "puzzle": [challenge.puzzle, challenge.memory_kib, challenge.passes, challenge.lanes],
        "parts": [[part.seed.hex(), part.bound, part.check.hex(), part.start] for part in challenge.parts],
        "solution": claim.solution_digest.hex(),
        "issued": claim.issued,
        "expires": claim.expires,
        "caller": claim.caller,
        "request": claim.request_digest.hex(),
    }
    if claim.admission is not None:
        head["entry"] = claim.admission
    encoded = json.dumps(head, separators=(",", ":")).encode()
    return len(encoded).to_bytes(4, "big") + encoded + claim.answer.body


def _unpack(text: bytes) -> RedeemClaim:
    end = 4 + int.from_bytes(text[:4], "big")
    head: dict[str, Any] = json.loads(text[4:end])
    puzzle, memory_kib, passes, lanes = head["puzzle"]
    parts = tuple(
        Part(bytes.fromhex(seed), bound, bytes.fromhex(check), start) for seed, bound, check, start in head["parts"]
    )
    return RedeemClaim(
        Answer(head["status"], head["type"], text[end:]),
        Challenge(puzzle, parts, memory_kib, passes, lanes),
        bytes.fromhex(head["solution"]),
        head["expires"],
        head["caller"],
        bytes.fromhex(head["request"]),
        head["issued"],
        tuple(head["entry"]) if "entry" in head else None,
    )
