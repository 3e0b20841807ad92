"""How hypothesis searches: without deadlines, and in CI always along the same paths. What programs under test hear,
and what is left of them."""

from __future__ import annotations

import os
import signal
import subprocess
import time

import pytest
from hypothesis import settings

settings.register_profile("default", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") == "true" else "default")

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # As where the tests run in the background: what they start would inherit it, and never hear an interrupt.
    signal.signal(signal.SIGINT, signal.default_int_handler)


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
def children():
    """The processes that a process has started."""
    return _children


@pytest.fixture(scope="session")
def gone():
    """Whether processes end within a while."""
    return _gone


@pytest.fixture(scope="session")
def interrupted():
    """What a program ends with that was interrupted; a shell says 130 for both.

    Python ends itself by the signal, whatever was caught, where that came within ``exec`` of a string, as any dataclass
    does while its module is imported.
    """
    return {130, -signal.SIGINT}
