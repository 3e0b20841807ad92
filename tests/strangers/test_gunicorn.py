"""An application behind the middleware under a real gunicorn: several uvicorn workers, a proxy's root path, reloads and deaths."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil
import pytest
import yaml

from application_model import application_model, save_tariff
from modeltoll.client.httpx import TollTransport
from modeltoll.demo.processes import free_port
from modeltoll.ledger.from_url import ledger_from_url
from modeltoll.records import Caller
from served_gateway import wait_until

ROWS = {"rows": [[1, 2]]}
SURE = {"scores": [[0.97, 0.01, 0.01, 0.01]]}
FORWARDED = {"X-Forwarded-For": "203.0.113.7"}
PROGRAM = """
import os
from fastapi import BackgroundTasks, FastAPI, Response
from fastapi.middleware.cors import CORSMiddleware
from fastapi.middleware.gzip import GZipMiddleware
from starlette.middleware.base import BaseHTTPMiddleware
from modeltoll.gateway.middleware import TollMiddleware

app = FastAPI()


def note(pid):
    with open("after.txt", "a") as file:
        file.write(f"{pid}\\n")


@app.post("/predict")
def predict(body: dict, response: Response, after: BackgroundTasks):
    after.add_task(note, os.getpid())
    return {"scores": [[0.97, 0.01, 0.01, 0.01] for _ in body["rows"]]}


@app.get("/")
def index():
    return {"page": "x" * 2000, "pid": os.getpid()}


async def count(request, call_next):
    response = await call_next(request)
    response.headers["x-worker"] = str(os.getpid())
    return response


app.add_middleware(BaseHTTPMiddleware, dispatch=count)
app.add_middleware(TollMiddleware, settings="modeltoll.yaml")
app.add_middleware(CORSMiddleware, allow_origins=["https://page.example"])
app.add_middleware(GZipMiddleware, minimum_size=100)
app.add_middleware(BaseHTTPMiddleware, dispatch=count)
"""


@dataclass(frozen=True)
class Site:
    """gunicorn with two workers."""

    url: str
    process: subprocess.Popen
    folder: Path

    def workers(self):
        """The process ids of the workers."""
        return {child.pid for child in psutil.Process(self.process.pid).children()}

    def reached(self):
        """The workers that answered some requests, each on a connection of its own."""
        return {int(httpx.get(self.url).headers["x-worker"]) for _ in range(40)}

    def rows(self):
        """The rows that the ledger has of the caller, from whichever worker."""

        async def read():
            ledger = ledger_from_url(f"sqlite:///{self.folder}/ledger.db", create=False)
            await ledger.open()
            try:
                account = await ledger.account(Caller("net:203.0.113.7"), "digits")
                return account.rows if account else 0
            finally:
                await ledger.close()

        return asyncio.run(read())


def is_up(url):
    try:
        return httpx.get(url).status_code == 200
    except httpx.TransportError:
        return False


@contextmanager
def gunicorn(folder, *options):
    (folder / "main.py").write_text(PROGRAM)
    save_tariff(folder)
    document = {"upstream": {"url": "app"}, "models": {"digits": application_model()}, "secrets": ["5f2b0c9a" * 8]}
    document |= {"ledger": {"url": "sqlite:///ledger.db"}, "callers": {"trusted_proxies": ["127.0.0.1/32"]}}
    (folder / "modeltoll.yaml").write_text(yaml.safe_dump(document))
    port = free_port()
    command = [sys.executable, "-m", "gunicorn", "main:app", "-k", "uvicorn_worker.UvicornWorker", "--workers", "2"]
    command += ["--bind", f"127.0.0.1:{port}", "--graceful-timeout", "10", *options]
    log, url = folder / "log.txt", f"http://127.0.0.1:{port}"
    with log.open("wb") as out:
        process = subprocess.Popen(command, cwd=folder, stdout=out, stderr=out)
    try:
        wait_until(lambda: process.poll() is not None or is_up(url))
        assert process.poll() is None, log.read_text()
        site = Site(url, process, folder)
        wait_until(lambda: site.reached() == site.workers())
        yield site
    finally:
        process.terminate()
        process.wait(30)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """Each worker loads the application."""
    with gunicorn(tmp_path_factory.mktemp("gunicorn")) as found:
        yield found


def pay(url, number):
    """The statuses and bodies of requests that are paid for, each on a connection of its own."""
    answers = []
    for _ in range(number):
        with httpx.Client(transport=TollTransport(), headers=FORWARDED, timeout=60) as client:
            answers.append(client.post(url + "/predict", json=ROWS))
    return [(answer.status_code, answer.json()) for answer in answers]


def test_tolls_of_every_worker_are_paid_and_the_callers_account_is_one(site):
    before = site.rows()
    with ThreadPoolExecutor(4) as pool:
        paid = [one for found in pool.map(lambda _: pay(site.url, 4), range(4)) for one in found]
    assert paid == [(200, SURE)] * 16
    assert site.reached() == site.workers()
    assert site.rows() - before == 16


def test_a_token_of_one_worker_is_redeemed_at_any(site):
    """Each request of the client has a connection of its own, so that the other worker may get the proof."""
    plain = httpx.HTTPTransport(limits=httpx.Limits(max_keepalive_connections=0))
    headers = FORWARDED | {"Toll-Accept": "sha256; mode=redeem"}
    with httpx.Client(transport=TollTransport(transport=plain), headers=headers) as client:
        answers = [client.post(site.url + "/predict", json=ROWS) for _ in range(12)]
    assert {(answer.status_code, answer.text) for answer in answers} == {(200, answers[0].text)}
    assert answers[0].json() == SURE


def test_the_middleware_around_the_gate_does_its_part(site):
    page = httpx.get(site.url, headers={"Accept-Encoding": "gzip"})
    assert (page.headers["content-encoding"], len(page.json()["page"])) == ("gzip", 2000)
    origin = {"Origin": "https://page.example", "Accept-Encoding": "gzip", **FORWARDED}
    toll = httpx.post(site.url + "/predict", json=ROWS, headers=origin)
    assert (toll.status_code, toll.headers["content-encoding"]) == (402, "gzip")
    assert toll.headers["access-control-allow-origin"] == "https://page.example"
    assert int(toll.headers["x-worker"]) in site.workers()
    assert "0.97" not in toll.text


def test_what_a_worker_does_after_its_answer_is_done(site):
    after = site.folder / "after.txt"
    before = len(after.read_text().split()) if after.exists() else 0
    pay(site.url, 3)
    wait_until(lambda: after.exists() and len(after.read_text().split()) == before + 3)


def test_workers_that_are_replaced_lose_nothing(tmp_path):
    """The application is loaded before the workers are forked. Then a reload in the middle of requests, and a worker's death."""
    with gunicorn(tmp_path, "--preload") as site:
        old = site.workers()
        with ThreadPoolExecutor(2) as pool:
            paying = [pool.submit(pay, site.url, 10) for _ in range(2)]
            site.process.send_signal(signal.SIGHUP)
            paid = [one for future in paying for one in future.result(60)]
        assert paid == [(200, SURE)] * 20
        wait_until(lambda: len(site.workers()) == 2 and not site.workers() & old)
        assert site.rows() == 20
        victim = min(site.workers())
        os.kill(victim, signal.SIGKILL)
        wait_until(lambda: len(site.workers()) == 2 and victim not in site.workers())
        wait_until(lambda: is_up(site.url) and site.reached() == site.workers())
        assert pay(site.url, 6) == [(200, SURE)] * 6
        assert site.rows() == 26
