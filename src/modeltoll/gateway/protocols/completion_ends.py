"""Whether a request chooses where a completion may end. Such an end tells something, and is paid for (``with_end``)."""

from __future__ import annotations

from typing import Any

from modeltoll.gateway.protocols.request_members import has_value, names

__all__ = ["chooses_end"]

_ENDS = names(
    """ignore_eos min_tokens logit_bias allowed_token_ids bad_words regex ebnf grammar
    guided_regex guided_choice guided_grammar structured_outputs structural_tag"""
)
_FORMATS = names("response_format text")  # of chats, and of the Responses API
_SCHEMAS = names("json_schema guided_json")
_OF_SCHEMAS = names("json_object json_schema json")  # types of formats
_CLOSED = ("object", "array", "string")  # types of JSON whose last character says that it is the last
_BEFORE_TYPE = names(
    "enum const anyOf oneOf allOf not if $ref"
)  # what a schema may have that counts more than its type


def chooses_end(document: dict[str, Any]) -> bool:
    """Whether a request says what ends a completion, or where it may end."""
    return any(has_value(value) and _is_choice(name, value) for name, value in document.items())


def _is_choice(name: str, value: object) -> bool:
    if name in _FORMATS:
        return not _is_closed_format(value.get("format") if name == "text" and isinstance(value, dict) else value)
    if name in _SCHEMAS:
        return not _is_closed(value)
    return name in _ENDS or name.startswith("stop")


def _is_closed_format(form: object) -> bool:
    """Whether what a format allows says itself where it ends. Servers differ in where they read the schema."""
    if form is None:
        return True
    kind = form.get("type") if isinstance(form, dict) else None
    if not isinstance(form, dict) or not isinstance(kind, str):
        return False
    nested = form.get("json_schema")
    places = (form.get("schema"), form.get("value"), nested.get("schema") if isinstance(nested, dict) else nested)
    return kind == "text" or (kind in _OF_SCHEMAS and all(_is_closed(schema) for schema in places if has_value(schema)))


def _is_closed(schema: object) -> bool:
    """Whether a schema's texts end with a bracket or a quotation mark; those of ``{"enum": [1, 12]}`` do not."""
    return isinstance(schema, dict) and schema.get("type") in _CLOSED and _BEFORE_TYPE.isdisjoint(schema)
