"""Keys and proofs derived from the secret of a puzzle's solution, which nobody has who did not evaluate F.

The secret is the concatenation of the halves of F(n_1), F(n_2), ... that are not published. HKDF-SHA256 derives from it
the key of a seal and, under another label, the proof that redeems a token. Neither gives the other, nor the secret.
"""

from __future__ import annotations

import hmac
from hashlib import sha256
from typing import TYPE_CHECKING

from modeltoll.puzzle.functions import SECRET_BYTES

if TYPE_CHECKING:
    import hashlib

    from modeltoll.toll_records import Solution

__all__ = ["DIGEST_BYTES", "KEY_BYTES", "PROOF_BYTES", "digest_proof", "hkdf", "proof_of", "seal_key"]

KEY_BYTES = PROOF_BYTES = DIGEST_BYTES = 32
_NO_SALT = b"\0" * DIGEST_BYTES
_SEAL_LABEL = b"modeltoll seal v2"
_PROOF_LABEL = b"modeltoll proof v2"
_DIGEST_LABEL = b"modeltoll proof digest v2"


def seal_key(solution: Solution) -> bytes:
    """The key of an answer that is sealed under this solution, 32 bytes.

    Raises:
        ValueError: the secret is not 16 bytes for each counter, or is empty, as for hashcash.
    """
    return _derive(solution, _SEAL_LABEL)


def proof_of(solution: Solution) -> bytes:
    """The proof of this solution, 32 bytes, which a client sends to redeem a token.

    Raises:
        ValueError: the secret is not 16 bytes for each counter, or is empty, as for hashcash.
    """
    return _derive(solution, _PROOF_LABEL)


def digest_proof(proof: bytes) -> bytes:
    """What a token holds of a proof: SHA-256 of a label and the proof."""
    return sha256(_DIGEST_LABEL + proof).digest()


def _derive(solution: Solution, label: bytes) -> bytes:
    secret = solution.secret
    if not secret or len(secret) != SECRET_BYTES * len(solution.counters):
        raise ValueError("the solution's secret is not one value per part")
    return hkdf(secret, label)


def hkdf(secret: bytes, label: bytes) -> bytes:
    """HKDF-SHA256 (RFC 5869) of a secret without salt: its first and only block of 32 bytes. ``label``: the info."""
    extracted = hmac.new(_NO_SALT, secret, _sha256).digest()
    return hmac.new(extracted, label + b"\x01", _sha256).digest()


def _sha256(data: bytes = b"") -> hashlib._Hash:
    """SHA-256 as a function, with which ``hmac`` takes its own code. OpenSSL's HMAC looks its algorithm up for each key.

    That takes several times as long as the hashes themselves.
    """
    return sha256(data)
