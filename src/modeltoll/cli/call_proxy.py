"""The commands ``call`` and ``proxy``, which pay tolls."""

from __future__ import annotations

import asyncio
import errno
import math
import socket
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from modeltoll.cli.terminal import note, requires_extra, stage, with_exit_codes
from modeltoll.client.purse import Payment, Purse
from modeltoll.errors import ModeltollError, SettingsError, TollTooDear
from modeltoll.port_owner import taken_by
from modeltoll.wire import RECEIPT_HEADER

if TYPE_CHECKING:
    import httpx

    from modeltoll.client.sidecar_metrics import SidecarMetrics
    from modeltoll.toll_records import Toll

__all__ = ["commands"]

commands = typer.Typer()

_PROXY_ADDRESS = "127.0.0.1:4402"  # no known model server listens there by default; 402 is the status of a toll
_GRPC_ADDRESS = "127.0.0.1:4403"

MaxSeconds = Annotated[
    float, typer.Option(min=0, help="Largest toll to pay, in expected seconds of work on one reference core.")
]
MemoryMib = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="Largest memory that a puzzle may take, in MiB; by default 256 where the machine has enough, else 64 or less.",
        show_default=False,
    ),
]
Cores = Annotated[int, typer.Option(min=1, help="Number of cores that solve a puzzle.")]


@commands.command(epilog="Example: modeltoll call http://127.0.0.1:8080/v2/models/digits/infer --data request.json")
@with_exit_codes
def call(  # noqa: PLR0913  each is a choice of the caller's
    url: Annotated[str, typer.Argument(help="URL to which the request is posted.")],
    *,
    data: Annotated[
        Path | None, typer.Option(help="File with the request's JSON body; by default standard input.")
    ] = None,
    key: Annotated[str | None, typer.Option(envvar="MODELTOLL_KEY", help="API key, sent as a bearer token.")] = None,
    max_seconds: MaxSeconds = 30.0,
    memory_mib: MemoryMib = None,
    cores: Cores = 1,
    explain: Annotated[
        bool,
        typer.Option(
            "--explain", help="Print what the toll asks before it is paid, and what it took, on standard error."
        ),
    ] = False,
) -> None:
    """Post one request, pay its toll, and print the answer.

    The answer goes to standard output, everything else to standard error.
    """
    with requires_extra("cli"):
        import httpx  # noqa: PLC0415
    body, headers = _call_body(data), _call_headers(key)
    with stage("Solving the toll's puzzle", may_be_idle=True) as progress:
        purse_type = _ExplainingPurse if explain else Purse
        purse = _purse(lambda: purse_type(max_seconds, memory_kib=_kib(memory_mib), cores=cores, progress=progress))
        try:
            response = _send(url, body, headers, purse)
        except (httpx.HTTPError, httpx.InvalidURL, UnicodeError) as error:  # UnicodeError: an invalid host name
            raise ModeltollError(f"{url}: {str(error) or type(error).__name__}") from None
        except TollTooDear as error:
            option = f"--max-seconds {math.ceil(error.seconds)}" if error.seconds > max_seconds else "--memory-mib"
            raise ModeltollError(f"{error}; to pay it, set {option}") from None
    _print_answer(response.content)
    for payment in purse.payments:
        note.print(_payment_line(payment, explain=explain), soft_wrap=True)
    if explain and not purse.payments:
        message = response.headers.get(RECEIPT_HEADER)
        note.print(escape(f"no toll was paid; receipt: {message}" if message else "no toll was asked"), soft_wrap=True)
    if not response.is_success:
        raise ModeltollError(f"the server answered {response.status_code} {response.reason_phrase}")


def _print_answer(content: bytes) -> None:
    """The answer as it came; on a terminal with a new line after it, so that what follows begins a line."""
    sys.stdout.buffer.write(content)
    if sys.stdout.isatty() and not content.endswith(b"\n"):
        sys.stdout.buffer.write(b"\n")
    sys.stdout.flush()


class _ExplainingPurse(Purse):
    """Prints what each toll asks, also if the toll is refused."""

    _explained: Toll | None = None

    def decide(self, toll: Toll) -> float:
        if toll is not self._explained:
            self._explained = toll
            note.print(escape(self.explanation(toll)), soft_wrap=True)
        return super().decide(toll)

    def explanation(self, toll: Toll) -> str:
        """The toll in one line."""
        puzzle = toll.challenge
        memory = f" of {puzzle.memory_kib} KiB" if puzzle.memory_kib else ""
        parts, rows = len(puzzle.parts), toll.rows
        return (
            f"toll: {puzzle.puzzle}{memory} in {parts} {'part' if parts == 1 else 'parts'}, mode {toll.mode}, for {rows} "
            f"{'row' if rows == 1 else 'rows'}; {self.expected(toll):.3g} s of work expected on one core "
            f"(the server says {toll.typical_seconds:.3g} s)"
        )


