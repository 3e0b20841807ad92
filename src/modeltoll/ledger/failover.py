"""When a step is repeated that a server has refused because it is not, or no longer, the primary server.

A step is repeated only where the server has certainly not executed it, or where executing it twice is the same as once:
reading, and counting receipts, each of which counts once. A charge, a reservation or a bill whose answer was lost may have
been written; it is never sent again, and the caller gets an error instead of an answer.
"""

from __future__ import annotations

__all__ = ["PAUSES"]

PAUSES = (0.0, 0.05, 0.1, 0.2, 0.4)  # seconds before each repetition, within the time limit of the step
