"""The demo as a page: victim and gateway as in the demo, and a page to try them, until somebody ends it."""

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

from modeltoll.demo.data import WORLDS, DataSizes, DemoData
from modeltoll.demo.model_server import MODEL
from modeltoll.demo.run import Stage, requested_lines
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

__all__ = ["WebOptions", "keep_open"]

_ACCOUNTS = 200  # each visit takes two, each race two more, and nobody has met them before
_PATCHES = 200
_GREYS = 16  # of the digits; the page counts in them
_RUNG_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class WebOptions:
    """What may be chosen. ``port`` 0 is any that is free."""

    port: int = 0
    trees: int = 150
    seed: int = 0


def keep_open(options: WebOptions, folder: Path, stage: Stage, ready: Callable[[str], None]) -> None:
    """Run everything in ``folder``, its own, until SIGINT or SIGTERM; ``ready`` hears the page's address.

    Raises:
        SettingsError: the port cannot be had. ModeltollError: a server did not start.
    """
    with listen("--port", f"127.0.0.1:{options.port}") as listening:
        port = listening.getsockname()[1]
        origins = [f"http://{name}:{port}" for name in ("127.0.0.1", "localhost")]
        world = WORLDS["digits"](DataSizes(pictures=_PATCHES, noise=0), None, np.random.default_rng(options.seed))
        street, keys = DemoServers.laid(folder), tuple(f"visitor-{number}" for number in range(_ACCOUNTS))
        with stage("Training the victim") as progress:
            forest = train_victim(world, options.trees, options.seed, progress)
        with stage("Measuring this machine"):
            profile = measure_profile(_RUNG_SECONDS, "this machine", time.perf_counter)
        street.write_settings(world.private_x, keys, profile, origins)
        with street.victim(forest):
            with stage("Calibrating on unseen digits") as progress:
                street.calibrate(world.calibration, requested_lines(options.seed, "modeltoll demo --web"), progress)
            with street.gateway():
                page = playground_application(_playground_config(street, PlaygroundDemo(keys, samples(world))))
                asyncio.run(_serve(page, listening, lambda: ready(f"{origins[0]}/")))


def samples(world: DemoData) -> bytes:
    """Rows to try, as JSON: honest digits in whole numbers of 0..16, photograph patches in 0..1."""
    digits = np.rint(_GREYS * world.honest).astype(int)
    return msgspec.json.encode({"digits": digits.tolist(), "patches": world.pictures.round(4).tolist()})


def _playground_config(street: DemoServers, demo: PlaygroundDemo) -> PlaygroundConfig:
    path = f"/v2/models/{MODEL}"
    return PlaygroundConfig(f"127.0.0.1:{street.gateway_port}", (PlaygroundModel(MODEL, f"{path}/infer", path),), demo)


async def _serve(page: Starlette, listening: socket.socket, ready: Callable[[], None]) -> None:
    """Until a signal says that it is enough."""
    enough, loop = asyncio.Event(), asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, enough.set)
    async with background_server(page, listening):
        ready()
        await enough.wait()
