"""Measure what honest rows give away and what asking costs, by asking the running model server."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from modeltoll import wire
from modeltoll.errors import CalibrationError, SettingsError
from modeltoll.gateway.assemble import build_chance, build_profile, build_road, build_subject, build_upstream
from modeltoll.gateway.gate import Gate, Visit
from modeltoll.ledger.locate import locate
from modeltoll.pricing.calibration import Calibration, Costs, calibrate
from modeltoll.pricing.conformal import ConformalTariff
from modeltoll.records import Answer, Caller, Leaks

if TYPE_CHECKING:
    from modeltoll.gateway.gate import Subject
    from modeltoll.gateway.settings import Settings
    from modeltoll.gateway.upstream import Upstream
    from modeltoll.pricing.calibration import Provenance, Split, Terms
    from modeltoll.records import Floats

__all__ = ["Observation", "Replay", "Wishes", "calibrate_model", "observe", "price", "read_rows"]

_WARM_UP = 20
_TIMED_VISITS = 200


@dataclass(frozen=True, slots=True, eq=False)
class Observation:
    """What honest rows showed: their leaks, and the seconds that each took, (rows,), one row a request."""

    model: str
    leaks: Leaks
    seconds: Floats
    questions: tuple[bytes, ...] = field(repr=False)
    answers: tuple[Answer, ...] = field(repr=False)

    @property
    def undefended_seconds(self) -> float:
        """The median time of one row without a gateway."""
        return float(np.median(self.seconds))


def read_rows(path: Path) -> Floats:
    """Rows from an .npy file, (rows, dimensions); further dimensions are flattened.

    Raises:
        CalibrationError: no such file, or no table of finite numbers.
    """
    try:
        rows = np.asarray(np.load(path, allow_pickle=False), np.float64)
    except (OSError, ValueError, EOFError) as error:
        raise CalibrationError(f"{path} cannot be read as an array of numbers: {error}") from None
    if rows.ndim < 2 or not rows.size or not np.isfinite(rows).all():
        raise CalibrationError(f"{path} does not hold one row of finite numbers per input")
    return rows.reshape(len(rows), -1)


async def observe(
    subject: Subject, upstream: Upstream, inputs: Floats, progress: Callable[[int, int], None] | None = None
) -> Observation:
    """Ask the model server for honest rows, (rows, dimensions), one at a time.

    Raises:
        UpstreamError, AnswerError: the model server does not answer, or not as its settings say.
        CalibrationError: it refused a row.
    """
    model, path = subject.service.model, subject.infer_path
    metadata = (await upstream.fetch(subject.metadata_path)).body
    questions = [subject.protocol.ask(row[None], metadata, subject.service) for row in inputs]
    for question in questions[:_WARM_UP]:
        await upstream.predict(path, question)
    answers, seconds, leaks = [], [], []
    for done, question in enumerate(questions, start=1):
        begin = time.perf_counter()
        answer = await upstream.predict(path, question)
        seconds.append(time.perf_counter() - begin)
        if answer.status != 200:
            said = subject.protocol.complaint(answer)
            raise CalibrationError(f"the model server refused row {done} with status {answer.status}: {said}")
        read = subject.protocol.read(question, subject.service)
        leaks.append(subject.leaks(read, answer))
        answers.append(answer)
        if progress is not None:
            progress(done, len(questions))
    values = np.vstack([leak.values for leak in leaks])
    return Observation(model, Leaks(leaks[0].measures, values), np.array(seconds), tuple(questions), tuple(answers))


class Replay:
    """An upstream that answers at once what it is told, so that only the gate's own time is measured."""

    def __init__(self, observation: Observation) -> None:
        self._answers = dict(zip(observation.questions, observation.answers, strict=True))

    async def open(self) -> None:
        """Nothing to open."""

    async def close(self) -> None:
        """Nothing to close."""

    async def predict(self, path: str, body: bytes) -> Answer:
        del path
        return self._answers[body]

    async def fetch(self, path: str) -> Answer:
        raise CalibrationError(f"nothing was recorded for {path}")


async def _gate_seconds(observation: Observation, gate: Gate) -> float:
    """A gate's own median time for one row: measuring, pricing, charging, making and sealing."""
    caller, path = Caller("key:calibration"), gate.road.subject.infer_path
    seconds = []
    for question in observation.questions[:_TIMED_VISITS]:
        begin = time.perf_counter()
        await gate.visit(Visit(caller, path, question, wire.Accept()))
        seconds.append(time.perf_counter() - begin)
    return statistics.median(seconds)


@dataclass(frozen=True, slots=True)
class Wishes:
    """What the operator asks of a tariff; ``costs`` without the times, which are measured."""

    terms: Terms
    costs: Costs
    split: Split
    provenance: Provenance


async def price(observation: Observation, wishes: Wishes, gate_with: Callable[[ConformalTariff], Gate]) -> Calibration:
    """A calibration whose unit leaves room for the gate's own time, measured on a gate that has that tariff.

    Raises:
        CalibrationError: the rows cannot carry a tariff.
    """

    def fitted(own: float) -> Calibration:
        costs = replace(wishes.costs, undefended_seconds=observation.undefended_seconds, gate_seconds=own)
        return calibrate(observation.model, observation.leaks, costs, wishes.terms, wishes.provenance, wishes.split)

    gate = gate_with(ConformalTariff(fitted(0.0)))
    return fitted(await _gate_seconds(observation, gate))


async def calibrate_model(
    settings: Settings, model: str, inputs: Floats, wishes: Wishes, progress: Callable[[int, int], None] | None = None
) -> Calibration:
    """Ask a running model server for honest rows, (rows, dimensions), that it was not trained on, and fit a tariff.

    Raises:
        SettingsError: the model, its measures or its files are not as they should be.
        UpstreamError, AnswerError: the model server does not answer, or not as its settings say.
        CalibrationError: the rows cannot carry a tariff.
    """
    if model not in settings.models:
        raise SettingsError([f"models: there is no {model!r}; there are: {', '.join(settings.models)}"])
    subject, upstream, ledger = build_subject(settings, model), build_upstream(settings), locate("memory://")
    profile = build_profile(settings)
    await upstream.open()
    try:
        observation = await observe(subject, upstream, inputs, progress)
    finally:
        await upstream.close()
    await ledger.open()
    chance = build_chance(settings, profile)
    return await price(
        observation,
        wishes,
        lambda tariff: Gate(build_road(settings, subject, tariff, profile), Replay(observation), ledger, chance),
    )
