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
from modeltoll.errors import ModeltollError, SettingsError

if TYPE_CHECKING:
    from modeltoll.gateway.setup.check import CheckReport, RouteCheck
    from modeltoll.gateway.setup.discover import DiscoveredModel

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
    if out.exists() and not force:
        raise SettingsError([f"--out: {out} exists already; name another file, or overwrite it with --force"])
    models = asyncio.run(_discovered(url, model))
    try:
        out.write_text(first_settings(url, models), encoding="utf-8")
    except OSError as error:
        raise ModeltollError(f"{out} cannot be written: {error.strerror}") from None
    for found in models:
        output = f"{found.kind} of {found.classes} classes" if found.classes else found.kind
        note.print(f"found {escape(found.model)}: {found.protocol}, {output}", soft_wrap=True)
    warn(f"{found.model}: {found.guessed}; see {out}" for found in models if found.guessed)
    note.print(f"wrote {out}. Next: modeltoll check {out}; modeltoll serve {out}", soft_wrap=True)


async def _discovered(url: str, model: str | None) -> tuple[DiscoveredModel, ...]:
    from modeltoll.gateway.assembly.model_server import build_http_upstream, build_upstream_headers  # noqa: PLC0415
    from modeltoll.gateway.settings.upstream import upstream_of_environment  # noqa: PLC0415
    from modeltoll.gateway.setup.discover import discover  # noqa: PLC0415

    server = upstream_of_environment(url)
    upstream = build_http_upstream(server, build_upstream_headers(server), timeout=_TIMEOUT)
    await upstream.open()
    try:
        return await discover(upstream, model)
    finally:
        await upstream.close()


@commands.command(epilog="Example: modeltoll check modeltoll.yaml")
@with_exit_codes
def check(
    settings: SettingsFile,
    *,
    inputs: Annotated[
        Path | None,
        typer.Option(help="Inputs to send, .npy, one row per input; the first 8 are sent. By default random ones."),
    ] = None,
    json_file: JsonFile = None,
) -> None:
    """Test a settings file against the running model server.

    Sends a sample to every route, and prints what is measured, what it costs, and what is wrong.
    """
    with requires_extra("gateway"):
        from modeltoll.gateway.settings.load import load_settings  # noqa: PLC0415
        from modeltoll.gateway.setup.check import check_gateway as check_settings  # noqa: PLC0415
    report = asyncio.run(check_settings(load_settings(settings), inputs))
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


def _faults(report: CheckReport) -> list[str]:
    return [*report.faults, *(f"{route.model}: {fault}" for route in report.models for fault in route.faults)]


def _facts(route: RouteCheck) -> list[tuple[str, Any]]:
    facts = [("mode", route.mode)]
    if route.rows:
        facts.append((f"model server's time for a sample of {route.rows} rows, ms", f"{1000 * route.seconds:.2f}"))
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
