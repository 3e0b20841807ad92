"""The demo as a page: the demo's victim and gateway with a playground page, until it is interrupted."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from modeltoll.demo.data import DATA_LOADERS, DataSizes, DemoData
from modeltoll.demo.model_server import MODEL
from modeltoll.demo.run import Stage, calibration_request
from modeltoll.demo.servers import DemoServers, train_victim
from modeltoll.gateway.admin.playground.app import (
    PlaygroundConfig,
    PlaygroundDemo,
    PlaygroundModel,
    playground_application,
)
from modeltoll.gateway.server.serve import background_server, listen
from modeltoll.puzzle.benchmark import measure_profile

if TYPE_CHECKING:
    import socket

    from starlette.applications import Starlette

__all__ = ["WebOptions", "serve_page"]

_ACCOUNTS = 200  # each page load uses two new ones, each run of the thief demo two more
_PATCHES = 200
_GREYS = 16  # grey levels of the digits, in which the page counts
_RUNG_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class WebOptions:
    """The page's options. ``port`` 0: any free port."""

    port: int = 0
    trees: int = 150
    seed: int = 0


def serve_page(options: WebOptions, folder: Path, stage: Stage, ready: Callable[[str], None]) -> None:
    """Run all servers and the page until SIGINT or SIGTERM; ``ready`` is called with the page's URL.

    ``folder`` is used by this run only.

    Raises:
        SettingsError: the port is not available. ModeltollError: a server did not start.
    """
    with listen("--port", f"127.0.0.1:{options.port}") as listener:
        port = listener.getsockname()[1]
        origins = [f"http://{name}:{port}" for name in ("127.0.0.1", "localhost")]
        sizes = DataSizes(pictures=_PATCHES, noise=0)
        data = DATA_LOADERS["digits"](sizes, None, np.random.default_rng(options.seed))
        servers, keys = DemoServers.on_free_ports(folder), tuple(f"visitor-{number}" for number in range(_ACCOUNTS))
        with stage("Training the victim") as progress:
            forest = train_victim(data, options.trees, options.seed, progress)
        with stage("Measuring this machine"):
            profile = measure_profile(_RUNG_SECONDS, "this machine", time.perf_counter)
        servers.write_settings(data, keys, profile, origins)
        with servers.victim(forest):
            with stage("Calibrating on unseen digits") as progress:
                request = calibration_request(options.seed, "modeltoll demo --web")
                servers.calibrate(data, sizes.of_kind, request, progress)
            with servers.gateway():
                page = playground_application(_playground_config(servers, PlaygroundDemo(keys, samples(data))))
                asyncio.run(_serve(page, listener, lambda: ready(f"{origins[0]}/")))


def samples(data: DemoData) -> bytes:
    """Sample rows as JSON: honest digits as integers 0..16, photograph patches in 0..1."""
    digits = np.rint(_GREYS * data.honest).astype(int)
    return msgspec.json.encode({"digits": digits.tolist(), "patches": data.pictures.round(4).tolist()})


def _playground_config(servers: DemoServers, demo: PlaygroundDemo) -> PlaygroundConfig:
    path = f"/v2/models/{MODEL}"
    return PlaygroundConfig(f"127.0.0.1:{servers.gateway_port}", (PlaygroundModel(MODEL, f"{path}/infer", path),), demo)


async def _serve(page: Starlette, listener: socket.socket, ready: Callable[[], None]) -> None:
    """Serve the page until a signal arrives."""
    stop, loop = asyncio.Event(), asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    async with background_server(page, listener):
        ready()
        await stop.wait()
