"""The reference of all settings, made from the gateway's pydantic models and their descriptions."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo

from modeltoll.gateway.settings.gateway import Settings

__all__ = ["Section", "sections", "settings_tables"]

# Where a page says more about a section.
SEE_ALSO: Mapping[str, str] = {
    "upstream": "[The model server](../how-to/model-servers.md)",
    "ledger": "[Choosing a ledger](../how-to/ledgers.md)",
    "callers": "[Callers](../how-to/callers.md)",
    "callers.credit": "[Credit and settlement](../how-to/callers.md#credit-and-settlement)",
    "callers.jwt": "[JSON Web Tokens](../how-to/callers.md#json-web-tokens)",
    "callers.keys": "[API keys](../how-to/callers.md#api-keys), [known honest callers](../how-to/callers.md#known-honest-callers)",
    "callers.tiers": "[Tiers](../how-to/callers.md#tiers)",
    "operation": "[Operating a gateway](../how-to/operating.md)",
    "models": "[Serving protocols](protocols.md)",
    "models.measures": "[Choosing a measure](../how-to/choosing-a-measure.md)",
    "models.puzzle": "[Choosing a puzzle](../how-to/choosing-a-puzzle.md)",
    "models.inputs": "[What is priced is what the model reads](protocols.md#what-is-priced-is-what-the-model-reads)",
    "models.json_path": "[Any other JSON](protocols.md#any-other-json)",
}
_SIMPLE: Mapping[object, str] = {
    bool: "`true` or `false`",
    int: "whole number",
    float: "number",
    str: "text",
    Path: "file",
    SecretStr: "secret text",
}
_PLACES = {Mapping: ".NAME", tuple: ".N"}


@dataclass(frozen=True, slots=True)
class Section:
    """One model of settings: its dotted name with ``NAME`` and ``N`` in it ("" for the top), and its class."""

    name: str
    model: type[BaseModel]

    @property
    def plain(self) -> str:
        """The name without places in maps and lists, as in headings and links."""
        return self.name.replace(".NAME", "").removesuffix(".N")

    @property
    def anchor(self) -> str:
        """The heading's identifier in the page."""
        return self.plain.replace(".", "-").replace("_", "-") or "gateway"

    def settings(self) -> Iterator[tuple[str, FieldInfo]]:
        """Dotted names of all members, and their fields."""
        for name, field in self.model.model_fields.items():
            yield f"{self.name}.{name}".lstrip("."), field


def _nested(name: str, annotation: Any) -> Iterator[Section]:
    """The sections inside a member's type."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield Section(name, annotation)
        return
    place = _PLACES.get(get_origin(annotation) or object, "")
    for inner in get_args(annotation):
        yield from _nested(f"{name}{place}", inner)


def sections(top: Section | None = None) -> Iterator[Section]:
    """All sections, each before those inside it; the gateway's own members come first."""
    top = top or Section("", Settings)
    yield top
    for name, field in top.settings():
        for inner in _nested(name, field.annotation):
            yield from sections(inner)


def _bounds(metadata: list[Any]) -> str:
    """Numeric bounds in words: ``, 1 to 64``."""
    found = {key: getattr(item, key) for item in metadata for key in ("ge", "gt", "le", "lt") if hasattr(item, key)}
    least, most = found.get("ge"), found.get("le")
    if least is not None and most is not None:
        return f", {least:,} to {most:,}"
    words = (("ge", "at least {:,}"), ("gt", "above {:,}"), ("le", "at most {:,}"), ("lt", "below {:,}"))
    return "".join(f", {form.format(found[key])}" for key, form in words if key in found)


def _values(annotation: Any, metadata: list[Any]) -> str:
    """What a setting accepts, in words."""
    arguments = [inner for inner in get_args(annotation) if inner is not type(None)]
    if get_origin(annotation) is Literal:
        return ", ".join(f"`{value}`" for value in arguments)
    if get_origin(annotation) is Mapping:
        return "mapping"
    if get_origin(annotation) is tuple:
        return f"list of {_values(arguments[0], [])}"
    if hasattr(annotation, "__metadata__"):
        inner = [part for item in annotation.__metadata__ for part in getattr(item, "metadata", [item])]
        return _values(annotation.__origin__, [*inner, *metadata])
    if get_origin(annotation) in (UnionType, Union):
        return " or ".join(_values(inner, metadata) for inner in arguments)
    return _SIMPLE[annotation] + _bounds(metadata)


def _default(field: FieldInfo) -> str:
    """A default as it would be written in the settings file."""
    if field.is_required():
        return "required"
    value = list(field.default) if isinstance(field.default, tuple) else field.default
    if value in (None, [], {}, ""):
        return "none"
    if isinstance(value, list):
        return f"`[{', '.join(value)}]`"
    return f"`{value if isinstance(value, str) else json.dumps(value).removesuffix('.0')}`"


def _line(name: str, field: FieldInfo) -> str:
    inner = next(_nested(name, field.annotation), None)
    if inner is not None:
        what = {".NAME": "a section for each name", ".N": "a list of sections"}
        kind = next((words for place, words in what.items() if inner.name.endswith(place)), "a section")
        text = field.description or _summary(inner.model)[0]
        default = "required" if field.is_required() else "none" if field.default is None else "see there"
        return f"| `{name}` | [{kind}](#{inner.anchor}) | {default} | {text} |"
    if not field.description:
        raise ValueError(f"the setting {name} has no description")
    text = field.description.replace("|", "\\|")
    return f"| `{name}` | {_values(field.annotation, field.metadata)} | {_default(field)} | {text} |"


def _summary(model: type[BaseModel]) -> tuple[str, str]:
    """The first sentence of a section's docstring, and the rest."""
    first, _, rest = " ".join((model.__doc__ or "").replace("``", "`").split()).partition(". ")
    return first.rstrip(".") + ".", rest


def settings_tables() -> str:
    """The whole reference in Markdown: a heading and a table for each section."""
    parts = []
    for section in sections():
        level = "##" if "." not in section.plain else "###"
        title = f"`{section.plain}`" if section.plain else "The gateway"
        lines = [f"{level} {title} {{ #{section.anchor} }}", ""]
        if section.plain:
            lines += [" ".join(_summary(section.model)).strip(), ""]
        if (more := SEE_ALSO.get(section.plain)) is not None:
            lines += [f"See also: {more}.", ""]
        lines += ["| setting | values | default | meaning |", "| --- | --- | --- | --- |"]
        parts.append("\n".join([*lines, *(_line(name, field) for name, field in section.settings())]))
    return "\n\n".join(parts) + "\n"
