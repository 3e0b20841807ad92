"""Tokens: what a client exchanges for its answer, encrypted with AES-256-GCM under the gateway's keys.

Token: version (1 byte) || key id (4 bytes) || nonce (12 bytes) || ciphertext, with a key of the gateway's key ring. It
contains the answer, so the gateway stores nothing. Redeeming it twice gives the same bytes, so replay gains nothing.

A token is redeemed by the proof of its puzzle's solution, of which it holds the digest. The counters of a hidden counter
are few enough to be guessed; the proof is a function of F at all of them. Hashcash has no secret: its counters are sent,
and checked by hashing.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from hashlib import sha256
from hmac import compare_digest
from typing import TYPE_CHECKING, Any, NoReturn

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from modeltoll.errors import SettingsError, TokenExpired, TokenRefused
from modeltoll.puzzle.functions import COUNTERS, HASHCASHES, solves
from modeltoll.puzzle.proof import DIGEST_BYTES, KEY_BYTES, digest_proof
from modeltoll.records import Answer
from modeltoll.settlement_records import Receipt
from modeltoll.toll_records import Challenge, Part
from modeltoll.wire_json import compact_json

if TYPE_CHECKING:
    import random

    from modeltoll.wire_messages import Redemption

__all__ = ["REFUSED", "TOKEN_VERSION", "KeyRing", "RedeemClaim", "decrypt_token", "encrypt_token", "redeem_claim"]

TOKEN_VERSION = 2
_NONCE_BYTES = 12
_KEY_ID_BYTES = 4
_HEAD_BYTES = 1 + _KEY_ID_BYTES
_LENGTH_BYTES = 4  # of the head's length, big-endian
_TOKEN_LABEL = b"modeltoll token v2"
_SKEW_SECONDS = 60.0  # between the clocks of two gateways
# One message for all reasons, so that a refusal tells a forger nothing.
REFUSED = "the token is not valid here, or its puzzle is not solved"


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

    ``proof_digest``: of ``proof.digest_proof``; empty for hashcash, whose counters are checked by hashing. ``issued``,
    ``expires``: seconds since the epoch. ``caller``: the only caller that may redeem the token. ``request_digest``:
    SHA-256 of the request's body. ``admission``: (model, path, and the query and
    headers if the model reads any) of an admission toll; ``answer.body`` is then the
    request, which is processed when the token is redeemed. ``receipt``: what the ledger counts when it is redeemed.
    """

    answer: Answer
    challenge: Challenge
    proof_digest: bytes
    expires: float
    caller: str
    request_digest: bytes
    issued: float = 0.0
    admission: tuple[str, ...] | None = None
    receipt: Receipt | None = None


def encrypt_token(ring: KeyRing, claim: RedeemClaim, rng: random.Random, *, length: int = 0) -> bytes:
    """Encrypt a claim into a token, with the first key of the ring.

    ``length``: bytes of the plaintext, to which zeros are appended. A plaintext that is longer is not padded.

    Raises:
        ValueError: nothing would redeem the token: no digest of a proof, of a puzzle that is not hashcash.
    """
    if len(claim.proof_digest) != (0 if claim.challenge.puzzle in HASHCASHES else DIGEST_BYTES):
        raise ValueError(f"a token of a {claim.challenge.puzzle} puzzle needs the digest of its proof, hashcash none")
    key = ring.keys[0]
    head = bytes((TOKEN_VERSION,)) + _key_id(key)
    nonce = rng.randbytes(_NONCE_BYTES)
    return head + nonce + AESGCM(key).encrypt(nonce, _pack(claim).ljust(length, b"\0"), _TOKEN_LABEL + head)


def decrypt_token(ring: KeyRing, token: bytes, caller: str, now: float) -> RedeemClaim:
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


def redeem_claim(claim: RedeemClaim, redemption: Redemption) -> Answer:
    """The answer of a claim, if the redemption proves that its puzzle is solved; the same bytes each time.

    Raises:
        TokenRefused: not the proof; or, of hashcash, not one counter per part that solves it.
    """
    if claim.challenge.puzzle in HASHCASHES:
        counters = redemption.counters
        if len(counters) != len(claim.challenge.parts) or not all(0 <= n < COUNTERS for n in counters):
            _refuse("not one counter per part")
        solved = solves(claim.challenge, counters)
    elif not redemption.proof:
        _refuse("counters, where a proof is needed")
    else:
        solved = compare_digest(digest_proof(redemption.proof), claim.proof_digest)
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
        "body": len(claim.answer.body),
        "puzzle": [challenge.puzzle, challenge.memory_kib, challenge.passes, challenge.lanes, challenge.modulus.hex()],
        "parts": [[part.seed.hex(), part.bound, part.check.hex(), part.start] for part in challenge.parts],
        "proof": claim.proof_digest.hex(),
        "issued": claim.issued,
        "expires": claim.expires,
        "caller": claim.caller,
        "request": claim.request_digest.hex(),
    }
    if claim.admission is not None:
        head["admission"] = claim.admission
    if claim.receipt is not None:
        receipt = claim.receipt
        numbers = receipt.expires, receipt.unsettled, receipt.rows, receipt.prepaid, receipt.new_account
        head["receipt"] = [receipt.identity.hex(), *numbers]
    encoded = compact_json(head).encode()
    return len(encoded).to_bytes(_LENGTH_BYTES, "big") + encoded + claim.answer.body


def _unpack(text: bytes) -> RedeemClaim:
    end = _LENGTH_BYTES + int.from_bytes(text[:_LENGTH_BYTES], "big")
    head: dict[str, Any] = json.loads(text[_LENGTH_BYTES:end])
    puzzle, memory_kib, passes, lanes, modulus = head["puzzle"]
    parts = tuple(
        Part(bytes.fromhex(seed), bound, bytes.fromhex(check), start) for seed, bound, check, start in head["parts"]
    )
    return RedeemClaim(
        Answer(head["status"], head["type"], text[end : end + head["body"]]),
        Challenge(puzzle, parts, memory_kib, passes, lanes, bytes.fromhex(modulus)),
        bytes.fromhex(head["proof"]),
        head["expires"],
        head["caller"],
        bytes.fromhex(head["request"]),
        head["issued"],
        tuple(head["admission"]) if "admission" in head else None,
        _receipt(*head["receipt"]) if "receipt" in head else None,
    )


def _receipt(identity: str, *numbers: Any) -> Receipt:
    return Receipt(bytes.fromhex(identity), *numbers)
