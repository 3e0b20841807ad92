"""Reloading settings while requests go on: all of the new settings at once, or none."""

from __future__ import annotations

import asyncio
import json
import logging
from dataclasses import replace

import httpx
import pytest
import yaml

from modeltoll import wire
from modeltoll.gateway.assembly.build import build_gateway
from modeltoll.gateway.server.reload import ReloadingGateway
from modeltoll.gateway.settings.load import load_settings
from modeltoll.gateway.upstream.http_upstream import HttpUpstream
from modeltoll.pricing.calibration_file import save_calibration
from modeltoll.puzzle.proof import proof_of
from modeltoll.puzzle.puzzle import SolveControl
from modeltoll.puzzle.solver import solve

PATH = "/v2/models/digits/infer"


class Place:
    """A settings file and the gateway that follows it, in front of a model server that can be made to wait."""

    def __init__(self, folder, harness, calibration, monkeypatch):
        self.folder, self.harness, self.calibration = folder, harness, calibration
        self.held: asyncio.Event | None = None
        self.inside = 0
        monkeypatch.setattr(HttpUpstream, "_ask", self._ask)
        save_calibration(calibration, folder / "tariff.json")
        self.path = folder / "modeltoll.yaml"
        self.write()
        self.reloading = ReloadingGateway(build_gateway(load_settings(self.path)), self.path)

    async def _ask(self, method, url, body, headers):
        self.inside += 1
        if self.held is not None:
            await self.held.wait()
        return self.harness.upstream.handler(url.path, body or b"")

    def write(self, **members):
        document = {
            "upstream": {"url": "http://127.0.0.1:1"},
            "ledger": {"url": "memory://"},
            "models": {
                "digits": {
                    "tariff": "tariff.json",
                    "output": {"name": "p", "kind": "probabilities"},
                    "measures": [{"name": "entropy"}],
                }
            },
        }
        self._replace(yaml.safe_dump(document | members))

    def _replace(self, text):
        new = self.path.with_suffix(".new")
        new.write_text(text)
        new.replace(self.path)  # as editors and orchestrators do

    spoil = _replace

    def run(self, story):
        async def told():
            async with self.reloading.open(check_seconds=0.01):
                self.public = self._client(self.reloading.public)
                self.admin = self._client(self.reloading.admin)
                return await story()

        return asyncio.run(told())

    @staticmethod
    def _client(app):
        return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://127.0.0.1")

    async def ask(self, *rows, **headers):
        headers = {"content-type": "application/json"} | headers
        return await self.public.post(PATH, content=self.harness.infer_body(list(rows) or [1, 2]), headers=headers)

    async def metric(self, name):
        page = (await self.admin.get("/metrics")).text
        return float(next(line for line in page.splitlines() if line.startswith(name + " ")).rpartition(" ")[2])

    async def until(self, law):
        while not await law():  # noqa: ASYNC110  there is no event to wait for
            await asyncio.sleep(0.005)  # the file is looked at in a task of its own

    async def moved(self, before):
        async def other():
            return self.reloading.gateway is not before

        await self.until(other)


@pytest.fixture
def place(tmp_path, harness, calibration, monkeypatch):
    return Place(tmp_path, harness, calibration, monkeypatch)


def test_a_changed_file_takes_effect_and_active_requests_finish_in_the_previous_gateway(place):
    async def story():
        before, place.held = place.reloading.gateway, asyncio.Event()
        waiting = asyncio.create_task(place.ask())
        while not place.inside:  # noqa: ASYNC110
            await asyncio.sleep(0)
        place.write(limits={"rows": 1})
        await place.moved(before)
        two_rows = await place.ask([1, 2], [3, 4])
        place.held.set()
        return await waiting, two_rows

    finished, refused = place.run(story)
    assert finished.status_code == 402
    assert (refused.status_code, "rows" in refused.json()["error"]) == (400, True)


