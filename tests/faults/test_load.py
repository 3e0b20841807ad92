"""The load benchmark counts every answer, samples the memory, and notices answers that are no tolls."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "load" / "throughput.py"


def test_every_answer_under_load_is_a_toll_or_the_model_servers_own():
    options = ["--seconds", "1", "--connections", "8", "--stores", "pass-through,sqlite", "--json", "-"]
    run = subprocess.run([sys.executable, SCRIPT, *options], capture_output=True, text=True, timeout=300, check=False)
    assert run.returncode == 0, run.stderr
    bare, gated = json.loads(run.stdout)["stores"]
    assert (set(bare["statuses"]), set(gated["statuses"])) == ({"200"}, {"402"})
    for line in (bare, gated):
        assert line["failed"] == 0
        assert line["requests"] == sum(line["statuses"].values()) > 8
        assert 0 < line["p50_ms"] <= line["p99_ms"] <= line["p999_ms"]
        assert 0 < line["mib_early"] <= line["mib_most"]
