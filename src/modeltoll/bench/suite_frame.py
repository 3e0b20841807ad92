"""What the suites share: the tolls that they compare, and the experiments of one data set and seed."""

from __future__ import annotations

from dataclasses import dataclass

from modeltoll.bench.defences.registry import NO_DEFENCE
from modeltoll.bench.evasions.registry import NO_EVASION
from modeltoll.bench.experiment import HONEST, Experiment
from modeltoll.bench.leak_measures import ENTROPY, PATE_COST, PKNN_COST
from modeltoll.bench.targets import MAGIKA
from modeltoll.bench.toll_schemes import (
    CALIBRATED,
    CONFORMAL,
    DEFAULT_MEASURES,
    NO_TOLL,
    PUBLISHED,
    UNKNOWN_STRANGERS,
    WITHOUT_KINDS,
)

__all__ = [
    "ALL_TRAFFIC",
    "FREE",
    "OTHER_TOLLS",
    "OUR_TOLL",
    "ExperimentFrame",
    "NamedToll",
    "published_measure",
    "published_toll",
]

NamedToll = tuple[str, str]  # the names of a toll and of the measures it prices

OUR_TOLL: NamedToll = (CONFORMAL, DEFAULT_MEASURES)
ALL_TRAFFIC: NamedToll = (WITHOUT_KINDS, DEFAULT_MEASURES)
OTHER_TOLLS = tuple((toll, DEFAULT_MEASURES) for toll in (UNKNOWN_STRANGERS, CALIBRATED, WITHOUT_KINDS))
FREE: NamedToll = (NO_TOLL, "")
# What the published tariff prices on data sets that have no teachers.
_WITHOUT_TEACHERS = {"digits": ENTROPY, "cells": ENTROPY, MAGIKA: PKNN_COST}


def published_measure(dataset: str) -> str:
    """The measure that the published toll prices: the PATE cost, as in the paper's Table 2, where there are teachers."""
    return _WITHOUT_TEACHERS.get(dataset, PATE_COST)


def published_toll(dataset: str) -> NamedToll:
    """The published toll on that measure."""
    return (PUBLISHED, published_measure(dataset))


@dataclass(frozen=True, slots=True)
class ExperimentFrame:
    """What all experiments of one data set and seed of a suite share."""

    suite: str
    dataset: str
    profile: str
    seed: int
    queries: int
    defences: tuple[str, ...]

    def attack(
        self, attack: str, tariff: NamedToll, evasion: str = NO_EVASION, defence: str = NO_DEFENCE
    ) -> Experiment:
        """The experiment of an attack under a toll."""
        toll, measure = tariff
        return Experiment(
            self.suite, self.dataset, attack, evasion, defence, toll, measure, self.profile, self.seed, self.queries
        )

    def honest(self, workload: str, tariff: NamedToll) -> Experiment:
        """The experiment of an honest caller with this workload under a toll."""
        toll, measure = tariff
        return Experiment(
            self.suite,
            self.dataset,
            HONEST,
            NO_EVASION,
            NO_DEFENCE,
            toll,
            measure,
            self.profile,
            self.seed,
            0,
            workload,
        )
