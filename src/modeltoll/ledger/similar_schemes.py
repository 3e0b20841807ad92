"""What to write in place of URL schemes that other programs have for the same stores."""

from __future__ import annotations

__all__ = ["similar_scheme"]

_SENTINEL = (
    "Sentinel is not supported; name the primary server by a host name that follows it, such as that of a Kubernetes"
    " Service or of a proxy"
)
_CLUSTER = "a cluster is not supported, for all keys of a ledger are in one slot; name one server, valkey://host:6379/0"
_SOCKET = "for a Unix socket write unix:///run/valkey/valkey.sock?db=0"
_SQLALCHEMY = "what follows the + is for SQLAlchemy; write {}:// without it"
_BY_SCHEME = {
    "sentinel": _SENTINEL,
    "jdbc": "jdbc: is for Java; write postgresql://user:password@host/database",
    "file": "for a file write sqlite:///ledger.db",
    "sqlite3": "write sqlite:///ledger.db",
    "pgsql": "write postgresql://user:password@host/database",
}
_STORES = {"postgres": "postgresql", "postgresql": "postgresql", "sqlite": "sqlite"}
_SERVERS = frozenset({"redis", "rediss", "valkey", "valkeys"})


def similar_scheme(scheme: str) -> str:
    """The remedy for a scheme that is none of a ledger's; "" where none is known."""
    store, _, driver = scheme.replace("-", "+").partition("+")
    if store in _SERVERS and driver:
        return {"sentinel": _SENTINEL, "cluster": _CLUSTER}.get(driver, _SOCKET)
    if driver and store in _STORES:
        return _SQLALCHEMY.format(_STORES[store])
    return _BY_SCHEME.get(scheme, "")
