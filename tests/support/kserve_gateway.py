"""KServe's own model server as a process, and the settings of a gateway before it."""

from __future__ import annotations

import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import grpc
import httpx
import numpy as np
import yaml

from modeltoll.demo.processes import await_ready, free_port
from modeltoll.pricing.calibration import NewAccountToll
from modeltoll.pricing.calibration_file import save_calibration
from modeltoll.pricing.fit import CalibrationTerms, RowCosts, fit_calibration
from modeltoll.records import Leaks

SERVER = Path(__file__).with_name("kserve_server.py")
START_SECONDS = 60


def free_address():
    """A free address, without scheme."""
    return f"127.0.0.1:{free_port()}"


@contextmanager
def kserve_server(address, folder, *, over_grpc=False):
    """The model server, which serves ``m`` at an address until the block ends; its output is in ``folder``."""
    log, command = folder / "server.log", [sys.executable, SERVER, address.rpartition(":")[2]]
    with log.open("wb") as output:
        process = subprocess.Popen([*command, *(["grpc"] * over_grpc)], stdout=output, stderr=output)
    with process:
        try:
            if over_grpc:
                with grpc.insecure_channel(address) as channel:
                    grpc.channel_ready_future(channel).result(START_SECONDS)
            else:
                await_ready(process, f"http://{address}/v2/models/m/ready", log)
            yield
        finally:
            process.kill()


def write_settings(folder, upstream, **settings):
    """The settings file of a gateway of ``m``, whose honest rows leak between 0 and 1, for some 10 ms each."""
    leaks = Leaks(("entropy",), np.random.default_rng(0).random((400, 1)))
    terms = CalibrationTerms(new_account_toll=NewAccountToll(anonymous_units=0.0))
    tariff = fit_calibration("m", leaks, RowCosts(undefended_seconds=0.01, unit_seconds=0.01), terms)
    save_calibration(tariff, folder / "m.json")
    model = {
        "tariff": "m.json",
        "output": {"name": "p", "kind": "probabilities", "classes": 3},
        "measures": [{"name": "entropy"}],
    }
    path = folder / "modeltoll.yaml"
    path.write_text(yaml.safe_dump({"upstream": {"url": upstream}, "models": {"m": model}, **settings}))
    return path


def counted(metrics_address, name):
    """A sum over a sidecar's counters of that name."""
    lines = httpx.get(f"http://{metrics_address}/metrics").text.splitlines()
    return sum(float(line.split()[-1]) for line in lines if line.startswith(name))