def _payment_line(payment: Payment, *, explain: bool) -> str:
    """What a payment took, in one line."""
    rows = f"{payment.rows} {'row' if payment.rows == 1 else 'rows'}"
    aim = f"admission with {rows}" if payment.admission else rows
    line = f"paid {payment.seconds:.3f} s of {payment.puzzle} for {aim}"
    return f"{line}; {payment.expected:.3g} s were expected" if explain else line


def _kib(mib: int | None) -> int | None:
    return None if mib is None else 1024 * mib


def _purse(make: Callable[[], Purse]) -> Purse:
    try:
        return make()
    except ValueError as error:
        option = str(error).partition(" ")[0].replace("_", "-")
        raise SettingsError([f"--{option}: {error}"]) from None


def _send(url: str, body: bytes, headers: dict[str, str], purse: Purse) -> httpx.Response:
    import httpx  # noqa: PLC0415  an extra

    from modeltoll.client.httpx import TollTransport  # noqa: PLC0415

    with httpx.Client(transport=TollTransport(purse=purse), timeout=60.0) as client:
        return client.post(url, content=body, headers=headers)


def _call_headers(key: str | None) -> dict[str, str]:
    if key is not None and not (key.isascii() and key.isprintable()):
        raise SettingsError(["--key: must be printable ASCII characters"])
    return {"content-type": "application/json"} | ({"authorization": f"Bearer {key}"} if key else {})


def _call_body(data: Path | None) -> bytes:
    try:
        return data.read_bytes() if data else sys.stdin.buffer.read()
    except OSError as error:
        raise SettingsError([f"--data: {data} cannot be read: {error.strerror}; name another file"]) from None


@commands.command(
    epilog="Example: modeltoll proxy --upstream https://api.example.org, or "
    "modeltoll proxy --grpc --upstream grpcs://api.example.org:443"
)
@with_exit_codes
def proxy(  # noqa: PLR0913  each is a choice of the operator's
    *,
    upstream: Annotated[str, typer.Option(metavar="URL", help="URL of the API that asks for tolls.")],
    grpc: Annotated[
        bool, typer.Option("--grpc", help="Serve gRPC; the URL of the API is grpc://HOST:PORT, or grpcs:// with TLS.")
    ] = False,
    listen: Annotated[
        str | None,
        typer.Option(
            metavar="HOST:PORT",
            help=f"Address on which programs connect to the proxy, by default {_PROXY_ADDRESS}, for gRPC {_GRPC_ADDRESS}.",
            show_default=False,
        ),
    ] = None,
    metrics: Annotated[
        str | None,
        typer.Option(metavar="HOST:PORT", help="Address for /metrics beside gRPC; by default none."),
    ] = None,
    max_seconds: MaxSeconds = 30.0,
    max_seconds_per_hour: Annotated[
        float | None,
        typer.Option(
            min=0, help="Limit of all tolls of an hour together, in expected seconds of work; by default none."
        ),
    ] = None,
    memory_mib: MemoryMib = None,
    cores: Cores = 1,
    replay_pace: Annotated[
        float,
        typer.Option(
            min=0,
            metavar="SECONDS",
            help="Time between the events of an answer that is an event stream; by default none.",
        ),
    ] = 0.0,
    host_name: Annotated[
        list[str],
        typer.Option(
            help="Host name by which programs reach the proxy, beside its address and localhost; may be repeated."
        ),
    ] = [],  # noqa: B006  typer copies it
    allow_origin: Annotated[
        list[str],
        typer.Option(
            metavar="ORIGIN", help="Origin of web pages that may use the proxy; by default none. May be repeated."
        ),
    ] = [],  # noqa: B006
) -> None:
    """Run a local proxy that pays the tolls of an API for any program, until SIGINT or SIGTERM.

    Prints its address; its metrics are at /metrics.
    """
    with requires_extra("proxy"):
        from modeltoll.client.sidecar_metrics import SidecarMetrics  # noqa: PLC0415
    counters = SidecarMetrics()
    purse = _purse(
        lambda: Purse(
            max_seconds,
            max_seconds_per_hour=max_seconds_per_hour,
            memory_kib=_kib(memory_mib),
            cores=cores,
            paid=counters.record_payment,
            replay_pace=replay_pace,
        )
    )
    if grpc:
        _refuse_options(
            "--grpc", {"--host-name": host_name, "--allow-origin": allow_origin, "--replay-pace": replay_pace}
        )
        _serve_grpc(upstream, listen or _GRPC_ADDRESS, purse, counters, metrics)
    else:
        _refuse_options("HTTP, which serves /metrics beside the API", {"--metrics": metrics})
        _serve_http(upstream, listen or _PROXY_ADDRESS, purse, counters, (host_name, allow_origin))


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
