"""The records of a gate: its configuration, the request that comes in and the result that goes out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np

from modeltoll import wire
from modeltoll.errors import AnswerError
from modeltoll.evidence_records import EvidenceState
from modeltoll.gateway.core.credit import DEFAULT_CREDIT, CreditTerms
from modeltoll.gateway.core.padding import MOST_BYTES
from modeltoll.gateway.core.refused_answers import DEFAULT_REFUSALS
from modeltoll.gateway.protocols.protocol import JSON
from modeltoll.gateway.upstream.upstream import NO_HEAD
from modeltoll.leak.measure import check_readable, clean_measure
from modeltoll.names import EMBEDDINGS
from modeltoll.record_init import quick_init
from modeltoll.records import Account, Leaks

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

    from modeltoll.gateway.core.drift_monitor import DriftMonitor
    from modeltoll.gateway.core.early_measurement import EarlyLeaks
    from modeltoll.gateway.core.puzzle_selector import PuzzleSelector
    from modeltoll.gateway.core.refused_answers import RefusalTerms
    from modeltoll.gateway.core.suspect_monitor import SuspectMonitor
    from modeltoll.gateway.protocols.protocol import ParsedRequest, ServiceDescription, ServingProtocol
    from modeltoll.gateway.upstream.upstream import RequestHead
    from modeltoll.leak.measure import LeakMeasure
    from modeltoll.pricing.tariff import Tariff
    from modeltoll.puzzle.seal import KeyRing
    from modeltoll.records import Answer, Caller, Charge, Evidence, Integers, MachineProfile, Work
    from modeltoll.settlement_records import Receipt
    from modeltoll.toll_records import Toll

__all__ = [
    "ADMISSION",
    "ENFORCE",
    "EXEMPT",
    "FREE",
    "PREPAID",
    "SHADOW",
    "GateConfig",
    "GateRequest",
    "GateResult",
    "GateRuntime",
    "ServedModel",
    "side_by_side",
    "unknown_account",
]

ENFORCE, SHADOW = "enforce", "shadow"
EXEMPT, FREE, PREPAID, ADMISSION = "exempt", "free", "prepaid", "admission"
_NOT_MEASURED = "the answer cannot be measured"
_REAL = "biuf"  # kinds of numpy types that hold real numbers
_NO_EARLY_LEAKS: EarlyLeaks = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class GateRuntime:
    """Time, randomness, keys and sizes.

    ``clock`` gives seconds since the epoch; ``profile`` defines the reference second; ``max_answer`` is the size in bytes
    of the largest answer that the gateway takes from its upstream.
    """

    clock: Callable[[], float]
    rng: random.Random
    generator: np.random.Generator
    key_ring: KeyRing
    profile: MachineProfile
    max_answer: int = MOST_BYTES


def _check_shape(leaks: object, rows: int, measure: str) -> None:
    """Leaks are an array of one real number for each row, or ``AnswerError`` is raised; their range is the tariff's to check."""
    if not isinstance(leaks, np.ndarray):
        found = type(leaks).__name__
    elif leaks.shape != (rows,) or leaks.dtype.kind not in _REAL:
        found = f"{leaks.dtype}, shape {leaks.shape}"
    else:
        return
    raise AnswerError(_NOT_MEASURED, private=f"{measure} gave {found}, not a number for each row")


def _leaks_by(
    measures: Sequence[LeakMeasure], evidence: Evidence, early: EarlyLeaks, classes: Integers | None = None
) -> Leaks:
    """The leaks of each row under each of these measures; those in ``early`` are not measured again."""
    values = np.empty((evidence.rows, len(measures)))
    for column, measure in enumerate(measures):
        leaks = early[measure.name] if measure.name in early else measure.measure(evidence)
        _check_shape(leaks, evidence.rows, measure.name)
        values[:, column] = leaks
    return Leaks(tuple([measure.name for measure in measures]), values, classes)


