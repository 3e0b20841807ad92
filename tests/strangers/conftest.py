"""Settings of one model that an application serves at ``POST /predict``, for a unit of some hundred hashes."""

from __future__ import annotations

import numpy as np
import pytest
import yaml

from modeltoll.pricing.calibration import NewAccountToll
from modeltoll.pricing.calibration_file import save_calibration
from modeltoll.pricing.fit import CalibrationTerms, RowCosts, fit_calibration
from modeltoll.records import Leaks


@pytest.fixture
def application_settings(tmp_path):
    """Writes the settings, and gives their path; ``sections`` are merged into them."""
    leaks = Leaks(("entropy",), np.random.default_rng(0).random((400, 1)))
    terms = CalibrationTerms(new_account_toll=NewAccountToll(anonymous_units=0.0))
    costs = RowCosts(undefended_seconds=1e-4, unit_seconds=1e-4)
    save_calibration(fit_calibration("digits", leaks, costs, terms), tmp_path / "digits.json")

    def write(model=None, **sections):
        served = {
            "tariff": "digits.json",
            "output": {"kind": "probabilities"},
            "measures": [{"name": "entropy"}],
            "puzzle": {"allow": ["sha256"]},
            "protocol": "json",
            "json_path": {"route": "/predict", "inputs": "rows", "scores": "scores"},
        } | (model or {})
        upstream = {"url": "app"} | sections.pop("upstream", {})
        document = {"upstream": upstream, "ledger": {"url": "memory://"}, "models": {"digits": served}}
        document |= {"secrets": ["5f2b0c9a" * 8]} | sections
        path = tmp_path / "modeltoll.yaml"
        path.write_text(yaml.safe_dump(document))
        return path

    return write
