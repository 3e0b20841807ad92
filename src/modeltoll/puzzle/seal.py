"""Encryption of answers under a puzzle's solution, with AES-256-GCM. Tokens are in ``redeem_token``, proofs in ``proof``.

Sealed answer: nonce (12 bytes) || ciphertext, with the key HKDF-SHA256 of the secrets of the parts. The key is for one
answer, so that a fixed nonce would suffice; a random one costs 12 bytes and keeps the seal secure even if a puzzle is
used twice, for example after a fork or a restored snapshot.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from modeltoll.errors import AnswerError, SealBroken
from modeltoll.puzzle.proof import KEY_BYTES, digest_proof, proof_of, seal_key
from modeltoll.puzzle.redeem_token import (
    REFUSED,
    TOKEN_VERSION,
    KeyRing,
    RedeemClaim,
    decrypt_token,
    encrypt_token,
    redeem_claim,
)
from modeltoll.records import Answer

if TYPE_CHECKING:
    import random

    from modeltoll.toll_records import Solution

__all__ = [
    "KEY_BYTES",
    "MAX_RECEIPT_BYTES",
    "REFUSED",
    "TOKEN_VERSION",
    "KeyRing",
    "OpenedAnswer",
    "RedeemClaim",
    "decrypt_token",
    "digest_proof",
    "encrypt_token",
    "open_answer",
    "proof_of",
    "redeem_claim",
    "seal_answer",
]

MAX_RECEIPT_BYTES = 2**16 - 1
_NONCE_BYTES = 12
_KIND_BYTES, _STATUS_BYTES, _RECEIPT_BYTES, _BODY_BYTES = 2, 2, 2, 8  # of the numbers, which are big-endian


@dataclass(frozen=True, slots=True)
class OpenedAnswer:
    """What a seal holds: the answer, and an opaque receipt for the gateway, which may be empty."""

    answer: Answer
    receipt: bytes = field(default=b"", repr=False)


def seal_answer(
    answer: Answer,
    solution: Solution,
    associated: bytes,
    rng: random.Random,
    *,
    receipt: bytes = b"",
    length: int = 0,
) -> bytes:
    """Encrypt an answer, so that only the solution's secret opens it.

    Args:
        answer: what is sealed.
        solution: of the toll's puzzle.
        associated: the canonical challenge (``wire.canonical_challenge``), which is authenticated but not contained.
        rng: source of the nonce.
        receipt: opaque bytes that the client returns once it has opened the seal.
        length: bytes of the plaintext, to which zeros are appended. A plaintext that is longer is not padded.

    Plaintext: length of the content type (2 bytes, big-endian), content type (ASCII), status (2 bytes), length of the
    receipt (2 bytes), receipt, length of the body (8 bytes), body, zeros.

    Raises:
        AnswerError: the answer's content type or status does not fit that form.
        ValueError: the solution has no secret, as for hashcash: it would seal nothing. Or the receipt is too long.
    """
    kind = answer.content_type
    if not (kind.isascii() and kind.isprintable() and len(kind) < 2**16 and 100 <= answer.status <= 599):
        raise AnswerError("the upstream's status or content type cannot be sealed")
    if len(receipt) > MAX_RECEIPT_BYTES:
        raise ValueError(f"a receipt of {len(receipt)} bytes is too long for a seal")
    head = len(kind).to_bytes(_KIND_BYTES, "big") + kind.encode("ascii") + answer.status.to_bytes(_STATUS_BYTES, "big")
    head += len(receipt).to_bytes(_RECEIPT_BYTES, "big") + receipt + len(answer.body).to_bytes(_BODY_BYTES, "big")
    text = (head + answer.body).ljust(length, b"\0")
    nonce = rng.randbytes(_NONCE_BYTES)
    return nonce + AESGCM(seal_key(solution)).encrypt(nonce, text, associated)


def open_answer(payload: bytes, solution: Solution, associated: bytes) -> OpenedAnswer:
    """Open what ``seal_answer`` sealed, with the same ``associated`` bytes.

    Raises:
        SealBroken: another solution, another challenge, any byte changed, or what was sealed is not of that form.
    """
    try:
        key = seal_key(solution)
        text = AESGCM(key).decrypt(payload[:_NONCE_BYTES], payload[_NONCE_BYTES:], associated)
    except (InvalidTag, ValueError):
        raise SealBroken("the solution does not open the seal") from None
    fields = _Fields(text)
    kind = fields.take(fields.number(_KIND_BYTES))
    status = fields.number(_STATUS_BYTES)
    receipt = fields.take(fields.number(_RECEIPT_BYTES))
    body = fields.take(fields.number(_BODY_BYTES))
    if not fields.only_zeros_left() or not kind.isascii() or not 100 <= status <= 599:
        raise SealBroken("what was sealed is not an answer")
    content_type = kind.decode("ascii")
    if not content_type.isprintable():
        raise SealBroken("what was sealed is not an answer")
    return OpenedAnswer(Answer(status, content_type, body), receipt)


class _Fields:
    """Reads a plaintext field by field. A field that is not there in full is SealBroken."""

    def __init__(self, text: bytes) -> None:
        self._text = text
        self._at = 0

    def take(self, size: int) -> bytes:
        end = self._at + size
        if end > len(self._text):
            raise SealBroken("what was sealed is not an answer")
        taken, self._at = self._text[self._at : end], end
        return taken

    def number(self, size: int) -> int:
        return int.from_bytes(self.take(size), "big")

    def only_zeros_left(self) -> bool:
        return self._text.count(0, self._at) == len(self._text) - self._at
