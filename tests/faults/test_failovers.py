"""Failovers: the name of the ledger's server leads to another server, and the old one is a replica of it now."""

from __future__ import annotations

import asyncio
import contextlib
import time

import httpx
import psycopg
import pytest
import redis

from modeltoll.errors import LedgerError
from modeltoll.gateway.admin.health import admin_application
from modeltoll.gateway.observability.metrics import GatewayMetrics
from modeltoll.ledger.from_url import ledger_from_url
from modeltoll.records import Answer, Caller, Charge
from modeltoll.testing.model_servers import FakeUpstream
from modeltoll.testing.servers import PASSWORD, follow_postgres, postgres_server, valkey_server

ALICE = Caller("key:alice")


def charge(number):
    return Charge("m", 1, (0.5,), (1,), (number.to_bytes(8, "big"),), 3, "t", 1e9)


class MovableName:
    """A TCP proxy in the place of a name: who connects now comes to the port that the name means now."""

    def __init__(self, target):
        self.target = target
        self._connections = set()

    async def __aenter__(self):
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *error):
        self._server.close()
        for connection in self._connections:
            connection.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    async def _accept(self, reader, writer):
        self._connections.add(asyncio.current_task())
        writers = [writer]
        with contextlib.suppress(OSError):
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self.target)
            writers.append(far_writer)
            relays = [relay(reader, far_writer), relay(far_reader, writer)]
            tasks = [asyncio.create_task(task) for task in relays]
            try:
                await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
                for each in writers:
                    each.close()
                await asyncio.gather(*(each.wait_closed() for each in writers), return_exceptions=True)


async def relay(source, sink):
    while data := await source.read(65536):
        sink.write(data)
        await sink.drain()


async def ready_status(ledger):
    upstream = FakeUpstream(lambda path, body: Answer(200, "application/json", b"{}"))
    application = admin_application(upstream, "/ready", ledger, GatewayMetrics())
    async with httpx.AsyncClient(transport=httpx.ASGITransport(application), base_url="http://admin") as client:
        return (await client.get("/readyz")).status_code


class ValkeyPair:
    """Two servers, of which one is a replica of the other."""

    def __init__(self, primary, replica):
        self.primary, self.replica = primary, replica
        for server in (primary, replica):
            with self.direct(server) as connection:
                connection.config_set("masterauth", PASSWORD)
        self.follow(replica, primary)

    @staticmethod
    def direct(server):
        return redis.Redis(port=server.port, password=PASSWORD, decode_responses=True)

    def follow(self, replica, primary):
        with self.direct(replica) as connection:
            connection.replicaof("127.0.0.1", primary.port)
            while connection.info("replication").get("master_link_status") != "up":
                time.sleep(0.05)

    def url(self, port):
        return self.primary.url.replace(str(self.primary.port), str(port))

    def fail_over(self):
        """The replica becomes the primary server, and the other way round."""
        with self.direct(self.primary) as old, self.direct(self.replica) as new:
            old.wait(1, 5000)
            new.replicaof("NO", "ONE")
        self.primary, self.replica = self.replica, self.primary
        self.follow(self.replica, self.primary)


class PostgresPair:
    """Two servers, of which one is a standby of the other."""

    def __init__(self, primary, replica):
        self.primary, self.replica = primary, replica

    def url(self, port):
        return self.primary.url.replace(str(self.primary.port), str(port))

    def fail_over(self):
        """The standby becomes the primary server, and the other way round."""
        self.primary.stop()  # a clean shutdown sends everything to the standby first
        with psycopg.connect(self.replica.url, autocommit=True) as direct:
            assert direct.execute("SELECT pg_promote()").fetchone() == (True,)
        self.primary, self.replica = self.replica, self.primary
        follow_postgres(self.replica, self.primary)
        self.replica.start()


@pytest.fixture(scope="module")
def valkey_pair():
    with valkey_server() as primary, valkey_server() as replica:
        yield ValkeyPair(primary, replica)


