"""Thieves at work: fixtures of the laboratory (``tests/support/laboratory.py``)."""

from __future__ import annotations

import json

import httpx
import numpy as np
import pytest

from laboratory import UNIT, Laboratory, ModelServer, Thief, patches_of_photographs, train_victim
from modeltoll.testing.model_servers import serving


@pytest.fixture(scope="session")
def victim():
    return train_victim()


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
    """``photograph_patches(count, seed=0)``: foreign images."""
    return patches_of_photographs
