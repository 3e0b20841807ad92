"""Settings of one model that an application serves at ``POST /predict``, for a unit of some hundred hashes."""

from __future__ import annotations

import pytest
import yaml

from application_model import application_model, save_tariff


@pytest.fixture
def application_settings(tmp_path):
    """Writes the settings, and gives their path; ``sections`` are merged into them."""
    save_tariff(tmp_path)

    def write(model=None, **sections):
        served = application_model(**(model or {}))
        upstream = {"url": "app"} | sections.pop("upstream", {})
        document = {"upstream": upstream, "ledger": {"url": "memory://"}, "models": {"digits": served}}
        document |= {"secrets": ["5f2b0c9a" * 8]} | sections
        path = tmp_path / "modeltoll.yaml"
        path.write_text(yaml.safe_dump(document))
        return path

    return write
