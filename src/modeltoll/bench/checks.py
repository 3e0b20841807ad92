"""Checks of a result's validity. A result that fails one is marked wherever it is shown."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from modeltoll.bench.extraction import StolenData
    from modeltoll.bench.toll_schemes import TollOnTarget

__all__ = [
    "Check",
    "budget_spent",
    "check_across_results",
    "honest_promise",
    "kind_promise",
    "live_agrees",
    "live_unchanged",
    "nothing_unmetered",
]

HONEST_TARGET = 2.0  # times the undefended API, measuring included
KIND_TARGET = 2.5  # the same for callers of one kind or class, or of a mixture of kinds
LIVE_TOLERANCE = 0.1
_NOISE = 0.02  # accuracy by which a random attack may be better by chance

_RANDOM_OF = {  # an attack that chooses its queries, and the random attack on the same pool
    "knockoff-adaptive": "knockoff-random",
    "entropy": "standard",
    "gap": "standard",
    "k-center": "standard",
    "deepfool": "standard",
}


@dataclass(frozen=True, slots=True)
class Check:
    """One check: whether it ``holds``, and the numbers it compared."""

    name: str
    holds: bool
    note: str


def budget_spent(stolen: StolenData, queries: int) -> Check:
    """The attack used its whole budget; one that stops early makes every defence look better than it is."""
    return Check("budget spent", stolen.queries == queries, f"{stolen.queries:,} of {queries:,} rows were queried")


def nothing_unmetered(stolen: StolenData) -> Check:
    """Every row that the victim answered during the attack was counted by the meter."""
    note = f"the victim answered {stolen.rows_scored:,} rows, the meter counted {stolen.queries:,}"
    return Check("no answer unmetered", stolen.rows_scored == stolen.queries, note)


def honest_promise(scheme: TollOnTarget, honest_ratio: float) -> tuple[Check, ...]:
    """Honest rows cost at most one unit on average, and at most twice the undefended time in all."""
    checks = []
    report = scheme.calibration.report if scheme.calibration else None
    if report is not None:
        note = f"held-out rows pay {report.mean:.2f} units on average, {report.low:.2f} to {report.high:.2f} (95 %)"
        checks.append(Check("honest mean within its promise", report.low <= 1.0, note))
        note = f"{honest_ratio:.2f}x the undefended time, measuring included; at most {HONEST_TARGET:g}x was promised"
        checks.append(Check("honest callers within twice the time", honest_ratio <= HONEST_TARGET, note))
    return tuple(checks)


def kind_promise(ratio: float, suspected: float) -> tuple[Check, ...]:
    """A caller of declared kinds, of one class, or of a mixture pays little more, and is never under suspicion.

    ``suspected``: the share of its requests under suspicion, 0..1.
    """
    note = f"{ratio:.2f}x the undefended time, measuring included; at most {KIND_TARGET:g}x was promised"
    never = f"{suspected:.1%} of the requests were under suspicion"
    return (
        Check("a declared kind within two and a half times the time", ratio <= KIND_TARGET, note),
        Check("a declared kind is not suspected", suspected == 0.0, never),
    )


def live_agrees(measured: float, computed: float, rows: int) -> Check:
    """Seconds measured through a real gateway agree with the computed ones within ``LIVE_TOLERANCE``."""
    deviation = measured / computed - 1.0
    note = f"{rows} rows took {measured:.2f} s through a gateway, {computed:.2f} s were computed ({deviation:+.1%})"
    return Check("live agrees with computed", abs(deviation) <= LIVE_TOLERANCE, note)


def live_unchanged(changed: int) -> Check:
    """Every answer that was opened behind the gateway is the victim's own, byte for byte."""
    return Check("opened answers are the victim's", changed == 0, f"{changed} opened answers differ")


def check_across_results(documents: Iterable[Mapping[str, Any]]) -> dict[tuple[Any, ...], Check]:
    """Checks that compare two results: no random attack is better than an adaptive one on the same pool.

    The keys are (dataset, attack, profile, seed, budget) of the adaptive attack, undefended and without evasion.
    """
    accuracies: dict[tuple[Any, ...], float] = {}
    for one in documents:
        if one["defence"] == "none" and one["accuracy"] is not None:
            accuracies[(one["dataset"], one["attack"], one["profile"], one["seed"], one["budget"])] = one["accuracy"]
    checks = {}
    for (dataset, attack, *rest), accuracy in accuracies.items():
        random = accuracies.get((dataset, _RANDOM_OF.get(attack), *rest))
        if random is not None:
            note = f"{_RANDOM_OF[attack]} reaches {random:.1%}, {attack} {accuracy:.1%}"
            name = "random is not better than adaptive"
            checks[(dataset, attack, *rest)] = Check(name, random <= accuracy + _NOISE, note)
    return checks
