"""Experiments and their results: frozen records, each result one JSON document."""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modeltoll.bench.artifact_files import write_document
from modeltoll.bench.identity import canonical, digest, first_file, legacy_digest
from modeltoll.puzzle.machine_profile import DEFAULT_PROFILE

if TYPE_CHECKING:
    from modeltoll.bench.checks import Check
    from modeltoll.bench.hardware_costs import HardwareCost

__all__ = [
    "HONEST",
    "CurvePoint",
    "Experiment",
    "Provenance",
    "Result",
    "experiment_of",
    "provenance",
]

FORMAT = 1
_DIGITS = 8  # of the digest in a file's name
HONEST = "honest"  # the attack of those who are not thieves
_PACKAGES = ("modeltoll", "numpy", "scipy", "scikit-learn", "torch")


@dataclass(frozen=True, slots=True)
class Experiment:
    """What is tried. Names are those of the tables of targets, thieves, evasions, defences, tolls and workloads.

    ``attack`` is ``honest`` where honest callers with a ``workload`` are tried. ``measure`` is what the toll prices,
    several joined by +; empty without a toll. ``foreign`` is the source of foreign images, empty for the data set's
    usual one.
    """

    suite: str
    dataset: str
    attack: str
    evasion: str
    defence: str
    tariff: str
    measure: str
    profile: str
    seed: int
    queries: int
    workload: str = ""
    foreign: str = ""

    @property
    def key(self) -> dict[str, str | int]:
        """What tells it from every other experiment, in words that stay whatever the fields are called."""
        return {
            "v": 1,
            "suite": self.suite,
            "dataset": self.dataset,
            "attack": self.attack,
            "evasion": self.evasion,
            "defence": self.defence,
            "tariff": self.tariff,
            "measure": self.measure,
            "profile": self.profile,
            "seed": self.seed,
            "queries": self.queries,
            "workload": self.workload,
            "foreign": self.foreign,
        }

    @property
    def slug(self) -> str:
        """A name for people. Experiments that differ in little may share one."""
        said = [self.attack, self.workload, self.evasion, self.defence, self.tariff, f"s{self.seed}"]
        words = "-".join(word for word in said if word not in ("", "none"))
        return re.sub(r"[^a-z0-9]+", "-", words.lower()).strip("-")

    @property
    def order(self) -> tuple[str, str, str, str]:
        """By what results are sorted: suite, data set, the name for people, and the whole key where all these agree."""
        return self.suite, self.dataset, self.slug, canonical(self.key)

    def file(self, folder: Path) -> Path:
        """Where its result is written: names for people, and a digest of everything."""
        return self._named(folder, digest(self.key, _DIGITS))

    def files(self, folder: Path) -> tuple[Path, Path]:
        """Where its result may lie: under today's name, or under the one of before keys."""
        return self.file(folder), self._named(folder, legacy_digest("Experiment", self.key, _DIGITS))

    def find(self, folder: Path) -> Path | None:
        """Where a file of its result lies; None where there is none."""
        return first_file(*self.files(folder))

    def _named(self, folder: Path, digits: str) -> Path:
        return folder / self.suite / self.dataset / f"{self.slug}-{digits}.json"


@dataclass(frozen=True, slots=True)
class CurvePoint:
    """After so many stolen rows: seconds without and with the toll, the leak by measure, the clone where it was examined."""

    queries: int
    seconds_without: float
    seconds_with: float
    leak: Mapping[str, float]
    accuracy: float | None = None
    fidelity: float | None = None


@dataclass(frozen=True, slots=True)
class Provenance:
    """Where a result was made."""

    command: str
    machine: str
    versions: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Result:
    """What came of an experiment.

    ``queries`` are the wanted rows that were bought, of ``asked`` in all. ``ratio`` is the time with the toll over the
    time without, per wanted row (None: nothing was bought), ``honest_ratio`` that of ordinary honest callers.
    ``leak``: sums over the stolen rows, by measure. ``work_seconds``: reference seconds of the work that was done.
    ``waits``: quantiles of a request's seconds. ``suspected``: the share of accounts ever under suspicion, or of an
    honest caller's requests. Shares are in 0..1, times in seconds. A clone's quality is None where it was not trained
    on just these rows. ``honest_cost`` says what the defence costs honest users, in terms of its own.
    """

    experiment: Experiment
    queries: int
    asked: int
    accounts: int
    ratio: float | None
    honest_ratio: float
    seconds_without: float
    seconds_with: float
    work_seconds: float
    undefended_seconds: float
    gate_seconds: float
    unit_seconds: float | None
    leak: Mapping[str, float]
    bills: tuple[HardwareCost, ...]
    waits: Mapping[str, float]
    suspected: float
    first_alarm: float | None
    checks: tuple[Check, ...]
    origin: Provenance
    victim_accuracy: float
    accuracy: float | None = None
    fidelity: float | None = None
    agreement: float | None = None
    honest_cost: Mapping[str, float | None] = field(default_factory=dict)
    course: tuple[CurvePoint, ...] = ()
    scaled: Mapping[str, Any] = field(default_factory=dict)
    theft_seconds: float | None = None
    live: Mapping[str, float] | None = None

    def document(self) -> dict[str, Any]:
        """The JSON: the experiment's members and the origin's stand among the result's own; ``budget`` is what was planned."""
        members = asdict(self)
        plan, made = members.pop("experiment"), members.pop("origin")
        return {"format": FORMAT, **plan, "budget": plan["queries"], **members, **made}

    def write(self, folder: Path) -> Path:
        """Write it to a file of its own, where the experiment belongs."""
        path = self.experiment.find(folder) or self.experiment.file(folder)
        write_document(path, self.document())
        return path


def provenance(command: str) -> Provenance:
    """This machine, with the versions of what is installed here."""
    versions = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    machine = (
        f"{os.cpu_count()} cores, {platform.system()} {platform.machine()}; reference seconds of {DEFAULT_PROFILE.name}"
    )
    return Provenance(command, machine, versions)


def experiment_of(document: Mapping[str, Any]) -> Experiment:
    """The experiment of a result's document."""
    members = {one.name: document[one.name] for one in fields(Experiment) if one.name != "foreign"}
    return Experiment(**(members | {"queries": document["budget"], "foreign": document.get("foreign", "")}))
