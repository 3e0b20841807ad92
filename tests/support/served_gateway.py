"""A gateway of real settings on real ports, in a thread of this process, in front of a model server that a test writes."""

from __future__ import annotations

import contextlib
import socket
import threading
from dataclasses import dataclass

import yaml

from context_in_thread import context_in_thread
from modeltoll.gateway.assembly.build import build_gateway
from modeltoll.gateway.server.serve import temporary_server
from modeltoll.gateway.settings.load import load_settings

CLASSIFIER = {
    "protocol": "json",
    "json_path": {"route": "/predict", "inputs": "rows", "scores": "scores", "ready": "/ready"},
    "output": {"kind": "probabilities", "classes": 3},
    "measures": [{"name": "entropy"}],
    "mode": "shadow",
    "tariff": "none.json",
}
CHAT = {
    "protocol": "openai-chat",
    "output": {"kind": "tokens"},
    "measures": [{"name": "tokens"}],
    "mode": "shadow",
    "tariff": "none.json",
}
ROWS = {"rows": [[1.0, 2.0]]}
SCORES = b'{"scores": [[0.6, 0.3, 0.1]]}'


@dataclass(frozen=True)
class ServedGateway:
    """``url`` and ``admin`` are addresses; ``gateway`` is the gateway itself, whose ledger may be read."""

    url: str
    admin: str
    gateway: object


@contextlib.contextmanager
def served_gateway(folder, upstream, models, **sections):
    """Serve while the block lasts. ``upstream``: the address of the model server, or that section of the settings."""
    section = upstream if isinstance(upstream, dict) else {"url": upstream}
    document = {"upstream": section, "ledger": {"url": "memory://"}, "models": models} | sections
    path = folder / "modeltoll.yaml"
    path.write_text(yaml.safe_dump(document))

    @contextlib.asynccontextmanager
    async def served():
        gateway = build_gateway(load_settings(path))
        async with gateway.open(), temporary_server(gateway.public) as url, temporary_server(gateway.admin) as admin:
            yield ServedGateway(url, admin, gateway)

    with context_in_thread(served) as found:
        yield found


def wait_until(condition):
    """Poll until it is true, or fail after thirty seconds."""
    pause = threading.Event()
    for _ in range(3000):
        if condition():
            return
        pause.wait(0.01)
    raise AssertionError("the condition did not become true")


@contextlib.contextmanager
def socket_server(talk):
    """Serve connections, each in a thread that calls ``talk(connection, number)``; yields the URL.

    ``talk`` need not close the connection. ``number`` counts connections from 0.
    """
    listening = socket.create_server(("127.0.0.1", 0))

    def handle(connection, number):
        with connection, contextlib.suppress(OSError):
            talk(connection, number)

    def accept():
        with contextlib.suppress(OSError):  # the listening socket was closed
            for number in range(1_000_000):
                connection, _ = listening.accept()
                threading.Thread(target=handle, args=(connection, number), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    finally:
        listening.shutdown(socket.SHUT_RDWR)
        listening.close()


def read_request(connection):
    """One request from a connection: (head, body); None where the client closed it."""
    data = b""
    while b"\r\n\r\n" not in data:
        if not (chunk := connection.recv(65536)):
            return None
        data += chunk
    head, _, body = data.partition(b"\r\n\r\n")
    lines = head.lower().split(b"\r\n")
    length = next((int(line.split(b":")[1]) for line in lines if line.startswith(b"content-length:")), 0)
    while len(body) < length:
        body += connection.recv(65536)
    return head, body


def response(body=SCORES, *headers, status="200 OK", version="1.1"):
    """The bytes of a response with a length."""
    lines = [
        f"HTTP/{version} {status}",
        f"Content-Length: {len(body)}",
        *("Content-Type: application/json",) * (not any(h.lower().startswith("content-type") for h in headers)),
        *headers,
    ]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body
