"""The verbs ``call`` and ``proxy``: those who pay."""

from __future__ import annotations

import asyncio
import math
import socket
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from modeltoll.cli.terminal import command_name, note, requires_extra, stage
from modeltoll.client.purse import Payment, Purse
from modeltoll.errors import ModeltollError, SettingsError, TollTooDear
from modeltoll.wire import RECEIPT_HEADER

if TYPE_CHECKING:
    import httpx

    from modeltoll.records import Toll

__all__ = ["verbs"]

verbs = typer.Typer()

MaxSeconds = Annotated[float, typer.Option(min=0, help="The dearest toll to pay, in seconds of work.")]
MemoryMib = Annotated[int, typer.Option(min=1, help="The most memory to give to a puzzle, in MiB.")]
Cores = Annotated[int, typer.Option(min=1, help="How many cores to work on.")]


@verbs.command(epilog="Example: modeltoll call http://127.0.0.1:8080/v2/models/digits/infer --data request.json")
@command_name
def call(  # noqa: PLR0913  each is a choice of the caller's
    url: Annotated[str, typer.Argument(help="Where to post the request.")],
    *,
    data: Annotated[Path | None, typer.Option(help="The request's JSON body; standard input if not given.")] = None,
    key: Annotated[str | None, typer.Option(envvar="MODELTOLL_KEY", help="API key.")] = None,
    max_seconds: MaxSeconds = 30.0,
    memory_mib: MemoryMib = 64,
    cores: Cores = 1,
    explain: Annotated[
        bool, typer.Option("--explain", help="Say what the toll asks before it is paid, and what it took.")
    ] = False,
) -> None:
    """Post one request, pay its toll, print the answer."""
    with requires_extra("cli"):
        import httpx  # noqa: PLC0415
    body, headers = _call_body(data), _call_headers(key)
    with stage("Working for the answer") as progress:
        kind = _ExplainingPurse if explain else Purse
        purse = _purse(lambda: kind(max_seconds, memory_kib=1024 * memory_mib, cores=cores, progress=progress))
        try:
            response = _post(url, body, headers, purse)
        except (httpx.HTTPError, httpx.InvalidURL, UnicodeError) as error:  # the last: a name that no host can have
            raise ModeltollError(f"{url}: {str(error) or type(error).__name__}") from None
        except TollTooDear as error:
            wanted = f"--max-seconds {math.ceil(error.seconds)}" if error.seconds > max_seconds else "--memory-mib"
            raise ModeltollError(f"{error}; to pay it all the same: {wanted}") from None
    sys.stdout.buffer.write(response.content)
    sys.stdout.flush()
    for payment in purse.payments:
        note.print(_paid(payment, explain=explain), soft_wrap=True)
    if explain and not purse.payments:
        said = response.headers.get(RECEIPT_HEADER)
        note.print(escape(f"no toll was paid; receipt: {said}" if said else "no toll was asked"), soft_wrap=True)
    if not response.is_success:
        raise ModeltollError(f"the server answered {response.status_code} {response.reason_phrase}")


class _ExplainingPurse(Purse):
    """Says what each toll asks, also of those that are refused."""

    _said: Toll | None = None

    def decide(self, toll: Toll) -> float:
        if toll is not self._said:
            self._said = toll
            note.print(escape(self.explained(toll)), soft_wrap=True)
        return super().decide(toll)

    def explained(self, toll: Toll) -> str:
        """The toll in one line."""
        puzzle = toll.challenge
        memory = f" of {puzzle.memory_kib} KiB" if puzzle.memory_kib else ""
        parts, rows = len(puzzle.parts), toll.rows
        return (
            f"toll: {puzzle.puzzle}{memory} in {parts} {'part' if parts == 1 else 'parts'}, mode {toll.mode}, for {rows} "
            f"{'row' if rows == 1 else 'rows'}; {self.expected(toll):.3g} s of work expected on one core "
            f"(the server says {toll.typical_seconds:.3g} s)"
        )


def _paid(payment: Payment, *, explain: bool) -> str:
    line = f"paid {payment.seconds:.3f} s of {payment.puzzle} for {payment.rows} rows"
    return f"{line}; {payment.expected:.3g} s were expected" if explain else line


def _purse(make: Callable[[], Purse]) -> Purse:
    try:
        return make()
    except ValueError as error:
        raise SettingsError([f"--max-seconds: {error}"]) from None


def _post(url: str, body: bytes, headers: dict[str, str], purse: Purse) -> httpx.Response:
    import httpx  # noqa: PLC0415  an extra

    from modeltoll.client.httpx import TollTransport  # noqa: PLC0415

    with httpx.Client(transport=TollTransport(purse=purse), timeout=60.0) as client:
        return client.post(url, content=body, headers=headers)


def _call_headers(key: str | None) -> dict[str, str]:
    if key is not None and not (key.isascii() and key.isprintable()):
        raise SettingsError(["--key: holds characters that no API key has"])
    return {"content-type": "application/json"} | ({"authorization": f"Bearer {key}"} if key else {})


def _call_body(data: Path | None) -> bytes:
    try:
        return data.read_bytes() if data else sys.stdin.buffer.read()
    except OSError as error:
        raise SettingsError([f"--data: {data} cannot be read: {error.strerror}"]) from None


@verbs.command(epilog="Example: modeltoll proxy --upstream https://api.example.org --listen 127.0.0.1:8081")
@command_name
def proxy(
    *,
    upstream: Annotated[str, typer.Option(metavar="URL", help="The API that asks tolls.")],
    listen: Annotated[str, typer.Option(metavar="HOST:PORT", help="Where programs connect.")] = "127.0.0.1:8081",
    max_seconds: MaxSeconds = 30.0,
    max_seconds_per_hour: Annotated[
        float | None, typer.Option(min=0, help="The spending limit: work for all tolls of an hour together; none.")
    ] = None,
    memory_mib: MemoryMib = 64,
    cores: Cores = 1,
) -> None:
    """Pay the tolls of an API for any program, until interrupted or terminated. Metrics are at /metrics."""
    with requires_extra("proxy"):
        from modeltoll.client.sidecar import SidecarMetrics, application, serve, upstream_url  # noqa: PLC0415
    url, meters = upstream_url(upstream), SidecarMetrics()
    purse = _purse(
        lambda: Purse(
            max_seconds,
            max_seconds_per_hour=max_seconds_per_hour,
            memory_kib=1024 * memory_mib,
            cores=cores,
            paid=meters.paid,
        )
    )
    with _listening(listen) as sock:
        host, port = sock.getsockname()[:2]
        shown = f"[{host}]" if ":" in host else host
        said = f"paying for programs on http://{shown}:{port}, asking {url}; metrics on http://{shown}:{port}/metrics"
        asyncio.run(serve(application(url, purse, meters), sock, partial(note.print, escape(said), soft_wrap=True)))


def _listening(address: str) -> socket.socket:
    host, _, port = address.rpartition(":")
    if not (port.isdecimal() and len(port) < 6 and int(port) < 2**16):
        raise SettingsError([f"--listen: {address!r} does not end with a port, as in 127.0.0.1:8081"])
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host.strip("[]"), int(port)), family=family)
    except OSError as error:
        raise SettingsError([f"--listen: cannot listen on {address}: {error.strerror}; choose another"]) from None
