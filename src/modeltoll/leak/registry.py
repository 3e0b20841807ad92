"""All leak measures by name. A new one is one file and one line here, or an entry point ``modeltoll.measures``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from modeltoll.names import EMBEDDINGS, SCORE_KINDS, TOKENS
from modeltoll.plugins import Registry

if TYPE_CHECKING:
    from modeltoll.plugins import Factory

__all__ = ["ANSWERS", "INPUTS", "MEASURES", "MeasureSpec"]

ANSWERS, INPUTS = "answers", "inputs"
_FACTORIES = "modeltoll.leak.factories"


@dataclass(frozen=True, slots=True)
class MeasureSpec:
    """The properties of a measure that settings and assembly use before it is made.

    ``factory`` makes a ``LeakMeasure`` of that name from keyword arguments: ``file`` (a ``pathlib.Path``) and
    ``neighbours`` (at least 1) where settings give them, and each of its ``options``. It raises ``CalibrationError`` or
    ``SettingsError`` where it cannot. ``reads`` says what the measure reads: ``answers`` (and possibly inputs), or
    nothing but ``inputs``; then the measure has an attribute ``inputs_alone`` that is True. ``kinds`` are the output kinds
    that it can measure. ``file`` and ``neighbours`` say whether settings have to give, may give or must not give these.
    """

    name: str
    factory: Factory
    reads: Literal["answers", "inputs"] = "answers"
    kinds: tuple[str, ...] = SCORE_KINDS
    file: Literal["none", "optional", "needed"] = "none"
    neighbours: bool = False

    @property
    def names(self) -> tuple[str, ...]:
        """Its one name."""
        return (self.name,)


MEASURES: Registry[MeasureSpec] = Registry(
    "measure",
    "modeltoll.measures",
    MeasureSpec,
    (
        MeasureSpec("entropy", f"{_FACTORIES}:entropy"),
        MeasureSpec("gap", f"{_FACTORIES}:gap"),
        MeasureSpec(
            "novelty", f"{_FACTORIES}:novelty", "inputs", (*SCORE_KINDS, EMBEDDINGS), "needed", neighbours=True
        ),
        MeasureSpec("pate", f"{_FACTORIES}:pate", file="needed"),
        MeasureSpec("pknn", f"{_FACTORIES}:pknn", file="needed", neighbours=True),
        MeasureSpec("tokens", f"{_FACTORIES}:tokens", kinds=(TOKENS,)),
    ),
)
