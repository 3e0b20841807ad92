"""Runs `modeltoll serve` in front of a server of OpenAI chat completions: ``python gateway.py API-KEY [ORIGIN]``.

Pages of the origin may call it. Prints the gateway's address and that of the server, and ends when standard input ends.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import numpy as np
import yaml

from modeltoll.demo import processes
from modeltoll.gateway.callers.identify import hash_key
from modeltoll.pricing.calibration_file import save_calibration
from modeltoll.pricing.fit import RowCosts, fit_calibration
from modeltoll.records import Leaks
from modeltoll.testing.chat_server import chat_server
from modeltoll.testing.model_servers import serving

MODEL, UNIT_SECONDS = "chat", 0.02


def write_settings(folder: Path, upstream: str, key: str, origins: list[str]) -> tuple[Path, int, int]:
    """Write settings and a tariff; ``origins`` are those whose pages may call the gateway. Returns the settings' path, the gateway's port and its admin port."""
    leaks = Leaks(("tokens",), 20 * np.random.default_rng(0).random((400, 1)))
    costs = RowCosts(undefended_seconds=UNIT_SECONDS, unit_seconds=UNIT_SECONDS)
    save_calibration(fit_calibration(MODEL, leaks, costs), folder / "tariff.json")
    port, admin = processes.free_port(), processes.free_port()
    model = {"protocol": "openai-chat", "output": {"kind": "tokens"}, "measures": [{"name": "tokens"}]}
    document = {
        "listen": f"127.0.0.1:{port}",
        "admin": f"127.0.0.1:{admin}",
        "upstream": {"url": upstream},
        "callers": {"keys": [{"name": "sdk", "sha256": hash_key(key)}], "anonymous": False},
        "cors": {"origins": origins},
        "models": {MODEL: {"tariff": "tariff.json", **model}},
    }
    path = folder / "modeltoll.yaml"
    path.write_text(yaml.safe_dump(document))
    return path, port, admin


def main() -> None:
    """Serve until standard input ends."""
    with tempfile.TemporaryDirectory() as name, serving(chat_server(0.001)) as url:
        folder = Path(name)
        settings, port, admin = write_settings(folder, url, sys.argv[1], sys.argv[2:])
        with processes.serving(
            ["modeltoll", "serve", str(settings)], f"http://127.0.0.1:{admin}/livez", folder / "serve.log"
        ):
            print(f"http://127.0.0.1:{port}\n{url}", flush=True)
            sys.stdin.read()


main()
