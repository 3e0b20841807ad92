"""The commands ``init``, which writes settings for a model server, and ``check``, which tests them."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from modeltoll.cli.terminal import (
    FAILED,
    JsonFile,
    SettingsFile,
    note,
    print_table,
    requires_extra,
    warn,
    with_exit_codes,
    write_json,
)
from modeltoll.errors import ModeltollError, SettingsError, UpstreamError

if TYPE_CHECKING:
    from modeltoll.gateway.setup.check import CheckReport, RouteCheck
    from modeltoll.gateway.setup.discover import DiscoveredModel
    from modeltoll.gateway.setup.route_samples import RowTime

__all__ = ["commands"]

commands = typer.Typer()

_TIMEOUT = 10.0  # seconds for a model server to answer a sample


@commands.command(epilog="Example: modeltoll init http://127.0.0.1:8000")
@with_exit_codes
def init(
    url: Annotated[str, typer.Argument(metavar="URL", help="URL of the running model server.")],
    *,
    model: Annotated[
        str | None,
        typer.Option(
            help="Name of the model, if the server does not list its models, or to write settings for this one only."
        ),
    ] = None,
    path: Annotated[
        str | None,
        typer.Option(
            metavar="/PATH",
            help="Path of a service with JSON of its own, which /openapi.json describes (FastAPI), or of one that answers texts with labels.",
        ),
    ] = None,
    out: Annotated[Path, typer.Option(help="Settings file to write.")] = Path("modeltoll.yaml"),
    force: Annotated[bool, typer.Option("--force", help="Overwrite an existing file.")] = False,
) -> None:
    """Detect a model server's protocol and models, and write a commented settings file for it."""
    with requires_extra("gateway"):
        from modeltoll.gateway.settings.upstream import upstream_of_environment  # noqa: PLC0415
        from modeltoll.gateway.setup.settings_template import first_settings  # noqa: PLC0415
    from pydantic import ValidationError  # noqa: PLC0415  an extra

    from modeltoll.gateway.settings.errors import errors_of  # noqa: PLC0415

    try:
        upstream_of_environment(url)
    except ValidationError as error:
        raise SettingsError([f"URL: {fault}" for fault in errors_of(error)]) from None
    if path is not None and not path.startswith("/"):
        raise SettingsError([f"--path: {path!r} does not begin with /"])
    if out.exists() and not force:
        raise SettingsError([f"--out: {out} exists already; name another file, or overwrite it with --force"])
    models = asyncio.run(_discovered(url, model, path))
    try:
        out.write_text(first_settings(url, models), encoding="utf-8")
    except OSError as error:
        raise ModeltollError(f"{out} cannot be written: {error.strerror}") from None
    for found in models:
        output = f"{found.kind} of {found.classes} classes" if found.classes else found.kind
        note.print(f"found {escape(found.model)}: {found.protocol}, {output}", soft_wrap=True)
    warn(f"{found.model}: {found.guessed}; see {out}" for found in models if found.guessed)
    note.print(
        f"wrote {out}. Next: modeltoll check {out}; then, with honest rows in a file, modeltoll calibrate {out} --inputs FILE, "
        f"or without, modeltoll serve {out}, which logs them in shadow mode",
        soft_wrap=True,
    )


async def _discovered(url: str, model: str | None, path: str | None) -> tuple[DiscoveredModel, ...]:
    from modeltoll.gateway.assembly.model_server import build_server_upstream, build_upstream_headers  # noqa: PLC0415
    from modeltoll.gateway.settings.upstream import upstream_of_environment  # noqa: PLC0415
    from modeltoll.gateway.setup.discover import discover, discover_at  # noqa: PLC0415

    server = upstream_of_environment(url)
    upstream = build_server_upstream(server, build_upstream_headers(server), timeout=_TIMEOUT)
    await upstream.open()
    try:
        return await (discover(upstream, model) if path is None else discover_at(upstream, path, model))
    except UpstreamError as error:
        reason = f" ({error.private})" if error.private else ""
        raise ModeltollError(f"{error} at {url}: is it running, and ready?{reason}") from None
    finally:
        await upstream.close()


