"""Finds a service by its path: lists of labels, or JSON of its own that an OpenAPI document describes, as FastAPI writes it."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from modeltoll.errors import AnswerError
from modeltoll.gateway.protocols.probe import DiscoveredModel, Probe, kind_of_scores, member_at
from modeltoll.gateway.protocols.protocol import DeclaredInput
from modeltoll.gateway.protocols.registry import SAMPLE_TEXT
from modeltoll.leak.scores import TOLERANCE, needed_tolerance

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["service_at", "services"]

_READY = ("/health", "/healthz", "/health/ready", "/ready", "/readyz", "/ping", "/livez", "/", "/openapi.json")
_LABELS_PATH = "/predict"  # of the protocol labels
_MANY_LABELS = 10_000
_DEPTH = 8
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


async def services(probe: Probe) -> tuple[str, ...]:
    """The paths that ``/openapi.json`` says take JSON by POST; nothing is sent to them."""
    paths = member_at(await probe.get("/openapi.json"), "paths")
    listed = paths.items() if isinstance(paths, dict) else ()
    taking = ("post", "requestBody", "content", "application/json")
    return tuple(path for path, methods in listed if member_at(methods, *taking) is not None and "{" not in path)


async def service_at(probe: Probe, path: str, model: str | None) -> DiscoveredModel | None:
    """The service at a path; None where it answers neither as the protocol ``labels`` nor as an OpenAPI document says."""
    name = model or path.strip("/").rpartition("/")[2] or "model"
    if path == _LABELS_PATH and (found := await _labels(probe, name)) is not None:
        return found
    described = await probe.get("/openapi.json")
    schema = member_at(described, "paths", path, "post", "requestBody", "content", "application/json", "schema")
    if not isinstance(schema, dict):
        return None
    body = _sample(schema, described, 0)
    find = _of_request(name, path, _resolved(schema, described), described)
    ready = [each for each in _READY if await probe.ready(each)]
    find = replace(find, json_path=(*find.json_path, ("ready", ready[0] if ready else "/")))
    return _of_answer(find, await probe.post(path, body))


async def _labels(probe: Probe, name: str) -> DiscoveredModel | None:
    """A service that answers a text with labels and their scores."""
    if not await probe.ready("/health"):
        return None
    for more in ({"parameters": {"top_k": _MANY_LABELS}}, {}):
        answer = await probe.post(_LABELS_PATH, {"inputs": SAMPLE_TEXT, **more})
        pairs = member_at(answer, 0) if isinstance(member_at(answer, 0), list) else answer
        if not isinstance(pairs, list) or not pairs or not all(isinstance(each, dict) for each in pairs):
            continue
        labels = tuple(label for each in pairs if isinstance(label := each.get("label"), str))
        scores = [each.get("score") for each in pairs]
        if len(labels) == len(pairs) > 1 and (kind := kind_of_scores([scores])) is not None:
            return DiscoveredModel(name, "labels", kind[0], labels=tuple(sorted(labels)), **_tolerance([scores]))
    return None


def _resolved(schema: Any, document: Any) -> Any:
    """A schema in place of a reference to it."""
    for _ in range(_DEPTH):
        reference = member_at(schema, "$ref")
        if not isinstance(reference, str):
            break
        schema = member_at(document, *reference.removeprefix("#/").split("/"))
    if any_of := member_at(schema, "anyOf"):  # an optional value
        return _resolved(next((each for each in any_of if member_at(each, "type") != "null"), {}), document)
    return schema if isinstance(schema, dict) else {}


def _sample(schema: Any, document: Any, depth: int) -> Any:
    """A value of a schema: its example, its default, its first choice, or the simplest one."""
    schema = _resolved(schema, document)
    for value in (member_at(schema, "example"), member_at(schema, "examples", 0), schema.get("default")):
        if value is not None:
            return value
    if isinstance(schema.get("enum"), list):
        return schema["enum"][0]
    kind = schema.get("type")
    if kind == "object" and depth < _DEPTH:
        return {name: _sample(each, document, depth + 1) for name, each in schema.get("properties", {}).items()}
    if kind == "array" and depth < _DEPTH:
        return [_sample(schema.get("items", {}), document, depth + 1)] * max(1, int(schema.get("minItems", 1)))
    low = schema.get("minimum", schema.get("exclusiveMinimum", 0))
    return {"string": SAMPLE_TEXT, "integer": math.ceil(low) + 1, "number": low + 0.5, "boolean": True}.get(kind)


def _of_request(name: str, path: str, schema: dict[str, Any], document: Any) -> DiscoveredModel:
    """What the request's schema says: where the inputs are, and how they are called."""
    places: list[tuple[str, object]] = [("route", path)]
    inputs: tuple[DeclaredInput, ...] = ()
    members = {each: _resolved(one, document) for each, one in schema.get("properties", {}).items()}
    if len(members) == 1:
        ((only, inside),) = members.items()
        places.append(("inputs", only))
        rows = inside.get("type") == "array"
        items = _resolved(inside.get("items", {}), document)
        if rows and items.get("type") == "object":
            inputs = tuple(DeclaredInput(each, 1) for each in items.get("properties", {}))
        one_row = not rows or items.get("type") in ("number", "integer")
        places += [("one_row", True)] if one_row else []
    elif members:
        inputs = tuple(DeclaredInput(each, 1) for each in members)
        places.append(("one_row", True))
    find = DiscoveredModel(name, "json", "probabilities", inputs=inputs, json_path=tuple(places))
    return replace(
        find, guessed="no scores were seen: say where the answer has them (json_path.scores), and what they are"
    )


