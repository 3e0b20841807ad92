"""A real nginx between clients and the gateway: below subpaths, with and without buffers, over TCP and Unix sockets."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import shutil
import socket
import sqlite3
import subprocess
import time
from contextlib import contextmanager
from pathlib import Path

import aiohttp
import httpx
import pytest
import requests
from aiohttp import web

from modeltoll import wire
from modeltoll.client.aiohttp import TollMiddleware
from modeltoll.client.httpx import TollTransport
from modeltoll.client.purse import Purse
from modeltoll.client.requests import TollAdapter
from modeltoll.client.sidecar import application as sidecar
from modeltoll.client.sidecar import upstream_url
from modeltoll.client.sidecar_metrics import SidecarMetrics
from modeltoll.demo.processes import free_port
from modeltoll.errors import TollMalformed
from modeltoll.records import Answer, MachineProfile
from modeltoll.testing.model_servers import FakeUpstream
from raw_http import connect, serving_gateway

pytestmark = pytest.mark.strangers

ROWS = {"rows": [[1, 2]]}
SCORES = {"scores": [[0.6, 0.3, 0.1]]}
FORWARDED = {"X-Forwarded-For": "203.0.113.7"}
TRUSTED = {"trusted_proxies": ["127.0.0.0/8", "unix"]}
PREFIXES = ["", "/stripped", "/kept", "/unbuffered", "/deep/er", "/unix", "/one-dot-zero"]
CONFIGURATION = """
daemon off; worker_processes 1; pid {folder}/pid; error_log {folder}/error.log; {user}
events {{ worker_connections 64; }}
http {{
  log_format short '$request_method $uri $status $bytes_sent $upstream_addr'; access_log {folder}/access.log short;
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
  underscores_in_headers {underscores};
  gzip on; gzip_min_length 1; gzip_proxied any; gzip_types application/json;
  client_max_body_size 100k;
  proxy_http_version 1.1; proxy_set_header Connection ""; proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
  upstream gateway {{ server {tcp}; keepalive 8; }}
  server {{
    listen 127.0.0.1:{port}; listen unix:{folder}/front.sock;
    location / {{ proxy_pass http://gateway; }}
    location /stripped/ {{ proxy_pass http://gateway/; }}
    location /kept/ {{ proxy_pass http://gateway; }}
    location /deep/er/ {{ proxy_pass http://gateway/; }}
    location /unbuffered/ {{ proxy_buffering off; proxy_request_buffering off; proxy_pass http://gateway/; }}
    location /one-dot-zero/ {{ proxy_http_version 1.0; proxy_pass http://gateway/; }}
    location /unix/ {{ proxy_pass http://unix:{unix}:/; }}
    location = /lost/predict {{ proxy_pass http://gateway/predict; }}
    location /lost/ {{ return 404; }}
  }}
}}
"""


def answer(_path, body):
    rows = len(json.loads(body)["rows"]) if body else 0
    return Answer(200, "application/json", json.dumps({"scores": SCORES["scores"] * rows}).encode())


class Site:
    """nginx with the gateway behind it; ``url`` is nginx's."""

    def __init__(self, url, folder, upstream):
        self.url, self.folder, self.upstream = url, folder, upstream
        self._numbers = itertools.count()

    def accesses(self):
        """(method, path, status) of each request so far; nginx logs one after the client has its response."""
        last = f"/last/{next(self._numbers)}"
        httpx.get(self.url + last)
        for _ in range(400):
            lines = [tuple(line.split()[:3]) for line in (self.folder / "access.log").read_text().splitlines()]
            if any(path == last for _, path, _ in lines):
                return lines
            time.sleep(0.02)  # another process writes: there is nothing else to wait for
        raise AssertionError(lines)

    def callers(self):
        with sqlite3.connect(self.folder / "ledger.db") as ledger:
            return sorted(name for (name,) in ledger.execute("SELECT caller FROM accounts WHERE caller LIKE 'net:%'"))


@pytest.fixture
def site(application_settings, tmp_path):
    """Opens sites: ``callers`` are the settings' callers, ``model`` further settings of the model."""

    @contextmanager
    def open_site(callers=None, underscores="off", **model):
        nginx = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")
        assert nginx, "nginx is not installed: apt-get install nginx-light"
        tcp, port, unix = free_port(), free_port(), tmp_path / "gateway.sock"
        path = application_settings(
            model,
            listen=[f"127.0.0.1:{tcp}", f"unix:{unix}?mode=0666"],
            root_path="/kept",
            callers=TRUSTED | (callers or {"anonymous_credit": {"seconds": 1e6, "units": 1e6}}),
            ledger={"url": "sqlite:///ledger.db"},
        )
        upstream = FakeUpstream(answer)
        user = "user root;" if os.getuid() == 0 else ""
        configuration = CONFIGURATION.format(
            folder=tmp_path, user=user, underscores=underscores, tcp=f"127.0.0.1:{tcp}", port=port, unix=unix
        )
        (tmp_path / "nginx.conf").write_text(configuration)
        with serving_gateway(path, upstream):
            command = [
                nginx,
                "-p",
                str(tmp_path),
                "-c",
                str(tmp_path / "nginx.conf"),
                "-e",
                str(tmp_path / "error.log"),
            ]
            process = subprocess.Popen(command)
            try:
                _await(f"127.0.0.1:{port}", process)
                yield Site(f"http://127.0.0.1:{port}", tmp_path, upstream)
            finally:
                process.terminate()
                process.wait(20)

    return open_site


def _await(place, process):
    for _ in range(400):
        assert process.poll() is None
        try:
            connect(place).close()
        except OSError:
            time.sleep(0.05)  # another process starts: there is nothing else to wait for
        else:
            return
    raise AssertionError(place)


def with_httpx(url, purse, headers):
    with httpx.Client(transport=TollTransport(purse=purse), timeout=60) as client:
        response = client.post(url, json=ROWS, headers=headers)
        return response.status_code, response.json()


def with_requests(url, purse, headers):
    with requests.Session() as session:
        session.mount("http://", TollAdapter(purse=purse))
        response = session.post(url, json=ROWS, headers=headers, timeout=60)
        return response.status_code, response.json()


def with_aiohttp(url, purse, headers):
    async def ask():
        async with (
            aiohttp.ClientSession(middlewares=[TollMiddleware(purse=purse)]) as session,
            session.post(url, json=ROWS, headers=headers) as response,
        ):
            return response.status, await response.json()

    return asyncio.run(ask())


def with_sidecar(url, purse, headers):
    base, _, path = url.rpartition("/")

    async def ask():
        runner = web.AppRunner(sidecar(upstream_url(base), purse, SidecarMetrics()), auto_decompress=False)
        await runner.setup()
        listening = socket.create_server(("127.0.0.1", 0))
        await web.SockSite(runner, listening).start()
        place = f"http://127.0.0.1:{listening.getsockname()[1]}/{path}"
        async with httpx.AsyncClient(timeout=60) as client:
            response = await client.post(place, json=ROWS, headers=headers)
        await runner.cleanup()
        return response.status_code, response.json()

    return asyncio.run(ask())


CLIENTS = [with_httpx, with_requests, with_aiohttp, with_sidecar]
JAVASCRIPT = """
import { Purse, tollFetch } from "file://%s";
for (const url of process.argv.slice(2)) for (const mode of ["sealed", "redeem"]) {
  const fetch = tollFetch(undefined, { mode, purse: new Purse() });
  const headers = { "content-type": "application/json" };
  const answer = await fetch(url, { method: "POST", headers, body: '{"rows": [[1, 2]]}' });
  console.log(url, mode, answer.status, await answer.text());
  await fetch.close();
}
process.exit(0);
"""
REDEEM = {"Toll-Accept": "sha256; mode=redeem"}


@pytest.mark.parametrize("underscores", ["off", "on"])
def test_sealed_redeemed_and_settled_below_any_prefix_with_every_client(site, underscores):
    with site(underscores=underscores) as nginx:
        for prefix in PREFIXES:
            for client in CLIENTS:
                for headers, payments in ((FORWARDED, 1), (FORWARDED | REDEEM, 1)):
                    purse = Purse(60)
                    assert client(f"{nginx.url}{prefix}/predict", purse, headers) == (200, SCORES), (prefix, client)
                    assert len(purse.payments) == payments
            accesses = nginx.accesses()
            assert accesses.count(("POST", f"{prefix}{wire.REDEEM_PATH}", "200")) == len(CLIENTS)
            settled = [status for _, path, status in accesses if path == f"{prefix}{wire.SETTLE_PATH}"]
            assert settled
            assert set(settled) == {"204"}
        assert nginx.callers() == ["net:203.0.113.7"]


def test_the_javascript_client_below_any_prefix(site, tmp_path):
    library = Path(__file__).parents[2] / "clients/js/dist/index.js"
    assert library.exists(), "the client is not built: make js"
    script = tmp_path / "ask.mjs"
    script.write_text(JAVASCRIPT % library)
    with site() as nginx:
        urls = [f"{nginx.url}{prefix}/predict" for prefix in PREFIXES]
        said = subprocess.run(["node", script, *urls], capture_output=True, text=True, timeout=120, check=True).stdout
        answered = [f"{url} {mode} 200 {json.dumps(SCORES)}" for url in urls for mode in ("sealed", "redeem")]
        assert said.splitlines() == answered
        for prefix in PREFIXES:
            assert ("POST", f"{prefix}{wire.REDEEM_PATH}", "200") in nginx.accesses()
            assert ("POST", f"{prefix}{wire.SETTLE_PATH}", "204") in nginx.accesses()


def test_admission_is_paid_and_redeemed_below_a_prefix(site):
    with site(callers={"anonymous_credit": {"seconds": 1e-9, "units": 1}}) as nginx:
        for prefix in PREFIXES:
            purse = Purse(60)
            with httpx.Client(transport=TollTransport(purse=purse), timeout=60) as client:
                for _ in range(3):
                    response = client.post(f"{nginx.url}{prefix}/predict", json={"rows": [[1, 2]] * 4})
                    assert (response.status_code, len(response.json()["scores"])) == (200, 4), prefix
            assert ("POST", f"{prefix}{wire.REDEEM_PATH}", "200") in nginx.accesses()


def test_a_prefix_below_which_the_redeem_path_is_lost_costs_no_work(site):
    """A proxy that passes on the model's path alone."""
    with site() as nginx:
        purse = Purse(1e6, profile=MachineProfile("slow", "an evaluation takes a second", 1.0, {256: 1.0}))
        with pytest.raises(TollMalformed, match="no work was done"):
            with_httpx(f"{nginx.url}/lost/predict", purse, REDEEM)
        assert purse.payments == ()


def test_toll_headers_fit_the_default_buffers_and_a_body_over_nginxs_limit_is_a_413(site):
    with site() as nginx, httpx.Client(timeout=60) as client:
        toll = client.post(f"{nginx.url}/stripped/predict", json=ROWS)
        assert toll.status_code == 402
        with httpx.Client(transport=TollTransport(purse=Purse(60)), timeout=60) as redeeming:
            answered = redeeming.post(f"{nginx.url}/stripped/predict", json={"rows": [[1, 2]] * 9}, headers=REDEEM)
            assert (answered.status_code, answered.headers["content-encoding"]) == (200, "gzip")
        assert sum(len(name) + len(value) + 4 for name, value in toll.headers.raw) < 4096
        receipts = wire.format_settle([bytes([number]) * wire.MAX_RECEIPT_BYTES for number in range(16)])
        assert client.post(f"{nginx.url}/predict", json=ROWS, headers={"Toll-Settle": receipts}).status_code == 402
        with httpx.Client(transport=TollTransport(purse=Purse(60)), timeout=60) as paying:
            refused = paying.post(f"{nginx.url}/predict", json={"rows": [[0.5] * 40_000]})
        assert refused.status_code == 413
        assert "html" in refused.headers["content-type"]


def test_callers_are_told_apart_by_what_nginx_appended_and_not_by_what_they_wrote(site):
    with site(callers={"trusted_proxies": ["unix"], "anonymous_credit": {"seconds": 1e6, "units": 1e6}}) as nginx:
        for forged in ("203.0.113.7", "unknown", "203.0.113.7, 198.51.100.1:80", 'for="1.2.3.4"'):
            for name in ("X-Forwarded-For", "Forwarded"):
                assert httpx.post(f"{nginx.url}/unix/predict", json=ROWS, headers={name: forged}).status_code == 402
        assert set(nginx.callers()) <= {"net:127.0.0.1", "net:unix"}
        with httpx.Client(transport=httpx.HTTPTransport(uds=str(nginx.folder / "front.sock"))) as client:
            headers = {
                "X-Forwarded-For": "203.0.113.9"
            }  # as a proxy in front of nginx writes it; nginx appends "unix:"
            assert client.post("http://front/unix/predict", json=ROWS, headers=headers).status_code == 402
        assert "net:203.0.113.9" in nginx.callers()


def test_kept_connections_to_the_gateway_are_used_again(site):
    with site() as nginx, httpx.Client(timeout=60) as client:
        for _ in range(20):
            assert client.post(f"{nginx.url}/predict", json=ROWS).status_code == 402
        assert len(nginx.upstream.requests) == 20
    assert (nginx.folder / "error.log").read_text().count("upstream") == 0
