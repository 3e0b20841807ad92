"""A laboratory for thieves: a model that is worth stealing, its model server, and real gateways in processes of their own.

The victim is a small network on scikit-learn's digits (8 x 8). Everything that a thief may do here goes over HTTP.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
import warnings
from dataclasses import dataclass, replace

import httpx
import numpy as np
import yaml
from sklearn.datasets import load_digits, load_sample_images
from sklearn.neural_network import MLPClassifier
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from modeltoll.demo.processes import free_port
from modeltoll.gateway.callers.identify import hash_key
from modeltoll.pricing.calibration_file import load_calibration, save_calibration

MODEL, DIMENSIONS, CLASSES = "digits", 64, 10
UNIT = 0.005  # reference seconds of an average honest row
# Of a calibration whose measures are only some of those that it was made with: all traffic is the only kind.
ONE_KIND = {
    "coordinates": (),
    "kinds": (),
    "priced_classes": (),
    "strangers": (),
    "clean_scores": None,
    "kind_reports": (),
}
KEYS = tuple(f"thief-key-{number}" for number in range(64))


@dataclass(frozen=True)
class Victim:
    """The model and its data: ``private`` rows it was trained on, ``honest`` ones for calibration, ``test`` ones."""

    model: MLPClassifier
    private: np.ndarray
    honest: np.ndarray
    test: np.ndarray
    test_labels: np.ndarray

    def scores(self, rows):
        """Probabilities, (rows, classes)."""
        return self.model.predict_proba(np.atleast_2d(rows))


def train_victim():
    """The victim of all laboratories."""
    inputs, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(inputs))
    inputs, labels = inputs[order] / 16.0, labels[order]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = MLPClassifier((64,), max_iter=300, random_state=0).fit(inputs[:700], labels[:700])
    return Victim(model, inputs[:700], inputs[700:1300], inputs[1300:], labels[1300:])


def patches_of_photographs(count, seed=0):
    """Patches of scikit-learn's photographs in the victim's size, (count, 64): foreign images."""
    grey = [image.mean(axis=2) / 255.0 for image in load_sample_images().images]
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(count):
        image = grey[rng.integers(len(grey))]
        top, left = rng.integers(image.shape[0] - 8), rng.integers(image.shape[1] - 8)
        found.append(image[top : top + 8, left : left + 8].ravel())
    return np.array(found)


class ModelServer:
    """The victim behind the Open Inference Protocol. ``bodies`` records every request body that reached it."""

    def __init__(self, victim):
        self.victim = victim
        self.bodies: list[bytes] = []

    async def infer(self, request: Request):
        body = await request.body()
        self.bodies.append(body)
        tensor = json.loads(body)["inputs"][0]
        scores = self.victim.scores(np.asarray(tensor["data"], dtype=float).reshape(tensor["shape"]))
        output = {"name": "p", "shape": list(scores.shape), "datatype": "FP64", "data": scores.ravel().tolist()}
        return JSONResponse({"model_name": MODEL, "outputs": [output]})

    async def metadata(self, request: Request):
        tensors = [{"name": "x", "datatype": "FP64", "shape": [-1, DIMENSIONS]}]
        outputs = [{"name": "p", "datatype": "FP64", "shape": [-1, CLASSES]}]
        return JSONResponse({"name": MODEL, "platform": "sklearn", "inputs": tensors, "outputs": outputs})

    async def ready(self, request: Request):
        return JSONResponse({"ready": True})

    def application(self):
        return Starlette(
            routes=[
                Route("/v2/models/{model}/infer", self.infer, methods=["POST"]),
                Route("/v2/models/{model}", self.metadata),
                Route("/v2/health/ready", self.ready),
            ]
        )


@dataclass(frozen=True)
class RunningGateway:
    """A gateway in a process of its own."""

    url: str
    admin: str
    process: subprocess.Popen

    def log(self):
        """Every line of the ledger's log, oldest first."""
        lines, after = [], 0
        while page := httpx.get(f"{self.admin}/api/log", params={"after": after, "limit": 1000}).json()["lines"]:
            lines += page
            after = page[-1]["line"]
        return lines


