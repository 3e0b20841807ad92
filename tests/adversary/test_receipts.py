"""Receipts between real gateways and real clients: two gateways with one ledger, kills, reloads, and clients that crash."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import random
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import aiohttp
import httpx
import psutil
import pytest
import requests

from laboratory import KEYS, MODEL, UNIT
from modeltoll import wire
from modeltoll.client import httpx_exchange, settling
from modeltoll.client.aiohttp import TollMiddleware
from modeltoll.client.httpx import TollTransport
from modeltoll.client.purse import Purse
from modeltoll.client.requests import TollAdapter
from modeltoll.errors import TollTooDear
from modeltoll.gateway.core.receipts import encrypt_receipt
from modeltoll.ledger.from_url import open_ledger
from modeltoll.puzzle.puzzle import SolveControl
from modeltoll.puzzle.seal import open_answer
from modeltoll.puzzle.solver import solve
from modeltoll.records import Caller
from modeltoll.settlement_records import RECEIPT_BYTES, Receipt
from modeltoll.testing.servers import postgres_server, valkey_server

CREDIT_UNITS = 10
CREDIT = CREDIT_UNITS * UNIT
PATH = f"/v2/models/{MODEL}/infer"
SECRETS = ["ab" * 32]
SMALL_CREDIT = {"seconds": 1e-3, "units": CREDIT_UNITS}
LARGE_CREDIT = {"seconds": 5, "units": 1}
SHARED = {"sqlite": None, "postgresql": postgres_server, "valkey": valkey_server}


def caller_of(key):
    return Caller(f"key:{key}")


def in_ledger(url, act):
    """The result of a coroutine function of an open ledger."""

    async def go():
        async with open_ledger(url) as ledger:
            return await act(ledger)

    return asyncio.run(go())


def standing(url, key):
    return in_ledger(url, lambda ledger: ledger.standing(caller_of(key)))


def log_of(url):
    return [entry for _, _, entry in in_ledger(url, lambda ledger: ledger.log(0, 100_000))]


class Balancer:
    """Passes each connection on to the next of some addresses that accepts it."""

    def __init__(self, *urls):
        self._addresses = itertools.cycle(
            [(url.rpartition("//")[2].split(":")[0], int(url.rpartition(":")[2])) for url in urls]
        )
        self._count = len(urls)
        self._listening = socket.create_server(("127.0.0.1", 0), backlog=512)
        self._lock = threading.Lock()
        self.url = f"http://127.0.0.1:{self._listening.getsockname()[1]}"

    def __enter__(self):
        threading.Thread(target=self._accept, daemon=True).start()
        return self.url

    def __exit__(self, *_):
        self._listening.close()

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listening.accept()
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _connect(self):
        for _ in range(self._count):
            with self._lock:
                address = next(self._addresses)
            with contextlib.suppress(OSError):
                return socket.create_connection(address, 10)
        return None

    def _serve(self, client):
        server = self._connect()
        if server is None:
            client.close()
            return
        threading.Thread(target=_pump, args=(server, client), daemon=True).start()
        _pump(client, server)


def _pump(source, sink):
    with contextlib.suppress(OSError):
        while chunk := source.recv(65536):
            sink.sendall(chunk)
    for end in (source, sink):
        with contextlib.suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)
        end.close()


@dataclass
class Load:
    """Honest clients of one key and one purse, each of which asks until it is stopped. Every connection is a new one."""

    url: str
    key: str
    body: object
    purse: Purse = field(default_factory=lambda: Purse(60.0))
    answered: list = field(default_factory=list)  # rows of each answer
    failed: list = field(default_factory=list)  # of each request that came to nothing
    stop: threading.Event = field(default_factory=threading.Event)

    def client(self):
        network = httpx.HTTPTransport(verify=False, limits=httpx.Limits(max_keepalive_connections=0))
        headers = {"x-api-key": self.key, "content-type": "application/json"}
        transport = TollTransport(purse=self.purse, transport=network)
        return httpx.Client(base_url=self.url, headers=headers, transport=transport, timeout=30)

    def ask(self, client, rows):
        try:
            response = client.post(PATH, content=self.body(rows))
        except httpx.TransportError:
            self.failed.append(len(rows))
            time.sleep(0.02)
            return None
        if response.status_code == 200:
            assert len(response.json()["outputs"][0]["data"]) == 10 * len(rows)
            self.answered.append(len(rows))
        else:
            assert response.status_code in (500, 502, 503, 504), response.text
            self.failed.append(len(rows))
            time.sleep(0.02)
        return response

    def run(self, victim, offset):
        with self.client() as client:
            for start in itertools.count(offset, 3):
                if self.stop.is_set():
                    return
                self.ask(client, victim.test[start % 400 : start % 400 + 1 + start % 3])

    @contextlib.contextmanager
    def running(self, victim, clients=3):
        with ThreadPoolExecutor(clients) as pool:
            runs = [pool.submit(self.run, victim, 130 * number) for number in range(clients)]
            try:
                yield
            finally:
                self.stop.set()
            for run in runs:
                run.result(60)
        self.return_receipts(victim)

    def return_receipts(self, victim):
        """Ask until the purse holds no receipt. A post to a gateway that was killed leaves its receipts there."""
        for _ in range(40):
            if not len(self.purse.receipts):
                return
            with self.client() as client:
                self.ask(client, victim.test[:1])
        raise AssertionError(f"{len(self.purse.receipts)} receipts are left")

    def more(self, count=5, seconds=60):
        """Wait until so many further requests were answered."""
        before, end = len(self.answered), time.monotonic() + seconds
        while len(self.answered) < before + count:
            assert time.monotonic() < end, (len(self.answered), len(self.failed))
            time.sleep(0.02)

    @property
    def opened_rows(self):
        return sum(payment.rows for payment in self.purse.payments if payment.mode == "sealed")


@pytest.fixture(autouse=True)
def _patient_clients(monkeypatch):
    """A client that closes waits 1.5 s for its last receipts, which may be too short on a busy machine."""
    monkeypatch.setattr(settling, "CLOSE_SECONDS", 30.0)
    for step in list(httpx_exchange._TIMEOUT):
        monkeypatch.setitem(httpx_exchange._TIMEOUT, step, 30.0)


def gateway_settings(laboratory, url, credit=LARGE_CREDIT, **ledger):
    settings = laboratory.settings(ledger={"url": url} | ledger, secrets=SECRETS)
    settings["callers"] |= {"credit": credit}
    return settings


@pytest.fixture(scope="module")
def pair(laboratory):
    """Two gateways with a small credit and one ledger, and its URL."""
    url = f"sqlite:///{laboratory.folder / 'pair.db'}"
    documents = [gateway_settings(laboratory, url, SMALL_CREDIT) for _ in range(2)]
    with laboratory.gateway(settings=documents[0]) as one, laboratory.gateway(settings=documents[1]) as other:
        yield one, other, url


# Two gateways, one ledger


def kill(process):
    """The process and all that it has started, at once."""
    for one in (*psutil.Process(process.pid).children(), psutil.Process(process.pid)):
        one.kill()
    process.wait()


def workers_of(process):
    children = psutil.Process(process.pid).children()
    return [child for child in children if "resource_tracker" not in " ".join(child.cmdline())]


@pytest.mark.parametrize("store", SHARED)
def test_kills_and_a_rolling_restart_lose_no_receipt_and_count_none_twice(
    laboratory, infer_body, victim, tmp_path, store
):
    """Honest clients whose requests go to two gateways in turn, and whose receipts thus count at the other one."""
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(SHARED[store]()) if SHARED[store] else None
        url = server.url if server else f"sqlite:///{tmp_path / 'ledger.db'}"
        one, other = (gateway_settings(laboratory, url) for _ in range(2))
        first = stack.enter_context(laboratory.gateway("--workers", "2", settings=one))
        second = stack.enter_context(laboratory.gateway(settings=other))
        load = Load(stack.enter_context(Balancer(first.url, second.url)), KEYS[10], infer_body)
        with load.running(victim):
            load.more()
            workers_of(first.process)[0].kill()
            load.more()
            kill(first.process)
            load.more()
            stack.enter_context(laboratory.gateway(settings=one)).process.send_signal(signal.SIGHUP)
            load.more()
            second.process.terminate()  # which lets its requests end
            second.process.wait(30)
            load.more()
        entries, after = log_of(url), standing(url, load.key)
    tolls, failed = load.purse.payments, len(load.failed)
    assert {payment.mode for payment in tolls} == {entry.mode for entry in entries} == {"sealed"}
    assert after.settled_rows == load.opened_rows == sum(load.answered)
    assert len(load.answered) == len(tolls) <= len(entries) <= len(tolls) + failed
    prices = sorted(entry.work.seconds for entry in entries)
    assert sum(payment.expected for payment in tolls) >= 0.99 * sum(prices[: len(tolls)])
    assert after.unsettled <= failed * max(prices[-1], 3 * UNIT) + 1e-9
    assert failed <= 60


def test_receipts_are_neither_lost_nor_doubled_while_the_ledger_is_away(laboratory, infer_body, victim):
    """``when_down: release``: what comes meanwhile counts with the caller's next request."""
    with valkey_server(fsync="always") as server:
        settings = gateway_settings(laboratory, server.url, when_down="release")
        with laboratory.gateway(settings=settings) as gateway:
            load = Load(gateway.url, KEYS[11], infer_body)
            with load.running(victim):
                load.more()
                gateway.process.send_signal(signal.SIGHUP)
                load.more()
                server.kill()
                load.more(15)
                server.start()
                load.more()
            with load.client() as client:
                assert load.ask(client, victim.test[:1]).status_code == 200
            after = standing(server.url, load.key)
    assert after.settled_rows == load.opened_rows
    assert sum(load.answered) == load.opened_rows + sum(p.rows for p in load.purse.payments if p.mode != "sealed")


