"""The protocol of leak measures."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import numpy as np

from modeltoll.errors import RequestError

if TYPE_CHECKING:
    from modeltoll.records import Evidence, Floats

__all__ = ["LARGEST_INPUT", "LeakMeasure", "check_readable", "clean_measure", "input_width", "reads_inputs_alone"]

LARGEST_INPUT = 1e100  # magnitude of a number in a row of inputs; squares and their sums stay finite


class LeakMeasure(Protocol):
    """A pure function from evidence to leaks, without state.

    A measure that reads inputs only may set the attribute ``inputs_alone`` to True. The gateway then computes it while
    it waits for the upstream. A measure of inputs may have the attribute ``input_width``, how many numbers a row must have;
    the gateway then refuses other rows, and numbers above ``LARGEST_INPUT``, before it asks the upstream; with
    ``reads_missing`` True, missing values (NaN) are among those that it reads. A measure that was
    fitted with kinds of honest rows may have the attribute ``clean``: the same measure fitted without them, whose name is
    ``names.clean_name(name)``. It prices the rows of callers under suspicion.
    """

    @property
    def name(self) -> str:
        """The measure's name in settings, tariffs and the ledger."""

    def measure(self, evidence: Evidence) -> Floats:
        """The leak of each row, shape (rows,), finite and >= 0, in the measure's own unit.

        The leak of a row depends neither on the other rows nor on their order.

        Raises:
            AnswerError: the answer's scores are missing, of a wrong shape, or not of the declared kind.
            RequestError: the inputs are missing, of a wrong shape, or not finite.
        """


def clean_measure(measure: LeakMeasure) -> LeakMeasure:
    """The same measure fitted without kinds; the measure itself where it was fitted with none."""
    clean: LeakMeasure | None = getattr(measure, "clean", None)
    return measure if clean is None else clean


def reads_inputs_alone(measure: LeakMeasure) -> bool:
    """Whether a measure declares that it reads inputs only."""
    return getattr(measure, "inputs_alone", False) is True


def input_width(measure: LeakMeasure) -> int | None:
    """How many numbers the measure declares that a row of inputs must have; None where it does not say."""
    width = getattr(measure, "input_width", None)
    return width if isinstance(width, int) else None


def check_readable(measure: LeakMeasure, inputs: Floats | None) -> None:
    """Check that a measure that declares its ``input_width`` can read the inputs of a request, (rows, dimensions) or None.

    Raises:
        RequestError: it cannot: they are no numbers, of another width, too large, or a value is missing.
    """
    width = input_width(measure)
    if width is None:
        return
    if inputs is None:
        raise RequestError(
            f"the rows are not {width} numbers each, in an order that is known, and the price depends on them: texts, "
            "categories and named inputs that are not declared cannot be read here"
        )
    if inputs.shape[1] != width:
        raise RequestError(f"a row has {inputs.shape[1]} numbers where the model takes {width}")
    missing = np.isnan(inputs)
    if not (missing | (np.abs(inputs) <= LARGEST_INPUT)).all():
        raise RequestError("the inputs hold a number that is too large")
    if missing.any() and getattr(measure, "reads_missing", False) is not True:
        raise RequestError(
            "a value is missing (null or NaN), and the price depends on it: every value must be given here"
        )