def side_by_side(leaks: Leaks, further: Leaks) -> Leaks:
    """The columns of ``leaks`` and after them those of ``further``, of the same rows."""
    return replace(leaks, measures=leaks.measures + further.measures, values=np.hstack((leaks.values, further.values)))


@dataclass(frozen=True, slots=True)
class ServedModel:
    """One model: its protocol, and the measures of its answers."""

    service: ServiceDescription
    protocol: ServingProtocol
    measures: Sequence[LeakMeasure]

    @property
    def infer_path(self) -> str:
        """The model server's path for inference."""
        return self.protocol.routes.infer[0].format(model=self.service.model)

    def path_of(self, parsed: ParsedRequest) -> str:
        """The model server's path for a request that no caller has sent."""
        return parsed.route or self.infer_path

    @property
    def metadata_path(self) -> str | None:
        """The model server's path for the model's metadata; None where the protocol has none."""
        metadata = self.protocol.routes.metadata
        return None if metadata is None else metadata.format(model=self.service.model)

    @property
    def ready_path(self) -> str:
        """The model server's path for readiness."""
        return self.protocol.routes.ready.format(model=self.service.model)

    def read(self, body: bytes, content_type: str = JSON) -> ParsedRequest:
        """Read a request, and check that the measures can read its rows, before the model server is asked.

        Raises:
            RequestError: it cannot be read, or a measure of inputs cannot read its rows (``check_readable``).
        """
        parsed = self.protocol.read(body, self.service, content_type)
        if self.service.kind != EMBEDDINGS:  # whose measures read the answer's vectors
            for measure in self.measures:
                check_readable(measure, parsed.inputs)
        return parsed

    @property
    def clean_measures(self) -> tuple[LeakMeasure, ...]:
        """Of each measure that was fitted with kinds of honest rows the same one fitted without, in the order of ``measures``."""
        return tuple(clean_measure(measure) for measure in self.measures if clean_measure(measure) is not measure)

    def evidence(self, parsed: ParsedRequest, answer: Answer) -> Evidence:
        """What measures may read of a request and its answer.

        Raises:
            AnswerError: the answer cannot be measured; nothing of it may be released.
        """
        evidence = self.protocol.evidence(parsed, answer, self.service)
        if evidence.rows != len(parsed.fingerprints):
            asked = len(parsed.fingerprints)
            found = f"{self.protocol.name} gave evidence of {evidence.rows} rows for a request of {asked}"
            raise AnswerError(_NOT_MEASURED, private=found)
        return evidence

    def leaks(self, parsed: ParsedRequest, answer: Answer, *, clean: bool = False) -> Leaks:
        """The leaks of each row under each measure, (rows, measures); ``clean``: in further columns those of ``clean_leaks``.

        Raises:
            AnswerError, RequestError: the leaks cannot be measured; nothing of the answer may be released.
        """
        evidence = self.evidence(parsed, answer)
        leaks, further = self.leaks_of(evidence), self.clean_leaks(evidence) if clean else None
        return leaks if further is None else side_by_side(leaks, further)

    def leaks_of(self, evidence: Evidence, early: EarlyLeaks = _NO_EARLY_LEAKS) -> Leaks:
        """``leaks`` of evidence at hand. Those in ``early`` are not measured again."""
        classes = evidence.scores.argmax(axis=1) if evidence.scores is not None and evidence.scores.size else None
        return _leaks_by(self.measures, evidence, early, classes)

    def clean_leaks(self, evidence: Evidence, early: EarlyLeaks = _NO_EARLY_LEAKS) -> Leaks | None:
        """The leaks (rows, clean measures) under ``clean_measures``; None where there are none. Raises as ``leaks`` does."""
        measures = self.clean_measures
        return _leaks_by(measures, evidence, early) if measures else None


