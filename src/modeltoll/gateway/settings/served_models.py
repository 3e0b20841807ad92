"""Settings of one model: its measures, its puzzles."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from modeltoll.gateway.protocols.registry import PROTOCOLS
from modeltoll.gateway.settings.field_types import QueryName, SettingsPart, VersionName, each_once, known_in
from modeltoll.gateway.settings.model_inputs import InputSettings, JsonPathSettings, NamedInput
from modeltoll.gateway.settings.model_output import OutputSettings
from modeltoll.leak.registry import MEASURES
from modeltoll.names import ARGON2ID, SHA256
from modeltoll.puzzle.registry import PUZZLES

__all__ = ["MeasureSettings", "ModelSettings", "OutputSettings", "PuzzleSettings", "SettingsPart"]

_KIB = 1 << 10  # KiB in a MiB

MeasureName = Annotated[str, known_in(MEASURES)]
ProtocolName = Annotated[str, known_in(PROTOCOLS)]
PuzzleName = Annotated[str, known_in(PUZZLES)]


def _listed(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


class MeasureSettings(SettingsPart):
    """One leak measure."""

    name: MeasureName = Field(
        description=f"Name of the measure: {_listed(MEASURES.built_in)}, or one of an installed package. `tokens` is for chats."
    )
    weight: float = Field(
        1.0,
        ge=1e-6,
        le=1e6,
        description="Weight in the price, relative to the other measures'. It is in force from the next calibration on.",
    )
    file: Path | None = Field(
        None,
        description="`novelty`: private rows (`.npy`) or a saved measure (`.npz`). `pate`: saved teachers. `pknn`: an `.npz` of `scores` and `labels`. The other measures take none.",
    )
    neighbours: int | None = Field(
        None,
        ge=1,
        description="Which neighbour's distance counts (`novelty` from `.npy`; 5 if not set), or how many vote (`pknn`; 300 if not set).",
    )
    options: Mapping[str, Any] = Field(
        {}, description="Options of a measure of another package. The built-in measures have none."
    )

    @model_validator(mode="after")
    def _fits_its_measure(self) -> MeasureSettings:
        spec = MEASURES.find(self.name)
        if spec.file == "needed" and self.file is None:
            raise ValueError(f"{self.name} needs 'file'")
        if spec.file == "none" and self.file is not None:
            raise ValueError(f"{self.name} takes no 'file'; leave it out")
        if not spec.neighbours and self.neighbours is not None:
            raise ValueError(f"{self.name} takes no 'neighbours'; leave them out")
        if clash := sorted({"file", "neighbours"} & self.options.keys()):
            raise ValueError(f"options: write {clash[0]!r} beside 'options', not in it")
        return self


class PuzzleSettings(SettingsPart):
    """Which puzzles a model's tolls use."""

    allow: tuple[PuzzleName, ...] = Field(
        (ARGON2ID, SHA256),
        min_length=1,
        description=f"Puzzles that clients choose among: {_listed(PUZZLES.built_in)}. `hashcash` and `hashcash-sha1` are for redeem mode only. These two and `timelock` publish their exact work, whatever `disclose` says, and cannot be used with `blind`. Callers under suspicion get argon2id where it is allowed.",
    )
    modes: tuple[Literal["sealed", "redeem"], ...] = Field(
        ("sealed", "redeem"),
        min_length=1,
        description="`sealed`: the solution decrypts the answer. `redeem`: the solution is sent back for the answer. The first one is the default; clients may ask for any of them.",
    )
    disclose: Literal["exact", "coarse", "blind"] = Field(
        "coarse",
        description="The largest wait that a toll publishes, which is twice its work: the true one (`exact`), that rounded up to a power of two of seconds (`coarse`), or that of `blind_seconds` for every toll (`blind`). The puzzle, its memory, its parts and their bounds depend on this alone. The work is the same. The less is published, the less the price tells about the leak.",
    )
    blind_seconds: float = Field(
        0.0,
        ge=0,
        le=1e6,
        description="The most work that one toll asks, in reference seconds, and the one that is published for every toll. Required for `blind`. Larger tolls cost this much and no more.",
    )
    sha256_below_ms: float = Field(
        1.0,
        ge=0,
        description="Work, in reference milliseconds, below which sha256 and hashcash are offered; it is compared with half the published wait. Larger tolls use argon2id, where it is allowed, or a time lock. With `blind` all tolls do.",
    )
    max_memory_mib: float = Field(
        64.0,
        ge=0.0625,
        le=256,
        description="Largest memory of an argon2id puzzle. Larger tolls use more of it. Clients with less memory announce it in `Toll-Accept`.",
    )
    suspected_memory_mib: float = Field(
        256.0,
        ge=0.0625,
        le=256,
        description="Largest memory of a puzzle for callers under suspicion. It is not more than their client offers, but 8 MiB may be asked of any. Puzzles of 4 MiB and more are precomputed in a thread of low priority, which takes at most a tenth of one core; of what is not precomputed, a puzzle has the largest memory with which it is made in 10 ms, and the same work.",
    )

    @property
    def max_memory_kib(self) -> int:
        """The most memory of an argon2id puzzle, in KiB."""
        return int(self.max_memory_mib * _KIB)

    @property
    def suspected_memory_kib(self) -> int:
        """The same for a caller under suspicion."""
        return int(self.suspected_memory_mib * _KIB)

    @property
    def highest_memory_kib(self) -> int:
        """The most memory of a puzzle here that is made ahead, in KiB; 0 where none is."""
        ahead = any(PUZZLES.find(name).precomputed for name in self.allow)
        return max(self.max_memory_kib, self.suspected_memory_kib) if ahead else 0

    @model_validator(mode="after")
    def _each_mode_can_be_done(self) -> PuzzleSettings:
        for mode in self.modes:
            if not any(mode in PUZZLES.find(name).modes for name in self.allow):
                allowed = " and ".join(self.allow)
                raise ValueError(
                    f"{allowed} cannot be used in mode {mode}: allow {ARGON2ID} or {SHA256}, or leave {mode} out of modes"
                )
        if self.disclose == "blind" and not self.blind_seconds:
            raise ValueError("disclose is blind: set blind_seconds to the most work that one toll may ask")
        shown = [name for name in self.allow if PUZZLES.find(name).publishes_work]
        if self.disclose == "blind" and shown:
            raise ValueError(
                f"disclose is blind: {' and '.join(shown)} publishes its exact work; leave it out of allow"
            )
        return self


