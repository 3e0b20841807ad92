"""A toll house for model APIs: answers sealed by a proof of work calibrated to what they give away."""

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
