"""A gateway is built from settings; the error names every setting that cannot be used."""

from __future__ import annotations

import asyncio
import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml

from modeltoll.errors import LedgerError, SettingsError
from modeltoll.gateway.assembly.build import build_gateway, build_identifier
from modeltoll.gateway.assembly.components import build_served_model
from modeltoll.gateway.assembly.puzzles import build_precomputed_pool, build_puzzle_selector
from modeltoll.gateway.core.request import GateRequest
from modeltoll.gateway.settings.load import load_settings
from modeltoll.leak.novelty import NoveltyMeasure
from modeltoll.pricing.calibration_file import save_calibration
from modeltoll.puzzle.machine_profile import DEFAULT_PROFILE, save_profile
from modeltoll.puzzle.precomputed import REFILL_SHARE
from modeltoll.puzzle.registry import PUZZLES
from modeltoll.records import Caller, Work
from modeltoll.wire import Accept


@pytest.fixture
def place(tmp_path, calibration):
    """A folder with a tariff, and a function that writes settings into it and loads them."""
    save_calibration(calibration, tmp_path / "tariff.json")

    def settings(model=None, **members):
        digits = {
            "tariff": "tariff.json",
            "output": {"name": "p", "kind": "probabilities"},
            "measures": [{"name": "entropy"}],
        }
        document = {"upstream": {"url": "http://127.0.0.1:1"}, "models": {"digits": digits | (model or {})}}
        (tmp_path / "modeltoll.yaml").write_text(yaml.safe_dump(document | members))
        return load_settings(tmp_path / "modeltoll.yaml")

    settings.folder = tmp_path
    return settings


def faults(settings):
    with pytest.raises(SettingsError) as caught:
        build_gateway(settings)
    return caught.value.faults


def test_a_built_gateway_handles_a_request(place, harness):
    gateway = build_gateway(place(limits={"rows": 2}))
    gate = gateway.gates["digits"]
    gate._upstream_steps.upstream = harness.upstream

    async def handle():
        async with gateway.open():
            return await gate.handle(
                GateRequest(
                    Caller("key:a"), "/v2/models/digits/infer", harness.infer_body([1, 2]), Accept(receipts=True)
                )
            )

    result = asyncio.run(handle())
    assert result.mode == "sealed"
    assert (place.folder / "modeltoll.db").exists()
    assert gate.config.served_model.service.max_rows == 2
    assert gate.config.without_ledger is False


def test_everything_that_cannot_be_built_is_reported_at_once(place):
    (place.folder / "broken.npy").write_bytes(b"no array")
    np.savez(place.folder / "partial.npz", scores=np.ones((3, 2)) / 2)
    model = {
        "tariff": "nowhere.json",
        "measures": [
            {"name": "novelty", "file": "broken.npy"},
            {"name": "pate", "file": "nowhere.npz"},
            {"name": "pknn", "file": "partial.npz"},
            {"name": "entropy"},
        ],
    }
    found = faults(place(model, profile="nowhere.json", ledger={"url": "mysql://host/db"}))
    named = [fault.partition(":")[0] for fault in found]
    assert named == [
        "profile",
        "ledger",
        "models.digits.measures.0",
        "models.digits.measures.1",
        "models.digits.measures.2",
        "models.digits.tariff",
    ]


def test_a_tariff_of_another_model_or_of_other_measures_is_refused(place, calibration):
    save_calibration(replace(calibration, model="letters"), place.folder / "letters.json")
    assert "models.digits.tariff" in faults(place({"tariff": "letters.json"}))[0]
    assert "models.digits.tariff" in faults(place({"measures": [{"name": "gap"}]}))[0]


def test_saved_measures_keep_their_number_of_neighbours(place):
    private = np.random.default_rng(0).random((50, 2))
    np.save(place.folder / "private.npy", private)
    NoveltyMeasure(private, 3).save(place.folder / "saved.npz")
    for measure in ({"file": "private.npy", "neighbours": 4}, {"file": "private.npy"}, {"file": "saved.npz"}):
        subject = build_served_model(place({"measures": [{"name": "novelty", **measure}]}), "digits")
        assert subject.measures[0].name == "novelty"
    (fault,) = faults(
        place({"measures": [{"name": "novelty", "file": "saved.npz", "neighbours": 4}], "tariff": "tariff.json"})
    )[:1]
    assert fault.startswith("models.digits.measures.0: 'neighbours'")


def test_every_puzzle_of_the_registry_can_be_selected(place):
    allow = list(PUZZLES.built_in)
    settings = place({"puzzle": {"allow": allow, "sha256_below_ms": 5}})
    selector = build_puzzle_selector(settings.models["digits"].puzzle, DEFAULT_PROFILE)
    assert {name: puzzle.name for name, puzzle in selector.puzzles.items()} == {name: name for name in allow}
    assert selector.sha256_below == 0.005


