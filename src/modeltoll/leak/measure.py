"""The plug of the leak room."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from modeltoll.records import Evidence, Floats

__all__ = ["LeakMeasure", "reads_inputs_alone"]


class LeakMeasure(Protocol):
    """A function from evidence to leak, pure and without memory.

    One that looks at nothing but the inputs may say so by an attribute ``inputs_alone`` that is True: it need not wait
    for answers.
    """

    @property
    def name(self) -> str:
        """The measure's name in settings, tariffs and the ledger."""

    def measure(self, evidence: Evidence) -> Floats:
        """The leak of each row, shape (rows,), finite and >= 0, in the measure's own unit.

        Row by row: a row's leak depends neither on the other rows nor on their order.

        Raises:
            AnswerError: the answer's scores are missing, of a wrong shape, or not what the settings declare.
            RequestError: the inputs are missing, of a wrong shape, or not finite.
        """


def reads_inputs_alone(measure: LeakMeasure) -> bool:
    """Whether a measure says that it looks at nothing but the inputs."""
    return getattr(measure, "inputs_alone", False) is True
