"""Settings of one model: its output, its measures, its puzzles."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from modeltoll.gateway.settings.field_types import UrlPath, each_once

__all__ = ["JsonPathSettings", "MeasureSettings", "ModelSettings", "OutputSettings", "PuzzleSettings", "SettingsPart"]

_KIB = 1 << 10  # KiB in a MiB
_ROW_MEASURES = ("entropy", "gap", "novelty", "pate", "pknn")  # of rows of scores


class SettingsPart(BaseModel):
    """A section: frozen, and without unknown names."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class OutputSettings(SettingsPart):
    """The output that shows the model, and what it holds; ``unmeasured`` outputs may go out beside it as they are.

    ``labels`` are the names of the classes, in the order of the measures' private data. ``partial``: only the largest
    scores are shown.
    """

    name: str = ""
    kind: Literal["probabilities", "logits", "labels", "embeddings", "tokens"]
    classes: int | None = Field(None, ge=2)
    labels: tuple[str, ...] = ()
    partial: bool = False
    unmeasured: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _classes_are_known(self) -> OutputSettings:
        if self.labels and (len(self.labels) < 2 or self.classes not in (None, len(self.labels))):
            raise ValueError("labels are fewer than 2, or not as many as classes; list each of them once")
        if self.kind == "labels" and self.number_of_classes is None:
            raise ValueError("kind is labels: say how many classes there are")
        if self.partial and (self.kind != "probabilities" or self.number_of_classes is None):
            raise ValueError("partial is for probabilities, and needs classes: say how many there are")
        return self

    @field_validator("labels")
    @classmethod
    def _labels_once(cls, labels: tuple[str, ...]) -> tuple[str, ...]:
        each_once(labels, "a label")
        return labels

    @property
    def number_of_classes(self) -> int | None:
        """As declared, or as many as there are labels."""
        return self.classes or len(self.labels) or None


class JsonPathSettings(SettingsPart):
    """Where a service of its own making is asked, and JMESPath expressions for its inputs and scores."""

    route: UrlPath
    inputs: str = Field("@", min_length=1)
    scores: str = Field("@", min_length=1)
    ready: UrlPath = "/"
    one_row: bool = False


class MeasureSettings(SettingsPart):
    """One leak measure: its file where it has one, its number of neighbours, its weight in the price."""

    name: Literal["entropy", "gap", "novelty", "pate", "pknn", "tokens"]
    weight: float = Field(1.0, ge=1e-6, le=1e6)
    file: Path | None = None
    neighbours: int | None = Field(None, ge=1)

    @model_validator(mode="after")
    def _files(self) -> MeasureSettings:
        if self.name in {"novelty", "pate", "pknn"} and self.file is None:
            raise ValueError(f"{self.name} needs 'file'")
        if self.name in {"entropy", "gap", "tokens"} and self.file is not None:
            raise ValueError(f"{self.name} takes no 'file'; leave it out")
        if self.name in {"entropy", "gap", "pate", "tokens"} and self.neighbours is not None:
            raise ValueError(f"{self.name} takes no 'neighbours'; leave them out")
        return self


class PuzzleSettings(SettingsPart):
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


class ModelSettings(SettingsPart):
    """One model behind the gateway.

    ``served_as`` is its name in request bodies, if it is another one; ``columns`` are its inputs' names, in the order of
    the measures' private data.
    """

    protocol: Literal["oip", "v1", "mlflow", "labels", "vllm-classify", "openai-embeddings", "openai-chat", "json"] = (
        "oip"
    )
    json_path: JsonPathSettings | None = None
    served_as: str | None = Field(None, min_length=1)
    columns: tuple[str, ...] = ()
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

    @model_validator(mode="after")
    def _protocol_and_output_fit(self) -> ModelSettings:
        kind = self.output.kind
        if (self.protocol == "json") != (self.json_path is not None):
            raise ValueError("json_path is for protocol json, and needed there; say route, inputs and scores")
        if self.protocol == "oip" and not self.output.name:
            raise ValueError("output.name is missing; say which output is measured")
        if self.protocol == "labels" and not self.output.labels:
            raise ValueError("protocol labels: list output.labels")
        if self.output.labels and self.protocol == "labels" and kind not in ("probabilities", "logits"):
            raise ValueError("protocol labels: output.kind is probabilities or logits")
        for protocol, its in (("openai-embeddings", "embeddings"), ("openai-chat", "tokens")):
            if (self.protocol == protocol) != (kind == its):
                raise ValueError(f"output.kind {its} belongs to protocol {protocol}; set both or neither")
        fitting = {"embeddings": {"novelty"}, "tokens": {"tokens"}}.get(kind, {*_ROW_MEASURES})
        for measure in self.measures:
            if measure.name not in fitting:
                raise ValueError(f"{measure.name} cannot measure {kind}; use {' or '.join(sorted(fitting))}")
        return self

    @field_validator("measures")
    @classmethod
    def _measures_once(cls, measures: tuple[MeasureSettings, ...]) -> tuple[MeasureSettings, ...]:
        each_once((measure.name for measure in measures), "a measure")
        return measures
