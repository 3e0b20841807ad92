"""Messages for operators, by SQLSTATE; and which errors say that a statement was certainly not executed."""

from __future__ import annotations

import psycopg

from modeltoll.errors import LedgerError

__all__ = [
    "MESSAGES",
    "OUTDATED",
    "READ_ONLY",
    "NotPrimaryError",
    "connection_error",
    "is_lost",
    "ledger_error",
    "was_refused",
]

READ_ONLY = "25006"
# A statement is not prepared any more, as where a pool of connections is between; or its plan is of tables that have changed.
OUTDATED = frozenset({"26000", "0A000"})

# Public messages by SQLSTATE, whole or by its class. Callers may read them, so they contain no address.
MESSAGES = {
    "25006": "the ledger's database is read-only; name the primary server in the ledger's URL",
    "28": "the ledger's server refuses the user or the password",
    "3D000": "the ledger's database does not exist; create it",
    "42501": "the ledger's database denies this to its user; allow the user to create the schema modeltoll, or to own it",
    "3F000": "the ledger's tables are missing; restart the gateway",
    "42883": "the ledger's tables are missing; restart the gateway",
    "42P01": "the ledger's tables are missing; restart the gateway",
    "53100": "the ledger's disk is full; free some space",
    "53300": "the ledger's server accepts no more connections; raise its limit, or set connections= in the ledger's URL",
    "57P01": "the ledger's server is stopping",
    "57014": "the ledger's server takes too long",
    "57P03": "the ledger's server is starting or stopping",
}
# The same for connecting, where libpq gives text without a code; in other languages none matches.
_CONNECTION_MESSAGES = {
    "password authentication failed": MESSAGES["28"],
    "no password supplied": MESSAGES["28"],
    "no pg_hba.conf entry": MESSAGES["28"],
    "authentication failed": MESSAGES["28"],
    "starting up": MESSAGES["57P03"],
    "shutting down": MESSAGES["57P03"],
    "not yet accepting connections": MESSAGES["57P03"],
    "in recovery mode": MESSAGES["57P03"],
    "too many clients": MESSAGES["53300"],
    "too many connections": MESSAGES["53300"],
    "remaining connection slots": MESSAGES["53300"],
    "certificate": "the ledger's server and the gateway do not accept each other's certificates",
    "SSL": "the ledger's server and the gateway do not agree on encryption (sslmode)",
    "does not exist": "the ledger's database or its user does not exist; create it",
    "read-only": MESSAGES["25006"],
    "hot standby": MESSAGES["25006"],
}
_UNREACHABLE = "the ledger's server cannot be reached"

# The server rolled the statement back: read-only, starting, serialization failure, deadlock. 57P01 is not among them: a
# server that is stopped may have committed already.
_ROLLED_BACK = frozenset({READ_ONLY, "57P03", "40001", "40P01"}) | OUTDATED
_LATER = frozenset({MESSAGES[READ_ONLY], MESSAGES["57P03"]})


class NotPrimaryError(psycopg.OperationalError):
    """The server that a new connection leads to is not the primary server, or not yet."""


def was_refused(error: psycopg.Error) -> bool:
    """Whether the server certainly has not executed the statement, and the next attempt might succeed."""
    return isinstance(error, NotPrimaryError) or error.sqlstate in _ROLLED_BACK


def is_lost(error: psycopg.Error) -> bool:
    """Whether the connection broke, or its server stopped; the statement may or may not have been executed."""
    return isinstance(error, psycopg.OperationalError) and error.sqlstate in (None, "57P01", "57P02")


def connection_error(error: psycopg.OperationalError) -> psycopg.OperationalError:
    """The error of connecting, as a ``NotPrimaryError`` where it is one."""
    return NotPrimaryError(str(error)) if _message("", str(error)) in _LATER else error


def ledger_error(error: Exception, address: str) -> LedgerError:
    """The error as the ledger raises it; ``address`` is for the operator."""
    code, text = getattr(error, "sqlstate", None) or "", str(error)
    return LedgerError(_message(code, text), private=f"{address}: {type(error).__name__} {code}: {text}")


def _message(code: str, text: str) -> str:
    public = MESSAGES.get(code) or MESSAGES.get(code[:2])
    if public is None and not code:
        public = next((message for part, message in _CONNECTION_MESSAGES.items() if part in text), _UNREACHABLE)
    return public or "the ledger's server does not answer"
