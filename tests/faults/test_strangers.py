"""Attacks on a whole gateway by unknown callers: connections that are kept open, and searches for secrets."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time

import httpx
import pytest
import yaml
from starlette.applications import Starlette
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from typer.main import get_command

from modeltoll.cli import app
from modeltoll.demo.processes import free_port
from modeltoll.gateway.callers.identify import hash_key
from modeltoll.gateway.public.app import application
from modeltoll.gateway.server import http_protocol
from modeltoll.gateway.server.serve import background_server, listen
from modeltoll.pricing.calibration_file import save_calibration
from modeltoll.testing.model_servers import serving

PATH = "/v2/models/digits/infer"
SLOW = 300


# Slow loris


def test_connections_without_a_complete_head_are_closed_and_others_are_served_meanwhile(harness, monkeypatch):
    monkeypatch.setattr(http_protocol, "HEAD_SECONDS", 0.5)
    monkeypatch.setattr(http_protocol, "FIRST_BYTE_SECONDS", 0.5)

    async def story():
        with listen("test", "127.0.0.1:0") as listening:
            port = listening.getsockname()[1]
            async with background_server(application(harness.components()), listening):
                slow = [await asyncio.open_connection("127.0.0.1", port) for _ in range(SLOW)]
                for number, (_, writer) in enumerate(slow):
                    writer.write(b"" if number % 3 == 0 else b"POST /v2/models/digits/infer HTTP/1.1\r\nx-a: b")
                async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
                    answer = await client.post(
                        PATH,
                        content=harness.infer_body([1, 2]),
                        headers={"x-api-key": "alice-key", "content-type": "application/json"},
                    )
                said = await asyncio.gather(*(reader.read() for reader, _ in slow))
                for _, writer in slow:
                    writer.close()
        return answer.status_code, said

    status, said = asyncio.run(story())
    assert status == 402
    assert said == [b""] * SLOW


def test_each_request_on_a_kept_connection_has_its_own_head_timeout(harness, monkeypatch):
    monkeypatch.setattr(http_protocol, "HEAD_SECONDS", 0.5)
    monkeypatch.setattr(http_protocol, "FIRST_BYTE_SECONDS", 0.5)

    async def story():
        with listen("test", "127.0.0.1:0") as listening:
            async with background_server(application(harness.components()), listening):
                reader, writer = await asyncio.open_connection("127.0.0.1", listening.getsockname()[1])
                heard = []
                for pause in (0.3, 0.3, 0.7):  # before each request: kept connections may be idle for longer
                    writer.write(b"GET /v2/health/ready HTTP/1.1\r\nhost: x\r\nx-api-key: alice-key\r\n\r\n")
                    heard.append(await reader.readuntil(b"\r\n\r\n"))
                    await reader.readexactly(int(heard[-1].lower().partition(b"content-length: ")[2].split()[0]))
                    await asyncio.sleep(pause)
                writer.write(b"GET /v2/health/ready HTTP/1.1\r\nhost: x\r\nx-api-key: alice-key\r\n\r\n")
                heard.append(await reader.readuntil(b"\r\n\r\n"))
                writer.close()
        return [head.split(b"\r\n")[0] for head in heard]

    assert asyncio.run(story()) == [b"HTTP/1.1 200 OK"] * 4


# Secrets

SECRETS = {
    "api key": "key-of-alice-3f9c1e",
    "operator's token": "operators-token-77aa01",
    "seal": "a1b2c3d4" * 8,
    "jwt": "jwt-secret-b81d0c-of-more-than-32-letters",
    "payload": "31337.4242",
    "unknown key": "stolen-key-000111",
}


def model():
    async def infer(request):
        rows = (await request.json())["inputs"][0]["shape"][0]
        data = [0.97, 0.01, 0.01, 0.01] * rows
        return JSONResponse({"outputs": [{"name": "p", "shape": [rows, 4], "datatype": "FP64", "data": data}]})

    return Starlette(routes=[Route(PATH, infer, methods=["POST"]), Route("/v2/health/ready", lambda _: Response())])


@pytest.fixture
def whole(tmp_path, calibration):
    """A gateway in a process of its own, full of secrets; its base URLs, and the text of all that it wrote."""
    save_calibration(calibration, tmp_path / "tariff.json")
    ports = free_port(), free_port()
    with serving(model()) as upstream:
        document = {
            "listen": f"127.0.0.1:{ports[0]}",
            "admin": f"127.0.0.1:{ports[1]}",
            "upstream": {"url": upstream},
            "callers": {
                "anonymous": False,
                "keys": [{"name": "alice", "sha256": hash_key(SECRETS["api key"])}],
                "jwt": {"algorithms": ["HS256"]},
            },
            "operation": {"audit_file": "audit", "log_format": "json", "log_level": "debug"},
            "models": {
                "digits": {
                    "tariff": "tariff.json",
                    "output": {"name": "p", "kind": "probabilities"},
                    "measures": [{"name": "entropy"}],
                }
            },
        }
        (tmp_path / "modeltoll.yaml").write_text(yaml.safe_dump(document))
        secret = {
            "MODELTOLL_ADMIN_TOKEN": SECRETS["operator's token"],
            "MODELTOLL_SECRETS": json.dumps([SECRETS["seal"]]),
            "MODELTOLL_CALLERS__JWT__SECRET": SECRETS["jwt"],
        }
        command = [sys.executable, "-m", "modeltoll", "serve", str(tmp_path / "modeltoll.yaml")]
        with (tmp_path / "said").open("wb") as said:
            process = subprocess.Popen(command, stdout=said, stderr=said, env=os.environ | secret)
        public, admin = (f"http://127.0.0.1:{port}" for port in ports)
        try:
            await_ready(process, admin, tmp_path / "said")
            yield public, admin, process, tmp_path
        finally:
            process.kill()
            process.wait()


def await_ready(process, admin, said):
    for _ in range(600):
        assert process.poll() is None, said.read_text()
        try:
            if httpx.get(f"{admin}/readyz").status_code == 200:
                return
        except httpx.TransportError:
            time.sleep(0.05)  # another process starts: there is nothing else to wait for
    raise AssertionError(said.read_text())


def test_no_secret_is_in_logs_metrics_errors_the_audit_log_or_the_operators_pages(whole):
    public, admin, process, folder = whole
    tensor = {"name": "x", "shape": [1, 1], "datatype": "FP64", "data": [[float(SECRETS["payload"])]]}
    token = {"authorization": f"Bearer {SECRETS['operator' + chr(39) + 's token']}"}
    shown = []
    for key in (SECRETS["api key"], SECRETS["unknown key"], SECRETS["jwt"], SECRETS["operator's token"]):
        headers = {"x-api-key": key, "authorization": f"Bearer {key}"}
        bodies = ({"inputs": [tensor]}, {"inputs": [tensor, SECRETS["payload"]]}, SECRETS["payload"])
        shown += [httpx.post(public + PATH, json=body, headers=headers) for body in bodies]
        shown += [httpx.get(f"{public}/{key}", headers=headers), httpx.get(f"{admin}/api/{key}", headers=headers)]
        shown += [
            httpx.get(f"{admin}/api/status", headers=headers),
            httpx.post(f"{admin}/api/account/reset", content=key),
        ]
    pages = ("metrics", "readyz", "api/status", "api/settings", "api/accounts", "api/keys", "api/log", "api/", "try/")
    told = [httpx.get(f"{admin}/{page}", headers=token) for page in pages]
    assert {each.status_code for each in told} == {200}
    assert {each.status_code for each in shown} >= {400, 401, 402, 404}
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 0
    written = {name: (folder / name).read_text() for name in ("said", "audit")}
    written |= {str(each.url.path): each.text + str(each.headers) for each in told}
    written |= {f"{n} {each.url.path}": each.text + str(each.headers) for n, each in enumerate(shown)}
    found = [(place, name) for place, text in written.items() for name, secret in SECRETS.items() if secret in text]
    assert found == []
    assert len(written["audit"].splitlines()) == 16  # each request to the public side


def test_no_secret_of_the_environment_is_in_any_help(monkeypatch):
    for name, secret in {"MODELTOLL_ADMIN_TOKEN": "operator's token", "MODELTOLL_KEY": "api key"}.items():
        monkeypatch.setenv(name, SECRETS[secret])

    def verbs(command, *path):
        yield path
        for name, inner in getattr(command, "commands", {}).items():
            yield from verbs(inner, *path, name)

    from typer.testing import CliRunner  # noqa: PLC0415

    paths = list(verbs(get_command(app)))
    assert len(paths) > 15
    for path in paths:
        run = CliRunner().invoke(app, [*path, "--help"])
        assert run.exit_code == 0
        assert not [secret for secret in SECRETS.values() if secret in run.output]


def test_a_gateway_that_cannot_reach_its_ledger_says_so_without_the_password(tmp_path, calibration):
    save_calibration(calibration, tmp_path / "tariff.json")
    document = {
        "listen": "127.0.0.1:0",
        "admin": "127.0.0.1:0",
        "upstream": {"url": "http://127.0.0.1:1"},
        "ledger": {"url": "postgresql://user:hunter2secret@127.0.0.1:1/db?connect_timeout=2"},
        "models": {
            "digits": {
                "tariff": "tariff.json",
                "output": {"name": "p", "kind": "probabilities"},
                "measures": [{"name": "entropy"}],
            }
        },
    }
    (tmp_path / "modeltoll.yaml").write_text(yaml.safe_dump(document))
    for verb in ("serve", "check"):
        command = [sys.executable, "-m", "modeltoll", verb, str(tmp_path / "modeltoll.yaml")]
        run = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
        assert run.returncode in (1, 2)
        assert "ledger" in run.stderr
        assert "hunter2secret" not in run.stdout + run.stderr
        assert "Traceback" not in run.stderr


def test_a_gateway_whose_log_is_on_a_full_disk_serves_on(tmp_path, calibration):
    """/dev/full takes nothing, as a disk without room."""
    save_calibration(calibration, tmp_path / "tariff.json")
    ports = free_port(), free_port()
    document = {
        "listen": f"127.0.0.1:{ports[0]}",
        "admin": f"127.0.0.1:{ports[1]}",
        "upstream": {"url": "http://127.0.0.1:1"},
        "operation": {"audit_file": "/dev/full", "log_level": "debug"},
        "models": {
            "digits": {
                "tariff": "tariff.json",
                "output": {"name": "p", "kind": "probabilities"},
                "measures": [{"name": "entropy"}],
            }
        },
    }
    (tmp_path / "modeltoll.yaml").write_text(yaml.safe_dump(document))
    with open("/dev/full", "w") as full:  # noqa: PTH123  a device
        command = [sys.executable, "-m", "modeltoll", "serve", str(tmp_path / "modeltoll.yaml")]
        process = subprocess.Popen(command, stdout=full, stderr=full)
    admin = f"http://127.0.0.1:{ports[1]}"
    try:
        for _ in range(600):
            assert process.poll() is None
            try:
                if httpx.get(f"{admin}/livez").status_code == 200:
                    break
            except httpx.TransportError:
                time.sleep(0.05)  # another process starts: there is nothing else to wait for
        tensor = {"name": "x", "shape": [1, 1], "datatype": "FP64", "data": [[0.0]]}
        answers = [httpx.post(f"http://127.0.0.1:{ports[0]}{PATH}", json={"inputs": [tensor]}) for _ in range(5)]
        assert {answer.status_code for answer in answers} == {502}  # each of which goes to the log
        metrics = httpx.get(f"{admin}/metrics").text
        assert "modeltoll_audit_broken 1.0" in metrics
    finally:
        process.kill()
        process.wait()
