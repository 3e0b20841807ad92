"""Connections to one Valkey or Redis server, and the scripts that run on it.

The commands of one turn of the event loop share a round trip (``step_groups``, ``valkey_commands``). redis-py's retries are
disabled: a charge whose answer was lost may have been written. A connection that broke while idle is detected before it is
used, so that a restart of the server fails only the steps in progress. Scripts are sent again after a restart of the server.
"""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Any

from redis import exceptions as faults
from redis.asyncio import Connection, SSLConnection, UnixDomainSocketConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from modeltoll.errors import LedgerError
from modeltoll.ledger.step_groups import StepGroups
from modeltoll.ledger.valkey_commands import CommandConnection, Script, encode_command

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from redis.asyncio.connection import AbstractConnection

    from modeltoll.ledger.valkey_commands import Argument

__all__ = ["CONNECTIONS", "TIMEOUT", "VERSION", "ValkeyConnection"]

TIMEOUT = 5.0  # seconds for a step, including the wait for a connection
CONNECTIONS = 8  # at most, for each gateway process
VERSION = 3  # of the keys and the format of their values
PROGRAM = "modeltoll"
_SCRIPTS = ("open", "charge", "settle", "adjust", "bill", "spend", "largest", "reset")

# Public messages, the first that matches. Callers may read them, so they contain no address.
_SLOW = "the ledger's server takes too long"
_MESSAGES: tuple[tuple[type[Exception], str], ...] = (
    (faults.AuthenticationError, "the ledger's server refuses the user or the password"),
    (faults.AuthorizationError, "the ledger's server refuses the user or the password"),
    (faults.NoPermissionError, "the ledger's server denies this to its user, who needs scripts and {modeltoll}:*"),
    (faults.ReadOnlyError, "the ledger's server is read-only; name the primary server in the ledger's URL"),
    (faults.BusyLoadingError, "the ledger's server is starting"),
    (faults.MasterDownError, "the ledger's server is a replica that has lost its primary server"),
    (faults.OutOfMemoryError, "the memory of the ledger's server is full; raise its limit"),
    (faults.TimeoutError, _SLOW),
    (TimeoutError, _SLOW),
    (faults.ConnectionError, "the ledger's server cannot be reached"),
    (OSError, "the ledger's server cannot be reached"),
)
_MESSAGES_BY_TEXT = {
    "CERTIFICATE_VERIFY_FAILED": "the ledger's server and the gateway do not accept each other's certificates",
    "MISCONF": "the ledger's server cannot write to its disk and accepts no writes",
    "NOREPLICAS": "the ledger's server has too few replicas and accepts no writes",
    "max number of clients": "the ledger's server accepts no more connections",
    "DB index is out of range": "the ledger's server has no database of that number",
}
# Errors of a server that is no primary server, or not yet. The step was refused as a whole.
_NOT_PRIMARY = (faults.ReadOnlyError, faults.BusyLoadingError, faults.ClusterDownError, faults.TryAgainError)


