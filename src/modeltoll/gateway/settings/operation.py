"""Settings of how the gateway is run: what it says, where it traces, how it stops, and who may operate it."""

from __future__ import annotations

import ipaddress
import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, SecretStr

from modeltoll.gateway.settings.models import SettingsPart

__all__ = ["OperationSettings", "OperatorToken", "is_loopback"]

_LEAST_TOKEN = 16  # characters


def _endpoint(text: str) -> str:
    if not re.fullmatch(r"https?://[^/\s?#@]+(/[^\s?#]*)?", text):
        raise ValueError("is not a collector's address such as http://127.0.0.1:4318/v1/traces")
    return text


def _token(secret: SecretStr) -> SecretStr:
    if not re.fullmatch(rf"[!-~]{{{_LEAST_TOKEN},256}}", secret.get_secret_value()):
        raise ValueError(f"is not {_LEAST_TOKEN} to 256 printable characters without spaces: openssl rand -hex 32")
    return secret


OperatorToken = Annotated[SecretStr, AfterValidator(_token)]


class OperationSettings(SettingsPart):
    """What is said, to whom, and how the gateway stops. None of it changes while the gateway runs."""

    log_format: Literal["console", "json"] = "console"
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    audit_file: Path | None = None
    trace_endpoint: Annotated[str, AfterValidator(_endpoint)] | None = None
    trace_share: float = Field(1.0, ge=0, le=1)
    drain_seconds: float = Field(0.0, ge=0, le=600)
    finish_seconds: int = Field(30, ge=1, le=3600)


def is_loopback(address: str) -> bool:
    """Whether ``HOST:PORT`` is heard on this machine alone."""
    host = address.rpartition(":")[0].strip("[]")
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
