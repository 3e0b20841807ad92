"""The gate harness of the gateway's tests, for tests of faults."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path


def _gateway_conftest():
    path = Path(__file__).parents[1] / "gateway" / "conftest.py"
    spec = importlib.util.spec_from_file_location("gateway_conftest_for_faults", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look there
    spec.loader.exec_module(module)
    return module


_module = _gateway_conftest()
calibration, harness = _module.calibration, _module.harness