@dataclass
class Laboratory:
    """Where gateways are set up. ``server`` is the victim's model server at ``upstream``."""

    folder: object
    victim: Victim
    server: ModelServer
    upstream: str

    def settings(self, **members):
        """Settings of a gateway: the default ones, with these members instead."""
        keys = [{"name": key, "sha256": hash_key(key)} for key in KEYS]
        document = {
            "listen": f"127.0.0.1:{free_port()}",
            "admin": f"127.0.0.1:{free_port()}",
            "upstream": {"url": self.upstream},
            "ledger": {"url": "memory://"},
            "callers": {"keys": keys},
            "models": {
                MODEL: {
                    "tariff": str(self.folder / "digits.tariff.json"),
                    "output": {"name": "p", "kind": "probabilities", "classes": CLASSES},
                    "measures": [{"name": "entropy"}, {"name": "novelty", "file": str(self.folder / "private.npy")}],
                }
            },
        }
        return document | members

    def variant(self, name, *, unit=UNIT, measures=None, **members):
        """Settings of the victim as a model of this name, with a unit (reference seconds) and with some of its measures."""
        known = self.settings()["models"][MODEL]["measures"]
        kept = [measure for measure in known if measure["name"] in (measures or (measure["name"],))]
        calibration = load_calibration(self.folder / "digits.tariff.json")
        columns = [calibration.measures.index(measure["name"]) for measure in kept]
        weights = [calibration.weights[column] for column in columns]
        changed = replace(
            calibration,
            model=name,
            measures=tuple(measure["name"] for measure in kept),
            scores=calibration.scores[columns],
            weights=tuple(weight / sum(weights) for weight in weights),
            unit_seconds=unit,
            report=None,
            **({} if measures is None else ONE_KIND),
        )
        tariff = self.folder / f"{name}-{unit}.tariff.json"
        save_calibration(changed, tariff)
        return self.settings()["models"][MODEL] | {"tariff": str(tariff), "measures": kept} | members

    def write(self, document):
        """A file of settings."""
        path = self.folder / f"{document['listen'].rpartition(':')[2]}.yaml"
        path.write_text(yaml.safe_dump(document))
        return path

    def run(self, *arguments):
        """Run ``modeltoll`` with these arguments."""
        command = [sys.executable, "-m", "modeltoll", *map(str, arguments)]
        run = subprocess.run(command, capture_output=True, text=True, check=False, cwd=self.folder)
        assert run.returncode == 0, run.stderr
        return run

    @contextlib.contextmanager
    def gateway(self, *options, settings=None, **members):
        """A gateway that serves while the block lasts."""
        document = settings or self.settings(**members)
        path = self.write(document)
        log = path.with_suffix(".log")
        admin = f"http://{document['admin']}"
        with log.open("wb") as output:
            command = [sys.executable, "-m", "modeltoll", "serve", str(path), *options]
            process = subprocess.Popen(command, stdout=output, stderr=output, cwd=self.folder, env={**os.environ})
        try:
            _await_ready(process, admin, log)
            yield RunningGateway(f"http://{document['listen']}", admin, process)
        finally:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _await_ready(process, admin, log):
    for _ in range(600):
        assert process.poll() is None, log.read_text()
        try:
            if httpx.get(f"{admin}/readyz", timeout=5).status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.05)
    raise AssertionError(log.read_text())


@dataclass
class Thief:
    """A caller without scruples. ``accept`` is what it announces: by default a client of this project."""

    client: httpx.Client
    infer_body: object
    path: str = f"/v2/models/{MODEL}/infer"

    def ask(self, rows, accept="argon2id, sha256; mode=sealed; memory=64MiB; receipts", model=MODEL, **headers):
        """The response to a request for some rows, whatever it is. With ``accept=None`` the transport announces itself."""
        path = self.path.replace(MODEL, model)
        announced = {} if accept is None else {"toll-accept": accept}
        return self.client.post(path, content=self.infer_body(rows), headers=announced | headers)

    def toll(self, rows, **options):
        """The toll for some rows, as JSON; the request must be answered with one."""
        response = self.ask(rows, **options)
        assert response.status_code == 402, response.text
        return response.json()["toll"]
