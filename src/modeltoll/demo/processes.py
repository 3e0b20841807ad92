"""Server processes that end with the demo."""

from __future__ import annotations

import random
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import httpx

from modeltoll.errors import ModeltollError

__all__ = ["await_ready", "free_port", "serving"]

_START_SECONDS = 60.0
_STOP_SECONDS = 10.0
_POLL_SECONDS = 0.05
_PORTS = range(20_000, 32_768)
_PORT_TRIES = 100


def free_port() -> int:
    """A port on the loopback address on which no process listens at the moment.

    It is below the ports that systems assign to outgoing connections (from 32768 on Linux, from 49152 in RFC 6335),
    because such a connection could take it before the server does.

    Raises:
        ModeltollError: none was found.
    """
    for port in random.SystemRandom().sample(_PORTS, _PORT_TRIES):
        try:
            with socket.create_server(("127.0.0.1", port)):
                return port
        except OSError:
            continue
    raise ModeltollError(f"there is no free port among {_PORTS[0]} to {_PORTS[-1]}")


def await_ready(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    """Wait until ``url`` answers; ``log`` is the file with the process's output.

    Raises:
        ModeltollError: the process ended or does not answer in time; the message holds the end of its output.
    """
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            break
        try:
            if httpx.get(url, timeout=2.0).is_success:
                return
        except httpx.TransportError:
            pass
        time.sleep(_POLL_SECONDS)
    raise ModeltollError(f"a server did not start; its output:\n{log.read_text(errors='replace')[-2000:]}")


@contextmanager
def serving(arguments: Sequence[str], ready_url: str, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run ``python -m ARGUMENTS`` until the block ends; the block begins when ``ready_url`` answers.

    It is in a process group of its own, so that Ctrl-C in a terminal interrupts the demo alone, which then ends it.

    Raises:
        ModeltollError: the process did not start; the message holds the end of its output.
    """
    command = [sys.executable, "-m", "modeltoll.demo.parent_watchdog", *arguments]
    with log.open("wb") as output:
        process = subprocess.Popen(  # noqa: S603  our own modules
            command, stdin=subprocess.PIPE, stdout=output, stderr=subprocess.STDOUT, process_group=0
        )
    with process:
        try:
            await_ready(process, ready_url, log)
            yield process
        finally:
            process.terminate()
            try:
                process.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
