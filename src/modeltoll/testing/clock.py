"""A clock that only moves when a test advances it."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["FakeClock"]


@dataclass(slots=True)
class FakeClock:
    """Replaces ``time.time`` in tests: calling it returns ``now``, in seconds since the epoch."""

    now: float = 1_750_000_000.0

    def __call__(self) -> float:
        """The time, in seconds since the epoch."""
        return self.now

    def advance(self, seconds: float) -> None:
        """Add ``seconds``; a negative number sets the clock back."""
        self.now += seconds
