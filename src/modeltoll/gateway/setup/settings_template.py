"""Writes a first settings file for a model server, with comments."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import yaml

from modeltoll.gateway.protocols.registry import PROTOCOLS
from modeltoll.names import EMBEDDINGS, TOKENS

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from modeltoll.gateway.protocols.probe import DiscoveredModel
    from modeltoll.gateway.protocols.protocol import DeclaredInput

__all__ = ["first_settings"]

_HEAD = """\
# Modeltoll's settings for the model server at {url}
# Every setting, with its default: docs/reference/settings.md. `modeltoll check FILE` tries them against the model server.

upstream:
  url: {url}

# listen: 127.0.0.1:8080      # the public side
{listen_grpc}
# admin: 127.0.0.1:9090       # health, metrics, the operator's API: for you alone

# Where accounts are kept: a file beside this one. Gateways on several machines share postgresql:// or valkey://
# ledger: {{url: "sqlite:///modeltoll.db"}}

# Which callers are served. Keys are made by: modeltoll keys create FILE alice
# callers: {{anonymous: false, key_file: keys.json}}

models:
"""
_LISTEN_GRPC = "listen_grpc: 127.0.0.1:8081   # the same over gRPC, for models of protocol oip"
_MEASURES = {
    EMBEDDINGS: "      - {name: novelty, file: private-embeddings.npy}   # embeddings of private texts, (rows, dimensions)",
    TOKENS: "      - {name: tokens}",
}
_LOGPROBS = """\
    # Log-probabilities of the model itself, whatever the temperature (vLLM and llama.cpp by default), are
    # output: {kind: tokens, logprobs: raw}. Others are tempered, the default: then the temperature must be 1."""
_UNSEEN, _OUTPUT_KINDS = "no answer was seen", " (probabilities, logits or labels)"
_KINDS = """\
    # Who is honest? Kinds of honest callers are given to the calibration, and to fit-novelty: `--kinds table` for tables
    # (jitter,missing,scale), `--kinds photo` for images (blur,dark,noise,...), `--kind night=night.npy` for rows of your own"""
_KINDS_OF_TEXTS = """\
    # Who is honest? Kinds of honest callers are given to the calibration: `--kind short=short.jsonl` for texts of your own"""
_OF_SCORES = """\
      - {name: entropy}                                # how unsure the model is
      # - {name: novelty, file: private.npy}           # how far an input is from rows that the model was trained on"""


def first_settings(url: str, finds: Sequence[DiscoveredModel]) -> str:
    """The text of the file, in YAML; every model in shadow mode, in which nothing is charged and no tariff is needed."""
    listen_grpc = _LISTEN_GRPC if url.startswith("grpc") else f"# {_LISTEN_GRPC}"
    head = _HEAD.format(url=_plain(url), listen_grpc=listen_grpc)
    return head + "\n".join("\n".join(_model(find)) for find in finds) + "\n"


def _model(find: DiscoveredModel) -> Iterator[str]:
    name = find.setting
    yield f"  {_plain(name)}:"
    yield f"    protocol: {find.protocol}"
    spec = PROTOCOLS.find(find.protocol)
    if find.model != name and spec.names_model:
        yield f"    served_as: {_plain(find.model)}"
    yield "    mode: shadow                # measures and logs, charges nothing. Then: calibrate, and enforce"
    yield f"    tariff: {_plain(name + '.tariff.json')}   # made by: modeltoll calibrate FILE --from-ledger (or --inputs)"
    if find.guessed:
        yield f"    # NOT SURE: {find.guessed}{_OUTPUT_KINDS if find.guessed.startswith(_UNSEEN) else ''}"
    if find.inputs:
        yield f"    inputs: [{', '.join(map(_input, find.inputs))}]   # in the order of the measures' private data"
    elif spec.named_inputs:
        yield "    # inputs: [{name: x, width: 4}]   # which inputs the model reads, in their order; the server does not say it"
    if not find.batched:
        yield "    batched: false              # the model has no dimension of rows: a request is one row"
    yield from _answer_lines(find)
    if find.kind == TOKENS:
        yield _LOGPROBS
    if find.others:
        others = ", ".join(json.dumps(other) for other in find.others)
        yield f"    # An answer with {others} beside it is refused. What may go out unmeasured: output.unmeasured"
    yield "    measures:"
    measures = _MEASURES.get(find.kind, _OF_SCORES)
    yield measures.splitlines()[0] if spec.texts else measures
    if find.kind not in _MEASURES:
        yield _KINDS_OF_TEXTS if spec.texts else _KINDS


def _answer_lines(find: DiscoveredModel) -> Iterator[str]:
    """Where a service of its own JSON has inputs and scores, and what the answers hold."""
    if find.json_path:
        yield f"    json_path: {{{', '.join(f'{name}: {json.dumps(value)}' for name, value in find.json_path)}}}"
    yield f"    output: {_output(find)}"
    if find.unmeasured:
        yield f"    # {', '.join(find.unmeasured)} goes out unmeasured: it must show no more than the label of the largest score"
    if find.kind == "probabilities" and find.tolerance is None:
        yield "    # Scores of few digits or bits may need output.tolerance: 0.01; `modeltoll check FILE` says which"


def _plain(text: str) -> str:
    """A text as YAML has it, in quotes where it needs them."""
    simple = re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_./:-]*", text) and yaml.safe_load(text) == text
    return text if simple and not text.endswith(":") else json.dumps(text)


def _input(declared: DeclaredInput) -> str:
    members = {
        "name": _plain(declared.name),
        "width": str(declared.width or ""),
        "datatype": declared.datatype and _plain(declared.datatype),
    }
    return "{" + ", ".join(f"{name}: {value}" for name, value in members.items() if value) + "}"


def _output(find: DiscoveredModel) -> str:
    members = {
        "name": _plain(find.output) if find.output else "",
        "kind": find.kind,
        "classes": str(find.classes or ""),
        "labels": json.dumps(find.labels) if find.labels else "",
        "unmeasured": json.dumps(find.unmeasured) if find.unmeasured else "",
        "tolerance": f"{find.tolerance:g}" if find.tolerance else "",
    }
    return "{" + ", ".join(f"{name}: {value}" for name, value in members.items() if value) + "}"
