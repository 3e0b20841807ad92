"""The plug of defences other than tolls: they change what is told, or watch who asks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from modeltoll.records import Floats, Integers

__all__ = ["Defence", "Detector"]


class Defence(Protocol):
    """What is told instead of the true scores. Pure, row by row."""

    @property
    def name(self) -> str:
        """As the tables name it."""
        ...

    def answer(self, scores: Floats) -> Floats:
        """Probabilities (rows, classes) that are told in the place of the true ones, of the same shape; rows sum to 1."""
        ...


class Detector(Protocol):
    """Who looks at one caller's rows and says when he is taken for a thief."""

    @property
    def name(self) -> str:
        """As the tables name it."""
        ...

    def first_alarm(self, images: Floats, labels: Integers) -> int | None:
        """The row, counted from 1, at which this caller, who asks about images (rows, ...) in this order and is told
        labels (rows,), is first suspected; None: never."""
        ...
