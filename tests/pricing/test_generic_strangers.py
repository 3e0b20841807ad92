"""How many rows of a stranger the evidence needs: each of a generic one is sent to the model server."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from modeltoll.gateway.setup.honest_rows import GENERIC_STRANGER_ROWS
from modeltoll.pricing.calibration import CalibrationProvenance
from modeltoll.pricing.fit import CalibrationTerms, FitSamples, HoldoutSplit, RowCosts, fit_with_rows_held_back
from modeltoll.pricing.kinds import StrangerSample
from modeltoll.pricing.remedies import try_strangers
from modeltoll.records import Leaks


def found_at(rows, stranger, seed):
    """The row at which 2,000 fresh rows of a stranger are found, with so many of its rows in the calibration."""
    rng = np.random.default_rng(seed)
    honest = Leaks(("entropy",), rng.beta(1.0, 8.0, (1000, 1)))
    given = [StrangerSample("noise", Leaks(("entropy",), stranger(rng, rows)), generic=True)]
    terms = CalibrationTerms(), CalibrationProvenance("test"), HoldoutSplit(seed=seed)
    fit = fit_with_rows_held_back("m", FitSamples(honest, (), given, None, {}), RowCosts(0.02), *terms)
    (held_back,) = fit.strangers
    fresh = replace(held_back, leaks=Leaks(("entropy",), stranger(rng, 2000)))
    return try_strangers(fit.calibration, [fresh], seed)[0].suspected_at


@pytest.mark.parametrize(
    "stranger",
    [lambda rng, rows: rng.beta(3.0, 6.0, (rows, 1)), lambda rng, rows: 0.1 + 0.001 * rng.random((rows, 1))],
    ids=["unsure", "all alike"],
)
def test_a_generic_stranger_of_fewer_rows_is_found_as_soon_as_one_of_many(stranger):
    few, many = (
        np.median([found_at(rows, stranger, seed) for seed in range(3)]) for rows in (GENERIC_STRANGER_ROWS, 1000)
    )
    assert few <= 1.5 * many