@dataclass(frozen=True, slots=True)
class GateConfig:
    """The configuration of one model's gate. ``mode`` is ``enforce`` or ``shadow``.

    ``without_ledger`` decides what happens while the ledger does not answer: False refuses the request (503), True
    charges the row price without what the ledger knows of the caller. ``drift_monitor`` and ``suspect_monitor`` record every
    measured request. ``credit`` is how much work callers may leave unsettled. ``refusals``: what of the model server's
    errors reaches the caller.
    """

    served_model: ServedModel
    tariff: Tariff
    selector: PuzzleSelector
    mode: str = ENFORCE
    without_ledger: bool = False
    drift_monitor: DriftMonitor | None = None
    credit: CreditTerms = DEFAULT_CREDIT
    suspect_monitor: SuspectMonitor | None = None
    refusals: RefusalTerms = DEFAULT_REFUSALS

    @property
    def answers_without_ledger(self) -> bool:
        """Whether answers go out while the ledger does not answer; in shadow mode they always do."""
        return self.without_ledger or self.mode == SHADOW

    def receipt_text(self, result: GateResult) -> str:
        """What the receipt of an answer without a toll says.

        Of an answer that was paid for, its price shows no more than a toll would have shown.
        """
        seconds = result.work.seconds
        told = self.selector.published_seconds(seconds) if result.mode == PREPAID else seconds
        return wire.format_receipt(result.work.rows, told, result.mode)

    @property
    def current_tariff(self) -> Tariff:
        """The tariff for the next request; the drift monitor may have chosen another g for it."""
        return self.tariff if self.drift_monitor is None else self.drift_monitor.current_tariff(self.tariff)


@quick_init
@dataclass(frozen=True, slots=True)
class GateRequest:
    """One request at the gate: its caller, its upstream path, its body, and what the client can do.

    ``content_type`` is one of ``wire.with_binary_length``. ``receipts`` are those of earlier tolls, as the caller sent them.
    ``payment`` is the receipt of the admission toll that the caller has paid for this request. ``head`` is what of the
    request's query and headers goes to the model server. ``unread``, for shadow mode only: why the body is not read;
    ``content_type`` may be any then. ``must_be_read``: a body that cannot be read is refused in shadow mode, too.
    ``by_digest``: its client sends it again with the proof of an admission toll, whose token holds its digest alone.
    ``whole_price``: a toll for its answer is such an admission toll, too, of the whole price; the answer is not kept.
    ``on_first_event`` is called when the first event of a stream has come that is collected and priced.
    """

    caller: Caller
    path: str
    body: bytes
    accept: wire.Accept
    content_type: str = JSON
    receipts: tuple[bytes, ...] = ()
    payment: Receipt | None = None
    head: RequestHead = NO_HEAD
    unread: str = ""
    must_be_read: bool = False
    by_digest: bool = False
    whole_price: bool = False
    on_first_event: Callable[[], None] = lambda: None


@quick_init
@dataclass(frozen=True, slots=True)
class GateResult:
    """The result of a request: the unchanged answer, or a toll for the answer or for admission; never both.

    ``mode`` is the mode in the ledger's log; ``work`` of an admission toll is what the toll asks, else the price.
    ``in_ledger`` is False where the ledger did not answer, so that the charge, the quota or the log entry is missing there.
    ``headers`` are those of the model server's answer that go beside it or its toll. ``reason``: as in ``LogEntry``, of an
    answer that was not measured.
    """

    work: Work
    mode: str
    answer: Answer | None
    toll: Toll | None
    in_ledger: bool = True
    headers: tuple[tuple[str, str], ...] = ()
    reason: str = ""


def unknown_account(caller: Caller, charge: Charge) -> Account:
    """The account of a caller of whom only this charge is known; there is no evidence against it."""
    nothing = EvidenceState.new(charge.cell_count, charge.at)
    return Account(
        caller, charge.model, charge.rows, 1, charge.leaks, nothing, 0.0, charge.tariff, charge.at, charge.at
    )
