"""The commands of a ledger on a Valkey or Redis server as bytes, and one connection that sends groups of them.

redis-py opens the connection (encryption, password, database) and parses the replies; hiredis encodes the commands where it is
installed. The commands of a group are written at once and their replies read in order, so that they share a round trip; each
script is an atomic step of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from dataclasses import dataclass
from importlib import resources
from typing import TYPE_CHECKING, Any

from redis import exceptions as faults

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from redis.asyncio.connection import AbstractConnection

__all__ = ["Argument", "CommandConnection", "Script", "encode_command"]

Argument = bytes | float | str  # of a command

_packed: Callable[[tuple[Any, ...]], bytes] | None
try:
    from hiredis import pack_command as _packed
except ModuleNotFoundError:
    _packed = None
_PACKED_TYPES = frozenset(
    (bytes, str, int, float)
)  # of others hiredis writes the name of the type, too, or refuses them
_CLOSING_SECONDS = 1.0  # for the server's part in closing a connection


def encode_command(arguments: Iterable[Argument]) -> bytes:
    """A command in the Redis protocol (RESP). A float keeps all its digits."""
    arguments = tuple(arguments)
    if _packed is not None and _PACKED_TYPES.issuperset(map(type, arguments)):
        return _packed(arguments)
    return _encode_command(arguments)


def _encode_command(arguments: Sequence[Argument]) -> bytes:
    """The same in Python, in three times the time."""
    parts = [b""]
    for argument in arguments:
        if isinstance(argument, str):
            argument = argument.encode()  # noqa: PLW2901  the same argument
        elif not isinstance(argument, bytes):
            argument = str(argument).encode()  # noqa: PLW2901
        parts.append(b"$%d\r\n%b\r\n" % (len(argument), argument))
    parts[0] = b"*%d\r\n" % (len(parts) - 1)
    return b"".join(parts)


@dataclass(frozen=True, slots=True)
class Script:
    """A Lua script. A server that has loaded it runs it by its digest."""

    text: bytes
    digest: bytes

    @classmethod
    def read(cls, name: str) -> Script:
        """The script of that name, from this package."""
        text = resources.files(__package__).joinpath("lua", f"{name}.lua").read_bytes()
        return cls(text, hashlib.sha1(text, usedforsecurity=False).hexdigest().encode())

    def command(self, keys: Sequence[bytes | str], values: Iterable[Argument]) -> bytes:
        """The command that runs it."""
        return encode_command((b"EVALSHA", self.digest, len(keys), *keys, *values))


class CommandConnection:
    """A connection to a server. ``scripts``: all of them are loaded where the server lacks one that a command runs."""

    def __init__(self, connection: AbstractConnection, scripts: Iterable[Script]) -> None:
        self._connection = connection
        self._scripts = tuple(scripts)

    async def exchange(self, commands: Sequence[bytes]) -> list[Any]:
        """See ``GroupConnection.exchange``. Where the server lacks a script, it is loaded and the command is sent again."""
        replies = await self._replies(commands)
        missing = [place for place, reply in enumerate(replies) if isinstance(reply, faults.NoScriptError)]
        if missing:
            loads = [encode_command((b"SCRIPT", b"LOAD", script.text)) for script in self._scripts]
            again = await self._replies([*loads, *(commands[place] for place in missing)])
            for place, reply in zip(missing, again[len(loads) :], strict=True):
                replies[place] = reply
        return replies

    async def _replies(self, commands: Sequence[bytes]) -> list[Any]:
        await self._connection.send_packed_command(commands, check_health=False)
        replies: list[Any] = []
        for _ in commands:
            try:
                replies.append(await self._connection.read_response(disable_decoding=True, disconnect_on_error=False))
            except faults.RedisError as error:
                replies.append(error)
                if not _is_reply(error):
                    await self.close()
                    break
        return replies + [replies[-1]] * (len(commands) - len(replies))

    async def is_usable(self) -> bool:
        """See ``GroupConnection.is_usable``. An idle connection with something to read was closed by the server."""
        can_read = getattr(self._connection, "can_read", None) or self._connection.can_read_destructive
        try:
            return self._connection.is_connected and not await can_read()
        except (faults.RedisError, OSError):
            return False

    async def close(self) -> None:
        """See ``GroupConnection.close``. Without the wait a connection with TLS would outlive its event loop."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_CLOSING_SECONDS):
                await self._connection.disconnect()


def _is_reply(error: faults.RedisError) -> bool:
    """Whether the server has sent this error as its reply to one command; the connection is open."""
    if isinstance(error, faults.ResponseError):
        return True
    return isinstance(error, faults.ConnectionError) and type(error) is not faults.ConnectionError  # such as LOADING
