"""What tests of the demo share: a silent terminal, and a look at other processes."""

import contextlib
import subprocess
import time

import pytest


@contextlib.contextmanager
def _silent(title):
    del title
    yield lambda done, most: None


def _children(pid):
    found = subprocess.run(["ps", "-eo", "pid=,ppid="], capture_output=True, text=True, check=True).stdout.split("\n")
    pairs = [line.split() for line in found if line.strip()]
    return [int(child) for child, parent in pairs if int(parent) == pid]


def _alive(pid):
    """Whether a process runs; one that has ended and waits for somebody to notice does not."""
    state = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False).stdout
    return bool(state.strip()) and not state.strip().startswith("Z")


def _gone(pids, seconds=20):
    """Whether all of them end; who was interrupted while being started hears of it a moment later."""
    deadline = time.monotonic() + seconds
    while any(map(_alive, pids)) and time.monotonic() < deadline:
        time.sleep(0.05)
    return not any(map(_alive, pids))


@pytest.fixture(scope="session")
def stage():
    """A step of the demo that says nothing."""
    return _silent


@pytest.fixture(scope="session")
def children():
    """The processes that a process has started."""
    return _children


@pytest.fixture(scope="session")
def gone():
    """Whether processes end within a while."""
    return _gone
