"""Writes the audit log: one JSON object per request, without payloads, names or keys.

A thread of its own writes the lines, so that a slow disk never delays a request. Where the disk is full or the file cannot
be opened, lines are lost and counted, the first loss is logged, and the next line is tried again. The file may be moved
away (logrotate): the next line creates a new one. Several workers may share a file, since each line is one appending write.
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

_MAX_WAITING = 10_000  # lines that may wait for the disk; further ones are lost
_MODE = 0o600
_HASH_DIGITS = 16
_JOIN_SECONDS = 5.0  # how long a stopping gateway waits for a disk that hangs


@dataclass(frozen=True, slots=True)
class AuditRecord:
    """The outcome of one request. ``who`` is the hash of the caller's name, empty where no caller was identified.

    ``at`` is in seconds since the epoch, ``request_seconds`` is the duration, ``work_seconds`` are reference seconds. ``mode`` is the
    mode in the ledger's log, ``redeemed``, or empty where nothing was priced. ``error`` is the class of the error.
    ``reason`` says why shadow mode answered the request without measuring it. ``first_event_seconds``: until the first event
    of a stream came from the model server; None for whole answers.
    """

    at: float
    who: str
    method: str
    route: str
    status: int
    request_seconds: float
    model: str = ""
    rows: int = 0
    mode: str = ""
    work_seconds: float = 0.0
    suspected: bool = False
    error: str = ""
    reason: str = ""
    first_event_seconds: float | None = None

    def line(self) -> bytes:
        """The line of the file."""
        first = self.first_event_seconds
        members = asdict(self) | {
            "first_event_seconds": None if first is None else round(first, 6),
            "request_seconds": round(self.request_seconds, 6),
            "work_seconds": round(self.work_seconds, 9),
        }
        return json.dumps(members, separators=(",", ":")).encode() + b"\n"


class NameHasher:
    """Hashes callers' names with a key: a caller has the same hash for as long as the key stays the same."""

    def __init__(self, key: bytes) -> None:
        self._key = hmac.digest(key, b"modeltoll audit log v1", "sha256")

    def hash(self, caller: str) -> str:
        """The hash of a caller's name, in hexadecimal; empty for an empty name."""
        digest = hmac.new(self._key, caller.encode(), hashlib.sha256).hexdigest()
        return digest[:_HASH_DIGITS] if caller else ""


class AuditLog:
    """Appends records to the file at ``path``. At most ``max_waiting`` lines wait for the disk."""

    def __init__(self, path: Path, max_waiting: int = _MAX_WAITING) -> None:
        self._path = path
        self._max_waiting = max_waiting
        self._lines: deque[bytes] = deque()
        self._wake = threading.Event()
        self._stopping = False
        self._descriptor: int | None = None
        self._partial_line = False
        self.lost_lines = 0
        self.failing = False

    def append(self, record: AuditRecord) -> None:
        """Queue a line; never blocks and never fails."""
        if len(self._lines) >= self._max_waiting:
            self.lost_lines += 1
            return
        self._lines.append(record.line())
        self._wake.set()

    @contextmanager
    def running(self) -> Iterator[None]:
        """Write queued lines while the block lasts, and the rest at its end."""
        self._stopping = False
        thread = threading.Thread(target=self._run, name="modeltoll-audit", daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._stopping = True
            self._wake.set()
            thread.join(_JOIN_SECONDS)

    def _run(self) -> None:
        while not self._stopping:
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
                    self._write(self._lines[0])
                    self._lines.popleft()
            except OSError as error:
                self._drop_lines(error)
            else:
                if self.failing:
                    log.warning("the audit log is written again; %d lines were lost", self.lost_lines)
                self.failing = False

    def _drop_lines(self, error: OSError) -> None:
        """Drop the lines that wait now; later lines are tried again."""
        self._close()
        for _ in range(len(self._lines)):
            self._lines.popleft()
            self.lost_lines += 1
        if not self.failing:
            log.error("the audit log cannot be written, its lines are lost: %s", error.strerror)
        self.failing = True

    def _write(self, line: bytes) -> None:
        """Append a line in one write, after a line break where the previous write ended within a line."""
        assert self._descriptor is not None
        whole = (b"\n" if self._partial_line else b"") + line
        written = os.write(self._descriptor, whole)
        self._partial_line = written < len(whole)
        if self._partial_line:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def _reopen(self) -> None:
        """Open the file under its path, also after the open one was moved away."""
        if self._descriptor is not None:
            with contextlib.suppress(OSError):
                opened, current = os.fstat(self._descriptor), self._path.stat()
                if (opened.st_ino, opened.st_dev) == (current.st_ino, current.st_dev):
                    return
            self._close()
        self._descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, _MODE)

    def _close(self) -> None:
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            with contextlib.suppress(OSError):
                os.close(descriptor)
