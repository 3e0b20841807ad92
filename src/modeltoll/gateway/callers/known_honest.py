"""The callers whom the operator knows to be honest, by the marks on their keys."""

from __future__ import annotations

from typing import TYPE_CHECKING

from modeltoll.gateway.callers.api_key_file import read_keys

if TYPE_CHECKING:
    from modeltoll.gateway.settings.callers import CallerSettings

__all__ = ["known_honest_callers"]


def known_honest_callers(settings: CallerSettings) -> frozenset[str]:
    """The names of the callers, such as ``key:alice``, of whom a key is marked in the settings or in the key file.

    Raises:
        SettingsError: the key file cannot be read, or is not one.
    """
    records = read_keys(settings.key_file).keys if settings.key_file is not None else ()
    return frozenset(f"key:{key.name}" for key in (*settings.keys, *records) if key.known_honest)
