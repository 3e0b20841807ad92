"""Read the URL of a PostgreSQL ledger."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from psycopg import ProgrammingError
from psycopg.conninfo import conninfo_to_dict

from modeltoll.errors import SettingsError
from modeltoll.ledger.retention import KEEP_LOG_DAYS

if TYPE_CHECKING:
    from urllib.parse import SplitResult

__all__ = ["OWN_OPTIONS", "connection_parameters"]

_WRITING = ("read-write", "primary", "any")  # values of target_session_attrs with which a ledger can be written
OWN_OPTIONS = frozenset({"period_days", "timeout", "connections", KEEP_LOG_DAYS})
_MALFORMED = (
    "ledger: PostgreSQL does not understand this URL; write postgresql://user:password@host:5432/database, and %40 for"
    " an @ in a password"
)


def connection_parameters(url: SplitResult) -> dict[str, Any]:
    """The connection parameters that libpq reads from the URL, without the options of the ledger.

    Raises:
        SettingsError: libpq does not understand the URL.
    """
    options = [option for option in url.query.split("&") if unquote(option.partition("=")[0]) not in OWN_OPTIONS]
    try:
        parameters = conninfo_to_dict(f"postgresql://{url.netloc}{url.path}?{'&'.join(options)}")
    except (ProgrammingError, UnicodeError):  # its message may contain the password
        raise SettingsError([_MALFORMED]) from None
    if not all(port.isdecimal() or not port for port in str(parameters.get("port") or 5432).split(",")):
        raise SettingsError([_MALFORMED])
    if parameters.get("target_session_attrs", _WRITING[0]) not in _WRITING:
        raise SettingsError(["ledger: target_session_attrs must be read-write, for a ledger is written"])
    return dict(parameters)
