"""Settings of the output of a model that is measured."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator, model_validator

from modeltoll.gateway.settings.field_types import SettingsPart, each_once
from modeltoll.leak.scores import LARGEST_TOLERANCE, TOLERANCE

__all__ = ["OutputSettings"]


class OutputSettings(SettingsPart):
    """The output that shows the model.

    Nothing is guessed: an answer that does not hold what is declared here becomes a 502.
    """

    name: str = Field("", description="Name of the output. Required for `oip`.")
    kind: Literal["probabilities", "logits", "labels", "embeddings", "tokens"] = Field(
        description="What it holds: `probabilities` (each row sums to 1 within `tolerance`), `logits`, `labels` (whole numbers from 0), `embeddings`, or `tokens` of OpenAI's API. One probability or one logit per row is that of class 1 of a binary model."
    )
    classes: int | None = Field(
        None,
        ge=2,
        description="Number of classes. Checked where it is given; required for `labels` and with `partial`.",
    )
    labels: tuple[str, ...] = Field(
        (),
        description="Names of the classes, in the order of the measures' private data. Required for protocol `labels`.",
    )
    partial: bool = Field(
        False,
        description="Whether answers show only the largest probabilities. Needs `classes`. Probabilities that are not shown are charged as the largest entropy that they can have.",
    )
    tolerance: float = Field(
        TOLERANCE,
        gt=0,
        le=LARGEST_TOLERANCE,
        description="How far the sum of a row of `probabilities` may be from 1. Probabilities of BF16 need 0.01; so do those that are rounded to few decimals, or more where there are many classes. Measures read the row scaled to a sum of 1; the answer itself is not changed. `modeltoll check` proposes one.",
    )
    unmeasured: tuple[str, ...] = Field(
        (),
        description="Other outputs that may go out unmeasured beside it, such as a label. An answer with any further output is not released, because that output would not be charged.",
    )

    logprobs: Literal["raw", "tempered"] = Field(
        "tempered",
        description="How the model server of generated text reports log-probabilities: `raw`, of the model itself, whatever the request's temperature (vLLM by default, llama.cpp), or `tempered`, of what it samples from (SGLang, Text Generation Inference). With `tempered` a request must leave temperature, `top_p`, penalties and biases at their neutral values, because the price would depend on them.",
    )
    top_logprobs: int = Field(
        20,
        ge=1,
        le=20,
        description="How many log-probabilities per token the model server of generated text is asked for: the most that it gives. Some services give at most 5 (OpenAI's `/v1/completions`), and refuse requests for more. Callers may ask for as many.",
    )
    neutral_defaults: bool = Field(
        False,
        description="With `tempered`: whether the model server itself tempers nothing where a request leaves temperature, `top_p` and penalties out, as OpenAI's API describes it (`--sampling-defaults openai` of SGLang). Shadow mode then measures such requests. Else they pass unmeasured there, for nothing of them may be set.",
    )

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