def _of_answer(find: DiscoveredModel, answer: Any) -> DiscoveredModel:
    """The model with what an answer shows: where the scores are, and what stands beside them."""
    one_row = dict(find.json_path).get("one_row", False)
    for place, scores, used in _places(answer, "", 0):
        table = [scores] if one_row else scores
        if (kind := kind_of_scores(table)) is None:
            continue
        others = tuple(answer.keys() - {used}) if isinstance(answer, dict) else ()
        plain = tuple(sorted(each for each in others if isinstance(answer[each], str | int | bool)))
        guess = ""
        if len(plain) < len(others):
            guess = f"the answer also has {', '.join(sorted(set(others) - set(plain)))}, which is not measured"
        more = _tolerance(table) if kind[0] == "probabilities" else {}
        json_path = (*find.json_path, ("scores", place))
        return replace(
            find, kind=kind[0], classes=kind[1], guessed=guess, unmeasured=plain, json_path=json_path, **more
        )
    return find


def _places(document: Any, at: str, depth: int) -> Iterator[tuple[str, Any, str]]:
    """JMESPath expressions of lists in a document, what is there, and the member of the answer that it is in."""
    if isinstance(document, list):
        yield at or "@", document, at.partition(".")[0].partition("[")[0]
        if document and isinstance(document[0], dict):
            for name in filter(_NAME.fullmatch, document[0]):
                column = [member_at(row, name) for row in document]
                yield f"{at}[].{name}", column, at.partition(".")[0]
    if isinstance(document, dict) and depth < _DEPTH:
        for name, member in document.items():
            if _NAME.fullmatch(name):
                yield from _places(member, f"{at}.{name}" if at else name, depth + 1)
        names = [name for name in document if _NAME.fullmatch(name)]
        if at and len(names) == len(document) > 1:  # scores by label: in this order
            yield f"{at}.[{', '.join(names)}]", [document[name] for name in names], at.partition(".")[0]


def _tolerance(table: Any) -> dict[str, Any]:
    """The tolerance that scores need, where it is more than the default."""
    try:
        needed = needed_tolerance(table)
    except AnswerError:
        return {}
    return {"tolerance": needed} if needed > TOLERANCE else {}
