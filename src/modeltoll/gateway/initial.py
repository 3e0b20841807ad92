"""A first settings file for a model server, with a comment for whoever reads it first."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from modeltoll.gateway.probing import Find

__all__ = ["first_settings"]

_HEAD = """\
# Modeltoll's settings for {url}
# Every setting, with its default: docs/settings.md. `modeltoll check FILE` tries them against the model server.

upstream:
  url: {url}

# listen: 127.0.0.1:8080      # where callers ask
# admin: 127.0.0.1:9090       # health, metrics, the operator's API: for you alone

# Where callers are remembered: a file beside this one. Gateways on several machines share postgresql:// or valkey://
# ledger: {{url: "sqlite:///modeltoll.db"}}

# Who may ask. Keys are made by: modeltoll keys create FILE alice
# callers: {{anonymous: false, key_file: keys.json}}

models:
"""
_MEASURES = {
    "embeddings": "      - {name: novelty, file: private-embeddings.npy}   # embeddings of private texts, (rows, dimensions)",
    "tokens": "      - {name: tokens}",
}
_OF_SCORES = """\
      - {name: entropy}                                # how unsure the model is
      # - {name: novelty, file: private.npy}           # how far an input is from rows that the model was trained on"""
_TEXTS = ("labels", "vllm-classify")


def first_settings(url: str, finds: Sequence[Find]) -> str:
    """The text of the file, in YAML; every model in shadow mode, in which nothing is charged and no tariff is needed."""
    return _HEAD.format(url=json.dumps(url)) + "\n".join("\n".join(_model(find)) for find in finds) + "\n"


def _model(find: Find) -> Iterator[str]:
    name = find.setting
    yield f"  {json.dumps(name)}:"
    yield f"    protocol: {find.protocol}"
    if find.model != name and find.protocol in ("vllm-classify", "openai-embeddings", "openai-chat"):
        yield f"    served_as: {json.dumps(find.model)}"
    yield "    mode: shadow                # measures and logs, charges nothing. Then: calibrate, and enforce"
    yield f"    tariff: {json.dumps(name + '.tariff.json')}   # made by: modeltoll calibrate FILE --from-ledger (or --inputs)"
    if find.guessed:
        yield f"    # NOT SURE: {find.guessed} (probabilities, logits or labels)"
    yield f"    output: {_output(find)}"
    if find.others:
        others = ", ".join(json.dumps(other) for other in find.others)
        yield f"    # An answer with {others} beside it is refused. What may go out unmeasured: output.unmeasured"
    yield "    measures:"
    measures = _MEASURES.get(find.kind, _OF_SCORES)
    yield measures if find.protocol not in _TEXTS else measures.splitlines()[0]


def _output(find: Find) -> str:
    members = {
        "name": json.dumps(find.output) if find.output else "",
        "kind": find.kind,
        "classes": str(find.classes or ""),
        "labels": json.dumps(find.labels) if find.labels else "",
    }
    return "{" + ", ".join(f"{name}: {value}" for name, value in members.items() if value) + "}"
