"""Reads and changes a file of API keys, of which only the SHA-256 is stored, while gateways read it.

A change holds a lock file beside the key file and replaces the key file in one step: a reader sees the old keys or the
new ones, never a mixture, and changes never overlap.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
from codecs import BOM_UTF8
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Literal

import msgspec
from pydantic import AwareDatetime, Field, TypeAdapter, ValidationError, field_validator

from modeltoll.errors import ModeltollError, SettingsError
from modeltoll.files import replace_atomically
from modeltoll.gateway.callers.identify import hash_key
from modeltoll.gateway.settings.callers import NORMAL
from modeltoll.gateway.settings.errors import errors_of
from modeltoll.gateway.settings.field_types import HashedKey, Person, each_once
from modeltoll.gateway.settings.served_models import SettingsPart

__all__ = [
    "KeyDocument",
    "KeyFileError",
    "KeyRecord",
    "change_keys",
    "draw_key",
    "each_record",
    "parse_record",
    "read_keys",
    "with_key",
    "with_known_honest",
    "with_new_key",
    "with_tier",
    "without_key",
]

_PREFIX = "mt_"  # lets secret scanners recognise a key of ours
_KEY_BYTES = 32
_ID_DIGITS = 8
_MODE = 0o600
_SLICE = 100  # keys that are checked at a time, in a millisecond


class KeyFileError(ModeltollError):
    """A change that the keys of the file do not allow."""


class KeyRecord(SettingsPart):
    """One key: its caller and its terms. Several keys of one caller share the caller's account.

    ``known_honest``: when an operator marked the caller as honest; its log up to then may become a kind of its own. None if
    none did.
    """

    name: Person
    sha256: HashedKey
    tier: Person = NORMAL
    organisation: Person | None = None
    created: AwareDatetime
    expires: AwareDatetime | None = None
    known_honest: AwareDatetime | None = None
    note: str = Field("", max_length=200)

    @property
    def identity(self) -> str:
        """The name of the key in lists: the first digits of its hash."""
        return self.sha256[:_ID_DIGITS]

    def expired(self, now: datetime) -> bool:
        """Whether the key has expired."""
        return self.expires is not None and self.expires <= now


class KeyDocument(SettingsPart):
    """The content of a key file."""

    version: Literal[1] = 1
    keys: tuple[KeyRecord, ...] = ()

    @field_validator("keys")
    @classmethod
    def _keys_once(cls, keys: tuple[KeyRecord, ...]) -> tuple[KeyRecord, ...]:
        each_once((key.sha256 for key in keys), "a key")
        return keys


class _KeyLines(msgspec.Struct, forbid_unknown_fields=True):
    """A key file whose keys are not read yet."""

    keys: list[msgspec.Raw] = []
    version: Literal[1] = 1


_records, _lines = TypeAdapter(tuple[KeyRecord, ...]), msgspec.json.Decoder(_KeyLines)


def draw_key() -> tuple[str, str]:
    """A new random key of 256 bits, which is shown once and not stored, and its hash."""
    key = _PREFIX + secrets.token_urlsafe(_KEY_BYTES)
    return key, hash_key(key)


def read_keys(path: Path) -> KeyDocument:
    """The keys of a file.

    Raises:
        SettingsError: the file cannot be read, or is not a key file; names every error at once.
    """
    try:
        return KeyDocument.model_validate_json(_text_of(path))
    except ValidationError as error:
        raise SettingsError([f"{path}: {fault}" for fault in errors_of(error, "the file")]) from None


def _text_of(path: Path) -> bytes:
    try:
        return path.read_bytes().removeprefix(BOM_UTF8)
    except OSError as error:
        raise SettingsError(
            [f"{path}: cannot be read: {error.strerror}; modeltoll keys create makes a key file"]
        ) from None


def each_record(path: Path) -> Iterator[tuple[KeyRecord, bytes]]:
    """The keys of a file one by one, each with the JSON text that ``parse_record`` reads again.

    A large file holds up requests in other threads for a few milliseconds only: no more than some keys are objects at a time.

    Raises:
        SettingsError: the file cannot be read, or is not a key file; names every error at once, some after other keys.
    """
    try:
        lines = _lines.decode(_text_of(path)).keys
        for start in range(0, len(lines), _SLICE):
            texts = [bytes(line) for line in lines[start : start + _SLICE]]
            yield from zip(_records.validate_json(b"[" + b",".join(texts) + b"]"), texts, strict=True)
    except ValueError:  # of msgspec or pydantic, which here names places in a slice
        read_keys(path)  # names them in the file
        raise


def parse_record(text: bytes) -> KeyRecord:
    """One key, of a text of ``each_record``."""
    return KeyRecord.model_validate_json(text)


def change_keys(path: Path, change: Callable[[KeyDocument], KeyDocument]) -> KeyDocument:
    """Apply a change to the keys of a file and return the changed keys. A file that does not exist has no keys.

    A new file is readable by its owner only; a changed file keeps its owner and permissions.

    Raises:
        SettingsError: the file cannot be read or written, or is not a key file. KeyFileError: as ``change`` does.
    """
    target = Path(os.path.realpath(path))  # a link stays a link
    try:
        with _locked(target):
            document = change(read_keys(target) if target.exists() else KeyDocument())
            text = document.model_dump_json(indent=1, exclude_none=True)
            replace_atomically(target, text.encode() + b"\n", mode=_MODE)
    except OSError as error:
        raise SettingsError([f"{path}: cannot be written: {error.strerror}"]) from None
    return document


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold the lock of a file. The lock is a file of its own, since the locked file is replaced."""
    lock = os.open(path.with_name(path.name + ".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, _MODE)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def with_key(document: KeyDocument, key: KeyRecord, *, another: bool = False) -> KeyDocument:
    """The document with one more key.

    Raises:
        KeyFileError: the caller has a key that has not expired, and ``another`` is False.
    """
    if not another and any(old.name == key.name and not old.expired(key.created) for old in document.keys):
        raise KeyFileError(f"{key.name} has a key already: rotate it, or ask for another")
    return document.model_copy(update={"keys": (*document.keys, key)})


def with_tier(document: KeyDocument, name: str, tier: str) -> KeyDocument:
    """The document with all keys of the caller in that tier."""
    keys = [key.model_copy(update={"tier": tier}) if key.name == name else key for key in document.keys]
    return document.model_copy(update={"keys": tuple(keys)})


def with_known_honest(document: KeyDocument, name: str, at: datetime | None) -> KeyDocument:
    """The document with all keys of the caller marked as known honest at that time; None takes the mark away.

    Raises:
        KeyFileError: the caller has no key.
    """
    if not any(key.name == name for key in document.keys):
        raise KeyFileError(f"there is no key of {name}")
    keys = [key.model_copy(update={"known_honest": at}) if key.name == name else key for key in document.keys]
    return document.model_copy(update={"keys": tuple(keys)})


def without_key(document: KeyDocument, name: str, identity: str | None = None) -> KeyDocument:
    """The document without the caller's keys, or without the one whose hash begins with ``identity``.

    Raises:
        KeyFileError: there is no such key.
    """
    kept = tuple(key for key in document.keys if key.name != name or (identity and not key.sha256.startswith(identity)))
    if len(kept) == len(document.keys):
        raise KeyFileError(f"there is no key of {name}" + (f" that begins with {identity}" if identity else ""))
    return document.model_copy(update={"keys": kept})


def with_new_key(document: KeyDocument, name: str, sha256: str, now: datetime, overlap: timedelta) -> KeyDocument:
    """The document with a new key for the caller, with the terms and the lifetime of the caller's latest key.

    The caller's other keys expire after ``overlap`` at the latest.

    Raises:
        KeyFileError: the caller has no key that has not expired.
    """
    own = [key for key in document.keys if key.name == name and not key.expired(now)]
    if not own:
        raise KeyFileError(f"there is no key of {name} that is still valid; create one")
    latest, end = max(own, key=lambda key: key.created), now + overlap
    keys = tuple(
        key.model_copy(update={"expires": min(key.expires or end, end)}) if key in own else key for key in document.keys
    )
    expires = None if latest.expires is None else now + (latest.expires - latest.created)
    new = latest.model_copy(update={"sha256": sha256, "created": now, "expires": expires})
    return document.model_copy(update={"keys": (*keys, new)})
