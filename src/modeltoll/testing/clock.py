"""A clock that stands still until it is told otherwise."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["FakeClock"]


@dataclass(slots=True)
class FakeClock:
    """Stands in for ``time.time``: calling it returns ``now``, in seconds since the epoch."""

    now: float = 1_750_000_000.0

    def __call__(self) -> float:
        """The time, in seconds since the epoch."""
        return self.now

    def advance(self, seconds: float) -> None:
        """Move the hands; a negative number stands for a clock that was set back."""
        self.now += seconds
