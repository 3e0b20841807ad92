"""A whole gateway in front of a model server of generated text, and a thief who asks it without opening any toll."""

from __future__ import annotations

import asyncio

import httpx
import numpy as np
import yaml

from modeltoll.gateway.assembly.build import build_gateway
from modeltoll.gateway.settings.load import load_settings
from modeltoll.pricing.calibration import NewAccountToll
from modeltoll.pricing.calibration_file import save_calibration
from modeltoll.pricing.fit import CalibrationTerms, RowCosts, fit_calibration
from modeltoll.records import Leaks
from modeltoll.testing.model_servers import FakeUpstream, serving


def text_thief(folder, says, protocol, logprobs=None):
    """A thief in front of a gateway with one model, ``llm``. ``says(path, body)`` is the model server's answer."""
    leaks = Leaks(("tokens",), np.random.default_rng(0).random((400, 1)) * 6)
    terms = CalibrationTerms(new_account_toll=NewAccountToll(anonymous_units=0.0))
    costs = RowCosts(undefended_seconds=1e-4, unit_seconds=1e-4)
    save_calibration(fit_calibration("llm", leaks, costs, terms), folder / "llm.json")
    output = {"kind": "tokens"} | ({"logprobs": logprobs} if logprobs else {})
    model = {"protocol": protocol, "tariff": "llm.json", "output": output, "measures": [{"name": "tokens"}]}
    document = {"upstream": {"url": "http://127.0.0.1:1"}, "ledger": {"url": "memory://"}, "models": {"llm": model}}
    path = folder / "modeltoll.yaml"
    path.write_text(yaml.safe_dump(document))
    upstream = FakeUpstream(says)
    gateway = build_gateway(load_settings(path), upstream)
    asyncio.run(gateway.ledger.open())
    return TextThief(gateway, upstream)


class TextThief:
    """``gateway`` and ``upstream`` are there to be looked at."""

    def __init__(self, gateway, upstream):
        self.gateway, self.upstream = gateway, upstream

    def ask(self, path, *requests):
        """The responses to requests with these members."""
        headers = {"toll-accept": "argon2id, sha256; mode=sealed; receipts"}
        with serving(self.gateway.public) as url, httpx.Client(base_url=url, headers=headers, timeout=60) as client:
            return [client.post(path, json={"model": "llm", **members}) for members in requests]

    def leaks(self):
        """The measured leaks of all rows that were charged."""
        entries = [entry for _, _, entry in asyncio.run(self.gateway.ledger.log(0, 1000))]
        return [leak for entry in entries for (leak,) in entry.leaks]

    def different_rows(self):
        """How many rows the caller's account holds, each counted once."""
        accounts = asyncio.run(self.gateway.ledger.largest(10))
        return max(account.evidence.rows for account in accounts)