class ModelSettings(SettingsPart):
    """One model behind the gateway. A model that is not listed is not served."""

    protocol: ProtocolName = Field(
        "oip",
        description=f"The protocol that the model server speaks: {_listed(PROTOCOLS.built_in)}, or one of an installed package.",
    )
    protocol_options: Mapping[str, Any] = Field(
        {}, description="Options of a protocol of another package. The built-in protocols have none."
    )
    json_path: JsonPathSettings | None = Field(
        None, description="Required for protocol `json`, and only allowed there."
    )
    served_as: str | None = Field(
        None,
        min_length=1,
        description="The model's name in request bodies, where the protocol has it there. Without it the name in the settings is used.",
    )
    versions: tuple[VersionName, ...] = Field(
        (),
        description="Versions that callers may name in the path, such as `/v2/models/NAME/versions/2/infer`, where the protocol has such paths. None unless they are listed: the tariff is made for the model that the path without a version serves. Rows of another version are rows of their own.",
    )
    inputs: tuple[NamedInput, ...] = Field(
        (),
        description="All named inputs of the model (tensors, or columns of data frames), in the order of the measures' private data; an input may be written as its name alone. Requests must have exactly these, and are read in this order whatever order they have. Where it is empty, measures of inputs refuse requests of more than one named input, because nothing says in which order the model reads them. `modeltoll init` writes it.",
    )
    allow_members: tuple[str, ...] = Field(
        (),
        description="Members and parameters of requests that are served beside those that the protocol knows. Their values are part of each row's identity in the ledger. All others are refused, because they could change what the model answers.",
    )
    allow_query: tuple[QueryName, ...] = Field(
        (),
        description="Names of query parameters of requests that are passed on to the model server, such as `threshold`, beside those that the protocol knows. Their values are part of each row's identity in the ledger. All others are refused with 400, because they could change what the model answers.",
    )
    batched: bool = Field(
        True,
        description="Whether tensors of `oip` have the rows as their first dimension. `false` is for models without a batch dimension (Triton: `max_batch_size: 0`, and shapes that do not begin with -1): a request is then one row, and so is its answer.",
    )
    mode: Literal["enforce", "shadow"] = Field(
        "enforce",
        description="`shadow` measures, prices and logs everything and charges nothing; answers carry a `Toll-Receipt`.",
    )
    tariff: Path = Field(
        description="The file that `modeltoll calibrate` writes. In shadow mode it may be missing: rows are then measured and logged, for `calibrate --from-ledger`."
    )
    output: OutputSettings
    measures: tuple[MeasureSettings, ...] = Field(
        min_length=1,
        description="The leak measures that the price is made of, one or more, each once. After a change calibrate again.",
    )
    coordinates: tuple[MeasureName, ...] = Field(
        (),
        max_length=2,
        description="The one or two measures by whose p-values the evidence against callers sorts rows. If it is empty: the first by weight of those that read answers and of those that read inputs alone, else the two heaviest. It is in force from the next calibration on.",
    )
    puzzle: PuzzleSettings = Field(default_factory=PuzzleSettings)  # importing reads no entry points
    choose_g: bool = Field(
        False,
        description="Whether the exponent g of the price is chosen anew every 256 rows: the one from 0.5 to 0.9 that would have charged most for all rows of the last days. The honest mean stays at most one unit; the waits change with g.",
    )

    @property
    def weights(self) -> tuple[float, ...]:
        """The measures' weights as shares that sum to 1."""
        whole = sum(measure.weight for measure in self.measures)
        return tuple(measure.weight / whole for measure in self.measures)

    @model_validator(mode="after")
    def _protocol_and_output_fit(self) -> ModelSettings:
        spec, kind = PROTOCOLS.find(self.protocol), self.output.kind
        if spec.json_path != (self.json_path is not None):
            raise ValueError("json_path is for protocol json, and needed there; say route, inputs and scores")
        if spec.json_path and self.protocol_options:
            raise ValueError(f"protocol_options: protocol {spec.name} has none; its section is json_path")
        if spec.needs_output and not self.output.name:
            raise ValueError("output.name is missing; say which output is measured")
        if spec.needs_labels and not self.output.labels:
            raise ValueError(f"protocol {spec.name}: list output.labels")
        if kind not in spec.kinds:
            raise ValueError(f"protocol {spec.name} has no {kind}; its output.kind is {' or '.join(spec.kinds)}")
        for measure in self.measures:
            if kind not in MEASURES.find(measure.name).kinds:
                fitting = sorted(name for name, known in MEASURES.built_in.items() if kind in known.kinds)
                raise ValueError(f"{measure.name} cannot measure {kind}; use {' or '.join(fitting)}")
        return self

    @model_validator(mode="after")
    def _coordinates_are_measured(self) -> ModelSettings:
        each_once(self.coordinates, "a measure")
        measured = [measure.name for measure in self.measures]
        for name in self.coordinates:
            if name not in measured:
                raise ValueError(f"coordinates: {name} is not among the measures; they are: {', '.join(measured)}")
        return self

    @field_validator("inputs")
    @classmethod
    def _inputs_once(cls, inputs: tuple[InputSettings, ...]) -> tuple[InputSettings, ...]:
        each_once((one.name for one in inputs), "an input")
        return inputs

    @field_validator("measures")
    @classmethod
    def _measures_once(cls, measures: tuple[MeasureSettings, ...]) -> tuple[MeasureSettings, ...]:
        each_once((measure.name for measure in measures), "a measure")
        return measures
