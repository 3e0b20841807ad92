"""Settings of one model: its output, its measures, its puzzles."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from modeltoll.gateway.settings_values import each_once

__all__ = ["MeasureSettings", "ModelSettings", "OutputSettings", "Part", "PuzzleSettings"]

_KIB = 1 << 10  # KiB in a MiB


class Part(BaseModel):
    """A section: frozen, and without unknown names."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class OutputSettings(Part):
    """The output that shows the model, and what it holds; ``unmeasured`` outputs may go out beside it as they are."""

    name: str
    kind: Literal["probabilities", "logits", "labels"]
    classes: int | None = Field(None, ge=2)
    unmeasured: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _labels_need_classes(self) -> OutputSettings:
        if self.kind == "labels" and self.classes is None:
            raise ValueError("kind is labels: say how many classes there are")
        return self


class MeasureSettings(Part):
    """One leak measure: its file where it has one, its number of neighbours, its weight in the price."""

    name: Literal["entropy", "gap", "novelty", "pate", "pknn"]
    weight: float = Field(1.0, ge=1e-6, le=1e6)
    file: Path | None = None
    neighbours: int | None = Field(None, ge=1)

    @model_validator(mode="after")
    def _files(self) -> MeasureSettings:
        if self.name in {"novelty", "pate", "pknn"} and self.file is None:
            raise ValueError(f"{self.name} needs 'file'")
        if self.name in {"entropy", "gap"} and self.file is not None:
            raise ValueError(f"{self.name} takes no 'file'; leave it out")
        if self.name in {"entropy", "gap", "pate"} and self.neighbours is not None:
            raise ValueError(f"{self.name} takes no 'neighbours'; leave them out")
        return self


class PuzzleSettings(Part):
    """Which puzzles a model's tolls use."""

    allow: tuple[Literal["argon2id", "sha256", "hashcash", "hashcash-sha1", "timelock"], ...] = Field(
        ("argon2id", "sha256"), min_length=1
    )
    modes: tuple[Literal["sealed", "redeem"], ...] = Field(("sealed", "redeem"), min_length=1)
    disclose: Literal["exact", "coarse", "blind"] = "coarse"
    blind_seconds: float = Field(0.0, ge=0, le=1e6)
    sha256_below_ms: float = Field(20.0, ge=0)
    max_memory_mib: float = Field(64.0, ge=0.25, le=256)
    suspected_memory_mib: float = Field(256.0, ge=0.25, le=256)

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
        """The most memory that any puzzle here takes, in KiB; 0 without argon2id."""
        return max(self.max_memory_kib, self.suspected_memory_kib) if "argon2id" in self.allow else 0

    @model_validator(mode="after")
    def _each_mode_can_be_done(self) -> PuzzleSettings:
        if "sealed" in self.modes and not set(self.allow) - {"hashcash", "hashcash-sha1"}:
            raise ValueError("hashcash cannot seal an answer: allow argon2id or sha256, or set modes to [redeem]")
        if "redeem" in self.modes and set(self.allow) == {"timelock"}:
            raise ValueError("a time lock cannot be redeemed: allow argon2id or sha256, or set modes to [sealed]")
        if self.disclose == "blind" and not self.blind_seconds:
            raise ValueError("disclose is blind: set blind_seconds to the most work that one toll may ask")
        return self


class ModelSettings(Part):
    """One model behind the gateway."""

    protocol: Literal["oip"] = "oip"
    mode: Literal["enforce", "shadow"] = "enforce"
    tariff: Path
    output: OutputSettings
    measures: tuple[MeasureSettings, ...] = Field(min_length=1)
    puzzle: PuzzleSettings = PuzzleSettings()
    choose_g: bool = False

    @property
    def weights(self) -> tuple[float, ...]:
        """The measures' weights as shares that sum to 1."""
        whole = sum(measure.weight for measure in self.measures)
        return tuple(measure.weight / whole for measure in self.measures)

    @field_validator("measures")
    @classmethod
    def _measures_once(cls, measures: tuple[MeasureSettings, ...]) -> tuple[MeasureSettings, ...]:
        each_once((measure.name for measure in measures), "a measure")
        return measures
