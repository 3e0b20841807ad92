"""Takes a demo's result into ``results/demo`` and brings the documents' tables up to date with what stands there.

    python docs/refresh.py [DEMO-OUT]

A table in a document stands between ``<!-- table: FILE -->`` and ``<!-- end -->`` and is made from FILE alone.
"""

from __future__ import annotations

import json
import re
import shutil
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
TABLE = re.compile(r"(<!-- table: (?P<file>\S+) -->\n).*?(<!-- end -->)", re.DOTALL)


def demo_table(result: dict[str, Any]) -> str:
    """A demo's result as a Markdown table."""
    honest = result["honest"]
    lines = [
        "| caller | accounts | queries | time with toll / without | clone accuracy |",
        "| --- | ---: | ---: | ---: | ---: |",
        f"| honest caller | 1 | {honest['queries']} | **{honest['mean_ratio']:.2f}x** | |",
    ]
    for thief in result["thieves"]:
        fillers = thief["requests"] - thief["queries"]
        queries = f"{thief['queries']} + {fillers} fillers" if fillers else str(thief["queries"])
        lines.append(
            f"| {thief['name']} | {thief['accounts']} | {queries} | **{thief['ratio']:,.0f}x** | {thief['accuracy']:.0%} |"
        )
    lines.append("")
    lines.append(
        f"A victim of {result['victim']['accuracy']:.1%} that takes {result['undefended_ms_per_row']:.1f} ms a row; "
        f"{result['answers_compared']} opened answers compared with the model server's own, "
        f"{result['answers_changed']} differ; half of the honest rows waited at most {honest['p50_ms']:.0f} ms, "
        f"99 of 100 at most {honest['p99_ms']:.0f} ms."
    )
    return "\n".join(lines) + "\n"


def ledger_table(result: dict[str, Any]) -> str:
    """What the benchmark of the ledgers measured, as a Markdown table."""
    lines = [
        "| ledger | callers at once | charge, median | charge, 99 of 100 | bill, median | both, a second |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for line in result["ledgers"]:
        waits = (line[name] / 1000 for name in ("charge_p50_us", "charge_p99_us", "bill_p50_us"))
        cells = [line["store"], str(line["callers"]), *(f"{wait:.2f} ms" for wait in waits)]
        lines.append(f"| {' | '.join(cells)} | {line['pairs_per_second']:,} |")
    return (
        "\n".join(
            [
                *lines,
                "",
                f"`{result['command']}`, beside other work of that machine (load average {result['load_average']:.1f}).",
            ]
        )
        + "\n"
    )


def table(file: Path) -> str:
    """The table of a result, by what is in it."""
    result = json.loads(file.read_text())
    return ledger_table(result) if "ledgers" in result else demo_table(result)


def refreshed(document: str) -> str:
    """A document with its tables made anew."""
    return TABLE.sub(lambda match: match[1] + table(ROOT / match["file"]) + match[3], document)


def documents() -> list[Path]:
    """Every document that may hold tables."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def main() -> None:
    """Take in a result, if one is given, and refresh the documents."""
    if len(sys.argv) > 1:
        out = Path(sys.argv[1])
        data = json.loads((out / "result.json").read_text())["data"]
        (ROOT / "results" / "demo").mkdir(parents=True, exist_ok=True)
        shutil.copy(out / "result.json", ROOT / "results" / "demo" / f"{data}.json")
        if data == "digits":
            shutil.copy(out / "ratios.png", ROOT / "docs" / "demo.png")
    for path in documents():
        path.write_text(refreshed(path.read_text()))


if __name__ == "__main__":
    main()
