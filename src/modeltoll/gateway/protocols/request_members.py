"""Members of a JSON request: those that the model reads, those that change nothing, and those that are refused by name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from modeltoll.errors import RequestError
from modeltoll.gateway.protocols.strict_json import canonical

if TYPE_CHECKING:
    from collections.abc import Collection

    from modeltoll.gateway.protocols.protocol import ServiceDescription

__all__ = ["RequestMembers", "has_value", "names", "other_members"]

_NAME_CHARACTERS = 64  # of a member's name in an error


@dataclass(frozen=True, slots=True)
class RequestMembers:
    """The members that requests of a protocol may have.

    Attributes:
        read: members that can change the answer; they are in the fingerprint.
        harmless: members that change neither the answer nor what the caller sees of the model; not in the fingerprint.
        unmeasured: members that ask for more than the measured output. Only without a value are they accepted.
        outside: members that refer to something that is not in the request, or run something else than the model.
            Only without a value are they accepted.
    """

    read: frozenset[str]
    harmless: frozenset[str]
    unmeasured: frozenset[str] = frozenset()
    outside: frozenset[str] = frozenset()

    def read_bytes(self, document: dict[str, Any], service: ServiceDescription) -> bytes:
        """The canonical bytes of the members that are read, and of those that the operator allows.

        A member that is null is taken for one that is absent.

        Raises:
            RequestError: a member is refused, and the message names it; or something in a member cannot be written.
        """
        read, others = {}, {}
        for name, value in document.items():
            if name in service.allow_members or (name in self.read and value is not None):
                read[name] = value
            else:
                others[name] = value
                if name not in self.harmless and name not in self.read:
                    self._refuse(name, value)
        canonical(others)  # they go on too, and must be the same JSON for everybody
        return canonical(read)

    def _refuse(self, name: str, value: object) -> None:
        shown = repr(name[:_NAME_CHARACTERS])
        if name in self.unmeasured:
            if has_value(value):
                raise RequestError(f"{shown} asks for something that is not measured; it is not served here")
        elif name in self.outside:
            if has_value(value):
                raise RequestError(f"{shown} refers to something outside the request; it is not served here")
        else:
            raise RequestError(f"{shown} is not a member of requests that is served here")


def names(*texts: str) -> frozenset[str]:
    """The words of some texts."""
    return frozenset(name for text in texts for name in text.split())


def has_value(value: object) -> bool:
    """Whether a member says something: it is not null, false, or an empty text, list or object. 0 is a value."""
    return not (value is None or value is False or (isinstance(value, str | list | dict) and not value))


def other_members(holder: dict[str, Any], known: Collection[str], service: ServiceDescription, *, of: str) -> bytes:
    """The canonical bytes of an object's members that are not ``known``; the settings must allow each. ``of`` names the object.

    Raises:
        RequestError: a member that is not known and not allowed; the message has its name.
    """
    others = [name for name in holder if name not in known]
    if not others:
        return b""
    if refused := sorted(set(others) - set(service.allow_members)):
        raise RequestError(f"the member {refused[0][:_NAME_CHARACTERS]!r} of {of} is not served here")
    return canonical({name: holder[name] for name in others})