# Receipts of all kinds


class Asking:
    """A caller that opens its seals by hand, at several gateways."""

    def __init__(self, thief, gateways, key):
        self.key = key
        self.clients = [thief(gateway, key) for gateway in gateways]

    def receipt(self, rows):
        """Of a toll for some rows, which is paid."""
        toll = wire.decode_toll(self.clients[0].ask(rows).content)
        assert toll.settles
        solution = solve(toll.challenge, SolveControl())
        return open_answer(toll.payload, solution, wire.canonical_challenge(toll.challenge, toll.mode)).receipt

    def show(self, rows, *receipts, gateway=0):
        """Whether a request that returns receipts is served."""
        response = self.clients[gateway].ask(rows, **{wire.SETTLE_HEADER: wire.format_settle(receipts)})
        return response.status_code == 402 and "toll" in response.json()

    def post(self, *receipts, gateway=0):
        body = wire.encode_settlement(receipts)
        return self.clients[gateway].client.post(wire.SETTLE_PATH, content=body).status_code


def test_a_receipt_that_is_shown_many_times_at_once_counts_once(pair, thief, victim):
    one, other, url = pair
    caller = Asking(thief, (one, other), KEYS[12])
    receipt = caller.receipt(victim.test[:4])
    before = standing(url, caller.key).unsettled
    assert before >= 4 * UNIT
    with ThreadPoolExecutor(8) as pool:
        shows = [pool.submit(caller.show, victim.test[5:6], receipt, receipt, gateway=n % 2) for n in range(4)]
        posts = [pool.submit(caller.post, receipt, receipt, gateway=n % 2) for n in range(4)]
        assert all(show.result() for show in shows)
        assert {post.result() for post in posts} == {204}
    after = standing(url, caller.key)
    assert after.settled_rows == 4
    prices = [max(UNIT, min(entry.work.seconds, UNIT + CREDIT / 2)) for entry in log_of(url)[-4:]]
    assert 0.999 * 4 * UNIT <= after.unsettled <= sum(prices) + 1e-9


