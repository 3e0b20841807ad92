"""A town to put toll houses into: one model, honest rows to price it by, callers, a clock, a ledger in memory."""

from __future__ import annotations

import asyncio
import json
import random
from dataclasses import dataclass, field

import numpy as np
import pytest

from modeltoll import wire
from modeltoll.gateway.callers.identify import CallerIdentifier, hash_key
from modeltoll.gateway.core.admission import AdmissionControl
from modeltoll.gateway.core.drift_monitor import DriftMonitor
from modeltoll.gateway.core.gate import Gate
from modeltoll.gateway.core.puzzle_selector import PuzzleSelector
from modeltoll.gateway.core.request import GateConfig, GateRequest, GateRuntime, ServedModel
from modeltoll.gateway.observability.metrics import GatewayMetrics
from modeltoll.gateway.protocols.oip import OpenInference
from modeltoll.gateway.protocols.protocol import ServiceDescription
from modeltoll.gateway.public.app import AppComponents, IngressPolicy, application
from modeltoll.leak.entropy import EntropyMeasure
from modeltoll.ledger.memory import MemoryLedger
from modeltoll.pricing.calibration import NewAccountToll
from modeltoll.pricing.conformal import ConformalTariff
from modeltoll.pricing.fit import CalibrationTerms, RowCosts, fit_calibration
from modeltoll.puzzle.counter import Argon2idCounter, Sha256Counter
from modeltoll.puzzle.hashcash import Hashcash
from modeltoll.puzzle.machine_profile import DEFAULT_PROFILE
from modeltoll.puzzle.seal import KeyRing
from modeltoll.puzzle.timelock import TimeLock, Trapdoor
from modeltoll.records import Answer, Caller, Evidence, Leaks
from modeltoll.testing.clock import FakeClock
from modeltoll.testing.protocols import FakeUpstream

MODEL, OUTPUT, CLASSES, DIMENSIONS = "digits", "p", 4, 2
KEYS = {"alice-key": Caller("key:alice"), "bob-key": Caller("key:bob"), "vip-key": Caller("key:vip", exempt=True)}
TRAPDOOR = Trapdoor.generate()
UNIT = 1e-4  # reference seconds: some hundred hashes


def sure(rows):
    """Scores of a model that knows."""
    return np.tile([0.97, 0.01, 0.01, 0.01], (rows, 1))


def unsure(rows):
    """Scores of a model that has never seen the like: their entropy is the largest."""
    return np.full((rows, CLASSES), 1 / CLASSES)


def ask(inputs, **members):
    """A request for rows of ``DIMENSIONS`` numbers."""
    rows = np.atleast_2d(np.asarray(inputs, dtype=float))
    tensor = {"name": "x", "shape": list(rows.shape), "datatype": "FP64", "data": rows.tolist()}
    return json.dumps({"inputs": [tensor], **members}).encode()


def say(scores, output=OUTPUT, **members):
    """The model server's answer."""
    scores = np.asarray(scores)
    tensor = {"name": output, "shape": list(scores.shape), "datatype": "FP64", "data": scores.ravel().tolist()}
    body = json.dumps({"model_name": MODEL, "outputs": [tensor], **members}).encode()
    return Answer(200, "application/json", body)


def rows_of(body):
    """How many rows a request carries."""
    return json.loads(body)["inputs"][0]["shape"][0]


def honest_model(path, body):
    """Metadata for a GET; sure scores, as many as there are rows, for a POST."""
    if not body:
        tensor = {"name": "x", "datatype": "FP64", "shape": [-1, DIMENSIONS]}
        return Answer(200, "application/json", json.dumps({"name": MODEL, "inputs": [tensor], "path": path}).encode())
    return say(sure(rows_of(body)))


