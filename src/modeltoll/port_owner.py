"""Says what listens on a port that is taken, for an error message: on Linux the process, elsewhere the server's own name."""

from __future__ import annotations

import contextlib
import http.client
from collections.abc import Iterator
from pathlib import Path

__all__ = ["taken_by"]

_PROC = Path("/proc")
_LISTENING = "0A"  # the state of a listening socket in /proc/net/tcp
_NAME_CHARACTERS = 80
_TIMEOUT = 0.5  # seconds that whatever listens has to say its name


def taken_by(address: str) -> str:
    """Why ``HOST:PORT`` cannot be listened on, in words: which process listens there, or which server answers there."""
    host, _, port = address.rpartition(":")
    what = _process(int(port)) or _server(host.strip("[]"), int(port))
    return f"{what} listens there already" if what else "something listens there already"


def _process(port: int) -> str:
    """Name and id of a process of this user that listens on the port, or an empty string."""
    wanted = {f"socket:[{inode}]" for inode in _inodes(port)}
    if not wanted:
        return ""
    for process in _PROC.iterdir():
        with contextlib.suppress(OSError):  # of another user, or ended
            if process.name.isdecimal() and wanted & set(_open_files(process)):
                words = (process / "cmdline").read_bytes().decode("utf-8", "replace").split("\0")
                return f"process {process.name} ({_short(' '.join(words))})"
    return ""


def _open_files(process: Path) -> Iterator[str]:
    for descriptor in (process / "fd").iterdir():
        with contextlib.suppress(OSError):  # closed meanwhile
            yield str(descriptor.readlink())


def _inodes(port: int) -> set[str]:
    """The sockets that listen on the port, of IPv4 and IPv6."""
    found = set()
    for table in ("tcp", "tcp6"):
        with contextlib.suppress(OSError):
            for line in (_PROC / "net" / table).read_text().splitlines()[1:]:
                fields = line.split()
                if fields[3] == _LISTENING and int(fields[1].rpartition(":")[2], 16) == port:
                    found.add(fields[9])
    return found


def _server(host: str, port: int) -> str:
    """The name that an HTTP server there gives itself, or an empty string."""
    connection = http.client.HTTPConnection(host or "127.0.0.1", port, timeout=_TIMEOUT)
    try:
        connection.request("HEAD", "/")
        name = connection.getresponse().getheader("Server", "")
    except (OSError, http.client.HTTPException):
        return ""
    finally:
        connection.close()
    return f"a server that calls itself {_short(name)!r}" if name else ""


def _short(text: str) -> str:
    """One line of printable characters."""
    return "".join(letter for letter in text.strip() if letter.isprintable())[:_NAME_CHARACTERS]
