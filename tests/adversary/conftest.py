"""Thieves at work: fixtures of the laboratory (``tests/support/laboratory.py``)."""

from __future__ import annotations

import json
import warnings

import httpx
import numpy as np
import pytest
from sklearn.datasets import load_digits, load_sample_images
from sklearn.neural_network import MLPClassifier

from laboratory import UNIT, Laboratory, ModelServer, Thief, Victim
from modeltoll.testing.model_servers import serving


@pytest.fixture(scope="session")
def victim():
    inputs, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(inputs))
    inputs, labels = inputs[order] / 16.0, labels[order]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = MLPClassifier((64,), max_iter=300, random_state=0).fit(inputs[:700], labels[:700])
    return Victim(model, inputs[:700], inputs[700:1300], inputs[1300:], labels[1300:])


@pytest.fixture(scope="session")
def laboratory(tmp_path_factory, victim):
    """The victim's model server, and a tariff calibrated on honest rows with a unit of 5 ms."""
    folder = tmp_path_factory.mktemp("laboratory")
    for name in ("private", "honest"):
        np.save(folder / f"{name}.npy", getattr(victim, name))
    server = ModelServer(victim)
    with serving(server.application()) as upstream:
        laboratory = Laboratory(folder, victim, server, upstream)
        path = laboratory.write(laboratory.settings())
        laboratory.run("calibrate", path, "--inputs", "honest.npy", "--unit-ms", 1000 * UNIT)
        yield laboratory


@pytest.fixture(scope="session")
def infer_body():
    """The body of a request for some rows."""

    def body(rows, **members):
        rows = np.atleast_2d(rows)
        tensor = {"name": "x", "shape": list(rows.shape), "datatype": "FP64", "data": rows.ravel().tolist()}
        return json.dumps({"inputs": [tensor]} | members).encode()

    return body


@pytest.fixture
def thief(infer_body):
    """``thief(gateway, key=None)``: a client that reads tolls and opens none by itself."""
    clients = []

    def connect(gateway, key=None, **options):
        headers = {"content-type": "application/json"} | ({"x-api-key": key} if key else {})
        client = httpx.Client(base_url=gateway.url, headers=headers, timeout=60, **options)
        clients.append(client)
        return Thief(client, infer_body)

    yield connect
    for client in clients:
        client.close()


@pytest.fixture(scope="session")
def photograph_patches():
    """``photograph_patches(count, seed=0)``: patches of photographs in the victim's size, (count, 64): foreign images."""
    grey = [image.mean(axis=2) / 255.0 for image in load_sample_images().images]

    def patches(count, seed=0):
        rng = np.random.default_rng(seed)
        found = []
        for _ in range(count):
            image = grey[rng.integers(len(grey))]
            top, left = rng.integers(image.shape[0] - 8), rng.integers(image.shape[1] - 8)
            found.append(image[top : top + 8, left : left + 8].ravel())
        return np.array(found)

    return patches
