"""Any other JSON: two JMESPath expressions find the inputs and the scores."""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING, Any

import jmespath
import msgspec
from jmespath.exceptions import JMESPathError

from modeltoll.errors import AnswerError, RequestError, SettingsError
from modeltoll.gateway.protocols.protocol import JSON, ParsedRequest, Routes, ServiceDescription
from modeltoll.gateway.protocols.rows import classification_evidence, named_rows, parsed_request
from modeltoll.gateway.protocols.strict_json import canonical, error_text_at, load_answer, load_request

if TYPE_CHECKING:
    from modeltoll.records import Answer, Evidence, Floats

__all__ = ["JsonPath", "from_settings"]

_MEMBER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_NAME_IN_EXPRESSION = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_WHOLE = "@"
_ERROR_MEMBERS = ("error", "detail", "message")


def _leaves(value: object, left_out: tuple[str, ...] = ()) -> Counter[type]:
    """How many numbers, texts, truths, nulls and empty lists and objects a document holds, by their types.

    What is below members that are ``left_out`` is not counted. The types matter: JMESPath puts null where a member is
    missing, which must not stand for another one.
    """
    count, left = Counter[type](), [value]
    while left:
        item = left.pop()
        if isinstance(item, dict) and item:
            left += [member for name, member in item.items() if name not in left_out]
        elif isinstance(item, list) and item:
            left += (one for one in item if isinstance(one, (dict, list)))
            count.update(kind for kind in map(type, item) if kind not in (dict, list))
        else:
            count[type(item)] += 1
    return count


class JsonPath:
    """A service with JSON of its own, such as those of BentoML, LitServe, Ray Serve and FastAPI."""

    name = "json"

    def __init__(self, route: str, inputs: str, scores: str, ready: str = "/", *, one: bool = False) -> None:
        """``inputs`` and ``scores`` each find a list with one item per row, or with ``one`` the one row of all.

        Raises:
            SettingsError: one of them is no JMESPath expression.
        """
        self.routes = Routes(infer=(route,), pass_through=(ready,), metadata=None, ready=ready)
        self._inputs_at = inputs
        self._one = one
        try:
            self._inputs, self._scores = jmespath.compile(inputs), jmespath.compile(scores)
        except JMESPathError as error:
            raise SettingsError([f"json: not a JMESPath expression: {error}"]) from None

    def read(self, body: bytes, service: ServiceDescription, content_type: str = JSON) -> ParsedRequest:
        """Read a request, which holds what the expression finds and the members that the settings allow."""
        del content_type
        document, context = load_request(body), b""
        if isinstance(document, dict):
            allowed = {name: document.pop(name) for name in service.allow_members if name in document}
            context = canonical(allowed) if allowed else b""
        try:
            found = self._inputs.search(document)
        except (JMESPathError, RecursionError):
            raise RequestError("the request does not hold the inputs where they should be") from None
        if found is None:
            raise RequestError("the request does not hold the inputs where they should be")
        if _leaves(document) != _leaves(found):
            raise RequestError(f"{self._other_member(document)} is not served here")
        return parsed_request([found] if self._one else found, service, context)

    def _other_member(self, document: object) -> str:
        """A member that the expression does not name, for the message that refuses it."""
        names = set(_NAME_IN_EXPRESSION.findall(self._inputs_at))
        others = sorted(document.keys() - names) if isinstance(document, dict) else []
        return f"the member {others[0][:64]!r} of the request" if others else "what the request has beside its inputs"

    def evidence(self, parsed: ParsedRequest, answer: Answer, service: ServiceDescription) -> Evidence:
        """The scores. Every other number and text of the answer is below a member of ``service.unmeasured``."""
        document = load_answer(answer)
        try:
            found = self._scores.search(document)
        except (JMESPathError, RecursionError) as error:
            raise AnswerError("the model server's answer cannot be searched", private=str(error)) from None
        rows: Any = [found] if self._one else found
        evidence = classification_evidence(parsed, rows, service)
        if _leaves(document, service.unmeasured) != _leaves(found):
            raise AnswerError(
                "the model server's answer holds numbers or texts that are not measured",
                private="let the model server send the scores only, or list the other members in output.unmeasured",
            )
        return evidence

    def ask(self, inputs: Floats, metadata: bytes, service: ServiceDescription) -> bytes:
        """The rows at the expression's place, where that is a member of the request, or the whole of it."""
        del metadata, service
        return self._asking(inputs[0].tolist() if self._one else inputs.tolist())

    def ask_values(
        self, columns: tuple[str, ...], rows: list[list[Any]], metadata: bytes, service: ServiceDescription
    ) -> bytes:
        """The rows at the same place: objects of named columns where the settings declare inputs, else lists or values."""
        del metadata
        several = len(rows[0]) > 1 or len(service.inputs) == 1
        found = named_rows(columns if several or self._inputs_at == _WHOLE else (), rows)
        return self._asking(found[0] if self._one else found)

    def _asking(self, rows: object) -> bytes:
        if self._inputs_at == _WHOLE:
            return msgspec.json.encode(rows)
        if not _MEMBER.fullmatch(self._inputs_at):
            raise AnswerError("no request can be written for this expression; run the model in shadow mode instead")
        return msgspec.json.encode({self._inputs_at: rows})

    def error(self, message: str) -> bytes:
        """``{"error": message, "detail": message}``; FastAPI's callers read ``detail``."""
        return msgspec.json.encode({"error": message, "detail": message})

    def error_member(self, message: str) -> object:
        """A text."""
        return message

    def error_text(self, answer: Answer) -> str:
        """The first text in ``error``, ``detail`` or ``message``, shortened."""
        return next(filter(None, (error_text_at(answer, member) for member in _ERROR_MEMBERS)), "")


def from_settings(
    *, route: str, inputs: str = "@", scores: str = "@", ready: str = "/", one_row: bool = False
) -> JsonPath:
    """As the section ``json_path`` says."""
    return JsonPath(route, inputs, scores, ready, one=one_row)