def test_receipts_that_must_not_count_do_not_and_the_request_is_served(pair, thief, victim):
    """Expired, of another caller, of another ledger, and what is none; and the same that must count."""
    one, other, url = pair
    alice, bob = (Asking(thief, (one, other), key) for key in KEYS[13:15])
    name, rng = caller_of(alice.key), random.SystemRandom()
    key = in_ledger(url, lambda ledger: asyncio.sleep(0, ledger.derived_key("receipts")))

    def made(key, seconds):
        return encrypt_receipt(key, name, Receipt(rng.randbytes(RECEIPT_BYTES), time.time() + seconds, UNIT, 1), rng)

    wrong = [made(key, -1.0), made(bytes(32), 1000.0), bob.receipt(victim.test[7:9]), b"x", bytes(110)]
    for gateway in (0, 1):
        assert alice.show(victim.test[:1], *wrong, gateway=gateway)
        assert alice.post(*wrong, gateway=gateway) == 204
    assert standing(url, alice.key).settled_rows == 0
    assert standing(url, bob.key).settled_rows == 0
    assert alice.show(victim.test[1:2], *wrong, made(key, 1000.0), gateway=1)
    assert standing(url, alice.key).settled_rows == 1
    assert bob.post(wrong[2], gateway=1) == 204
    assert standing(url, bob.key).settled_rows == 2


