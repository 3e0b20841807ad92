"""A gate for tests: one model, calibrated by honest rows, with callers, a fake clock and a ledger in memory."""

from __future__ import annotations

import asyncio
import json
import random
from dataclasses import dataclass, field

import numpy as np
import pytest

from modeltoll import wire
from modeltoll.gateway.callers.identify import CallerIdentifier, hash_key
from modeltoll.gateway.core.credit import DEFAULT_CREDIT, CreditTerms
from modeltoll.gateway.core.drift_monitor import DriftMonitor
from modeltoll.gateway.core.gate import Gate
from modeltoll.gateway.core.puzzle_selector import OfferedPuzzle, PuzzleSelector
from modeltoll.gateway.core.request import GateConfig, GateRequest, GateRuntime, ServedModel
from modeltoll.gateway.core.suspect_monitor import SuspectMonitor
from modeltoll.gateway.observability.metrics import GatewayMetrics
from modeltoll.gateway.protocols.oip import OpenInference
from modeltoll.gateway.protocols.openai_chat import OpenAIChat
from modeltoll.gateway.protocols.protocol import ServiceDescription
from modeltoll.gateway.public.app import AppComponents, application
from modeltoll.gateway.public.ingress import IngressPolicy
from modeltoll.leak.entropy import EntropyMeasure
from modeltoll.leak.token_entropy import TokensMeasure
from modeltoll.ledger.memory import MemoryLedger
from modeltoll.names import HASHCASHES
from modeltoll.pricing.calibration import NewAccountToll
from modeltoll.pricing.conformal_tariff import ConformalTariff
from modeltoll.pricing.fit import CalibrationTerms, RowCosts, fit_calibration
from modeltoll.puzzle.counter import Argon2idCounter, Sha256Counter
from modeltoll.puzzle.hashcash import Hashcash
from modeltoll.puzzle.machine_profile import DEFAULT_PROFILE
from modeltoll.puzzle.proof import proof_of
from modeltoll.puzzle.puzzle import SolveControl
from modeltoll.puzzle.registry import PUZZLES
from modeltoll.puzzle.seal import KeyRing, open_answer
from modeltoll.puzzle.solver import solve
from modeltoll.puzzle.timelock import TimeLock, Trapdoor
from modeltoll.records import Answer, Caller, Evidence, Leaks
from modeltoll.testing.clock import FakeClock
from modeltoll.testing.model_servers import FakeUpstream

MODEL, OUTPUT, CLASSES, DIMENSIONS = "digits", "p", 4, 2
KEYS = {"alice-key": Caller("key:alice"), "bob-key": Caller("key:bob"), "vip-key": Caller("key:vip", exempt=True)}
TRAPDOOR = Trapdoor.generate()
UNIT = 1e-4  # reference seconds: some hundred hashes


def confident_scores(rows):
    """Scores of a model that is sure of every row."""
    return np.tile([0.97, 0.01, 0.01, 0.01], (rows, 1))


def uncertain_scores(rows):
    """Scores with the largest entropy."""
    return np.full((rows, CLASSES), 1 / CLASSES)


def infer_body(inputs, **members):
    """The body of a request for rows of ``DIMENSIONS`` numbers."""
    rows = np.atleast_2d(np.asarray(inputs, dtype=float))
    tensor = {"name": "x", "shape": list(rows.shape), "datatype": "FP64", "data": rows.tolist()}
    return json.dumps({"inputs": [tensor], **members}).encode()


def answer(scores, output=OUTPUT, **members):
    """The model server's answer with these scores, (rows, classes)."""
    scores = np.asarray(scores)
    tensor = {"name": output, "shape": list(scores.shape), "datatype": "FP64", "data": scores.ravel().tolist()}
    body = json.dumps({"model_name": MODEL, "outputs": [tensor], **members}).encode()
    return Answer(200, "application/json", body)


