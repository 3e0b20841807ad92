"""The digits as the bench has them: made once, for all tests."""

from __future__ import annotations

import pytest

from modeltoll.bench.baseline import measure_baseline
from modeltoll.bench.targets import TARGETS, Workspace


@pytest.fixture(scope="session")
def workspace(tmp_path_factory):
    return Workspace(None, tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="session")
def prepared(workspace):
    return TARGETS["digits"].ready(workspace, lambda _done, _most: None)


@pytest.fixture(scope="session")
def baseline(workspace, prepared):
    return measure_baseline(TARGETS["digits"], workspace.cache, lambda: prepared)
