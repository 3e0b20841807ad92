"""Send rows of an extraction through a real gateway: HTTP, tolls, sealed answers, every puzzle solved on one core."""

from __future__ import annotations

import asyncio
import json
import math
import random
import statistics
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
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
from modeltoll.gateway.public.app import application
from modeltoll.gateway.public.ingress import IngressPolicy
from modeltoll.gateway.server.serve import temporary_server
from modeltoll.gateway.upstream.upstream import NO_HEAD, AnswerStream, RequestHead
from modeltoll.ledger.memory import MemoryLedger
from modeltoll.pricing.conformal_tariff import ConformalTariff
from modeltoll.puzzle.benchmark import measure_profile
from modeltoll.puzzle.counter import Argon2idCounter
from modeltoll.puzzle.registry import PUZZLES
from modeltoll.records import Answer, Caller
from modeltoll.simulation.batch_tariffs import ConformalBatchTariff
from modeltoll.simulation.traffic import Rows, one_account

if TYPE_CHECKING:
    from modeltoll.bench.leak_measures import Measures
    from modeltoll.bench.victims.victim import Victim
    from modeltoll.gateway.public.app import AppComponents
    from modeltoll.ledger.ledger import Ledger
    from modeltoll.pricing.calibration import Calibration
    from modeltoll.pricing.tariff import Tariff
    from modeltoll.records import Floats, Leaks, MachineProfile, Work
    from modeltoll.toll_records import Challenge, Solution

__all__ = ["LIVE_SECONDS", "LiveResult", "LiveRun", "run_live"]

LIVE_SECONDS = 60.0  # the maximum work of all rows of a live run; the unit is reduced to reach it
_MODEL, _OUTPUT, _KEY = "victim", "probabilities", "a-key-for-the-bench"
_PATH = f"/v2/models/{_MODEL}/infer"
_MAX_KIB = 8192  # a puzzle's maximum memory: with more, other processes' use of the memory would be measured
_LADDER = tuple(256 << step for step in range(6))
_RUNG_SECONDS = 0.3
_FREE_ROWS = 50
_NO_WORK = 1e-12  # a unit in seconds with one evaluation per toll, to measure all other costs of a toll
_WARM_UP = 5
_TIMEOUT = 600.0  # seconds; a machine with other work may stall for a while
_MIB = 1 << 20


@dataclass(frozen=True, slots=True, eq=False)
class LiveRun:
    """Images (rows, ...) to send, their recorded leaks, and the victim and calibration of the gateway.

    The leaks are by every priced measure, and by those fitted without kinds that the gateway measures suspects with.
    """

    images: Floats
    leaks: Leaks
    leak_measures: Measures
    victim: Victim
    calibration: Calibration


@dataclass(frozen=True, slots=True)
class LiveResult:
    """The measured and computed processor time of a live run, in seconds of one core, gateway and client together.

    ``computed_seconds`` is the sum of the computed work times ``luck``, the ratio of the evaluations that the drawn
    counters need to the expected ones; the evaluations of making the puzzles; and the time of a row with a toll of almost
    no work. ``wall_seconds`` is elapsed time. ``unit_seconds`` is the reduced unit; ``changed`` counts opened answers that
    differ from the victim's.
    """

    rows: int
    measured_seconds: float
    wall_seconds: float
    computed_seconds: float
    unit_seconds: float
    changed: int
    luck: float


class _RecordingPuzzle(Argon2idCounter):
    """Records the expected work of its puzzles, the drawn work, and the work of making them, in seconds of ``profile``."""

    def __init__(self, profile: MachineProfile) -> None:
        super().__init__(profile, max_memory_kib=_MAX_KIB, ladder=_LADDER)
        self._profile = profile
        self.expected = self.drawn = self.making = 0.0

    def within(self, memory_kib: int) -> _RecordingPuzzle:  # noqa: ARG002  this client has memory for every rung
        """The same object, so that every puzzle is recorded."""
        return self

    def make(self, work: Work, rng: random.Random) -> tuple[Challenge, Solution]:
        """As ``Puzzle.make``."""
        challenge, solution = super().make(work, rng)
        rate = self._profile.rate(challenge.memory_kib)
        self.expected += work.seconds
        self.drawn += sum(counter + 1 for counter in solution.counters) / rate
        self.making += len(challenge.parts) / rate
        return challenge, solution


class _VictimUpstream:
    """The victim as a model server, in this process."""

    def __init__(self, victim: Victim, shape: tuple[int, ...]) -> None:
        self._victim, self._shape = victim, shape

    async def open(self) -> None:
        """Nothing to open."""

    async def close(self) -> None:
        """Nothing to close."""

    async def predict(self, path: str, body: bytes, content_type: str = JSON, head: RequestHead = NO_HEAD) -> Answer:
        """As ``Upstream.predict``; the body alone is used."""
        del path, content_type, head
        tensor = json.loads(body)["inputs"][0]
        scores = self._victim.scores(np.array(tensor["data"], np.float64).reshape(-1, *self._shape))
        output = {"name": _OUTPUT, "shape": list(scores.shape), "datatype": "FP64", "data": scores.ravel().tolist()}
        return Answer(200, JSON, json.dumps({"model_name": _MODEL, "outputs": [output]}).encode())

    @asynccontextmanager
    async def stream(
        self, path: str, body: bytes, content_type: str = JSON, head: RequestHead = NO_HEAD
    ) -> AsyncIterator[AnswerStream]:
        """As ``Upstream.stream``, in one chunk."""
        yield AnswerStream.of(await self.predict(path, body, content_type, head))

    async def fetch(self, path: str, head: RequestHead = NO_HEAD) -> Answer:
        """As ``Upstream.fetch``."""
        return await self.predict(path, b"", head=head)


