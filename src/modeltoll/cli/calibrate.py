"""The verb ``calibrate``: from honest rows, asked for, recorded or logged, to a tariff's file."""

from __future__ import annotations

import asyncio
import math
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from modeltoll.cli.terminal import JsonFile, needs, print_table, stage, verb_of, warn, write_json
from modeltoll.errors import CalibrationError, SettingsError

if TYPE_CHECKING:
    from modeltoll.pricing.calibration import Calibration
    from modeltoll.records import Bill, Floats, Leaks

__all__ = ["verbs"]

verbs = typer.Typer()


@verbs.command(epilog="Example: modeltoll calibrate modeltoll.yaml --inputs honest.npy")
@verb_of
def calibrate(  # noqa: PLR0913  each is a choice of the operator's
    settings: Annotated[
        Path | None,
        typer.Argument(metavar="[SETTINGS.yaml]", help="The gateway's settings; not needed for --leaks with --out."),
    ] = None,
    *,
    inputs: Annotated[
        Path | None, typer.Option(help="Honest rows that the model was not trained on: .npy, one row per line.")
    ] = None,
    leaks: Annotated[Path | None, typer.Option(help="Recorded leaks of honest rows instead: .npz.")] = None,
    from_ledger: Annotated[
        bool, typer.Option("--from-ledger", help="What the ledger logged in shadow mode instead.")
    ] = False,
    trained_on: Annotated[
        list[Path] | None,
        typer.Option(help="Rows that the model was trained on, to look for among the honest ones: .npy."),
    ] = None,
    model: Annotated[str | None, typer.Option(help="Which model; needed where the settings list several.")] = None,
    g: Annotated[float, typer.Option(help="Bend of the price, 0..1: larger makes rare rows dearer.")] = 0.8,
    p99_wait: Annotated[
        str | None, typer.Option(help="Choose g so that 99 % of honest rows wait at most this: 0.5s or 500ms.")
    ] = None,
    thieves: Annotated[
        Path | None,
        typer.Option(
            help="Thieves' rows, to choose g and weights that cost them most: recorded leaks, .npz, or with --inputs "
            "rows to ask for, .npy."
        ),
    ] = None,
    overhead: Annotated[
        float, typer.Option(help="What an honest row may cost on top, as a share of its own time.")
    ] = 1.0,
    undefended_ms: Annotated[
        float, typer.Option(min=0, help="Time of one row without a gateway, where no server is asked.")
    ] = 0.0,
    unit_ms: Annotated[float | None, typer.Option(help="An absolute unit instead, for very fast models.")] = None,
    entry: Annotated[
        float,
        typer.Option(
            min=0, metavar="QUERIES", help="What a new caller without a key pays, in times of a row; 0: nothing."
        ),
    ] = 200.0,
    measures: Annotated[
        str | None,
        typer.Option(
            help="Which of the recorded measures, where there are no settings, and their weights: entropy,novelty=2."
        ),
    ] = None,
    tariff: Annotated[Path | None, typer.Option("--out", help="The tariff's file, if not the settings' own.")] = None,
    seed: Annotated[int, typer.Option(help="Decides which rows are kept back.")] = 0,
    figure: Annotated[
        Path | None, typer.Option(help="Draw the prices of honest rows, and of thieves' rows: .png.")
    ] = None,
    json_file: JsonFile = None,
) -> None:
    """Fit the tariff that the settings name to honest rows: asked of the model server, recorded, or logged."""
    with needs("gateway"):
        from modeltoll.gateway.calibrating import Wishes, calibrate_model  # noqa: PLC0415
        from modeltoll.pricing import calibration as pricing  # noqa: PLC0415
        from modeltoll.pricing.calibration_file import save_calibration  # noqa: PLC0415
    if sum((inputs is not None, leaks is not None, from_ledger)) != 1:
        raise SettingsError(["calibrate: give one of --inputs, --leaks and --from-ledger"])
    goal = _goal(settings, model, leaks, tariff, measures)
    stolen = {} if thieves is None else _thieves(thieves, goal, asking=inputs is not None)
    wait = None if p99_wait is None else _seconds(p99_wait, "--p99-wait")
    targets = pricing.Targets(wait, tuple(stolen.values())) if stolen or wait is not None else None
    terms = pricing.Terms(g=g, weights=None if stolen else goal.weights, entry_queries=entry, targets=targets)
    unit_seconds = None if unit_ms is None else unit_ms / 1000
    costs = pricing.Costs(undefended_ms / 1000, overhead=overhead, unit_seconds=unit_seconds)
    made = pricing.Provenance(
        source=str(inputs or leaks or f"the shadow log of {goal.model}"),
        command=shlex.join(["modeltoll", *sys.argv[1:]]),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    split = pricing.Split(seed=seed)
    if inputs is not None:
        rows = _unseen(inputs, [*(trained_on or ()), *goal.private])
        with stage("Asking for honest rows") as progress:
            wishes = Wishes(terms, costs, split, made)
            fitted = asyncio.run(calibrate_model(goal.loaded, goal.model, rows, wishes, progress))
    else:
        honest = _recorded(leaks, goal.measures) if leaks else asyncio.run(_logged(goal))
        if unit_seconds is None:
            warn(
                [
                    "the gateway's own time was not measured: give a smaller --overhead, or --unit-ms, to leave room for it"
                ]
            )
        fitted = pricing.calibrate(goal.model, honest, costs, terms, made, split)
    save_calibration(fitted, goal.tariff)
    _print_calibration(fitted, stolen, goal.tariff, json_file)
    if figure is not None:
        _draw_calibration(fitted, stolen, figure)


@dataclass(frozen=True, slots=True)
class _Goal:
    """What a tariff is made for, and where it goes; ``loaded`` are the gateway's settings, None without any.

    ``private`` are files that hold something of the model's own training rows.
    """

    model: str
    tariff: Path
    measures: tuple[str, ...]
    weights: tuple[float, ...] | None = None
    private: tuple[Path, ...] = ()
    loaded: Any = None


def _goal(
    settings: Path | None, model: str | None, leaks: Path | None, tariff: Path | None, measures: str | None
) -> _Goal:
    from modeltoll.gateway.settings import load_settings  # noqa: PLC0415
    from modeltoll.pricing.recorded import measures_of  # noqa: PLC0415

    if settings is None:
        if leaks is None or tariff is None:
            raise SettingsError(["calibrate: without settings, give --leaks and --out"])
        named, weights = _weighted(measures) if measures else (measures_of(leaks), None)
        return _Goal(model or leaks.stem, tariff, named, weights)
    if measures is not None:
        raise SettingsError(["--measures: the settings say which measures there are"])
    loaded = load_settings(settings)
    name = _one_model(loaded.models, model)
    chosen = loaded.models[name]
    named = tuple(measure.name for measure in chosen.measures)
    private = tuple(measure.file for measure in chosen.measures if measure.file)
    return _Goal(name, tariff or chosen.tariff, named, chosen.weights, private, loaded)


def _weighted(text: str) -> tuple[tuple[str, ...], tuple[float, ...]]:
    """Names and weights, as shares, from ``entropy,novelty=2``."""
    named: dict[str, float] = {}
    for part in text.split(","):
        name, _, stated = part.strip().partition("=")
        try:
            weight = float(stated or 1.0)
        except ValueError:
            weight = math.nan
        if name in named or not 0.0 < weight < math.inf:
            raise SettingsError([f"--measures: {part!r} is not a measure, or a measure and its weight: novelty=2"])
        named[name] = weight
    whole = sum(named.values())
    return tuple(named), tuple(weight / whole for weight in named.values())


def _one_model(models: Mapping[str, Any], wanted: str | None) -> str:
    if wanted is None and len(models) != 1:
        raise SettingsError([f"--model: the settings list several; choose one of {', '.join(models)}"])
    if wanted is not None and wanted not in models:
        raise SettingsError([f"--model: there is no {wanted!r}; there are: {', '.join(models)}"])
    return wanted or next(iter(models))


def _seconds(text: str, option: str) -> float:
    """A wait such as 0.5s, 500ms or 0.5."""
    number, scale = (text[:-2], 0.001) if text.endswith("ms") else (text.removesuffix("s"), 1.0)
    try:
        seconds = scale * float(number)
    except ValueError:
        seconds = math.nan
    if not 0.0 < seconds < math.inf:
        raise SettingsError([f"{option}: {text!r} is not a time such as 0.5s or 500ms"])
    return seconds


def _unseen(inputs: Path, private: Sequence[Path]) -> Any:
    """Honest rows without copies; those that the model was trained on are refused where that data is at hand."""
    from modeltoll.gateway.calibrating import read_rows  # noqa: PLC0415
    from modeltoll.pricing.recorded import first_places, trained_on  # noqa: PLC0415

    rows = read_rows(inputs)
    raw = [path for path in private if path.suffix == ".npy"]
    for path in raw:
        if known := trained_on(rows, read_rows(path)):
            raise CalibrationError(
                f"{known} of the {len(rows)} honest rows stand in {path}: the model knows them; leave them out"
            )
    if not raw:
        warn(
            ["whether the model was trained on these rows is not known here: name its training rows with --trained-on"]
        )
    places = first_places(rows)
    if len(places) < len(rows):
        warn([f"{len(rows) - len(places)} of the {len(rows)} honest rows are copies of others and were left out"])
    return rows[places]


def _recorded(path: Path, measures: tuple[str, ...]) -> Leaks:
    """The sample of a file of leaks that is meant for calibration."""
    from modeltoll.pricing.recorded import CALIBRATION, HONEST, chosen, read_leaks  # noqa: PLC0415

    samples = read_leaks(path)
    for name in (CALIBRATION, HONEST):
        if name in samples:
            return chosen(samples[name], measures)
    raise CalibrationError(f"{path} holds no sample called {CALIBRATION!r} or {HONEST!r}")


def _thieves(path: Path, goal: _Goal, *, asking: bool) -> dict[str, Leaks]:
    """The samples of a file of leaks that are not honest, or what the rows of a file give away."""
    from modeltoll.gateway.calibrating import ask_leaks, read_rows  # noqa: PLC0415
    from modeltoll.pricing.recorded import chosen, thieves_of  # noqa: PLC0415

    if path.suffix != ".npy":
        return {name: chosen(leaks, goal.measures) for name, leaks in thieves_of(path).items()}
    if not asking:
        raise SettingsError(["--thieves: rows to ask for go with --inputs; give recorded leaks, .npz"])
    with stage("Asking for thieves' rows") as progress:
        return {path.stem: asyncio.run(ask_leaks(goal.loaded, goal.model, read_rows(path), progress))}


async def _logged(goal: _Goal) -> Leaks:
    """What a gateway in shadow mode wrote into its ledger's log."""
    from modeltoll.ledger.locate import locate  # noqa: PLC0415
    from modeltoll.pricing.recorded import leaks_of_log  # noqa: PLC0415

    if goal.loaded is None:
        raise SettingsError(["--from-ledger: give the gateway's settings, which name the ledger"])
    ledger = locate(goal.loaded.ledger.url, make=False)
    lines: list[tuple[int, str, Bill]] = []
    await ledger.open()
    try:
        while page := await ledger.log(lines[-1][0] if lines else 0, 1000):
            lines += page
    finally:
        await ledger.close()
    logged = leaks_of_log(lines, goal.model, goal.measures, "shadow")
    warn(logged.warnings)
    return logged.leaks


def _print_calibration(fitted: Calibration, thieves: Mapping[str, Leaks], target: Path, json_file: str | None) -> None:
    from modeltoll.pricing.conformal import factors_of  # noqa: PLC0415

    report = fitted.report
    if report is None:
        raise CalibrationError("the calibration carries no report")
    warn(report.warnings)
    stolen = {name: float(factors_of(fitted, leaks).mean()) for name, leaks in thieves.items()}
    if json_file is not None:
        chosen = {"g": fitted.g, "weights": dict(zip(fitted.measures, fitted.weights, strict=True))}
        head = {"tariff": str(target), "unit_seconds": fitted.unit_seconds, **chosen, "thieves_units": stolen}
        write_json(head | asdict(report), json_file)
    if json_file == "-":
        return
    weights = ", ".join(f"{name} {weight:.3g}" for name, weight in zip(fitted.measures, fitted.weights, strict=True))
    rows = [
        ("g, and the measures' weights", f"{fitted.g:g}; {weights}"),
        ("honest rows kept back", f"{report.held_back}"),
        (
            "their mean price, units (at most 1 is promised)",
            f"{report.mean:.3f}  [{report.low:.3f}, {report.high:.3f}]",
        ),
        ("unit, ms", f"{1000 * fitted.unit_seconds:.3f}"),
        (
            f"each of the first {fitted.entry.rows} rows of a caller without a key, on top, ms",
            f"{1000 * fitted.unit_seconds * fitted.entry.anonymous_units / fitted.entry.rows:.1f}",
        ),
        *((f"wait of {share:.1%} of honest rows, ms, at most", f"{1000 * wait:.1f}") for share, wait in report.waits),
        *((f"mean price of {name}, units, before suspicion", f"{mean:,.1f}") for name, mean in stolen.items()),
    ]
    print_table(("", "value"), rows, title=f"{target}: {fitted.honest} honest rows of {fitted.model}")


def _draw_calibration(fitted: Calibration, thieves: Mapping[str, Leaks], path: Path) -> None:
    from modeltoll.pricing.conformal import factors_of  # noqa: PLC0415

    with needs("demo"):
        from modeltoll.simulation.figure import draw_factors  # noqa: PLC0415
    honest = fitted.report.factors if fitted.report else ()
    samples: dict[str, Floats | Sequence[float]] = {"honest rows kept back": honest}
    samples |= {name: factors_of(fitted, leaks) for name, leaks in thieves.items()}
    draw_factors(samples, fitted.unit_seconds, path, f"Prices of {fitted.model}, g = {fitted.g:g}")
