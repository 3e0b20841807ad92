"""Gateways as processes of their own: they add up exactly, and one that is killed loses nothing acknowledged."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

CHARGER = Path(__file__).with_name("charging_process.py")
NOBODY = 65534


def start(file, caller, count, *options):
    command = [sys.executable, str(CHARGER), str(file), caller, str(count), *map(str, options)]
    # Without a buffer, or lines that readline() took ahead would be missing from what communicate() returns.
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0)


def finish(process):
    said, complaints = process.communicate(timeout=60)
    assert process.returncode == 0, complaints.decode()
    return said.decode().splitlines()


def stored(file):
    """(rows, requests, counted rows in the sketch) of the one account in the file."""
    direct = sqlite3.connect(file)
    assert direct.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    account = direct.execute("SELECT rows, requests, learned FROM accounts").fetchone()
    direct.close()
    return account


def test_two_processes_on_one_file_add_up_exactly(tmp_path):
    file = tmp_path / "ledger.db"
    processes = [start(file, caller, 500) for caller in ("one", "two")]
    rows = [int(line) for process in processes for line in finish(process)]
    assert sorted(rows) == list(range(1, 1001))
    assert stored(file) == (1000, 1000, 1000)


def test_a_killed_process_leaves_what_it_acknowledged_and_at_most_one_charge_more(tmp_path):
    file = tmp_path / "ledger.db"
    process = start(file, "one", 1_000_000)
    for _ in range(200):
        process.stdout.readline()
    process.kill()
    rest, _ = process.communicate(timeout=60)
    acknowledged = 200 + rest.count(b"\n")
    rows, requests, learned = stored(file)
    assert rows == requests == learned
    assert acknowledged <= rows <= acknowledged + 1
    assert finish(start(file, "two", 1)) == [str(rows + 1)]


def test_a_full_disk_refuses_and_recovers(tmp_path):
    """The system's limit on the size of files: the write itself fails, half-way through a transaction."""
    file = tmp_path / "ledger.db"
    said = finish(start(file, "one", 200, "--file-limit", 200_000))
    refused = [line for line in said if not line.isdigit()]
    assert refused == ["the ledger's disk cannot be read or written; check whether it is full or defective"]
    assert [int(line) for line in said if line.isdigit()] == list(range(1, 200))
    assert stored(file) == (199, 199, 199)


@pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="only root may mount a file system")
def test_a_full_file_system_refuses_and_keeps_its_data(tmp_path):
    script = f'mount -t tmpfs -o size=300k none "{tmp_path}" && exec "$@"'
    command = ["unshare", "--mount", "sh", "-c", script, "sh", sys.executable, str(CHARGER), str(tmp_path / "a.db")]
    run = subprocess.run([*command, "one", "200"], capture_output=True, timeout=60, check=False)
    if b"mount" in run.stderr or b"unshare" in run.stderr:
        pytest.skip("this system lets nobody mount")
    said = run.stdout.decode().splitlines()
    accepted = [int(line) for line in said if line.isdigit()]
    assert accepted == list(range(1, len(accepted) + 1))
    assert 10 < len(accepted) < 200
    assert {line for line in said if not line.isdigit()} == {"the ledger's disk is full; free some space"}
    assert run.returncode == 0, run.stderr.decode()


def test_a_file_that_may_only_be_read_is_refused(tmp_path):
    with tempfile.TemporaryDirectory() as name:  # pytest's own folders are closed to other users
        folder = Path(name)
        file = folder / "ledger.db"
        finish(start(file, "one", 1))
        file.chmod(0o444)
        folder.chmod(0o555)
        options = ("--user", NOBODY) if os.geteuid() == 0 else ()
        (said,) = finish(start(file, "one", 1, *options))
        folder.chmod(0o755)
        assert "allow the gateway's user to write it" in said
        assert stored(shutil.copy(file, tmp_path)) == (1, 1, 1)
