"""Detect network file systems, as far as the operating system reports them.

SQLite's write-ahead log needs memory that all processes share. On a network file system each machine would have its
own, and both would write (sqlite.org/wal.html, "all processes using a database must be on the same host").
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["filesystem_of", "is_network_filesystem"]

# Linux's names of file systems on other machines. 9p exports host folders to guests (WSL 2 among them).
_SHARED = re.compile(
    r"9p|afs|beegfs|ceph|cifs|coda|davfs|glusterfs|gpfs|lustre|ncpfs|nfs4?|orangefs|pvfs2|smb3|smbfs|vboxsf"
    r"|fuse\.(ceph-fuse|curlftpfs|davfs2?|gcsfuse|glusterfs|goofys|juicefs|mfs|rclone|s3fs|sshfs|vmhgfs-fuse)"
)


def filesystem_of(path: Path, mounts: str) -> str:
    """The type of the file system of an absolute path without links; "" if ``mounts`` does not list it.

    ``mounts`` is the text of Linux's ``/proc/self/mounts``: device, folder (blanks as octal escapes), type, options.
    """
    longest, kind = -1, ""
    for line in mounts.splitlines():
        words = line.split(" ")
        if len(words) < 3:
            continue
        folder = re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), words[1])
        if (
            path.is_relative_to(folder) and len(folder) >= longest
        ):  # a later mount hides an earlier one at the same folder
            longest, kind = len(folder), words[2]
    return kind


def is_network_filesystem(kind: str) -> bool:
    """Whether several machines can mount a file system of this type at once."""
    return _SHARED.fullmatch(kind) is not None
