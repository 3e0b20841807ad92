"""Listening sockets: TCP of one or both families, and Unix sockets with the mode of their file."""

from __future__ import annotations

import errno
import os
import re
import socket
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path

from modeltoll.errors import SettingsError
from modeltoll.gateway.settings.field_types import UNIX_ADDRESS
from modeltoll.port_owner import taken_by

__all__ = ["listen", "listen_all"]

_BACKLOG = 1024
_DEFAULT_MODE = "0660"
_ANY_IPV6 = "[::]"


def listen(setting: str, address: str) -> socket.socket:
    """A listening socket at ``HOST:PORT``; ``[::]`` hears IPv4 too.

    Raises:
        SettingsError: the address cannot be listened on; the message names ``setting``.
    """
    return _listen(setting, address, dual=True)


@contextmanager
def listen_all(setting: str, addresses: Sequence[str]) -> Iterator[tuple[socket.socket, ...]]:
    """A listening socket at each address, ``HOST:PORT`` or ``unix:/PATH?mode=0660``, while the block lasts.

    ``[::]`` hears IPv4 too, unless an address of IPv4 with the same port is listed beside it. The file of a Unix socket
    replaces one at which nobody listens any more, and is removed when the block ends.

    Raises:
        SettingsError: an address cannot be listened on; the message names ``setting``.
    """
    ports = {port for host, _, port in (address.rpartition(":") for address in addresses) if not host.startswith("[")}
    with ExitStack() as stack:
        listening = []
        for address in addresses:
            if address.startswith("unix:"):
                listening.append(stack.enter_context(_unix_socket(setting, address)))
            else:
                dual = address.rpartition(":")[2] not in ports
                listening.append(stack.enter_context(_listen(setting, address, dual=dual)))
        yield tuple(listening)


def _listen(setting: str, address: str, *, dual: bool) -> socket.socket:
    host, _, port = address.rpartition(":")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    both = dual and host == _ANY_IPV6 and socket.has_dualstack_ipv6()
    try:
        listening = socket.create_server(
            (host.strip("[]"), int(port)), family=family, backlog=_BACKLOG, dualstack_ipv6=both
        )
    except OSError as error:
        raise _cannot_listen(setting, address, error) from None
    # Connections inherit this option. asyncio does not set it for sockets that it is given; without it, every answer
    # waits some 40 ms for the other side's delayed acknowledgement.
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listening


@contextmanager
def _unix_socket(setting: str, address: str) -> Iterator[socket.socket]:
    match = re.fullmatch(UNIX_ADDRESS, address)
    assert match is not None  # the settings accept nothing else
    path, mode = match["path"], int(match["mode"] or _DEFAULT_MODE, 8)
    with closing(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)) as listening:
        try:
            _remove_abandoned(path)
            before = os.umask(0o777 & ~mode)  # so that the file never has another mode
            try:
                listening.bind(path)
            finally:
                os.umask(before)
            listening.listen(_BACKLOG)
            created = Path(path).stat().st_ino
        except OSError as error:
            raise _cannot_listen(setting, address, error) from None
        try:
            yield listening
        finally:
            with suppress(OSError):
                if Path(path).stat().st_ino == created:
                    Path(path).unlink()


def _remove_abandoned(path: str) -> None:
    """Remove the file of a Unix socket at which nobody listens, as a process that was killed leaves it."""
    with suppress(FileNotFoundError), closing(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)) as probe:
        if not Path(path).is_socket():
            return
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            Path(path).unlink()


def _cannot_listen(setting: str, address: str, error: OSError) -> SettingsError:
    taken = error.errno == errno.EADDRINUSE and not address.startswith("unix:")
    reason = taken_by(address) if taken else error.strerror or error
    return SettingsError([f"{setting}: cannot listen on {address}: {reason}; choose another"])
