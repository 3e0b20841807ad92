"""The servers of the demo, each in its own process: the model server, and the gateway in front of it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import joblib
import yaml
from sklearn.ensemble import RandomForestClassifier

from modeltoll.demo.data import KIND
from modeltoll.demo.model_server import INPUT, MODEL, OUTPUT
from modeltoll.demo.processes import free_port, serving
from modeltoll.gateway.callers.identify import hash_key
from modeltoll.gateway.settings.load import load_settings
from modeltoll.gateway.setup.calibrate import CalibrationRequest, calibrate_model
from modeltoll.gateway.setup.honest_rows import CalibrationInputs, RowsToSend
from modeltoll.leak.novelty import NoveltyMeasure
from modeltoll.ledger.from_url import open_ledger
from modeltoll.pricing.calibration_file import save_calibration
from modeltoll.puzzle.machine_profile import save_profile

if TYPE_CHECKING:
    from modeltoll.demo.data import DemoData
    from modeltoll.pricing.calibration import Calibration
    from modeltoll.records import LogEntry, MachineProfile, Progress

__all__ = ["DemoServers", "train_victim"]


_BATCH_OF_TREES = 10
_CREDIT_SECONDS = 1e6
_POINTS = 5_000  # of the novelty measure, half of them of the declared kind
_MEMORY_MIB = 1  # far below the default: the demo makes thousands of tolls that are not solved, on as few as two cores
_PAGE_MEMORY_MIB = 8  # of the page's tolls, which browsers solve, also on phones


def train_victim(data: DemoData, trees: int, seed: int, progress: Progress) -> RandomForestClassifier:
    """A random forest trained on the private rows. It predicts on one core, as a server under load does."""
    forest = RandomForestClassifier(n_estimators=0, warm_start=True, n_jobs=-1, random_state=seed)
    while forest.n_estimators < trees:
        forest.set_params(n_estimators=min(trees, forest.n_estimators + _BATCH_OF_TREES))
        forest.fit(data.private_x, data.private_y)
        progress(forest.n_estimators, trees)
    return forest.set_params(n_jobs=1)


@dataclass(frozen=True, slots=True)
class DemoServers:
    """The files and addresses of one run; ``folder`` is used by this run only."""

    folder: Path
    victim_port: int
    gateway_port: int
    admin_port: int

    @classmethod
    def on_free_ports(cls, folder: Path) -> DemoServers:
        """Servers on ports that are free at the moment."""
        return cls(folder, free_port(), free_port(), free_port())

    @property
    def victim_url(self) -> str:
        """The model server's URL."""
        return f"http://127.0.0.1:{self.victim_port}"

    @property
    def gateway_url(self) -> str:
        """The gateway's URL."""
        return f"http://127.0.0.1:{self.gateway_port}"

    @property
    def ledger_url(self) -> str:
        """The gateway's ledger, an SQLite file."""
        return f"sqlite:///{self.folder / 'ledger.db'}"

    @property
    def settings(self) -> Path:
        """The path of the gateway's settings."""
        return self.folder / "modeltoll.yaml"

    @contextmanager
    def victim(self, forest: RandomForestClassifier) -> Iterator[None]:
        """Run the model server."""
        model = self.folder / "victim.joblib"
        joblib.dump(forest, model)
        ready = f"{self.victim_url}/v2/health/ready"
        command = ["modeltoll.demo.model_server", str(model), str(self.victim_port)]
        with serving(command, ready, self.folder / "victim.log"):
            yield

    def write_settings(
        self, data: DemoData, keys: Sequence[str], profile: MachineProfile, origins: Sequence[str] = ()
    ) -> None:
        """Write the gateway's settings: entropy, and novelty among private rows and such of the declared kind; keys; SQLite.

        With ``origins`` (of pages), tolls disclose their exact cost and use the default memory. The credit is so large that
        the demo's thieves see the price of every row and work for a few only; elsewhere they would have to work for all.
        """
        memory = _PAGE_MEMORY_MIB if origins else _MEMORY_MIB
        private = data.private_x
        novelty = NoveltyMeasure(private, kinds={KIND: data.of_kind(private)}, max_points=_POINTS)
        novelty.save(self.folder / "novelty.npz")
        save_profile(profile, self.folder / "machine.json")
        model: dict[str, Any] = {
            "tariff": "tariff.json",
            "inputs": [{"name": INPUT, "width": private.shape[1], "datatype": "FP64"}],
            "output": {"name": OUTPUT, "kind": "probabilities"},
            "measures": [{"name": "entropy"}, {"name": "novelty", "file": "novelty.npz"}],
            "puzzle": {
                "max_memory_mib": memory,
                "suspected_memory_mib": memory,
                "disclose": "exact" if origins else "coarse",
            },
        }
        document = {
            "listen": f"127.0.0.1:{self.gateway_port}",
            "admin": f"127.0.0.1:{self.admin_port}",
            "upstream": {"url": self.victim_url},
            "ledger": {"url": self.ledger_url},
            "profile": "machine.json",
            "callers": {
                "anonymous": False,
                "credit": {"seconds": _CREDIT_SECONDS},
                "keys": [{"name": key, "sha256": hash_key(key)} for key in keys],
            },
            "models": {MODEL: model},
            "cors": {"origins": list(origins)},
        }
        self.settings.write_text(yaml.safe_dump(document, sort_keys=False))

    def calibrate(self, data: DemoData, of_kind: int, request: CalibrationRequest, progress: Progress) -> Calibration:
        """Calibrate on the running victim's answers, and save the tariff.

        It is asked for the calibration rows, for ``of_kind`` of them as the declared kind has them, and for known pictures.
        """
        settings = load_settings(self.settings)
        kind = RowsToSend.of(KIND, data.of_kind(data.calibration[:of_kind]))
        strangers = (RowsToSend.of(data.kind, data.known),) if len(data.known) else ()
        inputs = CalibrationInputs(data.calibration, (kind,), strangers)
        calibration = asyncio.run(calibrate_model(settings, MODEL, inputs, request, progress))
        save_calibration(calibration, settings.models[MODEL].tariff)
        return calibration

    def log_entries(self) -> list[LogEntry]:
        """The gateway's log entries in order."""
        return asyncio.run(_log(self.ledger_url))

    @contextmanager
    def gateway(self) -> Iterator[None]:
        """Run the gateway."""
        ready = f"http://127.0.0.1:{self.admin_port}/readyz"
        with serving(["modeltoll", "serve", str(self.settings)], ready, self.folder / "gateway.log"):
            yield


async def _log(url: str) -> list[LogEntry]:
    log_entries: list[LogEntry] = []
    last = 0
    async with open_ledger(url, create=False) as ledger:
        while page := await ledger.log(last, 1000):
            log_entries += [entry for _, _, entry in page]
            last = page[-1][0]
    return log_entries