@dataclass
class Town:
    """Everything that a gate needs, each piece open to change before ``gate`` or ``house`` puts it together."""

    tariff: ConformalTariff
    upstream: FakeUpstream = field(default_factory=lambda: FakeUpstream(honest_model))
    ledger: MemoryLedger = field(default_factory=MemoryLedger)
    clock: FakeClock = field(default_factory=FakeClock)
    telemetry: GatewayMetrics = field(default_factory=GatewayMetrics)
    service: ServiceDescription = field(
        default_factory=lambda: ServiceDescription(MODEL, OUTPUT, "probabilities", CLASSES)
    )
    measures: tuple = (EntropyMeasure(),)
    allow: tuple = (wire.ARGON2ID, wire.SHA256)
    modes: tuple = ("sealed", "redeem")
    sha256_below: float = 0.02
    mode: str = "enforce"
    without_ledger: bool = False
    monitor: DriftMonitor | None = None
    entrance: AdmissionControl | None = None
    callers: CallerIdentifier = field(
        default_factory=lambda: CallerIdentifier({hash_key(key): name for key, name in KEYS.items()})
    )
    max_body: int = 100_000
    waiting: int = 128
    origins: tuple = ()

    # What the tests say and hear.
    model, output, keys, path = MODEL, OUTPUT, KEYS, f"/v2/models/{MODEL}/infer"
    alice, bob, vip = KEYS.values()
    ask, say, sure, unsure = map(staticmethod, (ask, say, sure, unsure))

    def __post_init__(self):
        asyncio.run(self.ledger.open())
        self.chance = GateRuntime(
            self.clock, random.Random(7), np.random.default_rng(7), KeyRing((b"k" * 32,)), DEFAULT_PROFILE
        )

    def gate(self):
        """The gate, as the fields now say."""
        makers = {
            wire.ARGON2ID: Argon2idCounter(DEFAULT_PROFILE, max_memory_kib=512),
            wire.SHA256: Sha256Counter(DEFAULT_PROFILE),
            wire.HASHCASH: Hashcash(DEFAULT_PROFILE),
            wire.HASHCASH_SHA1: Hashcash(DEFAULT_PROFILE, digest="sha1", bits_only=True),
            wire.TIMELOCK: TimeLock(DEFAULT_PROFILE, TRAPDOOR),
        }
        menu = PuzzleSelector({name: makers[name] for name in self.allow}, self.modes, self.sha256_below)
        subject = ServedModel(self.service, OpenInference(), self.measures)
        road = GateConfig(subject, self.tariff, menu, self.mode, self.without_ledger, self.monitor, self.entrance)
        return Gate(road, self.upstream, self.ledger, self.chance)

    def house(self, gate=None):
        """The house, as the fields now say."""
        door = IngressPolicy(self.callers, self.max_body, self.waiting, self.origins)
        gates = {MODEL: gate or self.gate()}
        return AppComponents(gates, self.upstream, door, self.telemetry, self.chance)

    def application(self):
        return application(self.house())

    def visit(self, body, caller=None, accept=None, gate=None):
        """One request through a gate, without HTTP; Alice's if nobody is named."""
        return asyncio.run((gate or self.gate()).visit(self.request(body, caller, accept)))

    def request(self, body, caller=None, accept=None):
        """What comes to the gate."""
        return GateRequest(caller or self.alice, self.path, body, accept or wire.Accept())

    def account(self, caller=None):
        """What the ledger knows; of Alice if nobody is named."""
        caller = caller or self.alice
        return asyncio.run(self.ledger.account(caller, MODEL, self.clock()))

    def log(self):
        """The bills of the ledger's log."""
        return [bill for _, _, bill in asyncio.run(self.ledger.log(0, 10_000))]

    def metric(self, sample):
        """The value of a metric's line, 0 where there is none yet."""
        for line in self.telemetry.page().decode().splitlines():
            name, _, value = line.rpartition(" ")
            if name == sample:
                return float(value)
        return 0.0


def honest_leaks(rows=400, seed=0):
    """Entropies of a model that is sure of most rows."""
    rng = np.random.default_rng(seed)
    scores = rng.dirichlet(np.full(CLASSES, 0.3), size=rows)
    evidence = Evidence(tuple(bytes(8) for _ in range(rows)), scores=scores)
    return Leaks(("entropy",), EntropyMeasure().measure(evidence)[:, None])


def calibrated(unit=UNIT, terms=None):
    costs = RowCosts(undefended_seconds=unit, unit_seconds=unit)
    return fit_calibration(
        MODEL, honest_leaks(), costs, terms or CalibrationTerms(new_account_toll=NewAccountToll(anonymous_units=0.0))
    )


@pytest.fixture(scope="session")
def calibration():
    """A tariff's data: 320 honest rows, a unit of 0.1 ms, no entry toll."""
    return calibrated()


@pytest.fixture
def town(calibration):
    return Town(ConformalTariff(calibration))
