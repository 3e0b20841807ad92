"""A tariff from what a real gateway logged in shadow mode: from no tariff at all to prices in force.

    python benchmarks/shadow_calibration.py --data-dir DIR [--requests 2000] [--json results/pricing/shadow-mnist.json]

A random forest on MNIST serves as an Open Inference server in a process of its own, with ``modeltoll serve`` in shadow
mode before it and no tariff. Twenty callers send unseen digits, one a request; every answer must be the model server's,
byte for byte. Then ``modeltoll calibrate --from-ledger`` makes the tariff, the gateway starts anew in enforce mode, and
further unseen digits and Tiny-ImageNet pictures are priced by it; nobody solves anything.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import httpx
import numpy as np
import yaml

from modeltoll.bench import datasets
from modeltoll.demo.data import WORLDS, DataSizes
from modeltoll.demo.http_callers import ask, requests_for
from modeltoll.demo.model_server import MODEL
from modeltoll.demo.servers import DemoServers, train_victim
from modeltoll.puzzle.machine_profile import DEFAULT_PROFILE

CALLERS, TREES, PRICED = 20, 60, 300
PRIVATE = 20_000


def told(what):
    """A step, on standard error."""
    print(what, file=sys.stderr, flush=True)


def switch(street, mode):
    """Write another mode into the settings."""
    document = yaml.safe_load(street.settings.read_text())
    document["models"][MODEL]["mode"] = mode
    street.settings.write_text(yaml.safe_dump(document, sort_keys=False))


def refused(street, rows, key):
    """Ask in enforce mode without paying; how many tolls came."""
    tolls = 0
    with httpx.Client(base_url=street.gateway_url, timeout=60.0) as client:
        for question in requests_for(rows, [key]):
            headers = {"content-type": "application/json", "x-api-key": question.key}
            tolls += client.post(f"/v2/models/{MODEL}/infer", content=question.body, headers=headers).status_code == 402
    return tolls


def study(folder, data_dir, requests, seed):
    """The whole road; the figures that came of it."""
    rng = np.random.default_rng(seed)
    world = WORLDS["mnist"](DataSizes(pictures=PRICED), data_dir, rng)
    unseen = datasets.mnist(data_dir, train=False).x
    unseen = unseen.reshape(len(unseen), -1)[rng.permutation(len(unseen))]
    sent, fresh = unseen[:requests], unseen[requests : requests + PRICED]
    kept = rng.permutation(len(world.private_x))[:PRIVATE]
    world = replace(world, private_x=world.private_x[kept], private_y=world.private_y[kept])
    told("training the victim")
    forest = train_victim(world, TREES, seed, lambda *_: None)
    street = DemoServers.laid(folder)
    names = [f"caller-{number}" for number in range(CALLERS)]
    street.write_settings(world.private_x, [*names, "fresh", "pictures"], DEFAULT_PROFILE)
    switch(street, "shadow")
    with street.victim(forest):
        asked = requests_for(sent, names)
        told(f"{requests} requests to the model server, and the same through the gateway in shadow mode")
        direct = ask(street.victim_url, asked, lambda: None)
        with street.gateway():
            passed = ask(street.gateway_url, asked, lambda: None)
        undefended = 1000 * float(np.median([purchase.seconds for purchase in direct]))
        command = ["modeltoll", "calibrate", "modeltoll.yaml", "--from-ledger", "--undefended-ms", f"{undefended:.3f}"]
        told(" ".join(command))
        out = folder / "calibration.json"
        subprocess.run(
            [sys.executable, "-m", *command, "--json", str(out)], cwd=folder, check=True, stdout=subprocess.DEVNULL
        )
        switch(street, "enforce")
        told("prices in force")
        with street.gateway():
            tolls = [refused(street, rows, key) for rows, key in ((fresh, "fresh"), (world.pictures, "pictures"))]
    bills = street.bills()
    calibration = json.loads(out.read_text())
    units = np.array([bill.work.rows_seconds for bill in bills[requests:]]) / calibration["unit_seconds"]
    return {
        "victim_accuracy": float(forest.score(world.test_x, world.test_y)),
        "requests": requests,
        "callers": CALLERS,
        "logged_in_shadow_mode": sum(bill.mode == "shadow" for bill in bills),
        "answers_changed": sum(a.body != b.body for a, b in zip(direct, passed, strict=True)),
        "undefended_ms": undefended,
        "calibration": {
            name: calibration[name]
            for name in ("unit_seconds", "g", "held_back", "mean", "low", "high", "waits", "warnings")
        },
        "tolls": dict(zip(("fresh", "pictures"), tolls, strict=True)),
        "mean_units": {"fresh": float(units[:PRICED].mean()), "pictures": float(units[PRICED:].mean())},
    }


def main():
    """Run it in a temporary folder."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--requests", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        figures = study(Path(folder), datasets.data_folder(given.data_dir), given.requests, given.seed)
    command = f"python benchmarks/shadow_calibration.py --data-dir DIR --requests {given.requests} --seed {given.seed}"
    text = json.dumps({"command": command, **figures}, indent=2) + "\n"
    print(text, end="")
    if given.json:
        given.json.write_text(text)


if __name__ == "__main__":
    main()