def _request_body(image: Floats) -> bytes:
    tensor = {"name": "x", "shape": [1, image.size], "datatype": "FP64", "data": image.ravel().tolist()}
    return json.dumps({"inputs": [tensor]}).encode()


def _components(
    live_run: LiveRun, tariff: Tariff, puzzle: _RecordingPuzzle, profile: MachineProfile, ledger: Ledger
) -> AppComponents:
    """The components of a gateway with this tariff."""
    measures = tuple(live_run.leak_measures[name] for name in tariff.measures)
    served_model = ServedModel(ServiceDescription(_MODEL, _OUTPUT, _OUTPUT), OpenInference(), measures)
    upstream = _VictimUpstream(live_run.victim, live_run.images.shape[1:])
    selector = PuzzleSelector((OfferedPuzzle(PUZZLES.find(puzzle.name), puzzle),))
    config = GateConfig(served_model, tariff, selector)
    ingress = IngressPolicy(CallerIdentifier({hash_key(_KEY): Caller("key:thief")}), 64 * _MIB, 8)
    return single_model_components(config, upstream, ledger, system_runtime(profile), ingress)


async def _ask(
    live_run: LiveRun, tariff: Tariff, profile: MachineProfile, images: Floats
) -> tuple[list[float], list[bytes], _RecordingPuzzle]:
    """Query a new gateway image by image and pay every toll: the seconds and the answer of each, and the puzzle."""
    ledger, recorder = MemoryLedger(), _RecordingPuzzle(profile)
    await ledger.open()
    components = _components(live_run, tariff, recorder, profile, ledger)
    purse = Purse(math.inf, profile=profile)
    headers = {"content-type": JSON, "x-api-key": _KEY}
    seconds, answers = [], []
    async with temporary_server(application(components)) as address:
        client = httpx.AsyncClient(base_url=address, timeout=_TIMEOUT, transport=AsyncTollTransport(purse=purse))
        async with client:
            for image in images:
                body = _request_body(image)
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
    return seconds, answers, recorder


def _work(live_run: LiveRun, calibration: Calibration) -> float:
    """The computed reference seconds of all rows, sent by one new caller with a key."""
    toll = ConformalBatchTariff(ConformalTariff(calibration), live_run.leaks.measures)
    traffic = one_account(Rows.of(live_run.leaks))
    return float(toll.charge(traffic, Caller("key:thief"), np.random.default_rng(0)).seconds.sum())


def _changed(live_run: LiveRun, answers: Sequence[bytes]) -> int:
    """The number of answers that differ from the victim's scores."""
    answered = np.array([json.loads(answer)["outputs"][0]["data"] for answer in answers])
    direct = np.concatenate([live_run.victim.scores(live_run.images[row : row + 1]) for row in range(len(answers))])
    return int((answered != direct).any(axis=1).sum())


def _measure_machine() -> MachineProfile:
    return measure_profile(_RUNG_SECONDS, "this machine", time.process_time, _LADDER)


def _slowdown(before: MachineProfile, after: MachineProfile) -> float:
    """By which factor the machine was slower on average than at the start: the mean of 1 and the factor at the end."""
    factor_at_end = statistics.mean(before.argon2id[rung] / after.argon2id[rung] for rung in _LADDER)
    return (1.0 + factor_at_end) / 2.0


def run_live(live_run: LiveRun, measure_machine: Callable[[], MachineProfile] = _measure_machine) -> LiveResult:
    """Send the rows through a gateway with a unit so small that they cost ``LIVE_SECONDS`` or less together.

    ``measure_machine`` returns this machine's profile; it is called before and after the run. Tolls are priced by the
    first profile; computed seconds are corrected by the mean slowdown.

    Raises:
        ModeltollError: the gateway refused a row or did not answer.
    """
    profile = measure_machine()
    unit = live_run.calibration.unit_seconds
    full_work = _work(live_run, live_run.calibration)
    calibration = replace(live_run.calibration, unit_seconds=unit * min(1.0, LIVE_SECONDS / full_work))
    tariff_without_work = ConformalTariff(replace(calibration, unit_seconds=_NO_WORK))
    base_seconds, _, _ = asyncio.run(_ask(live_run, tariff_without_work, profile, live_run.images[:_FREE_ROWS]))
    begin = time.perf_counter()
    seconds, answers, recorder = asyncio.run(_ask(live_run, ConformalTariff(calibration), profile, live_run.images))
    wall = time.perf_counter() - begin
    luck = recorder.drawn / recorder.expected
    work = (_work(live_run, calibration) * luck + recorder.making) * _slowdown(profile, measure_machine())
    computed = len(seconds) * statistics.fmean(base_seconds[_WARM_UP:] or base_seconds) + work
    return LiveResult(
        len(seconds), math.fsum(seconds), wall, computed, calibration.unit_seconds, _changed(live_run, answers), luck
    )
