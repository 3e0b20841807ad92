"""How large the bodies are that the gateway reads, as its settings bound them. Sizes are in bytes."""

from __future__ import annotations

__all__ = ["DEFAULT_BODIES", "SETTLEMENT_BYTES", "largest_redemption"]

_ENVELOPE_BYTES = 64 << 10  # of a redemption besides its content: the token's head and tag, the proof or the counters
DEFAULT_BODIES = 128 << 20  # of all bodies together
SETTLEMENT_BYTES = 32 << 10  # 64 receipts of at most 300 characters, with room for white space


def largest_redemption(largest_body: int, largest_answer: int) -> int:
    """The size of the largest redemption, from the largest request and the largest answer that a token can hold.

    A token is written in base64url: four characters for three bytes.
    """
    return -(-max(largest_body, largest_answer) * 4 // 3) + _ENVELOPE_BYTES
