"""Rows of a theft driven through a real gateway: HTTP, tolls, sealed answers, every puzzle solved on one core."""

from __future__ import annotations

import asyncio
import json
import math
import random
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import httpx
import numpy as np

from modeltoll.client.httpx import AsyncTollTransport
from modeltoll.client.purse import Purse
from modeltoll.errors import ModeltollError
from modeltoll.gateway.assembly.build import single_model_components, system_runtime
from modeltoll.gateway.callers.identify import CallerIdentifier, hash_key
from modeltoll.gateway.core.puzzle_selector import OfferedPuzzle, PuzzleSelector
from modeltoll.gateway.core.request import GateConfig, ServedModel
from modeltoll.gateway.protocols.oip import OpenInference
from modeltoll.gateway.protocols.protocol import JSON, ServiceDescription
from modeltoll.gateway.public.app import IngressPolicy, application
from modeltoll.gateway.server.serve import temporary_server
from modeltoll.ledger.memory import MemoryLedger
from modeltoll.pricing.conformal import ConformalTariff
from modeltoll.puzzle.benchmark import measure_profile
from modeltoll.puzzle.counter import Argon2idCounter
from modeltoll.puzzle.registry import PUZZLES
from modeltoll.records import Answer, Caller
from modeltoll.simulation.batch_tariffs import ConformalBatchTariff
from modeltoll.simulation.traffic import one_account

if TYPE_CHECKING:
    from modeltoll.bench.leak_measures import Measures
    from modeltoll.bench.victims.victim import Victim
    from modeltoll.gateway.public.app import AppComponents
    from modeltoll.ledger.ledger import Ledger
    from modeltoll.pricing.calibration import Calibration
    from modeltoll.pricing.tariff import Tariff
    from modeltoll.records import Challenge, Floats, MachineProfile, Solution, Work

__all__ = ["LIVE_SECONDS", "LiveResult", "LiveRun", "run_live"]

LIVE_SECONDS = 60.0  # of work that all rows of a live run may cost together; the unit is made smaller for it
_MODEL, _OUTPUT, _KEY = "victim", "probabilities", "a-key-for-the-bench"
_PATH = f"/v2/models/{_MODEL}/infer"
_MAX_KIB = 8192  # of a puzzle: on few cores, memory that other work takes, too, would be measured instead
_LADDER = tuple(256 << step for step in range(6))
_RUNG_SECONDS = 0.3
_FREE_ROWS = 50
_NO_WORK = 1e-12  # seconds of a unit: one evaluation a toll, and all that a toll takes beside its work
_WARM_UP = 5
_TIMEOUT = 600.0  # a machine that other work shares may stall for a while
_MIB = 1 << 20


@dataclass(frozen=True, slots=True, eq=False)
class LiveRun:
    """What is driven: images (rows, ...) and their leaks (rows, measures) under ``leak_measures``, as they were recorded."""

    images: Floats
    leaks: Floats
    leak_measures: Measures
    victim: Victim
    calibration: Calibration


@dataclass(frozen=True, slots=True)
class LiveResult:
    """What a live run took, in seconds of one core, gateway and client together: other work on the machine does not count.

    ``computed_seconds``: the work as it was computed, times ``luck``, what the puzzles' hidden counters turned out to ask
    of what was expected of them; the evaluation that making a part takes; and what a row takes with a toll of next to no
    work. ``wall_seconds`` is what a clock on the wall said. ``unit_seconds`` is the unit that was in force; ``changed``
    counts opened answers that are not the victim's.
    """

    rows: int
    measured_seconds: float
    wall_seconds: float
    computed_seconds: float
    unit_seconds: float
    changed: int
    luck: float


class _RecordingPuzzle(Argon2idCounter):
    """Notes what its puzzles were to ask, what they do ask, and what making them takes, in seconds of ``profile``."""

    def __init__(self, profile: MachineProfile) -> None:
        super().__init__(profile, max_memory_kib=_MAX_KIB, ladder=_LADDER)
        self._profile = profile
        self.expected = self.drawn = self.making = 0.0

    def within(self, memory_kib: int) -> _RecordingPuzzle:  # noqa: ARG002  the client here has memory for every rung
        """Itself, so that nothing is missed."""
        return self

    def make(self, work: Work, rng: random.Random) -> tuple[Challenge, Solution]:
        """As ``Puzzle.make``."""
        challenge, solution = super().make(work, rng)
        rate = self._profile.rate(challenge.memory_kib)
        self.expected += work.seconds
        self.drawn += sum(counter + 1 for counter in solution.counters) / rate
        self.making += len(challenge.parts) / rate
        return challenge, solution


class _Upstream:
    """The victim as a model server, in this process."""

    def __init__(self, victim: Victim, shape: tuple[int, ...]) -> None:
        self._victim, self._shape = victim, shape

    async def open(self) -> None:
        """Nothing to open."""

    async def close(self) -> None:
        """Nothing to close."""

    async def predict(self, path: str, body: bytes, content_type: str = JSON) -> Answer:
        """As ``Upstream.predict``; the path and the type are the gate's own."""
        del path, content_type
        tensor = json.loads(body)["inputs"][0]
        scores = self._victim.scores(np.array(tensor["data"], np.float64).reshape(-1, *self._shape))
        output = {"name": _OUTPUT, "shape": list(scores.shape), "datatype": "FP64", "data": scores.ravel().tolist()}
        return Answer(200, JSON, json.dumps({"model_name": _MODEL, "outputs": [output]}).encode())

    async def fetch(self, path: str) -> Answer:
        """As ``Upstream.fetch``."""
        return await self.predict(path, b"")


