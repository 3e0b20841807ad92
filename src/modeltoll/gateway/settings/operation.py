"""Settings of operation: logs, traces, shutdown, and the operators' token."""

from __future__ import annotations

import ipaddress
import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, SecretStr

from modeltoll.gateway.settings.secret_text import SecretText
from modeltoll.gateway.settings.served_models import SettingsPart

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


OperatorToken = Annotated[SecretText, AfterValidator(_token)]


class OperationSettings(SettingsPart):
    """Logs, traces, and how the gateway stops. A reload changes none of it."""

    log_format: Literal["console", "json"] = Field(
        "console", description="How the log on standard error is written: for people, or one JSON object a line."
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="The least severe messages that are logged."
    )
    audit_file: Path | None = Field(
        None, description="File of the audit log: one line of JSON for each request, without payloads, names and keys."
    )
    trace_endpoint: Annotated[str, AfterValidator(_endpoint)] | None = Field(
        None,
        description="Where OpenTelemetry traces are sent, OTLP over HTTP: `http://127.0.0.1:4318/v1/traces`. Needs `pip install 'modeltoll[otel]'`.",
    )
    trace_share: float = Field(
        1.0,
        ge=0,
        le=1,
        description="Share of the traces that is kept. If a request carries trace context, the caller's sampling decision is used.",
    )
    drain_seconds: float = Field(
        0.0,
        ge=0,
        le=600,
        description="How long the gateway serves on after SIGTERM while `/readyz` answers 503, so that load balancers stop sending requests.",
    )
    keep_alive_seconds: int = Field(
        75,
        ge=1,
        le=3600,
        description="How long an idle connection is kept. It must be longer than the proxy in front keeps its own, or the proxy asks on a connection that was just closed: nginx keeps them for 60 s, an AWS load balancer for 60 s, a Google Cloud one for 600 s (set 620).",
    )
    finish_seconds: int = Field(30, ge=1, le=3600, description="How long requests in flight may take after that.")


def is_loopback(address: str) -> bool:
    """Whether ``HOST:PORT`` is an address of this machine alone."""
    host = address.rpartition(":")[0].strip("[]")
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