# Clients that end badly

CLIENT = """
import os, sys, time, httpx
from modeltoll.client.httpx import TollTransport
from modeltoll.client.purse import Purse
def wait(*_):
    print("solving", flush=True)
    time.sleep(60)
ends = sys.argv[1]
purse = Purse(60, progress=wait if ends == "killed" else None, paid=(lambda _: os._exit(9)) if ends == "crashed" else None)
headers = {"x-api-key": sys.argv[3], "content-type": "application/json"}
client = httpx.Client(headers=headers, transport=TollTransport(purse=purse, transport=httpx.HTTPTransport(verify=False)))
print(client.post(sys.argv[2], content=sys.stdin.buffer.read(), timeout=60).status_code, flush=True)
"""


@pytest.mark.parametrize("ends", ["killed", "crashed", "unclosed"])
def test_a_client_that_ends_badly_has_its_credit_again_after_a_day(pair, thief, infer_body, victim, ends):
    one, _, url = pair
    key = KEYS[15 + ["killed", "crashed", "unclosed"].index(ends)]
    command = [sys.executable, "-c", CLIENT, ends, one.url + PATH, key]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        process.stdin.write(infer_body(victim.test[:8]))
        process.stdin.close()
        said = process.stdout.readline()
        if ends == "killed":
            assert said == b"solving\n"
            process.kill()
        assert process.wait(30) == {"killed": -signal.SIGKILL, "crashed": 9, "unclosed": 0}[ends]
    after = standing(url, key)
    if ends == "unclosed":
        assert said == b"200\n"
        assert (after.settled_rows, after.unsettled) == (8, pytest.approx(0.0, abs=1e-6))
    else:
        assert after.settled_rows == 0
        assert 8 * UNIT * 0.999 <= after.unsettled <= 8 * UNIT + CREDIT / 2
    caller = thief(one, key)
    assert bool(caller.toll(victim.test[20:25]).get("admission")) == (ends != "unclosed")
    with sqlite3.connect(url.removeprefix("sqlite:///")) as direct:  # a day passes
        direct.execute("UPDATE standings SET drained = drained - 86400 WHERE caller = ?", (caller_of(key).name,))
    direct.close()
    assert not caller.toll(victim.test[25:30]).get("admission")


# Clients that know no receipts, and many at once


def answers_of_httpx(url, bodies, headers, purse):
    transport = TollTransport(purse=purse, transport=httpx.HTTPTransport(verify=False))
    with httpx.Client(headers=headers, transport=transport, timeout=60) as client:
        return [client.post(url, content=body).status_code for body in bodies]


def answers_of_requests(url, bodies, headers, purse):
    with requests.Session() as session:
        session.mount("http://", TollAdapter(purse=purse))
        return [session.post(url, data=body, headers=headers).status_code for body in bodies]


def answers_of_aiohttp(url, bodies, headers, purse):
    async def go():
        async with aiohttp.ClientSession(middlewares=[TollMiddleware(purse=purse)], headers=headers) as session:

            async def ask(body):
                async with session.post(url, data=body) as response:
                    await response.read()
                    return response.status

            return [await ask(body) for body in bodies]

    return asyncio.run(go())