@pytest.fixture(scope="module")
def postgres_pair():
    with postgres_server() as primary, postgres_server(standby_of=primary) as replica:
        yield PostgresPair(primary, replica)


@pytest.fixture(params=["valkey", "postgresql"])
def pair(request):
    return request.getfixturevalue({"valkey": "valkey_pair", "postgresql": "postgres_pair"}[request.param])


async def rows_on(url, caller):
    ledger = ledger_from_url(url)
    await ledger.open()
    account = await ledger.account(caller, "m")
    await ledger.close()
    return account.rows


def test_after_a_failover_an_open_ledger_charges_on_the_new_primary_server_and_charges_once(pair):
    """No charge fails and none is lost or counted twice, with open connections of which each leads to the old server."""

    async def story():
        async with MovableName(pair.primary.port) as name:
            ledger = ledger_from_url(pair.url(name.port))
            await ledger.open()
            await asyncio.gather(*(ledger.charge(ALICE, charge(number)) for number in range(20)))
            await asyncio.to_thread(pair.fail_over)
            name.target = pair.primary.port
            await asyncio.gather(*(ledger.charge(ALICE, charge(number)) for number in range(20, 40)))
            status = await ready_status(ledger)
            await ledger.close()
        return status, await rows_on(pair.primary.url, ALICE)

    assert asyncio.run(story()) == (200, 40)


def test_while_the_name_leads_to_a_replica_the_gateway_is_not_ready_and_then_it_is(pair):
    """Nothing is charged meanwhile; the error says so and tells when to try again."""
    bob = Caller("key:bob")

    async def story():
        async with MovableName(pair.primary.port) as name:
            ledger = ledger_from_url(pair.url(name.port))
            await ledger.open()
            await ledger.charge(bob, charge(1))
            await asyncio.to_thread(pair.fail_over)
            stale = await ready_status(ledger)
            with pytest.raises(LedgerError, match="read-only") as caught:
                await ledger.charge(bob, charge(2))
            name.target = pair.primary.port
            fresh = await ready_status(ledger)
            account = await ledger.charge(bob, charge(3))
            await ledger.close()
        return stale, fresh, caught.value, account.rows

    stale, fresh, error, rows = asyncio.run(story())
    assert (stale, fresh, rows) == (503, 200, 2)
    assert error.retry_after == 1


def test_of_several_hosts_in_a_postgresql_url_the_one_that_accepts_writes_is_used(postgres_pair):
    """Before and after a failover, in whichever order they stand."""
    carol, ports = Caller("key:carol"), (postgres_pair.replica.port, postgres_pair.primary.port)
    url = postgres_pair.url(f"{ports[0]},127.0.0.1:{ports[1]}")

    async def story():
        ledger = ledger_from_url(url)
        await ledger.open()
        before = await ledger.charge(carol, charge(1))
        await asyncio.to_thread(postgres_pair.fail_over)
        after = await ledger.charge(carol, charge(2))
        await ledger.check_writable()
        await ledger.close()
        return before.rows, after.rows, await rows_on(postgres_pair.primary.url, carol)

    assert asyncio.run(story()) == (1, 2, 2)


def test_a_valkey_server_that_lost_its_data_gets_the_mark_of_the_ledger_again_and_another_ledger_is_noticed():
    """The gateways of a ledger derive the same keys for ever, or say that they cannot."""
    with valkey_server() as server:

        async def story():
            ledger = ledger_from_url(server.url)
            await ledger.open()
            key = ledger.derived_key("receipts")
            with redis.Redis(port=server.port, password=PASSWORD) as direct:
                direct.flushall()
                await ledger.check_writable()
                other = ledger_from_url(server.url)
                await other.open()
                same = other.derived_key("receipts") == key
                await other.close()
                direct.hset("{modeltoll}:ledger", "salt", b"x" * 32)
                status = await ready_status(ledger)
            await ledger.close()
            return same, status

        assert asyncio.run(story()) == (True, 503)
