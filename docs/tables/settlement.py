"""What thieves get and honest callers notice of settlement: results/benchmarks/bench_settlement.json."""

from __future__ import annotations

from typing import Any

from tables.form import read, table

__all__ = ["settled_batches", "settled_callers", "thefts_paid", "thefts_unpaid"]


def _result() -> Any:
    return read("benchmarks/bench_settlement")


def _made_by() -> str:
    result = _result()
    return f"\n`{result['command']}`, on a machine with a load average of {result['load_average']:.1f} at the start.\n"


def thefts_paid() -> str:
    """Thieves who pay every toll: the work done over the work promised."""
    head = ["accounts", "answers", "work promised", "work done", "done over promised", "rows under suspicion"]
    rows = [
        [
            f"{line['accounts']}",
            f"{line['answers']} of {line['rows']}",
            f"{line['promised_seconds']:.1f} s",
            f"{line['done_seconds']:.1f} s",
            f"{line['done_over_promised']:.2f} ± {line['standard_deviation']:.2f}",
            f"{line['suspected_rows']}",
        ]
        for line in _result()["theft"]["playing_along"]
    ]
    return table(head, rows)


def thefts_unpaid() -> str:
    """Thieves who pay nothing."""
    theft = _result()["theft"]
    before = theft["before"]
    head = [
        "accounts",
        "fillers",
        "guesses",
        "answers",
        "evaluations of Argon2id",
        "rows asked",
        "rows that the model server answered",
        "all credits",
        "lengths of seals",
    ]
    rows = [
        [
            f"{before['accounts']}, before proofs and settlement",
            "none",
            "",
            f"{before['answers']}",
            f"{before['evaluations']}",
            f"{before['rows']}",
            f"{before['rows']}",
            "",
            "",
        ]
    ]
    for line in theft["not_playing_along"]:
        seen = line["lengths"]["sealed"]
        rows.append(
            [
                f"{line['accounts']}",
                "thrown away" if line["fillers"] else "none",
                f"{line['guessed_counters'] + line['guessed_proofs']:,}",
                f"{line['answers']}",
                f"{line['evaluations']}",
                f"{line['rows_asked']:,}",
                f"{line['rows_of_the_model_server']:,}",
                f"{line['rows_of_all_credits']:,} rows",
                f"{seen['different']} in {seen['tolls']}",
            ]
        )
    return table(head, rows, words=2) + _made_by()


def settled_callers() -> str:
    """Requests of one row by each client, with receipts and without, beside the same without settlement."""
    callers = _result()["callers"]
    lines: dict[str, dict[str, Any]] = {}
    for line in callers["single_rows"]:
        lines.setdefault(line["client"], {})[line["mode"]] = line
    head = [
        "client",
        "round trips",
        "requests a second",
        "gateway's processor time",
        "without receipts: round trips",
        "requests a second",
        "gateway's processor time",
        "admission tolls",
    ]
    rows = []
    for client, modes in lines.items():
        cells = [client]
        for mode in ("receipts", "redeem"):
            line = modes[mode]
            cells += [
                f"{line['round_trips_per_request']:.2f}",
                *(_ratio(line[name]) for name in ("per_second_ratio", "processor_ratio")),
            ]
        rows.append([*cells, f"{sum(line['admission_tolls'] for line in modes.values())}"])
    return table(head, rows)


def settled_batches() -> str:
    """Batches within the credit and far above it, and refusals, of each client."""
    callers = _result()["callers"]
    head = [
        "client",
        "batches of 64 and 150 rows: admission tolls",
        "10,000 rows: round trips",
        "paid over price",
        "refused a batch: answered",
        "admission tolls",
        "refused dear rows: answered",
        "admission tolls",
    ]
    rows = []
    for large in callers["large_batches"]:
        of_client = {
            name: [line for line in callers[name] if line["client"] == large["client"]]
            for name in ("within_credit", "refusals")
        }
        cells = [large["client"], ", ".join(str(line["admission_tolls"]) for line in of_client["within_credit"])]
        cells += [f"{sum(large['round_trips'].values()) / large['requests']:.2f}", f"{large['paid_over_price']:.3f}"]
        for line in of_client["refusals"]:
            cells += [f"{line['answered']} of {line['requests']}", f"{line['admission_tolls']}"]
        rows.append(cells)
    return table(head, rows) + "".join(map(_at_once, callers["at_once"])) + _made_by()


def _at_once(line: dict[str, Any]) -> str:
    asked, paid = line["admission_tolls"], line["round_trips"].get("redemption", 0)
    return (
        f"\n{line['requests']} batches of {line['rows']} rows, {line['at_once']} at once with {line['client']}: "
        f"{line['answered']} answered, {line['failed']} failed, {asked} admission tolls asked, {paid} of them paid.\n"
    )


def _ratio(spread: list[float]) -> str:
    middle, low, high = spread
    return f"{middle:.2f}x ({low:.2f} to {high:.2f})"
