"""Real servers for the ledgers that need them, started once for all tests, and a fresh store on them for each."""

from __future__ import annotations

from itertools import count
from urllib.parse import quote

import psycopg
import pytest
import redis

from modeltoll.testing.servers import PASSWORD, postgres_server, valkey_server

_NUMBERS = count(1)


@pytest.fixture(scope="session")
def postgres():
    with postgres_server() as server:
        yield server


@pytest.fixture
def database(postgres):
    """The URL of a new, empty database."""
    name = f"ledger_{next(_NUMBERS)}"
    with psycopg.connect(postgres.url, autocommit=True) as direct:
        direct.execute(f"CREATE DATABASE {name}")
    return f"{postgres.url.rpartition('/')[0]}/{name}"


@pytest.fixture(scope="session")
def valkey():
    with valkey_server() as server:
        yield server


@pytest.fixture
def keyspace(valkey):
    """The URL of an emptied database with a number of its own."""
    url = f"{valkey.url}/7"
    with redis.Redis(port=valkey.port, password=PASSWORD, db=7) as direct:
        direct.flushdb()
    return url


@pytest.fixture
def stores(database, keyspace, tmp_path):
    """The URLs of new, empty stores by their schemes, and of the memory."""
    file = quote(str(tmp_path / "ledger.db"))
    return {"memory": "memory://", "sqlite": f"sqlite:///{file}", "postgresql": database, "valkey": keyspace}
