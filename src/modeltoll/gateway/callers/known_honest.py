"""The callers whom the operator knows to be honest, by the marks on their keys."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

from modeltoll.gateway.callers.api_key_file import read_keys

if TYPE_CHECKING:
    from modeltoll.gateway.settings.callers import CallerSettings

__all__ = ["known_honest_callers"]


def known_honest_callers(settings: CallerSettings) -> Mapping[str, float]:
    """For each caller with a marked key, by name such as ``key:alice``, until when its log counts.

    That is the time of the mark in the key file, in seconds since the epoch, the latest one of several keys; infinity for
    a key of the settings, whose marks have no time.

    Raises:
        SettingsError: the key file cannot be read, or is not one.
    """
    until = {f"key:{key.name}": math.inf for key in settings.keys if key.known_honest}
    for key in read_keys(settings.key_file).keys if settings.key_file is not None else ():
        if key.known_honest is not None:
            name = f"key:{key.name}"
            until[name] = max(until.get(name, -math.inf), key.known_honest.timestamp())
    return until
