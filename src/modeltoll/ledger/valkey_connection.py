"""Connections to one Valkey or Redis server, and the scripts that run on it.

redis-py's retries are disabled: a charge whose answer was lost may have been written. A connection that broke while
idle is detected before it is used, so that a restart of the server fails only the steps in progress. Scripts are sent
again after a restart of the server.

After a failover an open connection may lead to a server that is a replica now. A server that refuses a step as a replica,
or because it loads its data, has not executed it. Its connection is closed then, and the step is repeated on a new one,
for which the name is resolved anew.
"""

from __future__ import annotations

import asyncio
import secrets
from importlib import resources
from typing import TYPE_CHECKING, Any

from redis import exceptions as faults
from redis.asyncio import Connection, ConnectionPool, Redis, SSLConnection, UnixDomainSocketConnection
from redis.asyncio.connection import AbstractConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from modeltoll.errors import LedgerError
from modeltoll.ledger.failover import PAUSES

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from redis.commands.core import AsyncScript

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


class _Reconnecting(AbstractConnection):
    """A connection that is closed when its server refuses a step, for its name may lead to another server now."""

    async def read_response(self, *args: Any, **kwargs: Any) -> Any:
        """As the parent."""
        try:
            return await super().read_response(*args, **kwargs)
        except faults.RedisError as error:
            if _was_refused(error):
                await self.disconnect(nowait=True)
            raise


class _TcpConnection(_Reconnecting, Connection):
    """Over TCP."""


class _TlsConnection(_Reconnecting, SSLConnection):
    """Over TLS."""


class _SocketConnection(_Reconnecting, UnixDomainSocketConnection):
    """Over a Unix socket."""


class ValkeyConnection:
    """Up to ``connections`` connections to one server, given by ``parameters`` of redis-py's ``Connection``.

    ``timeout``: seconds for a step. Without ``create`` the ledger must exist already.
    """

    def __init__(self, parameters: Mapping[str, Any], *, timeout: float, connections: int, create: bool = True) -> None:
        self._parameters = dict(parameters)
        self._encrypted = self._parameters.pop("ssl", False)
        self._create = create
        self._timeout = timeout
        self._connections = connections
        self._slots = asyncio.Semaphore(connections)
        self._client: Redis | None = None
        self._salt = b""
        self._scripts: dict[str, AsyncScript] = {}

    async def open(self, mark: str) -> bytes:
        """Connect, and write or check the key ``mark``; returns the salt of the pseudonyms in the log.

        Raises:
            LedgerError: the server cannot be reached or written, or has no known ledger.
        """
        pool = ConnectionPool(
            max_connections=self._connections,
            socket_timeout=None,  # the timeout of the whole step counts
            socket_connect_timeout=None,
            retry=Retry(NoBackoff(), 0),
            protocol=2,
            connection_class=self._connection_class(),
            **self._parameters,
        )
        self._client = Redis.from_pool(pool)
        self._slots = asyncio.Semaphore(self._connections)  # first in, first out, unlike redis-py's own pool
        for name in _SCRIPTS:
            text = resources.files(__package__).joinpath("lua", f"{name}.lua").read_text("utf-8")
            self._scripts[name] = self._client.register_script(text)
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

    def _connection_class(self) -> type[AbstractConnection]:
        if "path" in self._parameters:
            return _SocketConnection
        return _TlsConnection if self._encrypted else _TcpConnection

    async def close(self) -> None:
        """Close all connections."""
        client, self._client = self._client, None
        if client is not None:
            await client.aclose()

    async def run(
        self, script: str, keys: Sequence[str | bytes], values: Sequence[Any], *, repeatable: bool = False
    ) -> Any:
        """Run a script as one atomic step. ``repeatable``: executing it twice is the same as once.

        Raises:
            LedgerError: the server does not answer in time, or refuses; the step may or may not have been executed.
        """
        client = self._opened()
        return await self._in_time(lambda: self._scripts[script](keys=keys, args=values, client=client), repeatable)

    async def ask(self, *command: Any) -> Any:
        """Run one command that only reads. Raises as ``run`` does."""
        client = self._opened()
        return await self._in_time(lambda: client.execute_command(*command), repeatable=True)  # type: ignore[no-untyped-call]

    def _opened(self) -> Redis:
        if self._client is None:
            raise LedgerError("the ledger is not open")
        return self._client

    async def _in_time(self, step: Callable[[], Awaitable[Any]], repeatable: bool) -> Any:
        """Run the step, and repeat it where it was not executed, or may be executed twice."""
        try:
            async with asyncio.timeout(self._timeout):
                for pause in PAUSES:
                    try:
                        async with self._slots:
                            return await step()
                    except faults.RedisError as error:
                        if not (_was_refused(error) or (repeatable and type(error) is faults.ConnectionError)):
                            raise
                    await asyncio.sleep(pause)
                async with self._slots:
                    return await step()
        except (faults.RedisError, OSError) as error:  # TimeoutError is an OSError
            raise self._ledger_error(error) from error

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

    def _ledger_error(self, error: Exception) -> LedgerError:
        text = str(error)
        public = next((message for part, message in _MESSAGES_BY_TEXT.items() if part in text), None)
        if public is None:
            public = next((message for kind, message in _MESSAGES if isinstance(error, kind)), None)
        address = self._parameters.get("path") or f"{self._parameters.get('host')}:{self._parameters.get('port')}"
        return LedgerError(
            public or "the ledger's server does not answer", private=f"{address}: {type(error).__name__}: {text}"
        )


def _was_refused(error: faults.RedisError) -> bool:
    """Whether the server certainly has not executed the step, and the next primary server might."""
    return isinstance(error, _NOT_PRIMARY) or "NOREPLICAS" in str(error)
