"""Checks the result of ``modeltoll demo --short --out FOLDER``: opened answers, honest callers, and thieves.

Answers must have been compared, and none may have changed. No honest caller may come under suspicion or pay more than
``HONEST`` times the time without the toll, and every thief must pay ``THIEF`` times it at least. The short demo has fewer
rows, and its machine may be busy; the whole one keeps to 2.0 for honest callers and to 1000 for a thief with one account.

python .ci/check_demo.py FOLDER
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

HONEST, THIEF = 2.5, 500.0

result = json.loads((Path(sys.argv[1]) / "result.json").read_text())
if result["answers_changed"] != 0 or result["answers_compared"] < 300:
    sys.exit(f"{result['answers_changed']} of {result['answers_compared']} answers differ from the model server's")
honest = ", ".join(f"{caller['name']} {caller['mean_ratio']:.2f}x" for caller in result["honest_callers"])
ratios = ", ".join(f"{thief['name']} {thief['ratio']:.0f}x" for thief in result["thieves"])
print(f"demo: {honest}; {ratios}")
if any(caller["suspected"] or caller["mean_ratio"] > HONEST for caller in result["honest_callers"]):
    sys.exit("an honest caller was suspected, or paid too much")
if any(thief["ratio"] < THIEF for thief in result["thieves"]):
    sys.exit("a thief paid too little")
