"""ACME's serving protocol: ``{"rows": [[...]]}`` in, ``{"scores": [[...]]}`` out."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from modeltoll.errors import AnswerError, RequestError
from modeltoll.gateway.protocols.plain_errors import PlainErrors
from modeltoll.gateway.protocols.probe import DiscoveredModel, Probe, member_at, names_in
from modeltoll.gateway.protocols.protocol import JSON, ParsedRequest, Routes, ServiceDescription
from modeltoll.gateway.protocols.registry import ProtocolSpec
from modeltoll.gateway.protocols.rows import classification_evidence, parsed_request
from modeltoll.gateway.protocols.strict_json import load_answer, load_object

if TYPE_CHECKING:
    from modeltoll.records import Answer, Evidence, Floats


class Acme(PlainErrors):
    """Rows of numbers at ``PREFIX/MODEL``; ``prefix`` is an option of the settings. Errors are ``{"error": text}``."""

    name = "acme"

    def __init__(self, prefix: str = "/acme") -> None:
        ready = f"{prefix}/ready"
        self.routes = Routes(infer=(f"{prefix}/{{model}}",), pass_through=(ready,), metadata=None, ready=ready)

    def read(self, body: bytes, service: ServiceDescription, content_type: str = JSON) -> ParsedRequest:
        """Read a request; a member that is not known is refused, for it might change the answer."""
        document = load_object(body)
        if document.keys() != {"rows"}:
            raise RequestError("the request must hold 'rows' and nothing else")
        return parsed_request(document["rows"], service)

    def evidence(self, parsed: ParsedRequest, answer: Answer, service: ServiceDescription) -> Evidence:
        """The scores; an answer that shows anything else is not released, for that would not be measured."""
        document = load_answer(answer)
        if not isinstance(document, dict) or document.keys() != {"scores"}:
            raise AnswerError("the model server's answer must hold 'scores' and nothing else")
        return classification_evidence(parsed, document["scores"], service)

    def ask(self, inputs: Floats, metadata: bytes, service: ServiceDescription) -> bytes:
        """A request for rows of numbers, as ``calibrate`` and ``check`` send them."""
        return json.dumps({"rows": inputs.tolist()}).encode()


async def discover(probe: Probe, model: str | None) -> list[DiscoveredModel]:
    """The models that a server lists at ``/acme/models``, for ``modeltoll init``."""
    names = names_in(member_at(await probe.get("/acme/models"), "models"))
    return [
        DiscoveredModel(name, "acme", "probabilities", guessed="no answer was seen")
        for name in names
        if model in (None, name)
    ]


SPEC = ProtocolSpec("acme", Acme, kinds=("probabilities", "logits"), discover=discover)