def test_an_invalid_file_changes_nothing_and_is_logged_once_and_shown_until_it_is_repaired(place, caplog):
    async def story():
        before = place.reloading.gateway
        place.spoil("upstream: {url: 'ftp://x'}\nnonsense: 1\n")

        async def broken():
            return await place.metric("modeltoll_settings_broken") == 1

        await place.until(broken)
        for _ in range(5):
            await asyncio.sleep(0.01)
        assert place.reloading.gateway is before
        assert (await place.ask()).status_code == 402
        place.write()
        await place.moved(before)
        return await place.metric("modeltoll_settings_broken")

    with caplog.at_level(logging.INFO, "modeltoll.gateway"):
        assert place.run(story) == 0
    said = [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR]
    assert len(said) == 1
    assert "nonsense: is not a setting" in said[0]
    assert "upstream.url" in said[0]
    assert "the previous content stays active" in said[0]


def test_a_file_that_can_be_read_but_not_built_changes_nothing_either(place):
    async def story():
        before = place.reloading.gateway
        place.write(profile="nowhere.json")

        async def broken():
            return place.reloading.gateway.shared.state.settings_invalid

        await place.until(broken)
        return place.reloading.gateway is before, (await place.ask()).status_code

    assert place.run(story) == (True, 402)


def test_settings_that_cannot_be_reloaded_are_logged_and_keep_their_values(place, caplog):
    async def story():
        before = place.reloading.gateway
        place.write(
            listen="127.0.0.1:1",
            admin="127.0.0.1:2",
            ledger={"url": "sqlite:///other.db", "when_down": "release"},
            operation={"log_format": "json"},
        )
        await place.moved(before)
        return before.settings, place.reloading.gateway

    with caplog.at_level(logging.WARNING, "modeltoll.gateway"):
        old, now = place.run(story)
    for name in ("listen", "admin", "ledger.url", "operation"):
        assert f"{name} has changed in the settings file, and stays as it is" in caplog.text
    assert (now.settings.listen, now.settings.admin, now.settings.operation) == (old.listen, old.admin, old.operation)
    assert (now.settings.ledger.url, now.settings.ledger.when_down) == ("memory://", "release")
    assert now.gates["digits"].config.without_ledger is True
    assert not (place.folder / "other.db").exists()


def test_counts_accounts_tokens_and_drift_survive_a_reload(place):
    async def story():
        before = place.reloading.gateway
        toll = wire.decode_toll((await place.ask(**{"toll-accept": "sha256; mode=redeem"})).content)
        place.write(limits={"rows": 512})
        await place.moved(before)
        after = place.reloading.gateway
        await place.ask([5, 6])
        paid = wire.encode_redemption(toll.payload, proof=proof_of(solve(toll.challenge, SolveControl())))
        redeemed = await place.public.post(wire.REDEEM_PATH, content=paid, headers={"content-type": "application/json"})
        accounts = await after.ledger.largest(10)
        page = (await place.admin.get("/metrics")).text
        return before, after, redeemed.status_code, accounts, page

    before, after, redeemed, (account,), page = place.run(story)
    assert redeemed == 200  # though no secrets are set
    assert account.rows == 2
    assert 'modeltoll_rows_total{model="digits"} 2.0' in page
    assert after.gates["digits"].config.drift_monitor is before.gates["digits"].config.drift_monitor
    assert after.gates["digits"] is not before.gates["digits"]


def test_a_requested_reload_reads_the_tariff_again(place):
    """As SIGHUP does: the settings file itself need not change."""

    async def story():
        before = place.reloading.gateway
        dearer = replace(place.calibration, unit_seconds=7 * place.calibration.unit_seconds)
        save_calibration(dearer, place.folder / "tariff.json")
        place.reloading.reload()
        await place.moved(before)
        page = (await place.admin.get("/metrics")).text
        return json.loads(page.partition('modeltoll_unit_seconds{model="digits"} ')[2].splitlines()[0])

    assert place.run(story) == pytest.approx(7 * place.calibration.unit_seconds)


def test_a_model_that_is_no_longer_listed_is_neither_served_nor_shown(place):
    async def story():
        before = place.reloading.gateway
        letters = {
            "tariff": "letters.json",
            "mode": "shadow",
            "output": {"name": "p", "kind": "probabilities"},
            "measures": [{"name": "entropy"}],
        }
        place.write(models={"letters": letters})
        await place.moved(before)
        return (await place.ask()).status_code, (await place.admin.get("/metrics")).text

    status, page = place.run(story)
    assert status == 404
    assert "modeltoll_unit_seconds{" not in page
