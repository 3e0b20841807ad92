"""Model servers from PyPI, each in an environment of its own, with the gateway in front of them or the gate inside."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from modeltoll.demo.processes import await_ready, free_port, serving
from modeltoll.gateway.callers.identify import hash_key

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
MODEL, TARIFF = "digits", "digits.tariff.json"
STOP_SECONDS = 20.0


@dataclass(frozen=True, slots=True)
class Server:
    """A kind of model server: its packages, its readiness path, and its model in the gateway's settings.

    ``has_gate_inside``: the server runs TollMiddleware, so that no gateway is in front of it.
    """

    packages: tuple[str, ...]
    ready: str
    model: Mapping[str, Any]
    has_gate_inside: bool = False


_OWN = {"protocol": "json", "json_path": {"route": "/predict", "inputs": "rows", "scores": "scores"}}
_OUTPUT = {"output": {"kind": "probabilities"}}
SERVERS = {
    "mlserver": Server(
        ("mlserver", "mlserver-sklearn"),
        "/v2/models/digits/ready",
        {
            "inputs": [{"name": "x", "width": 64, "datatype": "FP64"}],
            "output": {"name": "predict_proba", "kind": "probabilities"},
        },
    ),
    "mlflow": Server(("mlflow",), "/ping", {"protocol": "mlflow", **_OUTPUT}),
    "litserve": Server(("litserve", "scikit-learn"), "/health", {**_OWN, **_OUTPUT}),
    "fastapi": Server(
        ("fastapi", "uvicorn", "scikit-learn", f"modeltoll[gateway] @ {ROOT.as_uri()}"),
        "/",
        {**_OWN, **_OUTPUT},
        has_gate_inside=True,
    ),
}


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a process and all that it started."""
    with suppress(ProcessLookupError):  # they ended by themselves
        os.killpg(process.pid, signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            process.wait(STOP_SECONDS)
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


@dataclass(frozen=True, slots=True)
class ServerRun:
    """One server's environment, its folder, and the ports of the server and the gateway."""

    name: str
    environment: Path
    folder: Path
    port: int = field(default_factory=free_port)
    toll_port: int = field(default_factory=free_port)
    admin_port: int = field(default_factory=free_port)

    @property
    def server(self) -> Server:
        """The kind of the server."""
        return SERVERS[self.name]

    def install(self) -> None:
        """Make the environment, and bring it up to date."""
        if not (self.environment / "bin").is_dir():
            subprocess.run([sys.executable, "-m", "venv", self.environment], check=True)
        pip = [self.environment / "bin" / "python", "-m", "pip", "install", "--quiet"]
        subprocess.run([*pip, *self.server.packages], check=True)

    def version(self) -> str:
        """The server's version."""
        package = self.server.packages[0]
        script = ["-c", f"from importlib.metadata import version; print(version({package!r}))"]
        command = [self.environment / "bin" / "python", *script]
        return f"{package} {subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()}"

    @contextmanager
    def running(self, port: int, *arguments: str) -> Iterator[str]:
        """The server, from when it is ready until the block ends, with all that it started; its URL."""
        programs = self.environment / "bin"
        script = HERE / f"start_{self.name}.py"
        url, log = f"http://127.0.0.1:{port}", self.folder / f"server-{port}.log"
        environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
        environment["PATH"] = f"{programs}{os.pathsep}{environment['PATH']}"
        with log.open("wb") as output:
            process = subprocess.Popen(
                [programs / "python", script, str(port), *arguments],
                cwd=self.folder, env=environment, stdout=output, stderr=output, start_new_session=True,
            )  # fmt: skip
        try:
            await_ready(process, url + self.server.ready, log)
            yield url
        finally:
            _end(process)

    def write_settings(self, url: str, callers: Sequence[str]) -> Path:
        """Settings as an operator would write them, with the demo's measures."""
        document = {
            "listen": f"127.0.0.1:{self.toll_port}",
            "admin": f"127.0.0.1:{self.admin_port}",
            "upstream": {"url": url},
            "ledger": {"url": f"sqlite:///{self.folder}/ledger.db"},
            "callers": {"keys": [{"name": who, "sha256": hash_key(f"{who}-key")} for who in callers]},
            "models": {
                MODEL: {
                    "tariff": TARIFF,
                    "measures": [{"name": "entropy"}, {"name": "novelty", "file": "private.npy"}],
                    **self.server.model,
                }
            },
        }
        path = self.folder / "modeltoll.yaml"
        path.write_text(yaml.safe_dump(document))
        return path

    @contextmanager
    def behind_gate(self, settings: Path) -> Iterator[str]:
        """The gateway in front of the server, or the server with the gate inside; yields its URL."""
        if self.server.has_gate_inside:
            with self.running(self.toll_port, str(settings)) as url:
                yield url
        else:
            ready = f"http://127.0.0.1:{self.admin_port}/readyz"
            with serving(["modeltoll", "serve", str(settings)], ready, self.folder / "gateway.log"):
                yield f"http://127.0.0.1:{self.toll_port}"
