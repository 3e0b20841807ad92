"""The settings of the model server: its address, limits, credentials and headers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from pydantic import Field, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from modeltoll.gateway.settings.environment import NESTED, PREFIX
from modeltoll.gateway.settings.field_types import HeaderName, SettingsPart, UpstreamUrl
from modeltoll.gateway.settings.secret_text import SecretText

__all__ = ["OF_THE_CONNECTION", "TRACE_HEADERS", "UpstreamSettings", "check_header_value", "upstream_of_environment"]

TRACE_HEADERS = ("traceparent", "tracestate", "x-request-id")  # which say nothing to a model
OF_THE_CONNECTION = frozenset(
    (
        "accept-encoding",
        "connection",
        "content-encoding",
        "content-length",
        "content-type",
        "expect",
        "host",
        "inference-header-content-length",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "range",
        "te",
        "toll-accept",
        "toll-receipt",
        "toll-settle",
        "trailer",
        "transfer-encoding",
        "upgrade",
    )
)
_OF_THE_GATEWAY = frozenset(
    (
        "cache-control",
        "content-range",
        "date",
        "etag",
        "last-modified",
        "location",
        "openai-processing-ms",
        "server-timing",
        "set-cookie",
        "www-authenticate",
    )
)


def check_header_value(text: str, name: str) -> None:
    """Whether a text can be written into a header; the fault (``ValueError``) does not quote it."""
    if not (text and text.isascii() and text.isprintable()):
        raise ValueError(f"{name} is empty, or holds characters that a header cannot hold")


class UpstreamSettings(SettingsPart):
    """The model server."""

    url: UpstreamUrl = Field(
        description="Address of the model server, `http://` or `https://`, without user and query. A path in it is put in front of every route. `grpc://HOST:PORT`, or `grpcs://` with TLS, for a server that speaks the Open Inference Protocol over gRPC; it needs `pip install 'modeltoll[grpc]'`. `app` where the gate is built into the application."
    )
    timeout_seconds: float = Field(
        30.0,
        gt=0,
        description="Longest time of one request to the model server, everything included; of a stream the longest time until it begins, and the longest pause in it. After it the caller gets 504.",
    )
    connections: int = Field(64, ge=1, description="Most connections that are kept open to the model server.")
    max_concurrent: int | None = Field(
        None,
        ge=1,
        description="Most requests that the model server is asked at once. It cannot be above `connections`; if it is not set, it equals `connections`.",
    )
    max_waiting: int = Field(
        192,
        ge=0,
        description="Most further requests that wait for the model server, first in, first out. One more gets 503 with `Retry-After`, and nothing is charged.",
    )
    max_wait_seconds: float = Field(
        10.0,
        gt=0,
        description="Longest time in that queue. After it the request gets 503 with `Retry-After`, and nothing is charged.",
    )
    max_answer_mib: float = Field(
        64.0, gt=0, le=64, description="Largest answer. A larger one becomes a 502."
    )  # no client opens a larger toll (wire.MAX_TOLL_BYTES)

    keep_alive_seconds: float = Field(
        4.0,
        ge=0,
        le=3600,
        description="How long an idle connection to the model server is kept: less than the server keeps it (gunicorn 2 s, uvicorn 5 s, nginx 75 s). 0 opens a connection for every request. A request that meets a connection which the server has just closed is sent once more.",
    )
    api_key: SecretText | None = Field(
        None,
        description="Key for the model server, where it asks for one (OpenAI, `vllm serve --api-key`, hosted endpoints): `MODELTOLL_UPSTREAM__API_KEY=...`. Callers never see it. Their own keys are not sent to the server, unless `request_headers` lists their header.",
    )
    api_key_file: Path | None = Field(
        None,
        description="A file that holds this key, such as a mounted secret. It is read again within seconds when it changes.",
    )
    api_key_header: HeaderName = Field(
        "authorization",
        description="The header that carries the key. In `authorization` it is written `Bearer KEY`, in any other header as it is: `api-key` for Azure OpenAI.",
    )
    headers: Mapping[HeaderName, SecretText] = Field(
        {},
        description="Further headers of every request to the model server, such as `{openai-organization: org-1}`. They replace headers of the caller.",
    )
    request_headers: tuple[HeaderName, ...] = Field(
        TRACE_HEADERS,
        description="Headers of callers that are passed on to the model server. `traceparent`, `tracestate` and `x-request-id` say nothing to a model. Any other one that is listed could change what it answers, and is part of each row's identity in the ledger. Headers that hold the caller's key (`authorization`, `x-api-key`, `cookie`) are passed on only where they are listed.",
    )
    answer_headers: tuple[HeaderName, ...] = Field(
        ("x-request-id", "deprecation", "sunset"),
        description="Headers of the model server's answers that callers get, also beside a sealed answer. They are not measured: list none that depends on what the model found, or on how long it took. `Retry-After` and its like of a refusal always pass.",
    )
    error_texts: bool = Field(
        True,
        description="Whether callers get the texts of the model server's refusals: at most 300 characters, without fractions. `false` is for a server whose errors tell of the model.",
    )
    ca_file: Path | None = Field(
        None,
        description="Certificates (PEM) of the authorities that the model server's certificate is checked against, in place of the system's.",
    )
    client_certificate: Path | None = Field(
        None,
        description="Certificate chain (PEM) that the gateway shows to the model server; its private key may be in the same file.",
    )
    client_key: Path | None = Field(
        None, description="The private key of `client_certificate`, without a password, where it has a file of its own."
    )

    @property
    def is_grpc(self) -> bool:
        """Whether the server is asked over gRPC."""
        return self.url.startswith(("grpc://", "grpcs://"))

    @field_validator("request_headers")
    @classmethod
    def _may_be_sent(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        if refused := sorted(OF_THE_CONNECTION.intersection(names)):
            raise ValueError(f"{refused[0]} belongs to the connection or the body, and cannot be passed on")
        return names

    @field_validator("answer_headers")
    @classmethod
    def _may_be_passed(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        if refused := sorted((OF_THE_CONNECTION | _OF_THE_GATEWAY).intersection(names)):
            raise ValueError(f"{refused[0]} cannot be passed on: the gateway writes it, or it tells of the answer")
        return names

    @field_validator("headers")
    @classmethod
    def _can_be_written(cls, headers: Mapping[str, SecretStr]) -> Mapping[str, SecretStr]:
        for name, value in headers.items():
            if name in OF_THE_CONNECTION and name != "host":
                raise ValueError(f"{name} belongs to the connection or the body, and cannot be set")
            check_header_value(value.get_secret_value(), name)
        return headers

    @model_validator(mode="after")
    def _one_key(self) -> UpstreamSettings:
        if self.api_key is not None and self.api_key_file is not None:
            raise ValueError("api_key and api_key_file are both set; leave one out")
        if self.api_key is not None:
            check_header_value(self.api_key.get_secret_value().strip(), "api_key")
        if (self.api_key or self.api_key_file) and self.api_key_header in self.headers:
            raise ValueError(f"headers has {self.api_key_header}, which api_key writes; leave one out")
        if self.client_key is not None and self.client_certificate is None:
            raise ValueError("client_key is for client_certificate, which is not set")
        return self

    @model_validator(mode="after")
    def _each_has_a_connection(self) -> UpstreamSettings:
        if self.max_concurrent is not None and self.max_concurrent > self.connections:
            raise ValueError("max_concurrent is above connections, beyond which requests would wait without a limit")
        return self


class _EnvironmentUpstream(BaseSettings):
    """This section alone, of the environment and of what is given."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_nested_delimiter=NESTED,
        nested_model_default_partial_update=True,
        extra="ignore",
    )
    upstream: UpstreamSettings


def upstream_of_environment(url: str) -> UpstreamSettings:
    """The settings of a server for which there is no file yet: ``url``, and what ``MODELTOLL_UPSTREAM__...`` says.

    Raises:
        ValidationError: they cannot be used.
    """
    return _EnvironmentUpstream.model_validate({"upstream": {"url": url}}).upstream
