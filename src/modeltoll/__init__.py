"""A toll for model APIs: answers are sealed by a proof of work that is calibrated to their leak about the model.

The names are imported when they are first used, so that the command line starts at once.
"""

from __future__ import annotations

TYPE_CHECKING = False  # that of typing, which takes long to import
if TYPE_CHECKING:
    from typing import Any

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


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module  # noqa: PLC0415

    modules = {"__version__": "_version", "Payment": "client.purse", "Purse": "client.purse"}
    value = globals()[name] = getattr(import_module(f"modeltoll.{modules.get(name, 'errors')}"), name)
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
