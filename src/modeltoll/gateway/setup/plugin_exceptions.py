"""Errors in one line for exceptions that a model's protocol or measures raise while a model is checked or calibrated."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from modeltoll.errors import CalibrationError, ModeltollError
from modeltoll.gateway.protocols.registry import PROTOCOLS
from modeltoll.leak.registry import MEASURES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from modeltoll.gateway.core.request import ServedModel

__all__ = ["plugin_exceptions"]


@contextmanager
def plugin_exceptions(served_model: ServedModel) -> Iterator[None]:
    """Code of the protocol and of the measures runs within.

    Raises:
        CalibrationError: the code raised what is no ``ModeltollError``; the message names the plug-ins.
    """
    try:
        yield
    except ModeltollError:
        raise
    except Exception as error:
        plug_ins = [PROTOCOLS.describe(served_model.protocol.name)]
        plug_ins += [MEASURES.describe(measure.name) for measure in served_model.measures]
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise CalibrationError(f"{' or '.join(plug_ins)} failed; check the options: {reason}") from error
