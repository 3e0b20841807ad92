"""The protocols of defences other than tolls: those that change answers, and detectors of attacks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from modeltoll.records import Floats, Integers

__all__ = ["Defence", "Detector"]


class Defence(Protocol):
    """A defence that changes answers. Pure; each row is independent."""

    @property
    def name(self) -> str:
        """The name in tables."""
        ...

    def answer(self, scores: Floats, leaks: Floats) -> Floats:
        """The probabilities (rows, classes) to answer instead of the true ``scores`` (rows, classes); rows sum to 1.

        ``leaks`` (rows, measures) are the leaks of the same rows, in the order of the baseline's measures.
        """
        ...


class Detector(Protocol):
    """A detector of attacks in the queries of one caller."""

    @property
    def name(self) -> str:
        """The name in tables."""
        ...

    def first_alarm(self, images: Floats, labels: Integers) -> int | None:
        """The row, counted from 1, of the first alarm for one caller; None: there is none.

        ``images`` (rows, ...) are the queries in order, ``labels`` (rows,) the victim's answers to them.
        """
        ...
