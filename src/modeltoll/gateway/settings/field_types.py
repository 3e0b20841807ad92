"""Types of settings fields, each checked when it is read; a fault says what would be right."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    StringConstraints,
    model_validator,
)

from modeltoll.errors import SettingsError
from modeltoll.gateway.settings.secret_text import SecretText

if TYPE_CHECKING:
    from modeltoll.plugins import Registry

__all__ = [
    "IN_PROCESS",
    "UNIX_ADDRESS",
    "Address",
    "HashedKey",
    "HeaderName",
    "KeyUrl",
    "ListenAddresses",
    "ModelName",
    "Origin",
    "Person",
    "Proxy",
    "QueryName",
    "RootPath",
    "Secret",
    "SettingsPart",
    "UpstreamUrl",
    "UrlPath",
    "VersionName",
    "WideIPv4",
    "WideIPv6",
    "each_once",
    "known_in",
    "without_nulls",
]

_SHA256_HEX = re.compile(r"[0-9a-f]{64}")
_KEY_BYTES = 32

UNIX_ADDRESS = r"unix:(?P<path>/[^?\s]+)(?:\?mode=(?P<mode>0?[0-7]{3}))?"
IN_PROCESS = "app"  # the model is the application that the gate is built into


class SettingsPart(BaseModel):
    """A section: frozen, and without unknown names."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _without_nulls(cls, given: Any) -> Any:
        """Settings that are null count as not given, as templates write them."""
        return without_nulls(given, cls) if isinstance(given, Mapping) else given


def without_nulls(given: Mapping[Any, Any], settings: type[BaseModel]) -> dict[Any, Any]:
    """The members without those that are null and have a default."""
    fields = settings.model_fields
    optional = {name for name, field in fields.items() if not field.is_required()}
    return {name: value for name, value in given.items() if value is not None or name not in optional}


def _address(text: str) -> str:
    host, colon, port = text.rpartition(":")
    if not (colon and host and port.isascii() and port.isdigit() and len(port) < 6 and int(port) < 65536):
        raise ValueError("is not HOST:PORT, such as 127.0.0.1:8080")
    return text


def _listen(value: object) -> str | tuple[str, ...]:
    listed = tuple(value) if isinstance(value, list | tuple) else (value,)
    for address in listed:
        if not isinstance(address, str):
            raise ValueError(f"{address!r} is not HOST:PORT, such as 127.0.0.1:8080")  # noqa: TRY004  pydantic's error
        if address.startswith("unix:"):
            if not re.fullmatch(UNIX_ADDRESS, address):
                raise ValueError(f"{address!r} is not unix:/PATH or unix:/PATH?mode=0660")
        else:
            _address(address)
    if not listed:
        raise ValueError("lists no address")
    each_once(listed, "an address")
    return listed if isinstance(value, list | tuple) else str(value)


def _upstream_url(text: str) -> str:
    if text.startswith("grpc"):
        if not re.fullmatch(r"grpcs?://([^/\s?#@:]+|\[[0-9A-Fa-f:.]+\]):[0-9]{1,5}", text):
            raise ValueError("is not grpc://HOST:PORT or grpcs://HOST:PORT, such as grpc://127.0.0.1:8001")
    elif text != IN_PROCESS and not re.fullmatch(r"https?://[^/\s?#@]+(/[^\s?#]*)?", text):
        raise ValueError(
            "is not an http:// or https:// address without user and query, such as http://127.0.0.1:8000, nor grpc://HOST:PORT"
        )
    return text


def _key_url(text: str) -> str:
    host = r"[^/\s?#@]+"
    here = r"(localhost|127(\.\d{1,3}){3}|\[::1\])(:\d+)?"
    if not re.fullmatch(rf"(https://{host}|http://{here})(/[^\s?#]*)?(\?[^\s#]*)?", text):
        raise ValueError(
            "is not an https:// address without user and fragment; http:// is for this machine alone, because who can change "
            "the keys on their way can be any caller"
        )
    return text


def _origin(text: str) -> str:
    if text != "*" and not re.fullmatch(r"https?://[^/\s?#@*]+", text):
        raise ValueError("is not an origin such as https://app.example.org, without a path; '*' stands for all of them")
    return text


def _proxy(text: str) -> str:
    try:
        if text != "unix":
            ipaddress.ip_network(text)
    except ValueError as error:
        raise ValueError(
            f"{error}; write a network such as 10.0.0.0/8 or fd00::/8, or unix for a proxy that asks over a Unix socket"
        ) from None
    return text


def _root_path(text: str) -> str:
    if not re.fullmatch(r"(/[A-Za-z0-9_~-][A-Za-z0-9_.~-]*)*", text):
        raise ValueError("is not a path such as /ml, without a slash at its end")
    return text


def _model_name(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}", text):
        raise ValueError("is not a model's name: letters, digits, '_', '.' and '-', at most 64")
    return text


def _secret(secret: SecretStr) -> SecretStr:
    if not _SHA256_HEX.fullmatch(secret.get_secret_value()):
        raise ValueError(f"is not {_KEY_BYTES} random bytes in hexadecimal: openssl rand -hex {_KEY_BYTES}")
    return secret


def _url_path(text: str) -> str:
    if not re.fullmatch(r"(/[A-Za-z0-9_.~:-]+)+/?|/", text) or "/./" in f"{text}/" or "/../" in f"{text}/":
        raise ValueError("is not a path such as /predict")
    return text


def _header_name(text: str) -> str:
    """A header's name in small letters."""
    if not re.fullmatch(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,64}", text):
        raise ValueError("is not the name of a header, such as x-tenant")
    return text.lower()


Address = Annotated[str, AfterValidator(_address)]
ListenAddresses = Annotated[str | tuple[str, ...], BeforeValidator(_listen)]
KeyUrl = Annotated[str, AfterValidator(_key_url)]
UpstreamUrl = Annotated[str, AfterValidator(_upstream_url)]
HeaderName = Annotated[str, AfterValidator(_header_name)]
Origin = Annotated[str, AfterValidator(_origin)]
Proxy = Annotated[str, AfterValidator(_proxy)]
RootPath = Annotated[str, AfterValidator(_root_path)]
ModelName = Annotated[str, AfterValidator(_model_name)]
VersionName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")]
UrlPath = Annotated[str, AfterValidator(_url_path)]
HashedKey = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
Secret = Annotated[SecretText, AfterValidator(_secret)]
QueryName = Annotated[str, StringConstraints(pattern=r"^[^\s&=;#%+]{1,64}$")]
Person = Annotated[str, StringConstraints(pattern=r"^[\w.@-]{1,64}$")]  # a key's name, or an organisation's
WideIPv4 = Annotated[
    int, Field(ge=8, le=23)
]  # prefix lengths of networks wider than the group that anonymous callers always have
WideIPv6 = Annotated[int, Field(ge=16, le=47)]


def known_in(registry: Registry[Any]) -> AfterValidator:
    """Accepts the names of a registry whose plug-in can be used; the fault of another name lists those there are."""

    def check(name: str) -> str:
        try:
            registry.find(name)
        except SettingsError as error:
            raise ValueError("; ".join(error.faults)) from None
        return name

    return AfterValidator(check)


def each_once(values: Iterable[object], what: str) -> None:
    """Refuse (``ValueError``) values of which two are the same; ``what`` names one of them in the message."""
    listed = list(values)
    if len(set(listed)) != len(listed):
        raise ValueError(f"{what} is listed twice; list it once")
