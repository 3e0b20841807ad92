"""Calibrate a tariff from the log of a gateway in shadow mode, then enforce it.

    python benchmarks/shadow_calibration.py --data-dir DIR [--requests 2000] [--json results/pricing/shadow-mnist.json]

A random forest on MNIST runs as an Open Inference server in its own process, behind ``modeltoll serve`` in shadow mode
without a tariff. Twenty callers send unseen digits, one per request; every answer must equal the model server's byte
for byte. Then ``modeltoll calibrate --from-ledger`` makes the tariff, the gateway restarts in enforce mode, and it
prices further unseen digits and Tiny-ImageNet pictures; no toll is solved.
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
from modeltoll.demo.data import DATA_LOADERS, DataSizes
from modeltoll.demo.http_callers import ask_directly, requests_for
from modeltoll.demo.model_server import MODEL
from modeltoll.demo.servers import DemoServers, train_victim
from modeltoll.puzzle.machine_profile import DEFAULT_PROFILE

CALLERS, TREES, PRICED = 20, 60, 300
PRIVATE = 20_000


def report(what):
    """Print a step on standard error."""
    print(what, file=sys.stderr, flush=True)


def switch(servers, mode):
    """Change the mode in the settings."""
    document = yaml.safe_load(servers.settings.read_text())
    document["models"][MODEL]["mode"] = mode
    servers.settings.write_text(yaml.safe_dump(document, sort_keys=False))


def refused(servers, rows, key):
    """Send rows in enforce mode without paying; returns the number of tolls."""
    tolls = 0
    with httpx.Client(base_url=servers.gateway_url, timeout=60.0) as client:
        for question in requests_for(rows, [key]):
            headers = {"content-type": "application/json", "x-api-key": question.key}
            tolls += client.post(f"/v2/models/{MODEL}/infer", content=question.body, headers=headers).status_code == 402
    return tolls


def study(folder, data_dir, requests, seed):
    """Run all steps; returns the figures."""
    rng = np.random.default_rng(seed)
    data = DATA_LOADERS["mnist"](DataSizes(pictures=PRICED), data_dir, rng)
    unseen = datasets.mnist(data_dir, train=False).x
    unseen = unseen.reshape(len(unseen), -1)[rng.permutation(len(unseen))]
    sent, fresh = unseen[:requests], unseen[requests : requests + PRICED]
    kept = rng.permutation(len(data.private_x))[:PRIVATE]
    data = replace(data, private_x=data.private_x[kept], private_y=data.private_y[kept])
    report("training the victim")
    forest = train_victim(data, TREES, seed, lambda *_: None)
    servers = DemoServers.on_free_ports(folder)
    names = [f"caller-{number}" for number in range(CALLERS)]
    servers.write_settings(data, [*names, "fresh", "pictures"], DEFAULT_PROFILE)
    switch(servers, "shadow")
    with servers.victim(forest):
        asked = requests_for(sent, names)
        report(f"{requests} requests to the model server, and the same through the gateway in shadow mode")
        direct = ask_directly(servers.victim_url, asked, lambda: None)
        with servers.gateway():
            passed = ask_directly(servers.gateway_url, asked, lambda: None)
        undefended = 1000 * float(np.median([purchase.seconds for purchase in direct]))
        command = ["modeltoll", "calibrate", "modeltoll.yaml", "--from-ledger", "--undefended-ms", f"{undefended:.3f}"]
        report(" ".join(command))
        out = folder / "calibration.json"
        subprocess.run(
            [sys.executable, "-m", *command, "--json", str(out)], cwd=folder, check=True, stdout=subprocess.DEVNULL
        )
        switch(servers, "enforce")
        report("prices in force")
        with servers.gateway():
            tolls = [refused(servers, rows, key) for rows, key in ((fresh, "fresh"), (data.pictures, "pictures"))]
    entries = servers.log_entries()
    calibration = json.loads(out.read_text())
    units = np.array([entry.work.rows_seconds for entry in entries[requests:]]) / calibration["unit_seconds"]
    return {
        "victim_accuracy": float(forest.score(data.test_x, data.test_y)),
        "requests": requests,
        "callers": CALLERS,
        "logged_in_shadow_mode": sum(entry.mode == "shadow" for entry in entries),
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
    """Run the study in a temporary folder."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--requests", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        figures = study(Path(folder), datasets.data_folder(arguments.data_dir), arguments.requests, arguments.seed)
    command = f"python benchmarks/shadow_calibration.py --data-dir DIR --requests {arguments.requests} --seed {arguments.seed}"
    text = json.dumps({"command": command, **figures}, indent=2) + "\n"
    print(text, end="")
    if arguments.json:
        arguments.json.write_text(text)


if __name__ == "__main__":
    main()