def test_expensive_puzzles_share_one_precomputed_pool_and_suspects_have_the_steeper_ladder(place):
    settings = place({"puzzle": {"max_memory_mib": 32, "suspected_memory_mib": 64}})
    stock = build_precomputed_pool(settings)
    puzzle = build_puzzle_selector(settings.models["digits"].puzzle, DEFAULT_PROFILE, stock).puzzles["argon2id"]
    stock.fill()
    rng = random.Random(0)
    memories = [puzzle.make(Work(2.0, 1, 2.0, surcharge=much), rng)[0].memory_kib for much in (1.0, 100.0)]
    assert memories == [32 << 10, 64 << 10]


@pytest.mark.parametrize("puzzle", [{"max_memory_mib": 2, "suspected_memory_mib": 1}, {"allow": ["sha256"]}])
def test_nothing_is_precomputed_where_no_puzzle_takes_so_much_memory(place, puzzle):
    assert build_precomputed_pool(place({"puzzle": puzzle})) is None


def test_all_workers_together_refill_with_a_tenth_of_one_core_after_a_reload_too(place):
    gateway = build_gateway(place(), workers=4)
    reloaded = build_gateway(place(), before=gateway)
    assert 4 * gateway.precomputed.share == 4 * reloaded.precomputed.share == REFILL_SHARE
    assert build_gateway(place()).precomputed.share == REFILL_SHARE


def test_a_time_lock_needs_a_machine_that_squares(place):
    profile = replace(DEFAULT_PROFILE, squarings=0.0)
    with pytest.raises(SettingsError, match="squarings"):
        build_puzzle_selector(place({"puzzle": {"allow": ["timelock", "sha256"]}}).models["digits"].puzzle, profile)


def test_a_model_in_shadow_mode_needs_no_tariff_yet_and_one_that_charges_does(place):
    (place.folder / "tariff.json").unlink()
    gateway = build_gateway(place({"mode": "shadow"}))
    assert any("there is none yet" in warning for warning in gateway.warnings)
    assert gateway.gates["digits"].config.tariff.measures == ("entropy",)
    with pytest.raises(SettingsError, match=r"models\.digits\.tariff: .*tariff\.json does not exist; make it with"):
        build_gateway(place())


def test_callers_are_identified_by_the_settings(place):
    keys = [{"name": "alice", "sha256": "a" * 64}, {"name": "vip", "sha256": "b" * 64, "exempt": True}]
    callers = build_identifier(place(callers={"anonymous": False, "keys": keys, "trusted_proxies": ["10.0.0.0/8"]}))
    assert callers.keys["a" * 64] == Caller("key:alice")
    assert callers.keys["b" * 64].exempt
    assert not callers.anonymous
    assert [str(network) for network in callers.trusted_proxies] == ["10.0.0.0/8"]


def test_the_operator_gets_startup_warnings(place, calibration):
    save_profile(DEFAULT_PROFILE, place.folder / "machine.json")
    quiet = build_gateway(
        place({"inputs": ["x"]}, secrets=["a" * 64], profile="machine.json", ledger={"url": "memory://"})
    )
    assert quiet.warnings == ()
    save_calibration(
        replace(calibration, report=replace(calibration.report, warnings=("odd rows",))), place.folder / "t.json"
    )
    warnings = "\n".join(build_gateway(place({"tariff": "t.json", "mode": "shadow"})).warnings)
    for word in ("secrets", "odd rows", "shadow", "digits.inputs: not declared"):
        assert word in warnings


def test_a_tariff_with_other_weights_gives_a_warning(place, calibration):
    two = replace(
        calibration, measures=("entropy", "gap"), scores=np.vstack([calibration.scores] * 2), weights=(0.5, 0.5)
    )
    save_calibration(two, place.folder / "two.json")
    for weight, noticed in ((1, False), (3, True)):
        model = {"tariff": "two.json", "measures": [{"name": "entropy"}, {"name": "gap", "weight": weight}]}
        warnings = build_gateway(place(model, secrets=["a" * 64])).warnings
        assert any("weights" in warning for warning in warnings) is noticed


def test_a_ledger_that_cannot_be_opened_stops_the_gateway_before_it_serves(place):
    gateway = build_gateway(place(ledger={"url": "sqlite:///no/such/folder/ledger.db"}))

    async def start():
        async with gateway.open():
            raise AssertionError("it was opened")

    with pytest.raises(LedgerError):
        asyncio.run(start())
    assert not Path("no").exists()
