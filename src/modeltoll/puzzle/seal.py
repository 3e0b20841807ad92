"""Answers sealed by a solution, and tokens sealed by the gateway; both AES-256-GCM.

Sealed answer: nonce (12 bytes) || ciphertext, under HKDF-SHA256 of the parts' secrets. A puzzle's key is meant for one
answer, so a fixed nonce would do; a random one costs 12 bytes and keeps the seal sound even if a puzzle is ever used
twice, as after a fork or a restored snapshot.

Token: version (1 byte) || key id (4 bytes) || nonce (12 bytes) || ciphertext, under a key of the gateway's ring. It
carries the answer, so the gateway holds nothing, and shown twice it gives the same bytes: there is nothing to replay.
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
# One message for all, so that a refusal tells a forger nothing.
REFUSED = "the token is not valid here, or its puzzle is not solved"


def seal_answer(answer: Answer, solution: Solution, associated: bytes, rng: random.Random) -> bytes:
    """Seal an answer: only who finds the solution's secret can open it.

    ``associated`` is the canonical form of the challenge (``wire.canonical_challenge``); it is covered, not carried.
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
    """The gateway's keys, 32 random bytes each: the first seals, all open.

    To rotate, put a new key in front, and drop the old one when its last token has expired. One key seals at most
    2^32 tokens (random nonces, NIST SP 800-38D): at 1000 a second, rotate monthly.

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

    def named(self, identity: bytes) -> bytes | None:
        """The key with that id (the first 4 bytes of its SHA-256), if the ring holds it."""
        return next((key for key in self.keys if _key_id(key) == identity), None)


def _key_id(key: bytes) -> bytes:
    return sha256(key).digest()[:_KEY_ID_BYTES]


@dataclass(frozen=True, slots=True)
class RedeemClaim:
    """What a token holds. ``solution_digest`` is empty for hashcash, whose solution is checked by a hash instead.

    ``issued`` and ``expires`` are in seconds since the epoch. ``caller`` is the name of the only caller who may show
    the token. ``entry`` names the model and the path of a request that the answer's body holds in the answer's place:
    it is dealt with when the token is redeemed.
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
    """SHA-256 over a label and the counters, 8 bytes each, big-endian; every counter is in [0, 2^64)."""
    return sha256(_SOLUTION_LABEL + b"".join(n.to_bytes(8, "big") for n in counters)).digest()


def seal_token(ring: KeyRing, claim: RedeemClaim, rng: random.Random) -> bytes:
    """A token that only the holders of the ring can read, and nobody can change.

    Raises:
        ValueError: the claim is of a time lock, whose counters prove no work.
    """
    if claim.challenge.puzzle == TIMELOCK:
        raise ValueError("a time lock seals its answer; no token settles it")
    key = ring.keys[0]
    head = bytes((TOKEN_VERSION,)) + _key_id(key)
    nonce = rng.randbytes(_NONCE_BYTES)
    return head + nonce + AESGCM(key).encrypt(nonce, _pack(claim), _TOKEN_LABEL + head)


def open_token(ring: KeyRing, token: bytes, caller: str, now: float) -> RedeemClaim:
    """The claim that a token holds, for the caller it was issued to. ``now`` is in seconds since the epoch.

    Raises:
        TokenRefused: forged, truncated, of a foreign key, another caller's, or issued later than now; which of these
            is not said.
        TokenExpired: the token was good once.
    """
    head, rest = token[:_HEAD_BYTES], token[_HEAD_BYTES:]
    key = ring.named(head[1:])
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
    """The answer, for whoever brings the solution; the same bytes however often it is shown.

    Raises:
        TokenRefused: the counters are too many, too few, out of range, or solve nothing.
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
    """Length of the head (4 bytes, big-endian), head (JSON), the answer's body as it is."""
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
