"""Builds the client of the model server from the settings: its headers, key, certificates and limits."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING

from modeltoll.errors import SettingsError
from modeltoll.gateway.settings.field_types import IN_PROCESS
from modeltoll.gateway.upstream.http_upstream import HttpOptions, HttpUpstream
from modeltoll.gateway.upstream.upstream_headers import UpstreamHeaders

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from modeltoll.gateway.settings.upstream import UpstreamSettings
    from modeltoll.gateway.upstream.upstream import Upstream

__all__ = ["build_server_upstream", "build_upstream_headers"]

_MIB = 1 << 20


def build_upstream_headers(settings: UpstreamSettings) -> UpstreamHeaders:
    """The headers of every request to the model server.

    Raises:
        SettingsError: its key cannot be read.
    """
    fixed = {name: value.get_secret_value() for name, value in settings.headers.items()}
    key = settings.api_key.get_secret_value() if settings.api_key else settings.api_key_file
    return UpstreamHeaders(fixed, key, settings.api_key_header)


def build_server_upstream(
    settings: UpstreamSettings,
    headers: Callable[[], Mapping[str, str]],
    on_retry: Callable[[], None] = lambda: None,
    timeout: float | None = None,
) -> Upstream:
    """The client of the model server, over HTTP or gRPC. ``headers``: of ``build_upstream_headers``. ``timeout``: in place of the settings'.

    Raises:
        SettingsError: the model is served by the application around the gateway, so that there is no server to connect to;
            or the certificates cannot be used.
    """
    if settings.url == IN_PROCESS:
        raise SettingsError([f"upstream.url: {IN_PROCESS} is for TollMiddleware; write the model server's address"])
    if settings.is_grpc:
        return _grpc_upstream(settings, headers, timeout or settings.timeout_seconds)
    options = HttpOptions(
        settings.connections, settings.keep_alive_seconds, _tls(settings), tuple(settings.answer_headers)
    )
    return HttpUpstream(
        settings.url,
        timeout=timeout or settings.timeout_seconds,
        max_body=int(settings.max_answer_mib * _MIB),
        headers=headers,
        on_retry=on_retry,
        options=options,
    )


def _grpc_upstream(settings: UpstreamSettings, headers: Callable[[], Mapping[str, str]], timeout: float) -> Upstream:
    try:
        from modeltoll.gateway.upstream.grpc_upstream import (  # noqa: PLC0415  an extra
            GrpcOptions,
            GrpcUpstream,
            channel_credentials,
        )
    except ImportError:
        raise SettingsError(["upstream.url: gRPC needs more: pip install 'modeltoll[grpc]'"]) from None
    credentials = None
    if settings.url.startswith("grpcs://"):
        _tls(settings)  # the faults of its files, in words
        credentials = channel_credentials(settings.ca_file, settings.client_certificate, settings.client_key)
    return GrpcUpstream(
        settings.url.partition("://")[2],
        timeout=timeout,
        max_body=int(settings.max_answer_mib * _MIB),
        headers=headers,
        options=GrpcOptions(credentials, tuple(settings.answer_headers)),
    )


def _tls(settings: UpstreamSettings) -> ssl.SSLContext | None:
    """The certificates that the settings name; None where they name none."""
    if settings.ca_file is None and settings.client_certificate is None:
        return None
    context = _context(settings.ca_file)
    if settings.client_certificate is not None:
        try:
            context.load_cert_chain(settings.client_certificate, settings.client_key, password=_no_password)
        except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
            found = f"{settings.client_certificate}: no certificate with its private key, without a password: {error}"
            raise SettingsError([f"upstream.client_certificate: {found}"]) from None
    return context


def _context(ca_file: Path | None) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=ca_file)
    except OSError as error:
        raise SettingsError([f"upstream.ca_file: {ca_file}: no certificates in PEM: {error}"]) from None


def _no_password() -> str:
    """In place of a prompt at the terminal."""
    raise ValueError("the private key has a password")
