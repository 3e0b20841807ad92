"""The names of results and cached extractions: digests of explicit keys, so that renaming a field renames no file.

A key is a mapping of plain JSON values with its version under ``v``. A new member takes a new version, and so do results
that change though no member does. Files from before keys, which are of version 1, are named by a text that spelled a class
and its fields; ``legacy_digest`` still finds them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

__all__ = ["canonical", "digest", "first_file", "legacy_digest"]

Key = Mapping[str, Any]


def canonical(key: Key) -> str:
    """A key as canonical JSON: sorted, without white space. Equal keys have equal texts."""
    return json.dumps(key, sort_keys=True, separators=(",", ":"))


def digest(key: Key, length: int) -> str:
    """The first ``length`` hexadecimal digits of the SHA-256 of a key as canonical JSON."""
    return _sha256(canonical(key), length)


def legacy_digest(name: str, key: Key, length: int) -> str:
    """The digits in legacy file names: of ``name(member='value', ...)``, without ``v`` and an empty ``foreign``."""
    members = {member: value for member, value in key.items() if member != "v" and (member, value) != ("foreign", "")}
    return _sha256(f"{name}({', '.join(f'{member}={value!r}' for member, value in members.items())})", length)


def first_file(*paths: Path) -> Path | None:
    """The first of some paths at which a file lies, or None."""
    return next((path for path in paths if path.is_file()), None)


def _sha256(text: str, length: int) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:length]
