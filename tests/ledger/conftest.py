"""Real servers for the ledgers that need them, started once for all tests, and a fresh store on them for each."""

from __future__ import annotations

from itertools import count

import psycopg
import pytest

from modeltoll.testing.servers import postgres_server, valkey_server

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
