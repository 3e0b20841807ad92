"""Settings of what a model reads: its named inputs, and where a service with JSON of its own has them."""

from __future__ import annotations

from typing import Annotated

from pydantic import BeforeValidator, Field

from modeltoll.gateway.settings.field_types import SettingsPart, UrlPath

__all__ = ["InputSettings", "JsonPathSettings", "NamedInput"]


class InputSettings(SettingsPart):
    """One named input of a model: a tensor, or a column of a data frame."""

    name: str = Field(min_length=1, description="Its name, as requests have it.")
    width: int | None = Field(
        None, ge=1, description="How many numbers or texts of it one row holds. Not checked where it is not given."
    )
    datatype: str = Field(
        "", description="Its datatype, as the protocol calls it (`oip`: `FP32`, `INT64`, ...). Empty: not checked."
    )


def _from_name(given: object) -> object:
    """An input that is written as its name alone."""
    return {"name": given} if isinstance(given, str) else given


NamedInput = Annotated[InputSettings, BeforeValidator(_from_name)]


class JsonPathSettings(SettingsPart):
    """Where a service with JSON of its own is asked, and JMESPath expressions for its inputs and scores."""

    route: UrlPath = Field(description="Path at which the service is asked.")
    inputs: str = Field(
        "@", min_length=1, description="JMESPath expression for the rows of a request; `@` is the whole of it."
    )
    scores: str = Field("@", min_length=1, description="JMESPath expression for the scores of an answer.")
    ready: UrlPath = Field(
        "/", description="Path that answers 200 when the service is ready. It is passed through unchanged."
    )
    one_row: bool = Field(False, description="Whether each request is one row, whose numbers the expressions find.")
