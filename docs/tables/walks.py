"""Times of the steps with three servers: results/benchmarks/walk_servers.json."""

from __future__ import annotations

from tables.form import read, table

__all__ = ["walks"]

_STEPS = {
    "pip install": "install",
    ".py": "train, or collect files",
    "init": "`init`",
    "check": "`check`",
    "calibrate": "`calibrate`",
    "call": "two calls",
}


def walks() -> str:
    """The seconds of each part, in all and by step, and what the two calls paid."""
    found = read("benchmarks/walk_servers")
    head = ["server", "in all", *_STEPS.values(), "starting", "processor", "paid by the calls"]
    lines = [_line(part) for part in found["parts"]]
    loads = [part["load_average"] for part in found["parts"]]
    note = f"Seconds. `{found['command']}`; {found['machine']}, load average {min(loads):g} to {max(loads):g}."
    if not found["installed"]:
        note += " The environments were there before."
    return table(head, lines) + f"\n{note}\n"


def _line(part: dict) -> list[str]:
    seconds = dict.fromkeys((*_STEPS, ""), 0.0)
    for step in part["steps"]:
        command = step["step"]
        kind = "" if "until it is ready" in command else next((each for each in _STEPS if _is(each, command)), None)
        if kind is not None:
            seconds[kind] += step["seconds"]
    paid = " and ".join(f"{each:.3f}" for each in part["paid_seconds"])
    times = (*seconds.values(), part["processor_seconds"])
    return [
        part["part"].partition(",")[0].split()[0],
        f"{part['seconds']:.0f}",
        *(f"{each:.1f}" for each in times),
        paid,
    ]


def _is(kind: str, command: str) -> bool:
    return kind in command if kind in ("pip install", ".py") else f"modeltoll {kind} " in command
