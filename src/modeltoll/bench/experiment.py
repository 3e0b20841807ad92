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
    "Result",
    "ResultOrigin",
    "experiment_of",
    "result_origin",
]

FORMAT = 2
VERSION = 2  # of experiments: 1 before honest callers were of several kinds
_DIGITS = 8  # of the digest in a file's name
HONEST = "honest"  # the attack of experiments with honest callers
_PACKAGES = ("modeltoll", "numpy", "scipy", "scikit-learn", "torch")


@dataclass(frozen=True, slots=True)
class Experiment:
    """One experiment. Names are those of the registries of targets, attacks, evasions, defences, tolls and workloads.

    ``attack`` is ``honest`` for an honest caller with a ``workload``. ``measure`` names the measures that the toll prices,
    joined by +; empty without a toll. ``foreign`` is the source of foreign images, empty for the data set's usual one.
    ``version``: of the bench that makes its result; results of another version are not comparable.
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
    version: int = VERSION

    @property
    def key(self) -> dict[str, str | int]:
        """The identity of the experiment, with names that do not follow the fields' names."""
        return {
            "v": self.version,
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
        """A readable name, not unique."""
        source = Path(self.foreign).stem if self.version > 1 else ""
        parts = [self.attack, self.workload, source, self.evasion, self.defence, self.tariff, f"s{self.seed}"]
        words = "-".join(part for part in parts if part not in ("", "none"))
        return re.sub(r"[^a-z0-9]+", "-", words.lower()).strip("-")

    @property
    def order(self) -> tuple[str, str, str, str]:
        """The sort key of results: suite, data set, slug, and the whole key."""
        return self.suite, self.dataset, self.slug, canonical(self.key)

    def file(self, folder: Path) -> Path:
        """The path of its result's working file: suite, data set, slug and a digest of the key."""
        return self._named(folder, digest(self.key, _DIGITS))

    def files(self, folder: Path) -> tuple[Path, ...]:
        """The paths where its working file may be: under its name or, of version 1, its legacy name."""
        named = self.file(folder)
        return (
            (named,)
            if self.version > 1
            else (named, self._named(folder, legacy_digest("Experiment", self.key, _DIGITS)))
        )

    def find(self, folder: Path) -> Path | None:
        """The path of its working file; None if there is none."""
        return first_file(*self.files(folder))

    def _named(self, folder: Path, digits: str) -> Path:
        return folder / self.suite / self.dataset / f"{self.slug}-{digits}.json"


@dataclass(frozen=True, slots=True)
class CurvePoint:
    """After ``queries`` stolen rows: seconds without and with the toll, the summed leak by measure, the clone's quality.

    ``accuracy`` and ``fidelity`` are None where no clone was evaluated.
    """

    queries: int
    seconds_without: float
    seconds_with: float
    leak: Mapping[str, float]
    accuracy: float | None = None
    fidelity: float | None = None


@dataclass(frozen=True, slots=True)
class ResultOrigin:
    """The command, the machine and the versions that a result was made with."""

    command: str
    machine: str
    versions: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Result:
    """The result of an experiment. Shares are in 0..1, times in seconds.

    ``queries`` are the wanted rows that were paid for, of ``asked`` rows sent. ``ratio`` is the time with the toll divided
    by the time without, per wanted row (None: no row was paid for), ``honest_ratio`` that of ordinary honest callers.
    ``leak``: sums over the stolen rows, by measure; ``paper``: the members of ``paper_units.PaperUnits`` for an extraction under
    the published toll without evasion. ``work_seconds``: reference seconds of the solved work. ``waits``:
    quantiles of a request's duration. ``suspected``: the share of accounts ever under suspicion, or of an honest
    caller's requests. A clone's quality is None if it was not trained on exactly these rows. ``honest_cost``: what the
    defence costs honest callers, by kind of cost.
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
    origin: ResultOrigin
    victim_accuracy: float
    accuracy: float | None = None
    fidelity: float | None = None
    agreement: float | None = None
    honest_cost: Mapping[str, float | None] = field(default_factory=dict)
    course: tuple[CurvePoint, ...] = ()
    scaled: Mapping[str, Any] = field(default_factory=dict)
    theft_seconds: float | None = None
    live: Mapping[str, float] | None = None
    paper: Mapping[str, float | str | None] = field(default_factory=dict)

    def document(self) -> dict[str, Any]:
        """The JSON document; members of experiment and origin are merged into it; ``budget`` is the planned number of rows."""
        members = asdict(self)
        experiment, origin = members.pop("experiment"), members.pop("origin")
        return {"format": FORMAT, **experiment, "budget": experiment["queries"], **members, **origin}

    def write(self, folder: Path) -> Path:
        """Write the result to its experiment's working file; the path."""
        path = self.experiment.find(folder) or self.experiment.file(folder)
        write_document(path, self.document())
        return path


def result_origin(command: str) -> ResultOrigin:
    """The origin of results made by ``command`` on this machine, with the installed versions."""
    versions = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    machine = (
        f"{os.cpu_count()} cores, {platform.system()} {platform.machine()}; reference seconds of {DEFAULT_PROFILE.name}"
    )
    return ResultOrigin(command, machine, versions)


def experiment_of(document: Mapping[str, Any]) -> Experiment:
    """The experiment of a result's document."""
    newer = {"foreign": document.get("foreign", ""), "version": document.get("version", 1)}
    members = {one.name: document[one.name] for one in fields(Experiment) if one.name not in newer}
    return Experiment(**(members | newer | {"queries": document["budget"]}))