def honest_model(path, body):
    """Metadata for a GET; confident scores of every row for a POST."""
    if not body:
        tensor = {"name": "x", "datatype": "FP64", "shape": [-1, DIMENSIONS]}
        return Answer(200, "application/json", json.dumps({"name": MODEL, "inputs": [tensor], "path": path}).encode())
    return answer(confident_scores(json.loads(body)["inputs"][0]["shape"][0]))


@dataclass
class GateHarness:
    """All parts of a gate. A test may change each of them before ``gate`` or ``components`` puts them together."""

    tariff: ConformalTariff
    upstream: FakeUpstream = field(default_factory=lambda: FakeUpstream(honest_model))
    ledger: MemoryLedger = field(default_factory=MemoryLedger)
    clock: FakeClock = field(default_factory=FakeClock)
    metrics: GatewayMetrics = field(default_factory=GatewayMetrics)
    service: ServiceDescription = field(
        default_factory=lambda: ServiceDescription(MODEL, OUTPUT, "probabilities", CLASSES, versions=("1", "v1.2-b_3"))
    )
    measures: tuple = (EntropyMeasure(),)
    protocol: object = field(default_factory=OpenInference)
    allowed_puzzles: tuple = (wire.ARGON2ID, wire.SHA256)
    modes: tuple = ("sealed", "redeem")
    sha256_below: float = 0.02
    mode: str = "enforce"
    without_ledger: bool = False
    drift_monitor: DriftMonitor | None = None
    suspect_monitor: SuspectMonitor | None = None
    credit: CreditTerms = DEFAULT_CREDIT
    identifier: CallerIdentifier = field(
        default_factory=lambda: CallerIdentifier({hash_key(key): caller for key, caller in KEYS.items()})
    )
    max_body: int = 100_000
    max_requests: int = 128
    max_redemption: int = wire.MAX_TOLL_BYTES
    max_bodies: int = 2 * wire.MAX_TOLL_BYTES
    least_rate: float = 1024.0
    cors_origins: tuple = ()
    cors_headers: tuple = ()
    root_path: str = ""
    white_space_seconds: float = 10.0

    model, output, keys, path = MODEL, OUTPUT, KEYS, f"/v2/models/{MODEL}/infer"
    alice, bob, vip = KEYS.values()
    infer_body, answer, confident_scores, uncertain_scores = map(
        staticmethod, (infer_body, answer, confident_scores, uncertain_scores)
    )

    def __post_init__(self):
        asyncio.run(self.ledger.open())
        self.runtime = GateRuntime(
            self.clock, random.Random(7), np.random.default_rng(7), KeyRing((b"k" * 32,)), DEFAULT_PROFILE
        )

    def gate(self):
        """A gate with the current fields."""
        puzzles = {
            wire.ARGON2ID: Argon2idCounter(DEFAULT_PROFILE, max_memory_kib=512),
            wire.SHA256: Sha256Counter(DEFAULT_PROFILE),
            wire.HASHCASH: Hashcash(DEFAULT_PROFILE),
            wire.HASHCASH_SHA1: Hashcash(DEFAULT_PROFILE, digest="sha1", bits_only=True),
            wire.TIMELOCK: TimeLock(DEFAULT_PROFILE, TRAPDOOR),
        }
        offers = tuple(OfferedPuzzle(PUZZLES.find(name), puzzles[name]) for name in self.allowed_puzzles)
        config = GateConfig(
            ServedModel(self.service, self.protocol, self.measures),
            self.tariff,
            PuzzleSelector(offers, self.modes, self.sha256_below),
            self.mode,
            self.without_ledger,
            self.drift_monitor,
            self.credit,
            self.suspect_monitor,
        )
        return Gate(config, self.upstream, self.ledger, self.runtime)

    def components(self, gate=None):
        """The components of a public application with the current fields."""
        ingress = IngressPolicy(
            self.identifier,
            self.max_body,
            self.max_requests,
            self.cors_origins,
            self.max_redemption,
            self.max_bodies,
            least_rate=self.least_rate,
            cors_headers=self.cors_headers,
            root_path=self.root_path,
            white_space_seconds=self.white_space_seconds,
        )
        return AppComponents({MODEL: gate or self.gate()}, self.upstream, ingress, self.metrics, self.runtime)

    def application(self):
        """A public application with the current fields."""
        return application(self.components())

    def handle(self, body, caller=None, accept=None, gate=None, **members):
        """The result of one request at a gate, without HTTP; by default Alice's request."""
        return asyncio.run((gate or self.gate()).handle(self.request(body, caller, accept, **members)))

    def request(self, body, caller=None, accept=None, **members):
        """A gate request; by default Alice's, whose client keeps receipts."""
        return GateRequest(caller or self.alice, self.path, body, accept or wire.Accept(receipts=True), **members)

    @staticmethod
    def redemption(toll, solution=None):
        """The body that redeems a toll, solved here if no solution is given."""
        solution = solution or solve(toll.challenge, SolveControl())
        if toll.challenge.puzzle in HASHCASHES:
            return wire.encode_redemption(toll.payload, counters=solution.counters)
        return wire.encode_redemption(toll.payload, proof=proof_of(solution))

    @staticmethod
    def opened(toll):
        """What the seal of a toll holds: the answer and its receipt."""
        associated = wire.canonical_challenge(toll.challenge, toll.mode)
        return open_answer(toll.payload, solve(toll.challenge, SolveControl()), associated)

    def standing(self, caller=None):
        """The ledger's standing of a caller; by default Alice's."""
        return asyncio.run(self.ledger.standing(caller or self.alice))

    def account(self, caller=None):
        """The ledger's account of a caller; by default Alice's."""
        return asyncio.run(self.ledger.account(caller or self.alice, MODEL))

    def log(self):
        """The entries of the ledger's log."""
        return [entry for _, _, entry in asyncio.run(self.ledger.log(0, 10_000))]

    def metric(self, sample):
        """The value of a metric's sample; 0 where there is none yet."""
        for line in self.metrics.render().decode().splitlines():
            name, _, value = line.rpartition(" ")
            if name == sample:
                return float(value)
        return 0.0


