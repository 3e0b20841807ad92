"""Keys and proofs derived from the secret of a puzzle's solution, which nobody has who did not evaluate F.

The secret is the concatenation of the halves of F(n_1), F(n_2), ... that are not published. HKDF-SHA256 derives from it
the key of a seal and, under another label, the proof that redeems a token. Neither gives the other, nor the secret.
"""

from __future__ import annotations

from hashlib import sha256
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from modeltoll.puzzle.functions import SECRET_BYTES

if TYPE_CHECKING:
    from modeltoll.toll_records import Solution

__all__ = ["DIGEST_BYTES", "KEY_BYTES", "PROOF_BYTES", "digest_proof", "proof_of", "seal_key"]

KEY_BYTES = PROOF_BYTES = DIGEST_BYTES = 32
_SHA256 = SHA256()
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
    return HKDF(_SHA256, DIGEST_BYTES, salt=None, info=label).derive(secret)
