"""Unmodified gRPC SDKs get a real server's answers through a real gateway, paid by an interceptor or by the sidecar.

Five processes: KServe's model server, ``modeltoll serve`` before it, ``modeltoll proxy --grpc`` before that, and the SDK.
"""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from kserve_gateway import counted, free_address, kserve_server, write_settings
from modeltoll.demo.processes import serving
from modeltoll.gateway.callers.identify import hash_key

HERE = Path(__file__).parent
CALLERS = 8
BOUGHT = "modeltoll_proxy_rows_total"

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


@pytest.fixture(scope="module")
def deployment(tmp_path_factory):
    """All of them running."""
    folder = tmp_path_factory.mktemp("deployment")
    server, gateway, admin, sidecar, metrics, poor, others = (free_address() for _ in range(7))
    settings = write_settings(
        folder,
        f"grpc://{server}",
        listen=free_address(),
        listen_grpc=gateway,
        admin=admin,
        ledger={"url": f"sqlite:///{folder}/ledger.db"},
        callers={"keys": [{"name": "sdk", "sha256": hash_key("k")}]},
    )
    proxy = ["modeltoll", "proxy", "--grpc", "--upstream", f"grpc://{gateway}", "--listen"]
    with (
        kserve_server(server, folder, over_grpc=True),
        serving(["modeltoll", "serve", str(settings)], f"http://{admin}/readyz", folder / "gateway.log"),
        serving([*proxy, sidecar, "--metrics", metrics], f"http://{metrics}/metrics", folder / "sidecar.log"),
        serving(
            [*proxy, poor, "--metrics", others, "--max-seconds", "0"], f"http://{others}/metrics", folder / "poor.log"
        ),
    ):
        yield Deployment(server, gateway, sidecar, poor, metrics, admin)


@pytest.fixture(scope="module", params=["triton", "triton-async", "triton-aio", "kserve"])
def outcomes(deployment, request):
    """What an SDK gets in five ways, one after the other, and how many rows the sidecar bought meanwhile."""
    before = counted(deployment.metrics, BOUGHT)
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
    bought = counted(deployment.metrics, BOUGHT) - before
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