def honest_leaks(rows=400, seed=0):
    """Entropies, (rows, 1), of a model that is sure of most rows."""
    rng = np.random.default_rng(seed)
    scores = rng.dirichlet(np.full(CLASSES, 0.3), size=rows)
    evidence = Evidence(tuple(bytes(8) for _ in range(rows)), scores=scores)
    return Leaks(("entropy",), EntropyMeasure().measure(evidence)[:, None])


def calibrated(unit=UNIT, terms=None):
    """A calibration of honest rows with this unit, in reference seconds."""
    costs = RowCosts(undefended_seconds=unit, unit_seconds=unit)
    return fit_calibration(
        MODEL, honest_leaks(), costs, terms or CalibrationTerms(new_account_toll=NewAccountToll(anonymous_units=0.0))
    )


@pytest.fixture(scope="session")
def calibration():
    """A calibration with 320 honest rows, a unit of 0.1 ms and no new-account toll."""
    return calibrated()


@pytest.fixture
def harness(calibration):
    return GateHarness(ConformalTariff(calibration))


@pytest.fixture(scope="session")
def chat_calibration():
    """The same for the tokens of a chat."""
    leaks = Leaks(("tokens",), np.random.default_rng(0).random((400, 1)) * 6)
    terms = CalibrationTerms(new_account_toll=NewAccountToll(anonymous_units=0.0))
    return fit_calibration(MODEL, leaks, RowCosts(undefended_seconds=UNIT, unit_seconds=UNIT), terms)


@pytest.fixture
def chats(chat_calibration):
    """A harness of a chat model."""
    service = ServiceDescription(MODEL, "", "tokens", max_rows=64, logprobs="raw")
    return GateHarness(
        ConformalTariff(chat_calibration), service=service, measures=(TokensMeasure(),), protocol=OpenAIChat()
    )
