"""The protocol of victims."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from modeltoll.records import Floats

__all__ = ["Victim"]


class Victim(Protocol):
    """A trained classifier of images."""

    @property
    def identity(self) -> str:
        """A digest of its training recipe and private data."""
        ...

    def scores(self, images: Floats) -> Floats:
        """Probabilities (n, classes), float64, of images (n, h, w) or (n, h, w, 3) of 0..1; each row is independent."""
        ...
