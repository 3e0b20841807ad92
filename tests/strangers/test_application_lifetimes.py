"""The gate in an application opens and closes with whatever runs it: a lifespan, one event loop or many, a Unix socket."""

from __future__ import annotations

import asyncio
import gc
import os
import subprocess
import sys
import threading
import time

import httpx
import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from modeltoll.client.httpx import TollTransport
from modeltoll.gateway.middleware import TollMiddleware
from modeltoll.ledger.sqlite import SqliteLedger
from modeltoll.testing.model_servers import serving

SURE = [0.97, 0.01, 0.01, 0.01]
ROWS = {"rows": [[1, 2]]}
LEDGERS = ["memory://", "sqlite:///ledger.db"]
PROGRAM = """
from fastapi import FastAPI
from modeltoll.gateway.middleware import TollMiddleware

app = FastAPI()


@app.post("/predict")
def predict(body: dict):
    return {"scores": [[0.97, 0.01, 0.01, 0.01] for _ in body["rows"]]}


app.add_middleware(TollMiddleware, settings="modeltoll.yaml")
"""


def application(settings):
    app = FastAPI()

    @app.post("/predict")
    def predict(body: dict):
        return {"scores": [SURE for _ in body["rows"]]}

    app.add_middleware(TollMiddleware, settings=settings)
    return app


def ask(app):
    """One request in the event loop that runs."""

    async def post():
        transport = httpx.ASGITransport(app, client=("127.0.0.1", 1))
        async with httpx.AsyncClient(transport=transport, base_url="http://toll") as client:
            return (await client.post("/predict", json=ROWS)).status_code

    return post()


@pytest.mark.parametrize("url", LEDGERS)
def test_every_request_may_have_an_event_loop_of_its_own(application_settings, url):
    app = application(application_settings(ledger={"url": url}))
    client = TestClient(app, client=("127.0.0.1", 1))
    assert [client.post("/predict", json=ROWS).status_code for _ in range(3)] == [402] * 3
    assert [asyncio.run(ask(app)) for _ in range(2)] == [402] * 2
    with TestClient(app, client=("127.0.0.1", 1)) as inside:
        assert [inside.post("/predict", json=ROWS).status_code for _ in range(2)] == [402] * 2
    assert client.post("/predict", json=ROWS).status_code == 402


@pytest.mark.parametrize("url", LEDGERS)
def test_a_toll_is_paid_in_another_event_loop_than_it_was_made_in(application_settings, url):
    app = application(application_settings(ledger={"url": url}))
    client = TestClient(app, client=("127.0.0.1", 1))
    with httpx.Client(transport=TollTransport(transport=client._transport), base_url="http://testserver") as paying:
        answers = [paying.post("/predict", json=ROWS) for _ in range(3)]
    assert [(answer.status_code, answer.json()) for answer in answers] == [(200, {"scores": [SURE]})] * 3


@pytest.mark.parametrize("url", LEDGERS)
def test_an_event_loop_that_was_left_without_being_closed_is_given_up(application_settings, url):
    app = application(application_settings(ledger={"url": url}))
    loops = [asyncio.new_event_loop() for _ in range(2)]
    try:
        assert [loop.run_until_complete(ask(app)) for loop in loops for _ in range(2)] == [402] * 4
    finally:
        for loop in loops:
            for task in asyncio.all_tasks(loop):
                task.cancel()
            loop.run_until_complete(asyncio.sleep(0.05))
            loop.close()


def test_two_event_loops_at_once_are_refused_in_plain_words(application_settings):
    app = application(application_settings())
    opened, done = threading.Event(), threading.Event()

    async def stay():
        assert await ask(app) == 402
        opened.set()
        await asyncio.to_thread(done.wait)

    thread = threading.Thread(target=asyncio.run, args=(stay(),))
    thread.start()
    try:
        assert opened.wait(30)
        with pytest.raises(RuntimeError, match="open in another event loop"):
            asyncio.run(ask(app))
    finally:
        done.set()
        thread.join()
    assert asyncio.run(ask(app)) == 402


def test_the_ledger_closes_with_the_event_loop_where_there_is_no_lifespan(application_settings, monkeypatch, capfd):
    heard, close = [], SqliteLedger.close

    async def noting_close(ledger):
        await close(ledger)
        heard.append("closed")

    monkeypatch.setattr(SqliteLedger, "close", noting_close)
    app = application(application_settings(ledger={"url": "sqlite:///ledger.db"}))
    asyncio.run(ask(app))
    assert heard == ["closed"]
    with serving(app) as url:
        assert httpx.post(url + "/predict", json=ROWS).status_code == 402
    assert (heard, capfd.readouterr().err) == (["closed", "closed"], "")


def test_an_application_that_is_thrown_away_keeps_its_ledger_open_until_its_event_loop_ends(
    application_settings, monkeypatch, capfd
):
    heard, close = [], SqliteLedger.close

    async def noting_close(ledger):
        await close(ledger)
        heard.append("closed")

    monkeypatch.setattr(SqliteLedger, "close", noting_close)
    settings = application_settings(ledger={"url": "sqlite:///ledger.db"})

    async def use():
        assert await ask(application(settings)) == 402
        gc.collect()
        await asyncio.sleep(0)
        return list(heard)

    assert asyncio.run(use()) == []
    assert (heard, "destroyed" in capfd.readouterr().err) == (["closed"], False)


@pytest.mark.parametrize("extra", [[], ["--lifespan", "off"], ["--root-path", "/api"]])
def test_an_application_below_a_unix_socket_serves_one_anonymous_caller(application_settings, tmp_path, extra):
    application_settings()
    (tmp_path / "program.py").write_text(PROGRAM)
    socket = tmp_path / "s"
    command = [sys.executable, "-m", "uvicorn", "program:app", "--uds", str(socket), "--log-level", "warning", *extra]
    with subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, env=os.environ, text=True) as server:
        try:
            deadline = time.monotonic() + 60
            while not socket.exists() and server.poll() is None and time.monotonic() < deadline:
                time.sleep(0.05)
            with httpx.Client(transport=httpx.HTTPTransport(uds=str(socket), retries=5)) as bare:
                assert bare.post("http://toll/predict", json=ROWS).status_code == 402
            with httpx.Client(transport=TollTransport(transport=httpx.HTTPTransport(uds=str(socket)))) as client:
                answers = [client.post("http://toll/predict", json=ROWS) for _ in range(2)]
        finally:
            server.terminate()
            _, errors = server.communicate(timeout=60)
    assert [(answer.status_code, answer.json()) for answer in answers] == [(200, {"scores": [SURE]})] * 2
    assert errors == ""


CLIENTS = {"the test client's": ("testclient", 50000), "none": None, "a socket's": ("", 0), "a path": ("/run/s", None)}


@pytest.mark.parametrize("client", CLIENTS.values(), ids=CLIENTS)
def test_clients_without_an_ip_address_are_one_anonymous_caller(application_settings, client):
    app = application(application_settings({"mode": "shadow"}))
    answer = TestClient(app, client=client).post("/predict", json=ROWS)
    assert (answer.status_code, answer.json()) == (200, {"scores": [SURE]})


def test_what_an_operator_should_know_is_in_the_log_once(application_settings, caplog):
    app = application(application_settings({"mode": "shadow"}, secrets=[]))
    client = TestClient(app, client=("127.0.0.1", 1))
    assert [client.post("/predict", json=ROWS).status_code for _ in range(2)] == [200, 200]
    notes = [record.getMessage().partition(":")[0] for record in caplog.records]
    assert notes.count("secrets") == notes.count("models.digits.mode") == 1
