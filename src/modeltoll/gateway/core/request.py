"""The records of a gate: what it is built from, the request that comes in and the result that goes out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np

from modeltoll.errors import AnswerError
from modeltoll.gateway.protocols.protocol import JSON
from modeltoll.records import Leaks

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

    from modeltoll import wire
    from modeltoll.gateway.core.admission import AdmissionControl, AdmissionTicket
    from modeltoll.gateway.core.drift_monitor import DriftMonitor
    from modeltoll.gateway.core.early_measurement import EarlyLeaks
    from modeltoll.gateway.core.puzzle_selector import PuzzleSelector
    from modeltoll.gateway.protocols.protocol import ParsedRequest, ServiceDescription, ServingProtocol
    from modeltoll.leak.measure import LeakMeasure
    from modeltoll.pricing.tariff import Tariff
    from modeltoll.puzzle.seal import KeyRing
    from modeltoll.records import Answer, Caller, MachineProfile, Toll, Work

__all__ = [
    "ENFORCE",
    "ENTRY",
    "EXEMPT",
    "FREE",
    "SHADOW",
    "GateConfig",
    "GateRequest",
    "GateResult",
    "GateRuntime",
    "ServedModel",
]

ENFORCE, SHADOW = "enforce", "shadow"
EXEMPT, FREE, ENTRY = "exempt", "free", "entry"
_NOTHING: EarlyLeaks = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class GateRuntime:
    """Time, chance and keys. ``clock`` gives seconds since the epoch."""

    clock: Callable[[], float]
    rng: random.Random
    generator: np.random.Generator
    ring: KeyRing
    profile: MachineProfile


@dataclass(frozen=True, slots=True)
class ServedModel:
    """One model: how it is asked, and how its answers are measured."""

    service: ServiceDescription
    protocol: ServingProtocol
    measures: Sequence[LeakMeasure]

    @property
    def infer_path(self) -> str:
        """Where the model server is asked for it."""
        return self.protocol.routes.infer[0].format(model=self.service.model)

    @property
    def metadata_path(self) -> str | None:
        """Where it describes itself, if anywhere."""
        metadata = self.protocol.routes.metadata
        return None if metadata is None else metadata.format(model=self.service.model)

    @property
    def ready_path(self) -> str:
        """Where the model server is asked whether it can answer."""
        return self.protocol.routes.ready.format(model=self.service.model)

    def leaks(self, question: ParsedRequest, answer: Answer, foreseen: EarlyLeaks = _NOTHING) -> Leaks:
        """The leaks of each row under each measure, in the measures' order; those that were foreseen are taken as such.

        Raises:
            AnswerError, RequestError: they cannot be measured; nothing of the answer may be shown.
        """
        evidence = self.protocol.evidence(question, answer, self.service)
        values = np.empty((evidence.rows, len(self.measures)))
        for column, measure in enumerate(self.measures):
            leaks = foreseen[measure.name] if measure.name in foreseen else measure.measure(evidence)
            if leaks.shape != (evidence.rows,):
                raise AnswerError("the answer cannot be measured", private=f"{measure.name} gave {leaks.shape}")
            values[:, column] = leaks
        return Leaks(tuple(measure.name for measure in self.measures), values)


@dataclass(frozen=True, slots=True)
class GateConfig:
    """All that one model's requests meet on their way. ``mode`` is ``enforce`` or ``shadow``.

    ``without_ledger`` says what happens while the ledger does not answer: False refuses (503), True goes on at the
    row price, without what the ledger knows of the caller. ``monitor`` is told of every visit. ``entrance`` says who
    solves a small puzzle before the model server is asked.
    """

    subject: ServedModel
    tariff: Tariff
    menu: PuzzleSelector
    mode: str = ENFORCE
    without_ledger: bool = False
    monitor: DriftMonitor | None = None
    entrance: AdmissionControl | None = None

    @property
    def tariff_in_force(self) -> Tariff:
        """The tariff for the next request: its g may be chosen by the monitor."""
        return self.tariff if self.monitor is None else self.monitor.in_force(self.tariff)


@dataclass(frozen=True, slots=True)
class GateRequest:
    """One request at the gate: who sends it, to which upstream path, and what the client can do.

    ``content_type`` is one of ``wire.with_binary_length``; ``ticket`` is what he redeemed to come here, where an entry puzzle was
    asked of him.
    """

    caller: Caller
    path: str
    body: bytes
    accept: wire.Accept
    content_type: str = JSON
    ticket: AdmissionTicket | None = None


@dataclass(frozen=True, slots=True)
class GateResult:
    """How a visit ended: with the answer as it came, or with a toll, for it or for the entry; never with both.

    ``mode`` says how it was settled, as in the ledger's log. ``remembered`` is False where the ledger did not answer.
    """

    work: Work
    mode: str
    answer: Answer | None
    toll: Toll | None
    remembered: bool = True
