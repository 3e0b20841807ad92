"""Reads honest rows from a ledger's log, and finds the callers in it who are known to be honest."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING

from modeltoll.cli.calibrate.sources import ALL_CALLERS
from modeltoll.cli.terminal import warn
from modeltoll.errors import CalibrationError, LedgerError, SettingsError

if TYPE_CHECKING:
    from modeltoll.cli.calibrate.sources import RowSources
    from modeltoll.cli.calibrate.target import CalibrationTarget
    from modeltoll.ledger.ledger import Ledger
    from modeltoll.pricing.fit import FitSamples
    from modeltoll.pricing.kinds import KindSample
    from modeltoll.pricing.logged_leaks import LoggedLeaks
    from modeltoll.records import LogEntry

    Lines = list[tuple[int, str, LogEntry]]

__all__ = ["known_honest_names", "logged_samples"]

_SHADOW = ("shadow",)
_PAID = ("sealed", "redeem", "prepaid")  # modes of answers that had a price


async def logged_samples(sources: RowSources, target: CalibrationTarget) -> FitSamples:
    """What a gateway in shadow mode wrote to its ledger's log, and the logs of known callers who came later.

    All traffic is that of shadow mode. A known caller without rows there has the kind of its priced rows instead, of no
    more than it has settled. Rows after suspicion of their caller, or after it was marked, count as no caller's.

    Raises:
        CalibrationError: the log has no such rows.
        SettingsError: there are no settings, or a caller has no rows.
    """
    from modeltoll.gateway.callers.known_honest import known_honest_callers  # noqa: PLC0415
    from modeltoll.pricing.fit import FitSamples  # noqa: PLC0415
    from modeltoll.pricing.logged_leaks import leaks_of_log  # noqa: PLC0415
    from modeltoll.records import Caller  # noqa: PLC0415

    if target.loaded is None:
        raise SettingsError(["--from-ledger: give the gateway's settings, which name the ledger"])
    entries: Lines = []
    until = known_honest_callers(target.loaded.callers)
    asked = [name if ":" in name else f"key:{name}" for name in sources.known_honest if name != ALL_CALLERS]
    async with _opened(target.loaded.ledger.url) as ledger:
        while page := await ledger.log(entries[-1][0] if entries else 0, 1000):
            entries += page
        labels = {ledger.logged_as(Caller(name)): name for name in (*until, *asked)}
        logged = leaks_of_log(entries, target.model, target.measures, _SHADOW)
        later = {name: label for name, label in labels.items() if name not in set(logged.callers)}
        kinds = [
            sample
            for name, label in later.items()
            if (sample := await _paid_rows(ledger, entries, target, (name, label), until.get(label))) is not None
        ]
    warn(logged.warnings)
    callers = _before(logged, {name: until[label] for name, label in labels.items() if label in until})
    known = {name: label for name, label in labels.items() if label in until and name in callers}
    found = {sample.label for sample in kinds}
    left = [name for name in sources.known_honest if name not in found and f"key:{name}" not in found]
    return FitSamples(logged.leaks, kinds, (), callers, known | known_honest_names(left, callers, labels))


@asynccontextmanager
async def _opened(url: str) -> AsyncIterator[Ledger]:
    """The ledger, open within the block.

    Raises:
        CalibrationError: it cannot be opened; the message says how a log comes about.
    """
    from modeltoll.ledger.from_url import open_ledger  # noqa: PLC0415

    async with AsyncExitStack() as stack:
        try:
            ledger = await stack.enter_async_context(open_ledger(url, create=False))
        except LedgerError as error:
            raise CalibrationError(
                f"--from-ledger: {error}. A gateway with the model in shadow mode (modeltoll serve) writes the log; without one, "
                "give honest rows with --inputs"
            ) from error
        yield ledger


async def _paid_rows(
    ledger: Ledger, entries: Lines, target: CalibrationTarget, caller: tuple[str, str], until: float | None
) -> KindSample | None:
    """The kind of a caller's priced rows, the first of them and as many as it has settled; None where there are none.

    ``caller``: its pseudonym in the log, and its name. ``until``: when it was marked, None if it was not.
    """
    from modeltoll.pricing.kinds import CALLER, KindSample  # noqa: PLC0415
    from modeltoll.pricing.leak_samples import rows_of  # noqa: PLC0415
    from modeltoll.pricing.logged_leaks import leaks_of_log  # noqa: PLC0415
    from modeltoll.pricing.validation import MINIMUM_KIND_ROWS  # noqa: PLC0415
    from modeltoll.records import Caller  # noqa: PLC0415

    pseudonym, name = caller
    own = [line for line in entries if line[1] == pseudonym]
    try:
        logged = leaks_of_log(own, target.model, target.measures, _PAID)
    except CalibrationError:
        return None
    settled = (await ledger.standing(Caller(name))).settled_rows
    chosen = (logged.unsuspected if until is None else logged.unsuspected & (logged.at <= until)).nonzero()[0][:settled]
    if len(chosen) < MINIMUM_KIND_ROWS:
        warn([f"{name} has settled {len(chosen)} rows before any suspicion, too few for a kind of its own"])
        return None
    return KindSample(pseudonym, CALLER, rows_of(logged.leaks, chosen), name)


def _before(logged: LoggedLeaks, until: Mapping[str, float]) -> tuple[str, ...]:
    """The caller of each row, "" of rows that came after suspicion of their caller or after it was marked as honest."""
    rows = zip(logged.callers, logged.at.tolist(), logged.unsuspected.tolist(), strict=True)
    return tuple(name if unsuspected and at <= until.get(name, at) else "" for name, at, unsuspected in rows)


def known_honest_names(
    asked: Sequence[str], callers: Sequence[str] | None, labels: Mapping[str, str]
) -> dict[str, str]:
    """Of the callers that were asked for, the name in ``callers`` and the label. ``labels``: by name, of logged callers.

    Raises:
        SettingsError: nothing names callers, or one has no rows.
    """
    if not asked:
        return {}
    if callers is None:
        raise SettingsError(["--known-honest: the file does not name the callers of its rows"])
    present = set(callers) - {""}
    if ALL_CALLERS in asked:
        return {name: labels.get(name, name) for name in sorted(present)}
    names = {label: name for name, label in labels.items()}
    found = {}
    for text in asked:
        options = (names.get(text), names.get(f"key:{text}"), text)
        name = next((each for each in options if each in present), None)
        if name is None:
            raise SettingsError([f"--known-honest: there are no rows of {text!r} from before any suspicion"])
        found[name] = labels.get(name, text)
    return found
