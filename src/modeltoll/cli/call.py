"""The command ``call``, which posts one request and pays its toll."""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from modeltoll.cli.option_records import takes_options
from modeltoll.cli.purse_options import Cores, MaxSeconds, MemoryMib, kib, open_purse
from modeltoll.cli.terminal import note, requires_extra, stage, with_exit_codes
from modeltoll.client.purse import Payment, Purse
from modeltoll.errors import ModeltollError, SettingsError, TollTooDear
from modeltoll.wire import RECEIPT_HEADER

if TYPE_CHECKING:
    import httpx

    from modeltoll.toll_records import Toll

__all__ = ["commands"]

commands = typer.Typer()


@dataclass(frozen=True, slots=True, kw_only=True)
class CallOptions:
    """The request, and the limits within which its toll is paid."""

    url: Annotated[str, typer.Argument(help="URL to which the request is posted.")]
    data: Annotated[Path | None, typer.Option(help="File with the request's JSON body; by default standard input.")] = (
        None
    )
    key: Annotated[str | None, typer.Option(envvar="MODELTOLL_KEY", help="API key, sent as a bearer token.")] = field(
        default=None, repr=False
    )
    max_seconds: MaxSeconds = 30.0
    memory_mib: MemoryMib = None
    cores: Cores = 1
    explain: Annotated[
        bool,
        typer.Option(
            "--explain", help="Print what the toll asks before it is paid, and what it took, on standard error."
        ),
    ] = False


@commands.command(epilog="Example: modeltoll call http://127.0.0.1:8080/v2/models/digits/infer --data request.json")
@with_exit_codes
@takes_options
def call(options: CallOptions) -> None:
    """Post one request, pay its toll, and print the answer.

    The answer goes to standard output, everything else to standard error.
    """
    with requires_extra("cli"):
        import httpx  # noqa: PLC0415
    body, headers = _call_body(options.data), _call_headers(options.key)
    with stage("Solving the toll's puzzle", may_be_idle=True) as progress:
        purse_type = _ExplainingPurse if options.explain else Purse
        purse = open_purse(
            lambda: purse_type(
                options.max_seconds, memory_kib=kib(options.memory_mib), cores=options.cores, progress=progress
            )
        )
        try:
            response = _send(options.url, body, headers, purse)
        except (httpx.HTTPError, httpx.InvalidURL, UnicodeError) as error:  # UnicodeError: an invalid host name
            raise ModeltollError(f"{options.url}: {str(error) or type(error).__name__}") from None
        except TollTooDear as error:
            option = (
                f"--max-seconds {math.ceil(error.seconds)}" if error.seconds > options.max_seconds else "--memory-mib"
            )
            raise ModeltollError(f"{error}; to pay it, set {option}") from None
    _print_answer(response.content)
    for payment in purse.payments:
        note.print(_payment_line(payment, explain=options.explain), soft_wrap=True)
    if options.explain and not purse.payments:
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
