"""The command ``proxy``, which pays the tolls of an API for any program."""

from __future__ import annotations

import asyncio
import errno
import socket
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from modeltoll.cli.option_records import takes_options
from modeltoll.cli.purse_options import Cores, MaxSeconds, MemoryMib, kib, open_purse
from modeltoll.cli.terminal import note, requires_extra, with_exit_codes
from modeltoll.client.purse import Purse
from modeltoll.errors import SettingsError
from modeltoll.port_owner import taken_by

if TYPE_CHECKING:
    from modeltoll.client.sidecar_metrics import SidecarMetrics

__all__ = ["commands"]

commands = typer.Typer()

_PROXY_ADDRESS = "127.0.0.1:4402"  # no known model server listens there by default; 402 is the status of a toll
_GRPC_ADDRESS = "127.0.0.1:4403"


@dataclass(frozen=True, slots=True, kw_only=True)
class ProxyOptions:
    """The API, the address to listen on, and the limits within which tolls are paid."""

    upstream: Annotated[str, typer.Option(metavar="URL", help="URL of the API that asks for tolls.")]
    grpc: Annotated[
        bool, typer.Option("--grpc", help="Serve gRPC; the URL of the API is grpc://HOST:PORT, or grpcs:// with TLS.")
    ] = False
    listen: Annotated[
        str | None,
        typer.Option(
            metavar="HOST:PORT",
            help=f"Address on which programs connect to the proxy, by default {_PROXY_ADDRESS}, for gRPC {_GRPC_ADDRESS}.",
            show_default=False,
        ),
    ] = None
    metrics: Annotated[
        str | None,
        typer.Option(metavar="HOST:PORT", help="Address for /metrics beside gRPC; by default none."),
    ] = None
    max_seconds: MaxSeconds = 30.0
    max_seconds_per_hour: Annotated[
        float | None,
        typer.Option(
            min=0, help="Limit of all tolls of an hour together, in expected seconds of work; by default none."
        ),
    ] = None
    memory_mib: MemoryMib = None
    cores: Cores = 1
    replay_pace: Annotated[
        float,
        typer.Option(
            min=0,
            metavar="SECONDS",
            help="Time between the events of an answer that is an event stream; by default none.",
        ),
    ] = 0.0
    host_name: Annotated[
        list[str],
        typer.Option(
            help="Host name by which programs reach the proxy, beside its address and localhost; may be repeated."
        ),
    ] = field(default_factory=list)
    allow_origin: Annotated[
        list[str],
        typer.Option(
            metavar="ORIGIN", help="Origin of web pages that may use the proxy; by default none. May be repeated."
        ),
    ] = field(default_factory=list)


@commands.command(
    epilog="Example: modeltoll proxy --upstream https://api.example.org, or "
    "modeltoll proxy --grpc --upstream grpcs://api.example.org:443"
)
@with_exit_codes
@takes_options
def proxy(options: ProxyOptions) -> None:
    """Run a local proxy that pays the tolls of an API for any program, until SIGINT or SIGTERM.

    Prints its address; its metrics are at /metrics.
    """
    with requires_extra("proxy"):
        from modeltoll.client.sidecar_metrics import SidecarMetrics  # noqa: PLC0415
    counters = SidecarMetrics()
    purse = open_purse(
        lambda: Purse(
            options.max_seconds,
            max_seconds_per_hour=options.max_seconds_per_hour,
            memory_kib=kib(options.memory_mib),
            cores=options.cores,
            paid=counters.record_payment,
            replay_pace=options.replay_pace,
        )
    )
    if options.grpc:
        _refuse_options(
            "--grpc",
            {
                "--host-name": options.host_name,
                "--allow-origin": options.allow_origin,
                "--replay-pace": options.replay_pace,
            },
        )
        _serve_grpc(options.upstream, options.listen or _GRPC_ADDRESS, purse, counters, options.metrics)
    else:
        _refuse_options("HTTP, which serves /metrics beside the API", {"--metrics": options.metrics})
        _serve_http(
            options.upstream,
            options.listen or _PROXY_ADDRESS,
            purse,
            counters,
            (options.host_name, options.allow_origin),
        )


def _refuse_options(served: str, options: dict[str, object]) -> None:
    if unfit := [name for name, value in options.items() if value]:
        raise SettingsError([f"{name}: is not for {served}; leave it out" for name in unfit])


def _serve_http(
    upstream: str, listen: str, purse: Purse, metrics: SidecarMetrics, allowed: tuple[list[str], list[str]]
) -> None:
    """Run the HTTP sidecar. ``allowed``: host names and origins."""
    with requires_extra("proxy"):
        from modeltoll.client.sidecar import application, serve, upstream_url  # noqa: PLC0415
        from modeltoll.client.sidecar_access import sidecar_access  # noqa: PLC0415
    url, access = upstream_url(upstream), sidecar_access(*allowed)
    with _open_socket("--listen", listen) as listening_socket:
        shown = _shown(*listening_socket.getsockname()[:2])
        message = f"proxy on http://{shown} for {url}; metrics on http://{shown}/metrics"
        asyncio.run(
            serve(
                application(url, purse, metrics, access),
                listening_socket,
                partial(note.print, escape(message), soft_wrap=True),
            )
        )


def _serve_grpc(upstream: str, listen: str, purse: Purse, counters: SidecarMetrics, metrics: str | None) -> None:
    """Run the gRPC sidecar, and its metrics on an address of their own."""
    with requires_extra("grpc"):
        from modeltoll.client.grpc_sidecar import grpc_target, serve_grpc  # noqa: PLC0415
    target = grpc_target(upstream)
    with _open_socket("--listen", listen) as probe:  # gRPC binds by itself, and says less about what is wrong
        host, port = probe.getsockname()[:2]
    shown_metrics = ""
    if metrics is not None:
        with _open_socket("--metrics", metrics) as probe:
            metrics_address = probe.getsockname()[:2]
        counters.start_server(*metrics_address)
        shown_metrics = f"; metrics on http://{_shown(*metrics_address)}/metrics"

    def announce(port: int) -> None:
        message = f"proxy on grpc://{_shown(host, port)} for {upstream}{shown_metrics}"
        note.print(escape(message), soft_wrap=True)

    asyncio.run(serve_grpc(target, _shown(host, port), purse, counters, announce))


def _shown(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _open_socket(option: str, address: str) -> socket.socket:
    host, _, port = address.rpartition(":")
    if not (port.isdecimal() and len(port) < 6 and int(port) < 2**16):
        raise SettingsError([f"{option}: {address!r} does not end with a port; write for example {_PROXY_ADDRESS}"])
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host.strip("[]"), int(port)), family=family)
    except OSError as error:
        reason = taken_by(address) if error.errno == errno.EADDRINUSE else error.strerror
        raise SettingsError([f"{option}: cannot listen on {address}: {reason}; choose another address"]) from None
