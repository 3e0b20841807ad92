"""Unmodified gRPC SDKs get a real server's answers through a real gateway, paid by an interceptor or by the sidecar.

Five processes: KServe's model server, ``modeltoll serve`` before it, ``modeltoll proxy --grpc`` before that, and the SDK.
"""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import grpc
import httpx
import numpy as np
import pytest
import yaml

from modeltoll.demo.processes import free_port, serving
from modeltoll.gateway.callers.identify import hash_key
from modeltoll.pricing.calibration import NewAccountToll
from modeltoll.pricing.calibration_file import save_calibration
from modeltoll.pricing.fit import CalibrationTerms, RowCosts, fit_calibration
from modeltoll.records import Leaks

HERE = Path(__file__).parent
CALLERS = 8

# KServe parses the command line of the importing program; whether it is there is all that is asked here.
pytest.importorskip("kserve.configuration", reason="kserve has no release for this Python", exc_type=ImportError)


@dataclass(frozen=True)
class Deployment:
    """Addresses without scheme: of model server and gateway over gRPC, of sidecars with a high and a low limit, of metrics."""

    server: str
    gateway: str
    sidecar: str
    poor: str
    metrics: str
    admin: str

    def counted(self, name):
        """A sum over the sidecar's counters of that name."""
        lines = httpx.get(f"http://{self.metrics}/metrics").text.splitlines()
        return sum(float(line.split()[-1]) for line in lines if line.startswith(name))


def address():
    return f"127.0.0.1:{free_port()}"


def write_settings(folder, server, gateway, admin):
    """A gateway whose honest rows leak between 0 and 1, for some 10 ms each."""
    leaks = Leaks(("entropy",), np.random.default_rng(0).random((400, 1)))
    terms = CalibrationTerms(new_account_toll=NewAccountToll(anonymous_units=0.0))
    tariff = fit_calibration("m", leaks, RowCosts(undefended_seconds=0.01, unit_seconds=0.01), terms)
    save_calibration(tariff, folder / "m.json")
    model = {
        "tariff": "m.json",
        "output": {"name": "p", "kind": "probabilities", "classes": 3},
        "measures": [{"name": "entropy"}],
    }
    document = {
        "listen": address(),
        "listen_grpc": gateway,
        "admin": admin,
        "upstream": {"url": f"grpc://{server}"},
        "ledger": {"url": f"sqlite:///{folder}/ledger.db"},
        "callers": {"keys": [{"name": "sdk", "sha256": hash_key("k")}]},
        "models": {"m": model},
    }
    path = folder / "modeltoll.yaml"
    path.write_text(yaml.safe_dump(document))
    return path


@pytest.fixture(scope="module")
def deployment(tmp_path_factory):
    """All of them running."""
    folder = tmp_path_factory.mktemp("deployment")
    server, gateway, admin, sidecar, metrics, poor, others = (address() for _ in range(7))
    settings, log = write_settings(folder, server, gateway, admin), folder / "server.log"
    with log.open("wb") as output:
        command = [sys.executable, HERE / "kserve_server.py", server.rpartition(":")[2], "grpc"]
        process = subprocess.Popen(command, stdout=output, stderr=output)
    proxy = ["modeltoll", "proxy", "--grpc", "--upstream", f"grpc://{gateway}", "--listen"]
    with process:
        try:
            with grpc.insecure_channel(server) as channel:
                grpc.channel_ready_future(channel).result(60)
            with (
                serving(["modeltoll", "serve", str(settings)], f"http://{admin}/readyz", folder / "gateway.log"),
                serving([*proxy, sidecar, "--metrics", metrics], f"http://{metrics}/metrics", folder / "sidecar.log"),
                serving(
                    [*proxy, poor, "--metrics", others, "--max-seconds", "0"],
                    f"http://{others}/metrics",
                    folder / "poor.log",
                ),
            ):
                yield Deployment(server, gateway, sidecar, poor, metrics, admin)
        finally:
            process.kill()


@pytest.fixture(scope="module", params=["triton", "triton-async", "triton-aio", "kserve"])
def outcomes(deployment, request):
    """What an SDK gets in five ways, one after the other, and how many rows the sidecar bought meanwhile."""
    before = deployment.counted("modeltoll_proxy_rows_total")
    ways = {
        "direct": f"{deployment.server},{CALLERS}",
        "interceptor": f"{deployment.gateway},{CALLERS},30",
        "sidecar": f"{deployment.sidecar},{CALLERS}",
        "neither": f"{deployment.gateway},1",
        "poor interceptor": f"{deployment.gateway},1,0",
        "poor sidecar": f"{deployment.poor},1",
    }
    command = [sys.executable, HERE / "grpc_sdk.py", request.param, *ways.values()]
    run = subprocess.run(command, capture_output=True, text=True, check=False, timeout=240)
    assert run.returncode == 0, run.stderr
    bought = deployment.counted("modeltoll_proxy_rows_total") - before
    return dict(zip(ways, json.loads(run.stdout), strict=True)) | {"bought": bought}


def test_interceptor_and_sidecar_give_the_servers_answers(outcomes):
    assert len(set(outcomes["direct"])) == CALLERS
    assert outcomes["interceptor"] == outcomes["direct"]
    assert outcomes["sidecar"] == outcomes["direct"]
    assert outcomes["bought"] >= 2 * CALLERS


def test_without_either_an_sdk_says_what_is_missing(outcomes):
    assert "modeltoll.client.grpc" in outcomes["neither"]


def test_a_limit_reaches_the_sdk_as_its_own_error(outcomes):
    assert "max_seconds" in outcomes["poor interceptor"]
    assert "max_seconds" in outcomes["poor sidecar"]
    assert "FAILED_PRECONDITION" in outcomes["poor sidecar"]