class ValkeyConnection:
    """Up to ``connections`` connections to one server, given by ``parameters`` of redis-py's ``Connection``.

    ``timeout``: seconds for a step. Without ``create`` the ledger must exist already.
    """

    def __init__(self, parameters: Mapping[str, Any], *, timeout: float, connections: int, create: bool = True) -> None:
        self._parameters = dict(parameters)
        self._encrypted = self._parameters.pop("ssl", False)
        self._create = create
        self._groups: StepGroups[bytes] = StepGroups(self, timeout=timeout, connections=connections)
        self._salt = b""
        self._scripts = {name: Script.read(name) for name in _SCRIPTS}

    async def open(self, mark: str) -> bytes:
        """Connect, and write or check the key ``mark``; returns the salt of the pseudonyms in the log.

        Raises:
            LedgerError: the server cannot be reached or written, or has no known ledger.
        """
        self._groups.open()
        try:
            if not self._create:
                self._refuse_empty(await self.ask("EXISTS", mark))
            self._salt = await self._write_mark(mark, secrets.token_bytes(32))
        except BaseException:
            await self.close()
            raise
        return self._salt

    async def check_writable(self, mark: str) -> None:
        """Write to the key ``mark``.

        Raises:
            LedgerError: the server cannot be reached or written, or holds another ledger than when it was opened.
        """
        if await self._write_mark(mark, self._salt) != self._salt:
            raise LedgerError("the ledger's server holds another ledger than before; restart the gateway")

    async def _write_mark(self, mark: str, salt: bytes) -> bytes:
        """Write or check the mark; returns the salt of the ledger, which is ``salt`` where there was no ledger."""
        program, version, found = await self.run("open", [mark], [PROGRAM, VERSION, salt])
        self._check(program.decode("utf-8", "replace"), int(version))
        return bytes(found)

    async def close(self) -> None:
        """Finish the steps in progress, then close all connections."""
        await self._groups.close()

    async def run(
        self, script: str, keys: Sequence[str | bytes], values: Sequence[Argument], *, repeatable: bool = False
    ) -> Any:
        """Run a script as one atomic step. ``repeatable``: executing it twice is the same as once.

        Raises:
            LedgerError: the server does not answer in time, or refuses; the step may or may not have been executed.
        """
        return await self._groups.run(self._scripts[script].command(keys, values), repeatable=repeatable)

    async def ask(self, *command: Argument) -> Any:
        """Run one command that only reads. Raises as ``run`` does."""
        return await self._groups.run(encode_command(command), repeatable=True)

    async def connect(self) -> CommandConnection:
        """See ``GroupServer.connect``."""
        kind: type[AbstractConnection] = SSLConnection if self._encrypted else Connection
        if "path" in self._parameters:
            kind = UnixDomainSocketConnection
        connection = kind(
            socket_timeout=None,  # the timeout of the whole step counts
            socket_connect_timeout=None,
            retry=Retry(NoBackoff(), 0),
            protocol=2,
            **self._parameters,
        )
        commands = CommandConnection(connection, self._scripts.values())
        try:
            await connection.connect()  # type: ignore[no-untyped-call]
        except BaseException:
            await commands.close()
            raise
        return commands

    def was_refused(self, error: Exception) -> bool:
        """See ``GroupServer.was_refused``."""
        return isinstance(error, _NOT_PRIMARY) or (isinstance(error, faults.RedisError) and "NOREPLICAS" in str(error))

    def is_no_primary(self, error: Exception) -> bool:
        """See ``GroupServer.is_no_primary``."""
        return self.was_refused(error)

    def is_lost(self, error: Exception) -> bool:
        """See ``GroupServer.is_lost``."""
        return type(error) is faults.ConnectionError

    def _refuse_empty(self, marked: int) -> None:
        if not marked:
            raise LedgerError("there is no ledger in that server's database; check the number of the database")

    def _check(self, program: str, version: int) -> None:
        if program != PROGRAM:
            raise LedgerError(
                "the keys of the ledger belong to another program; give the ledger a server or a database of its own"
            )
        if version > VERSION:
            raise LedgerError(
                f"the ledger has version {version} but this Modeltoll reads versions up to {VERSION}; "
                "upgrade Modeltoll or give the ledger another database"
            )

    def public_error(self, error: Exception) -> LedgerError:
        """See ``GroupServer.public_error``."""
        text = str(error)
        public = next((message for part, message in _MESSAGES_BY_TEXT.items() if part in text), None)
        if public is None:
            public = next((message for kind, message in _MESSAGES if isinstance(error, kind)), None)
        address = self._parameters.get("path") or f"{self._parameters.get('host')}:{self._parameters.get('port')}"
        return LedgerError(
            public or "the ledger's server does not answer", private=f"{address}: {type(error).__name__}: {text}"
        )
