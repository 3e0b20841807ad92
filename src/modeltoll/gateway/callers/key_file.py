"""A file of API keys, which are kept as their SHA-256 only: how it is read, and changed while gateways read it.

Who changes it holds a lock beside it and puts a new file in its place in one step: a reader sees the old keys or the
new ones, never half of them, and no two changes get in each other's way.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Literal

from pydantic import AwareDatetime, Field, ValidationError, field_validator

from modeltoll.errors import ModeltollError, SettingsError
from modeltoll.files import replace_atomically
from modeltoll.gateway.callers.identify import hash_key
from modeltoll.gateway.settings.callers import NORMAL
from modeltoll.gateway.settings.errors import errors_of
from modeltoll.gateway.settings.field_types import HashedKey, Person, each_once
from modeltoll.gateway.settings.models import SettingsPart

__all__ = [
    "KeyDocument",
    "KeyFileError",
    "KeyLine",
    "change_keys",
    "draw_key",
    "read_keys",
    "with_key",
    "with_new_key",
    "with_tier",
    "without_key",
]

_PREFIX = "mt_"  # so that scanners for secrets know a key of ours when they find one
_KEY_BYTES = 32
_ID_DIGITS = 8
_MODE = 0o600


class KeyFileError(ModeltollError):
    """What is asked of a key file cannot be done with the keys that it holds."""


class KeyLine(SettingsPart):
    """One key: whose it is and on which terms. Several keys may be one caller's; they share his account."""

    name: Person
    sha256: HashedKey
    tier: Person = NORMAL
    organisation: Person | None = None
    created: AwareDatetime
    expires: AwareDatetime | None = None
    note: str = Field("", max_length=200)

    @property
    def identity(self) -> str:
        """What the key is called in lists: the beginning of its hash."""
        return self.sha256[:_ID_DIGITS]

    def expired(self, now: datetime) -> bool:
        """Whether the key is not good any more."""
        return self.expires is not None and self.expires <= now


class KeyDocument(SettingsPart):
    """All keys of a file."""

    version: Literal[1] = 1
    keys: tuple[KeyLine, ...] = ()

    @field_validator("keys")
    @classmethod
    def _keys_once(cls, keys: tuple[KeyLine, ...]) -> tuple[KeyLine, ...]:
        each_once((key.sha256 for key in keys), "a key")
        return keys


def draw_key() -> tuple[str, str]:
    """A new random key of 256 bits, to be shown once, and its hash."""
    key = _PREFIX + secrets.token_urlsafe(_KEY_BYTES)
    return key, hash_key(key)


def read_keys(path: Path) -> KeyDocument:
    """The keys of a file.

    Raises:
        SettingsError: it cannot be read, or is not a key file; every fault at once.
    """
    try:
        text = path.read_bytes()
    except OSError as error:
        raise SettingsError(
            [f"{path}: cannot be read: {error.strerror}; modeltoll keys create makes a key file"]
        ) from None
    try:
        return KeyDocument.model_validate_json(text)
    except ValidationError as error:
        raise SettingsError([f"{path}: {fault}" for fault in errors_of(error, "the file")]) from None


def change_keys(path: Path, change: Callable[[KeyDocument], KeyDocument]) -> KeyDocument:
    """Put the changed keys in the place of a file's keys, and return them; a file that is not there has none.

    The new file is readable by its owner alone, or by whoever could read the old one.

    Raises:
        SettingsError: the file cannot be read or written, or is not a key file. KeyFault: as ``change`` does.
    """
    place = Path(os.path.realpath(path))  # a link stays a link
    try:
        with _locked(place):
            document = change(read_keys(place) if place.exists() else KeyDocument())
            text = document.model_dump_json(indent=1, exclude_none=True)
            replace_atomically(place, text.encode() + b"\n", mode=_MODE)
    except OSError as error:
        raise SettingsError([f"{path}: cannot be written: {error.strerror}"]) from None
    return document


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Alone with the file, among those who ask. The lock is a file of its own, since the other one is replaced."""
    lock = os.open(path.with_name(path.name + ".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, _MODE)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def with_key(document: KeyDocument, line: KeyLine, *, another: bool = False) -> KeyDocument:
    """With one key more.

    Raises:
        KeyFault: its caller has a key that is still good, and ``another`` was not asked for.
    """
    if not another and any(key.name == line.name and not key.expired(line.created) for key in document.keys):
        raise KeyFileError(f"{line.name} has a key already: rotate it, or ask for another")
    return document.model_copy(update={"keys": (*document.keys, line)})


def with_tier(document: KeyDocument, name: str, tier: str) -> KeyDocument:
    """With all keys of the caller in that tier."""
    keys = [key.model_copy(update={"tier": tier}) if key.name == name else key for key in document.keys]
    return document.model_copy(update={"keys": tuple(keys)})


def without_key(document: KeyDocument, name: str, identity: str | None = None) -> KeyDocument:
    """Without the caller's keys, or without the one whose hash begins with ``identity``.

    Raises:
        KeyFault: there is no such key.
    """
    kept = tuple(key for key in document.keys if key.name != name or (identity and not key.sha256.startswith(identity)))
    if len(kept) == len(document.keys):
        raise KeyFileError(f"there is no key of {name}" + (f" that begins with {identity}" if identity else ""))
    return document.model_copy(update={"keys": kept})


def with_new_key(document: KeyDocument, name: str, sha256: str, now: datetime, overlap: timedelta) -> KeyDocument:
    """With a new key for the caller, on the terms of his latest one and for as long; his others are good for
    ``overlap`` at most.

    Raises:
        KeyFault: he has no key that is still good.
    """
    own = [key for key in document.keys if key.name == name and not key.expired(now)]
    if not own:
        raise KeyFileError(f"there is no key of {name} that is still good; create one")
    latest, end = max(own, key=lambda key: key.created), now + overlap
    keys = tuple(
        key.model_copy(update={"expires": min(key.expires or end, end)}) if key in own else key for key in document.keys
    )
    expires = None if latest.expires is None else now + (latest.expires - latest.created)
    new = latest.model_copy(update={"sha256": sha256, "created": now, "expires": expires})
    return document.model_copy(update={"keys": (*keys, new)})