@commands.command(epilog="Example: modeltoll check modeltoll.yaml")
@with_exit_codes
def check(
    settings: SettingsFile,
    *,
    inputs: Annotated[
        Path | None,
        typer.Option(
            help="Rows to send: .npy, .npz, .csv, .jsonl, .json or .parquet; the first 64 are sent. By default made-up ones."
        ),
    ] = None,
    requests: Annotated[
        Path | None,
        typer.Option(
            metavar="LOG.jsonl", help="Recorded requests to send as they are, one body per line, in place of --inputs."
        ),
    ] = None,
    json_file: JsonFile = None,
) -> None:
    """Test a settings file against the running model server.

    Sends samples to every route until the time of a row is steady, and prints what is measured, what it costs, what is
    wrong, and what serve would say at its start. Exit codes: 0 if all routes would work, 1 if one would not, or the model
    server or the ledger does not answer; 2 if the settings cannot be used.
    """
    if inputs is not None and requests is not None:
        raise SettingsError(["check: give --inputs or --requests, not both"])
    with requires_extra("gateway"):
        from modeltoll.gateway.settings.load import load_settings  # noqa: PLC0415
        from modeltoll.gateway.setup.check import check_gateway as check_settings  # noqa: PLC0415
        from modeltoll.gateway.setup.row_files import read_requests, read_table  # noqa: PLC0415
    rows = read_table(inputs) if inputs is not None else None
    report = asyncio.run(check_settings(load_settings(settings), read_requests(requests) if requests else rows))
    if json_file is not None:
        write_json(asdict(report) | {"good": report.good}, json_file)
    if json_file != "-":
        for route in report.models:
            print_table((escape(f"{route.model}, route {route.route}"), ""), _facts(route))
    for notice in report.notices:
        note.print(f"[yellow]note:[/] {escape(notice)}", soft_wrap=True)
    if not report.good:
        for fault in _faults(report):
            note.print(f"[red]failed:[/] {escape(fault)}", soft_wrap=True)
        raise typer.Exit(FAILED)
    note.print(f"ledger: {report.ledger}. All checks passed.", soft_wrap=True)


def _time(found: RowTime) -> str:
    state = "steady" if found.steady else "not steady: the machine or the model server is busy"
    interval = f"{1000 * found.low:.2f} to {1000 * found.high:.2f}"
    return f"{1000 * found.seconds:.2f} [{interval}], {found.requests} requests, {state}"


def _faults(report: CheckReport) -> list[str]:
    return [*report.faults, *(f"{route.model}: {fault}" for route in report.models for fault in route.faults)]


def _facts(route: RouteCheck) -> list[tuple[str, Any]]:
    facts = [("mode", route.mode)]
    if route.row_time is not None:
        facts.append(("undefended time per row, ms, with its 95 % interval", _time(route.row_time)))
    if route.tolerance is not None:
        answers = "1 answer needs" if route.rows == 1 else f"{route.rows} answers need"
        facts.append((f"output.tolerance that {answers}", f"{route.tolerance:g}"))
    facts += [(f"leak of its rows by {name}, mean", f"{leak:.4g}") for name, leak in route.leaks.items()]
    if route.price_seconds is not None:
        facts.append(("price of such a row before suspicion, reference ms", f"{1000 * route.price_seconds:.2f}"))
    if route.unit_seconds is None:
        facts.append(("price", "none: there is no tariff yet; make one with modeltoll calibrate"))
    else:
        facts.append(
            ("unit: the most that an honest row costs on average, reference ms", f"{1000 * route.unit_seconds:.2f}")
        )
    facts += [(f"{share:.1%} of honest rows wait at most, ms", f"{1000 * wait:.1f}") for share, wait in route.waits]
    facts += [("fault", escape(fault)) for fault in route.faults]
    return facts
