"""Each plug-in passes the conformance suite of its kind: one call of what Modeltoll ships."""

from __future__ import annotations

import json
import random

import numpy as np
import pytest
from acme_toll import acme, blake2b, brightness, gini, journal, softened

from modeltoll.bench.attacks.attack import AttackerResources
from modeltoll.bench.datasets import Images
from modeltoll.bench.students.kernel import KernelCloneFactory
from modeltoll.gateway.protocols.protocol import ServiceDescription
from modeltoll.ledger.from_url import ledger_from_url
from modeltoll.puzzle.machine_profile import DEFAULT_PROFILE
from modeltoll.puzzle.registry import PuzzleContext
from modeltoll.records import Answer, Evidence
from modeltoll.testing.attacks import check_attack
from modeltoll.testing.bench_plugins import check_defence
from modeltoll.testing.ledgers import check_ledger
from modeltoll.testing.measures import check_measure
from modeltoll.testing.protocols import ProtocolTrial, check_protocol
from modeltoll.testing.puzzles import check_puzzle

RNG = np.random.default_rng(0)
SCORES = RNG.dirichlet(np.ones(4), size=6)


@pytest.mark.parametrize("sharpness", [1.0, 0.5])
def test_the_measure_conforms(sharpness):
    fingerprints = tuple(bytes([row]) for row in range(len(SCORES)))
    check_measure(gini.GiniMeasure(sharpness), Evidence(fingerprints, scores=SCORES))


def test_the_protocol_conforms():
    check_protocol(
        ProtocolTrial(
            acme.Acme(),
            ServiceDescription("digits", "", "probabilities"),
            RNG.random((4, 3)),
            encode_request=lambda rows: json.dumps({"rows": np.asarray(rows).tolist()}).encode(),
            answer=lambda scores: Answer(200, "application/json", json.dumps({"scores": scores.tolist()}).encode()),
            integers=lambda numbers: json.dumps({"rows": [[number] for number in numbers]}).encode(),
        )
    )


@pytest.mark.parametrize("disclose", ["exact", "coarse"])
def test_the_puzzle_conforms(disclose):
    puzzle = blake2b.Blake2bCounter(PuzzleContext(DEFAULT_PROFILE, disclose))
    check_puzzle(puzzle, DEFAULT_PROFILE, random.Random(1), disclose=disclose)


def test_the_ledger_conforms(tmp_path):
    ledger = ledger_from_url(f"journal://{tmp_path}/bills.csv")
    assert isinstance(ledger, journal.JournalLedger)
    check_ledger(lambda: ledger_from_url(f"journal://{tmp_path}/bills.csv"), survives_reopen=False)
    assert len((tmp_path / "bills.csv").read_text().splitlines()) > 1


def test_the_attack_conforms():
    own, foreign = RNG.random((40, 8, 8)), Images(RNG.random((200, 8, 8)), np.arange(200) % 4)
    weights = RNG.normal(size=(64, 4))

    def victim(images):
        powers = np.exp(images.reshape(len(images), -1) @ weights)
        return powers / powers.sum(axis=1, keepdims=True)

    resources = AttackerResources(4, own, foreign, lambda images: images.mean(axis=(1, 2)))
    attack = brightness.SPEC.attack(KernelCloneFactory(4), quick=True)
    check_attack(attack, victim, resources, 90, labels_only=brightness.SPEC.labels_only)


def test_the_defence_conforms():
    check_defence(softened.Softened(), SCORES, np.zeros((len(SCORES), 1)))
