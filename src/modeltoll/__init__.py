"""A toll for model APIs: answers are sealed by a proof of work that is calibrated to their leak about the model."""

from modeltoll._version import __version__
from modeltoll.client.purse import Payment, Purse
from modeltoll.errors import (
    ModeltollError,
    SealBroken,
    SolveStopped,
    TollError,
    TollMalformed,
    TollTooDear,
)

__all__ = [
    "ModeltollError",
    "Payment",
    "Purse",
    "SealBroken",
    "SolveStopped",
    "TollError",
    "TollMalformed",
    "TollTooDear",
    "__version__",
]
