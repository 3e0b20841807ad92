"""Checks the result of ``modeltoll demo --short --out FOLDER``: that answers were compared and none had changed.

python .ci/check_demo.py FOLDER
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

result = json.loads((Path(sys.argv[1]) / "result.json").read_text())
if result["answers_changed"] != 0 or result["answers_compared"] < 300:
    sys.exit(f"{result['answers_changed']} of {result['answers_compared']} answers differ from the model server's")
ratios = ", ".join(f"{thief['name']} {thief['ratio']:.0f}x" for thief in result["thieves"])
print(f"demo: honest {result['honest']['mean_ratio']:.2f}x, {ratios}")