def _question(image: Floats) -> bytes:
    tensor = {"name": "x", "shape": [1, image.size], "datatype": "FP64", "data": image.ravel().tolist()}
    return json.dumps({"inputs": [tensor]}).encode()


def _components(
    live_run: LiveRun, tariff: Tariff, puzzle: _RecordingPuzzle, profile: MachineProfile, ledger: Ledger
) -> AppComponents:
    """The application of a gateway with this tariff."""
    measures = tuple(live_run.leak_measures[name] for name in tariff.measures)
    served_model = ServedModel(ServiceDescription(_MODEL, _OUTPUT, _OUTPUT), OpenInference(), measures)
    upstream = _Upstream(live_run.victim, live_run.images.shape[1:])
    selector = PuzzleSelector((OfferedPuzzle(PUZZLES.find(puzzle.name), puzzle),))
    config = GateConfig(served_model, tariff, selector)
    ingress = IngressPolicy(CallerIdentifier({hash_key(_KEY): Caller("key:thief")}), 64 * _MIB, 8)
    return single_model_components(config, upstream, ledger, system_runtime(profile), ingress)


async def _ask(
    live_run: LiveRun, tariff: Tariff, profile: MachineProfile, images: Floats
) -> tuple[list[float], list[bytes], _RecordingPuzzle]:
    """Ask a new gateway about one image after another, and pay whatever it costs; the seconds and answer of each."""
    ledger, dealer = MemoryLedger(), _RecordingPuzzle(profile)
    await ledger.open()
    components = _components(live_run, tariff, dealer, profile, ledger)
    purse = Purse(math.inf, profile=profile)
    headers = {"content-type": JSON, "x-api-key": _KEY}
    seconds, answers = [], []
    async with temporary_server(application(components)) as address:
        client = httpx.AsyncClient(base_url=address, timeout=_TIMEOUT, transport=AsyncTollTransport(purse=purse))
        async with client:
            for image in images:
                body = _question(image)
                begin = time.process_time()
                try:
                    response = await client.post(_PATH, content=body, headers=headers)
                except httpx.HTTPError as error:
                    raise ModeltollError(f"the gateway did not answer: {error!r}") from None
                seconds.append(time.process_time() - begin)
                if response.status_code != 200:
                    raise ModeltollError(f"the gateway answered {response.status_code}: {response.text[:300]}")
                answers.append(response.content)
    await ledger.close()
    return seconds, answers, dealer


def _work(live_run: LiveRun, calibration: Calibration) -> float:
    """Reference seconds of all rows, as they are computed for every result: one new caller with a key."""
    toll = ConformalBatchTariff(ConformalTariff(calibration), tuple(live_run.leak_measures))
    return float(toll.charge(one_account(live_run.leaks), Caller("key:thief"), np.random.default_rng(0)).seconds.sum())


def _changed(live_run: LiveRun, answers: Sequence[bytes]) -> int:
    """How many answers are not what the victim says."""
    said = np.array([json.loads(answer)["outputs"][0]["data"] for answer in answers])
    alone_ = np.concatenate([live_run.victim.scores(live_run.images[row : row + 1]) for row in range(len(answers))])
    return int((said != alone_).any(axis=1).sum())


def _measured() -> MachineProfile:
    return measure_profile(_RUNG_SECONDS, "this machine", time.process_time, _LADDER)


def _pace(before: MachineProfile, after: MachineProfile) -> float:
    """How much longer work took than it was priced at: half of what the machine slowed down by from start to end."""
    slower = statistics.mean(before.argon2id[rung] / after.argon2id[rung] for rung in _LADDER)
    return (1.0 + slower) / 2.0


def run_live(live_run: LiveRun, measured: Callable[[], MachineProfile] = _measured) -> LiveResult:
    """Drive the rows through a gateway whose unit is made so small that they cost ``LIVE_SECONDS`` together, or less.

    ``measured`` takes this machine's profile, before and after: tolls are priced by the first, and where other work
    slows the cores down in between, the computed seconds are those of the mean.

    Raises:
        ModeltollError: the gateway refused a row, or did not answer.
    """
    here = measured()
    unit = live_run.calibration.unit_seconds
    whole = _work(live_run, live_run.calibration)
    calibration = replace(live_run.calibration, unit_seconds=unit * min(1.0, LIVE_SECONDS / whole))
    least = ConformalTariff(replace(calibration, unit_seconds=_NO_WORK))
    own, _, _ = asyncio.run(_ask(live_run, least, here, live_run.images[:_FREE_ROWS]))
    begin = time.perf_counter()
    seconds, answers, dealer = asyncio.run(_ask(live_run, ConformalTariff(calibration), here, live_run.images))
    wall = time.perf_counter() - begin
    luck = dealer.drawn / dealer.expected
    work = (_work(live_run, calibration) * luck + dealer.making) * _pace(here, measured())
    computed = len(seconds) * statistics.fmean(own[_WARM_UP:] or own) + work
    return LiveResult(
        len(seconds), math.fsum(seconds), wall, computed, calibration.unit_seconds, _changed(live_run, answers), luck
    )
