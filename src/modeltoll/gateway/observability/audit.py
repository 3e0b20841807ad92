"""The audit log: one JSON object for each request, without payloads, names and keys.

Lines are written by a thread of their own, so that a slow disk makes no request wait. A disk that is full, or a file that
cannot be opened, costs lines and nothing else: they are counted, said once, and tried again. The file may be moved away
(logrotate): the next line makes a new one. Several workers may share a file, since each line is one write at its end.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import hmac
import json
import logging
import os
import threading
from collections import deque
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["AuditLog", "AuditRecord", "NameHasher"]

log = logging.getLogger("modeltoll.gateway")

_WAITING = 10_000  # lines that may wait for the disk; further ones are lost
_MODE = 0o600
_HASH_DIGITS = 16
_END_SECONDS = 5.0  # for a disk that hangs when the gateway stops


@dataclass(frozen=True, slots=True)
class AuditRecord:
    """What one request came to. ``who`` is a caller's hash, empty where nobody was named.

    ``at`` is in seconds since the epoch, ``seconds`` and ``work`` (reference seconds) are durations; ``mode`` is as in
    the ledger's log, ``redeemed``, or empty where nothing was priced; ``error`` is the class of what went wrong.
    """

    at: float
    who: str
    method: str
    route: str
    status: int
    seconds: float
    model: str = ""
    rows: int = 0
    mode: str = ""
    work: float = 0.0
    suspected: bool = False
    error: str = ""

    def line(self) -> bytes:
        """As it stands in the file."""
        members = asdict(self) | {"seconds": round(self.seconds, 6), "work": round(self.work, 9)}
        return json.dumps(members, separators=(",", ":")).encode() + b"\n"


class NameHasher:
    """Names callers by a keyed hash: the same caller has the same name for as long as the key stays."""

    def __init__(self, key: bytes) -> None:
        self._key = hmac.digest(key, b"modeltoll audit log v1", "sha256")

    def __call__(self, caller: str) -> str:
        """The hash of a caller's name, in hexadecimal; nothing for nobody."""
        digest = hmac.new(self._key, caller.encode(), hashlib.sha256).hexdigest()
        return digest[:_HASH_DIGITS] if caller else ""


class AuditLog:
    """Appends deeds to the file at ``path``. ``most`` lines wait for the disk at most."""

    def __init__(self, path: Path, most: int = _WAITING) -> None:
        self._path = path
        self._most = most
        self._lines: deque[bytes] = deque()
        self._wake = threading.Event()
        self._over = False
        self._descriptor: int | None = None
        self._torn = False
        self.lost = 0
        self.broken = False

    def note(self, deed: AuditRecord) -> None:
        """Write a line, soon; never waits and never fails."""
        if len(self._lines) >= self._most:
            self.lost += 1
            return
        self._lines.append(deed.line())
        self._wake.set()

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Write for as long as the block lasts; at its end what waits is written."""
        self._over = False
        thread = threading.Thread(target=self._work, name="modeltoll-audit", daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._over = True
            self._wake.set()
            thread.join(_END_SECONDS)

    def _work(self) -> None:
        while not self._over:
            self._wake.wait()
            self._wake.clear()
            self._write_all()
        self._write_all()
        self._close()

    def _write_all(self) -> None:
        while self._lines:
            try:
                self._reopen()
                while self._lines:
                    self._append(self._lines[0])
                    self._lines.popleft()
            except OSError as error:
                self._lose(error)
            else:
                if self.broken:
                    log.warning("the audit log is written again; %d lines were lost", self.lost)
                self.broken = False

    def _lose(self, error: OSError) -> None:
        """Give up what waits now; what comes later is tried anew."""
        self._close()
        for _ in range(len(self._lines)):
            self._lines.popleft()
            self.lost += 1
        if not self.broken:
            log.error("the audit log cannot be written, its lines are lost: %s", error.strerror)
        self.broken = True

    def _append(self, line: bytes) -> None:
        """One line, in one write; after half a line the next one begins anew."""
        assert self._descriptor is not None
        whole = (b"\n" if self._torn else b"") + line
        written = os.write(self._descriptor, whole)
        self._torn = written < len(whole)
        if self._torn:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def _reopen(self) -> None:
        """The file under its name, also where somebody has moved the old one away."""
        if self._descriptor is not None:
            with contextlib.suppress(OSError):
                here, there = os.fstat(self._descriptor), self._path.stat()
                if (here.st_ino, here.st_dev) == (there.st_ino, there.st_dev):
                    return
            self._close()
        self._descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, _MODE)

    def _close(self) -> None:
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            with contextlib.suppress(OSError):
                os.close(descriptor)
