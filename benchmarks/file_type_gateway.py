"""A gateway before the model of file types: its settings, its log of a time in shadow mode, and its calibrations."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import msgspec
import numpy as np
import yaml
from gateway_fixtures import running

from modeltoll.demo.model_server import INPUT, MODEL, OUTPUT
from modeltoll.demo.processes import free_port, serving
from modeltoll.gateway.callers.identify import hash_key
from modeltoll.gateway.settings.load import load_settings
from modeltoll.gateway.setup.calibrate import sample_leaks
from modeltoll.gateway.setup.honest_rows import RowsToSend
from modeltoll.ledger.from_url import open_ledger
from modeltoll.pricing.calibration_file import load_calibration
from modeltoll.records import Caller

SERVER = Path(__file__).with_name("file_type_model.py")
PATH = f"/v2/models/{MODEL}/infer"
BATCH, TIMED = 20, 200


def key_of(caller):
    """The API key of a caller, and the key's name."""
    return re.sub(r"\W+", "-", caller).strip("-")


@dataclass
class FileTypeGateway:
    """The servers of one run, in a folder of its own."""

    folder: Path
    width: int
    ports: list[int] = field(default_factory=lambda: [free_port() for _ in range(3)])

    @property
    def settings(self):
        return self.folder / "modeltoll.yaml"

    def fit_novelty(self, rows, labels):
        """Fit the measure ``novelty`` to private files, with the command; returns what it says."""
        np.save(self.folder / "private.npy", rows)
        np.save(self.folder / "labels.npy", labels)
        command = ["fit-novelty", "private.npy", "labels.npy", "--codes", "-o", "novelty.npz"]
        return self._modeltoll([*command, "--json", "novelty.json"], "novelty.json")[1]

    def write_settings(self, callers):
        """A gateway in shadow mode without a tariff; ``callers``: names."""
        model = {
            "mode": "shadow",
            "tariff": "tariff.json",
            "inputs": [{"name": INPUT, "width": self.width, "datatype": "FP64"}],
            "output": {"name": OUTPUT, "kind": "probabilities"},
            "measures": [{"name": "entropy"}, {"name": "novelty", "file": "novelty.npz", "weight": 2}],
        }
        victim, public, admin = self.ports
        document = {
            "listen": f"127.0.0.1:{public}",
            "admin": f"127.0.0.1:{admin}",
            "upstream": {"url": f"http://127.0.0.1:{victim}"},
            "ledger": {"url": f"sqlite:///{self.folder / 'ledger.db'}"},
            "callers": {
                "anonymous": False,
                "keys": [{"name": key, "sha256": hash_key(key)} for key in map(key_of, callers)],
            },
            "models": {MODEL: model},
        }
        self.settings.write_text(yaml.safe_dump(document, sort_keys=False))

    @contextmanager
    def model_server(self):
        """Run the model server."""
        with running([sys.executable, SERVER, str(self.ports[0])], f"http://127.0.0.1:{self.ports[0]}/v2/health/ready"):
            yield

    def undefended_ms(self, rows):
        """Median milliseconds of one row at the model server."""
        times = []
        with httpx.Client(base_url=f"http://127.0.0.1:{self.ports[0]}", timeout=60.0) as client:
            for row in rows[:TIMED]:
                body, begin = _body(row[None]), time.perf_counter()
                client.post(PATH, content=body).raise_for_status()
                times.append(time.perf_counter() - begin)
        return 1000 * float(np.median(times))

    def log_in_shadow_mode(self, rows_by_caller, report):
        """Send the rows of each caller through the gateway in shadow mode, in requests of ``BATCH`` rows, in turn."""
        ready = f"http://127.0.0.1:{self.ports[2]}/readyz"
        asked = [
            (caller, rows[start : start + BATCH])
            for start in range(0, max(map(len, rows_by_caller.values())), BATCH)
            for caller, rows in rows_by_caller.items()
        ]
        with (
            serving(["modeltoll", "serve", str(self.settings)], ready, self.folder / "gateway.log"),
            httpx.Client(base_url=f"http://127.0.0.1:{self.ports[1]}", timeout=60.0) as client,
        ):
            for done, (caller, rows) in enumerate(asked):
                if len(rows):
                    headers = {"content-type": "application/json", "x-api-key": key_of(caller)}
                    client.post(PATH, content=_body(rows), headers=headers).raise_for_status()
                if done % 60 == 0:
                    report(f"  {done} of {len(asked)} requests")

    def pseudonyms(self, callers):
        """The names of callers in the ledger's log."""

        async def found():
            async with open_ledger(load_settings(self.settings).ledger.url, create=False) as ledger:
                return {name: ledger.logged_as(Caller(f"key:{key_of(name)}")) for name in callers}

        return asyncio.run(found())

    def calibrate(self, name, *options):
        """``modeltoll calibrate --from-ledger``; returns the calibration, None if it failed, and what it says."""
        tariff = self.folder / f"{name}.tariff.json"
        command = ["calibrate", "modeltoll.yaml", "--from-ledger", *options, "--out", str(tariff)]
        errors, found = self._modeltoll([*command, "--json", f"{name}.json"], f"{name}.json", fails=True)
        calibration = load_calibration(tariff) if tariff.exists() else None
        del found["tariff"]  # a path of this run
        warnings = [line for line in errors if line.startswith("warning:")]
        return calibration, {"options": list(options), "warnings": warnings, **found}

    def _modeltoll(self, command, result, *, fails=False):
        done = subprocess.run(
            [sys.executable, "-m", "modeltoll", *command], cwd=self.folder, capture_output=True, text=True, check=False
        )
        if not (self.folder / result).exists() or (done.returncode and not fails):
            raise SystemExit(f"modeltoll {command[0]} failed: {done.stderr}")
        return done.stderr.strip().splitlines(), json.loads((self.folder / result).read_text())

    def leaks(self, rows_by_name, report):
        """The leaks of rows, by name, as the gateway measures the model server's answers to them."""
        wanted = [RowsToSend.of(name, rows.astype(np.float64)) for name, rows in rows_by_name.items()]

        def progress(done, total):
            if done % 1000 == 0:
                report(f"  {done} of {total} rows")

        measured = asyncio.run(sample_leaks(load_settings(self.settings), MODEL, wanted, progress))
        return dict(zip(rows_by_name, measured, strict=True))


def _body(rows):
    tensor = {"name": INPUT, "shape": list(rows.shape), "datatype": "FP64", "data": rows.ravel().tolist()}
    return msgspec.json.encode({"inputs": [tensor]})
