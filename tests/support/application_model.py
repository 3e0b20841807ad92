"""A model that an application serves at ``POST /predict``, with a tariff whose unit is some hundred hashes."""

from __future__ import annotations

import numpy as np

from modeltoll.pricing.calibration import NewAccountToll
from modeltoll.pricing.calibration_file import save_calibration
from modeltoll.pricing.fit import CalibrationTerms, RowCosts, fit_calibration
from modeltoll.records import Leaks

TARIFF = "digits.json"


def save_tariff(folder):
    """Write the tariff of the model ``digits`` into the folder."""
    leaks = Leaks(("entropy",), np.random.default_rng(0).random((400, 1)))
    terms = CalibrationTerms(new_account_toll=NewAccountToll(anonymous_units=0.0))
    costs = RowCosts(undefended_seconds=1e-4, unit_seconds=1e-4)
    save_calibration(fit_calibration("digits", leaks, costs, terms), folder / TARIFF)


def application_model(route="/predict", **changes):
    """The model's section of the settings, with these changes."""
    return {
        "tariff": TARIFF,
        "output": {"kind": "probabilities"},
        "measures": [{"name": "entropy"}],
        "puzzle": {"allow": ["sha256"]},
        "protocol": "json",
        "json_path": {"route": route, "inputs": "rows", "scores": "scores"},
    } | changes
