"""Network file systems are recognised by their type."""

from __future__ import annotations

from pathlib import Path

import pytest

from modeltoll.ledger.filesystems import filesystem_of, is_network_filesystem

MOUNTS = """\
overlay / overlay rw,relatime 0 0
server:/export /srv/nfs nfs4 rw,relatime 0 0
/dev/sdb1 /srv/nfs/local ext4 rw 0 0
//server/share /mnt/with\\040blank cifs rw 0 0
tmpfs /srv/twice tmpfs rw 0 0
server:/other /srv/twice nfs rw 0 0
user@host: /home/u/remote fuse.sshfs rw 0 0
broken
"""


@pytest.mark.parametrize(
    ("path", "kind", "shared"),
    [
        ("/var/lib/ledger", "overlay", False),
        ("/srv/nfs", "nfs4", True),
        ("/srv/nfs/deep/er", "nfs4", True),
        ("/srv/nfs-not", "overlay", False),
        ("/srv/nfs/local/x", "ext4", False),
        ("/mnt/with blank/x", "cifs", True),
        ("/srv/twice", "nfs", True),
        ("/home/u/remote/x", "fuse.sshfs", True),
    ],
)
def test_the_innermost_and_latest_mount_decides(path, kind, shared):
    assert filesystem_of(Path(path), MOUNTS) == kind
    assert is_network_filesystem(kind) is shared


@pytest.mark.parametrize(
    "kind", ["", "ext4", "xfs", "btrfs", "zfs", "apfs", "tmpfs", "overlay", "fuseblk", "fuse.nfs2x"]
)
def test_local_and_unknown_file_systems_are_not_refused(kind):
    assert is_network_filesystem(kind) is False


def test_an_empty_list_gives_no_type():
    assert filesystem_of(Path("/anywhere"), "") == ""
