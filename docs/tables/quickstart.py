"""Times of the quickstart's steps: results/benchmarks/walk_quickstart.json."""

from __future__ import annotations

from tables.form import read, table

__all__ = ["quickstart"]


def quickstart() -> str:
    """Every command of the page that takes more than a moment, and its time."""
    found = read("benchmarks/walk_quickstart")
    steps = [[_said(step["step"]), f"{step['seconds']:.1f} s"] for step in found["steps"] if step["seconds"]]
    head = ["step", f"{found['seconds']:.0f} s"]
    return (
        table(head, steps) + f"\n`{found['command']}`; {found['machine']}, load average {found['load_average']:.1f}.\n"
    )


def _said(step: str) -> str:
    command, _, remark = step.partition(" (")
    remark = f" ({remark}" if remark else ""
    return f"`{command}`{remark}"