@pytest.mark.parametrize("number", range(3), ids=["httpx", "requests", "aiohttp"])
def test_a_client_that_knows_no_receipts_redeems_and_owes_nothing(pair, infer_body, victim, number):
    """Also where its batch is above the credit: then it pays first, and not twice."""
    one, other, url = pair
    ask, key = (answers_of_httpx, answers_of_requests, answers_of_aiohttp)[number], KEYS[20 + number]
    headers = {"x-api-key": key, "content-type": "application/json", "toll-accept": "sha256, argon2id"}
    purse, bodies = Purse(60.0), [infer_body(victim.test[start : start + 4]) for start in range(0, 20, 4)]
    assert ask(one.url + PATH, bodies, headers, purse) == [200] * 5
    assert [payment.mode for payment in purse.payments] == ["redeem"] * 5
    after = standing(url, key)
    assert (after.settled_rows, after.prepaid, after.unsettled) == (20, 0.0, pytest.approx(0.0, abs=1e-9))
    logged = len(log_of(url))
    assert ask(other.url + PATH, [infer_body(victim.test[100:120])], headers, purse) == [200]
    (entry,), after = log_of(url)[logged:], standing(url, key)
    assert after.unsettled == pytest.approx(0.0, abs=1e-9)
    admission, *rest = purse.payments[5:]
    assert admission.expected >= 0.99 * CREDIT
    assert sum(payment.expected for payment in (admission, *rest)) <= 2.1 * (entry.work.seconds + after.prepaid)


def admissions(purse):
    """How often it paid for admission; answers come sealed here."""
    return sum(payment.mode == "redeem" for payment in purse.payments)


def test_many_threads_of_one_key_with_a_small_credit_are_all_answered(pair, infer_body, victim):
    one, other, url = pair
    key, purse = KEYS[24], Purse(60.0)
    headers = {"x-api-key": key, "content-type": "application/json"}

    def ask(number):
        bodies = [infer_body(victim.test[start : start + 2]) for start in (number, number + 40, number + 80)]
        return answers_of_httpx((one, other)[number % 2].url + PATH, bodies, headers, purse)

    with ThreadPoolExecutor(32) as pool:
        answers = list(pool.map(ask, range(32)))
    assert answers == [[200] * 3] * 32
    assert standing(url, key).unsettled == pytest.approx(0.0, abs=1e-6)
    assert admissions(purse) <= 48  # of 96 requests; the two gateways are two origins with one credit


def test_a_hundred_tasks_of_one_key_with_a_small_credit_are_all_answered(pair, infer_body, victim):
    one, _, url = pair
    key, purse = KEYS[25], Purse(60.0)
    headers = {"x-api-key": key, "content-type": "application/json"}

    async def go():
        async with aiohttp.ClientSession(middlewares=[TollMiddleware(purse=purse)], headers=headers) as session:

            async def ask(number):
                async with session.post(one.url + PATH, data=infer_body(victim.test[number : number + 2])) as response:
                    await response.read()
                    return response.status

            return await asyncio.gather(*map(ask, range(100)))

    assert asyncio.run(go()) == [200] * 100
    after = standing(url, key)
    assert (after.unsettled, after.prepaid) == (pytest.approx(0.0, abs=1e-6), pytest.approx(0.0, abs=20 * UNIT))
    assert admissions(purse) <= 10


def test_a_purse_that_many_threads_share_keeps_its_limit(pair, infer_body, victim):
    one, _, _ = pair
    purse = Purse(60.0, max_seconds_per_hour=20 * UNIT)
    headers = {"x-api-key": KEYS[26], "content-type": "application/json"}

    def ask(number):
        try:
            return answers_of_httpx(one.url + PATH, [infer_body(victim.test[number : number + 2])], headers, purse)
        except TollTooDear:
            return []

    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(ask, range(48)))
    assert [] in answers
    assert [200] in answers
    assert sum(payment.expected for payment in purse.payments) <= 20 * UNIT
