"""The whole business of one request, without HTTP.

A request walks through once: question, answer, evidence, leaks, assessment, charge, work, toll. Each step's result is
the next one's argument; nothing calls back.
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ParamSpec

import numpy as np

from modeltoll import wire
from modeltoll.errors import AnswerError, LedgerError, RequestError, TollMalformed
from modeltoll.gateway.allowances import Allowances
from modeltoll.gateway.offload import LARGE_BYTES, LARGE_ROWS, off_loop
from modeltoll.puzzle import seal
from modeltoll.puzzle.puzzle import expected_seconds
from modeltoll.records import Account, Answer, Bill, Caller, Entry, Leaks, Toll, Work

if TYPE_CHECKING:
    import random

    from modeltoll.gateway.menu import Menu
    from modeltoll.gateway.monitor import Monitor
    from modeltoll.gateway.protocols.protocol import Question, Service, ServingProtocol
    from modeltoll.gateway.upstream import Upstream
    from modeltoll.leak.measure import LeakMeasure
    from modeltoll.ledger.ledger import Ledger
    from modeltoll.pricing.tariff import Tariff
    from modeltoll.puzzle.puzzle import Puzzle
    from modeltoll.puzzle.seal import KeyRing
    from modeltoll.records import Assessment, MachineProfile

__all__ = ["ENFORCE", "SHADOW", "Chance", "Gate", "Passage", "Road", "Subject", "Visit", "redeem"]

P = ParamSpec("P")

ENFORCE, SHADOW = "enforce", "shadow"
EXEMPT, FREE = "exempt", "free"

_TOKEN_SECONDS = 3600.0  # a redeem token lives so long, and ten times its expected work besides
_TOKEN_WAITS = 10.0


@dataclass(frozen=True, slots=True)
class Subject:
    """One model: how it is asked, and how its answers are measured."""

    service: Service
    protocol: ServingProtocol
    measures: Sequence[LeakMeasure]

    @property
    def infer_path(self) -> str:
        """Where the model server is asked for it."""
        return self.protocol.routes.infer[0].format(model=self.service.model)

    @property
    def metadata_path(self) -> str:
        """Where it describes itself."""
        return self.protocol.routes.metadata.format(model=self.service.model)

    def leaks(self, question: Question, answer: Answer) -> Leaks:
        """The leaks of each row under each measure, in the measures' order.

        Raises:
            AnswerError, RequestError: they cannot be measured; nothing of the answer may be shown.
        """
        evidence = self.protocol.evidence(question, answer, self.service)
        values = np.empty((evidence.rows, len(self.measures)))
        for column, measure in enumerate(self.measures):
            leaks = measure.measure(evidence)
            if leaks.shape != (evidence.rows,):
                raise AnswerError("the answer cannot be measured", private=f"{measure.name} gave {leaks.shape}")
            values[:, column] = leaks
        return Leaks(tuple(measure.name for measure in self.measures), values)


@dataclass(frozen=True, slots=True)
class Road:
    """All that one model's requests meet on their way. ``mode`` is ``enforce`` or ``shadow``.

    ``without_ledger`` says what happens while the ledger does not answer: False refuses (503), True goes on at the
    row price, without what the ledger knows of the caller. ``monitor`` is told of every visit.
    """

    subject: Subject
    tariff: Tariff
    menu: Menu
    mode: str = ENFORCE
    without_ledger: bool = False
    monitor: Monitor | None = None

    @property
    def tariff_in_force(self) -> Tariff:
        """The tariff for the next request: its g may be chosen by the monitor."""
        return self.tariff if self.monitor is None else self.monitor.in_force(self.tariff)


@dataclass(frozen=True, slots=True)
class Visit:
    """One request at the gate: who sends it, to which upstream path, and what the client can do."""

    caller: Caller
    path: str
    body: bytes
    accept: wire.Accept


@dataclass(frozen=True, slots=True)
class Passage:
    """How a visit ended: with the answer as it came, or with a toll; never with both.

    ``mode`` says how it was settled, as in the ledger's log. ``remembered`` is False where the ledger did not answer.
    """

    work: Work
    mode: str
    answer: Answer | None
    toll: Toll | None
    remembered: bool = True


@dataclass(frozen=True, slots=True)
class Chance:
    """Time, chance and keys. ``clock`` gives seconds since the epoch."""

    clock: Callable[[], float]
    rng: random.Random
    generator: np.random.Generator
    ring: KeyRing
    profile: MachineProfile


@dataclass(frozen=True, slots=True, eq=False)
class _Priced:
    leaks: Leaks
    assessment: Assessment


class Gate:
    """The toll house of one model."""

    def __init__(self, road: Road, upstream: Upstream, ledger: Ledger, chance: Chance) -> None:
        self.road = road
        self._upstream = upstream
        self._ledger = ledger
        self._chance = chance
        self._allowances = Allowances(ledger, chance.clock)

    async def visit(self, visit: Visit) -> Passage:
        """Let one request through.

        Raises:
            RequestError, AnswerError, UpstreamError, LedgerError, AllowanceSpent: nothing of the answer may be shown.
        """
        subject, tariff = self.road.subject, self.road.tariff_in_force
        question = await off_loop(len(visit.body) > LARGE_BYTES, subject.protocol.read, visit.body, subject.service)
        await self._within(self._allowances.check, visit.caller, len(question.fingerprints))
        answer = await self._predict(visit)
        large = len(question.fingerprints) > LARGE_ROWS or len(visit.body) + len(answer.body) > LARGE_BYTES
        priced = await off_loop(large, self._price, tariff, question, answer)
        account, remembered = await self._charge(visit.caller, question, priced)
        work = tariff.work(priced.assessment, account)
        if not remembered:  # nobody is a newcomer, or known for anything, while nothing is remembered
            work = replace(work, seconds=work.rows_seconds, entry_seconds=0.0)
        if self.road.monitor is not None:
            self.road.monitor.saw(visit.caller, question.fingerprints, priced.assessment, work)
        mode = self._mode(visit.caller, work)
        asked = work.seconds if mode is None else 0.0
        remembered = await self._within(self._allowances.take, visit.caller, work.rows, asked) and remembered
        toll = await self._toll(visit, answer, work) if mode is None else None
        settled = toll.mode if toll else mode or FREE
        remembered = remembered and await self._bill(visit.caller, priced, work, settled)
        return Passage(work, settled, answer=None if toll else answer, toll=toll, remembered=remembered)

    async def _within(self, ask: Callable[P, Awaitable[None]], *args: P.args, **kwargs: P.kwargs) -> bool:
        """Ask for a caller's allowance, which shadow mode does not; False where the ledger does not answer."""
        if self.road.mode == SHADOW:
            return True
        try:
            await ask(*args, **kwargs)
        except LedgerError:
            if not self.road.without_ledger:
                raise
            return False
        return True

    async def _predict(self, visit: Visit) -> Answer:
        answer = await self._upstream.predict(visit.path, visit.body)
        if answer.status == 200:
            return answer
        if 400 <= answer.status < 500:
            said = self.road.subject.protocol.complaint(answer)
            raise RequestError(f"the model server refused the request: {said or answer.status}")
        raise AnswerError("the model server failed", private=f"status {answer.status} from {visit.path}")

    def _price(self, tariff: Tariff, question: Question, answer: Answer) -> _Priced:
        leaks = self.road.subject.leaks(question, answer)
        return _Priced(leaks, tariff.assess(leaks, self._chance.generator))

    async def _charge(self, caller: Caller, question: Question, priced: _Priced) -> tuple[Account, bool]:
        tariff = self.road.tariff
        entry = Entry(
            model=self.road.subject.service.model,
            rows=len(question.fingerprints),
            leaks=tuple(priced.leaks.values.sum(axis=0).tolist()),
            bins=tuple(map(tuple, priced.assessment.bins.tolist())),
            fingerprints=question.fingerprints,
            shape=tariff.shape,
            tariff=tariff.identity,
            at=self._chance.clock(),
        )
        try:
            return await self._ledger.charge(caller, entry), True
        except LedgerError:
            if not self.road.without_ledger:
                raise
            return _stranger(caller, entry), False

    def _mode(self, caller: Caller, work: Work) -> str | None:
        """Why the answer goes out as it came, or None where it does not."""
        if caller.exempt:
            return EXEMPT
        if self.road.mode == SHADOW:
            return SHADOW
        return None if work.seconds > 0 else FREE

    async def _toll(self, visit: Visit, answer: Answer, work: Work) -> Toll:
        puzzle, mode = self.road.menu.choose(work, visit.accept)
        # An evaluation of argon2id takes milliseconds and lets go of the interpreter.
        large = puzzle.name == wire.ARGON2ID or len(answer.body) > LARGE_BYTES
        return await off_loop(large, self._sealed, visit, answer, work, puzzle, mode)

    def _sealed(self, visit: Visit, answer: Answer, work: Work, puzzle: Puzzle, mode: str) -> Toll:
        chance = self._chance
        challenge, solution = puzzle.make(work, chance.rng)
        typical = expected_seconds(challenge, chance.profile)
        if mode == wire.SEALED and solution is not None:
            associated = wire.canonical_challenge(challenge, mode)
            return Toll(mode, challenge, seal.close(answer, solution, associated, chance.rng), work.rows, typical)
        now = chance.clock()
        claim = seal.RedeemClaim(
            answer=answer,
            challenge=challenge,
            solution_digest=seal.digest_solution(solution.counters) if solution else b"",
            expires=now + _TOKEN_SECONDS + _TOKEN_WAITS * typical,
            caller=visit.caller.name,
            request_digest=hashlib.sha256(visit.body).digest(),
            issued=now,
        )
        token = seal.seal_token(chance.ring, claim, chance.rng)
        return Toll(mode, challenge, token, work.rows, typical, int(claim.expires))

    async def _bill(self, caller: Caller, priced: _Priced, work: Work, mode: str) -> bool:
        """Write the log's line; False where the ledger does not answer and the road goes on without it."""
        bill = Bill(
            at=self._chance.clock(),
            model=self.road.subject.service.model,
            rows=work.rows,
            measures=priced.leaks.measures,
            leaks=tuple(map(tuple, priced.leaks.values.tolist())),
            rarest=tuple(priced.assessment.rarest.tolist()),
            work=work,
            mode=mode,
        )
        try:
            await self._ledger.bill(caller, bill)
        except LedgerError:
            if not self.road.without_ledger:
                raise
            return False
        return True


def redeem(chance: Chance, caller: Caller, body: bytes) -> Answer:
    """Exchange a token and its puzzle's solution for the answer; shown twice it gives the same bytes.

    Raises:
        RequestError: not a redemption. TokenRefused: forged, foreign, expired or not solved.
    """
    try:
        token, counters = wire.decode_redemption(body)
    except TollMalformed as error:
        raise RequestError(str(error)) from None
    return seal.settle(seal.open_token(chance.ring, token, caller.name, chance.clock()), counters)


def _stranger(caller: Caller, entry: Entry) -> Account:
    """The account of a caller of whom nothing is remembered."""
    measures, bins = entry.shape
    counts = ((0.0,) * bins,) * measures
    return Account(caller, entry.model, entry.rows, 1, entry.leaks, counts, 0.0, entry.tariff, entry.at, entry.at)
